//! The average precision of the blood cell model on its test images, in every precision, ours and OpenVINO's.

use anyhow::{Context as _, Result};
use serde_json::json;

use crate::peers::Bench;
use crate::peers::ours::text;
use crate::peers::section::{Figure, Row, Section};

pub(super) fn measure(bench: &Bench) -> Result<Section> {
    let data = bench.data("bccd")?.display().to_string();
    let model = bench.root.join("weights/blood_cells_r18.safetensors").display().to_string();
    let folder = bench.venv.cache().join("bccd");
    std::fs::create_dir_all(&folder).with_context(|| format!("{}: could not create", folder.display()))?;
    let path = |name: &str| folder.join(name).display().to_string();
    let mut section = Section::default();
    let json = |section: &mut Section, arguments: &[&str]| {
        let arguments: Vec<String> = arguments.iter().map(|&argument| argument.to_string()).collect();
        section.commands.push(text(&bench.ours.retinanet(&arguments)));
        bench.ours.json(&arguments).map_err(|error| section.failures.push(format!("{error:#}"))).ok()
    };
    let ap = |document: Option<serde_json::Value>| document.and_then(|document| document["AP"].as_f64());

    let quantized = path("quantized.safetensors");
    let arguments = ["quantize", "--model", &model, "--data", &data, "--split", "train", "--output", &quantized];
    run(bench, &mut section, &arguments);
    let mut found = Vec::new();
    for (dtype, file) in [("f32", &model), ("bf16", &model), ("int8", &quantized)] {
        let arguments =
            ["eval", "--model", file, "--data", &data, "--split", "test", "--dtype", dtype, "--threads", "2", "--json"];
        found.push((format!("ours {dtype}"), ap(json(&mut section, &arguments))));
    }

    let dump = path("core.safetensors");
    let arguments = ["bench", "--model", &model, "--size", "256x320", "--repeat", "1", "--json", "--dump", &dump];
    if json(&mut section, &arguments).is_some() {
        let arguments = [model.clone(), data.clone(), dump.clone(), folder.display().to_string()];
        section.commands.push(text(&bench.venv.command("accuracy.py", &arguments)));
        match bench.venv.run("accuracy.py", &arguments) {
            Ok(answer) => {
                section.notes.push(format!("OpenVINO's side: {answer}"));
                let ground_truth = path("ground_truth.json");
                for dtype in ["f32", "int8"] {
                    let detections = path(&format!("openvino_{dtype}.json"));
                    let arguments = ["score", "--ground-truth", &ground_truth, "--detections", &detections, "--json"];
                    found.push((format!("OpenVINO {dtype}"), ap(json(&mut section, &arguments))));
                }
            }
            Err(error) => section.failures.push(format!("OpenVINO: {error:#}")),
        }
    }

    let of = |name: &str| found.iter().find(|(found, _)| found == name).and_then(|(_, ap)| *ap);
    for (name, base, asked) in [
        ("ours bf16", "ours f32", Some(0.002)),
        ("ours int8", "ours f32", Some(0.005)),
        ("OpenVINO int8", "OpenVINO f32", None),
        ("ours f32", "OpenVINO f32", None),
        ("ours int8", "OpenVINO int8", None),
    ] {
        if let (Some(ours), Some(theirs)) = (of(name), of(base)) {
            let (what, peer) = (format!("AP on BCCD test, {name}"), base.to_string());
            section.rows.push(Row { what, ours, peer, theirs, unit: "", figure: Figure::Loss, asked });
        }
    }
    section.measured = json!(found);
    Ok(section)
}

/// A command of ours that has nothing to say.
fn run(bench: &Bench, section: &mut Section, arguments: &[&str]) {
    let mut command = bench.ours.retinanet(&arguments.iter().map(|&argument| argument.to_string()).collect::<Vec<_>>());
    section.commands.push(text(&command));
    match command.output() {
        Ok(output) if output.status.success() => {}
        Ok(output) => {
            let errors = String::from_utf8_lossy(&output.stderr);
            let last = errors.trim_end().lines().last().unwrap_or("no message");
            section.failures.push(format!("{}: {}: {last}", text(&command), output.status));
        }
        Err(error) => section.failures.push(format!("{}: could not start: {error}", text(&command))),
    }
}
