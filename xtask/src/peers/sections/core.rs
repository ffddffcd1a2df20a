//! RetinaNet-R50, 91 classes, 800 x 1344 pixels: backbone, pyramid and heads in every precision.

use std::process::Command;

use anyhow::Result;
use serde_json::Value;

use crate::peers::Bench;
use crate::peers::contest::{Results, Side, compete};
use crate::peers::ours::words;
use crate::peers::section::Section;

const CORE: &str = "bench --preset torchvision_r50_v1 --num-classes 91 --size 800x1344 --threads 2";
const SIZE: &str = "800 1344";

/// Our bench of the core with more options.
fn ours(options: &str) -> Side {
    Side::Ours(words(&format!("{CORE} {options}")))
}

fn torchvision(bench: &Bench, mode: &str) -> Side {
    Side::Peer(bench.venv.command("torch_core.py", &words(&format!("{mode} {SIZE}"))))
}

/// The exported network; made when it is first asked for.
fn exported(bench: &Bench) -> Result<String> {
    let mut arguments = vec![bench.venv.cache().display().to_string()];
    arguments.extend(words(SIZE));
    Ok(bench.venv.text("export_core.py", &arguments)?.trim().to_string())
}

fn openvino(bench: &Bench, network: &str, precision: &str) -> Command {
    bench.venv.command("openvino_core.py", &[network.to_string(), precision.to_string()])
}

fn section(results: &Results) -> Section {
    Section {
        commands: results.commands.clone(),
        failures: results.failures.clone(),
        measured: results.json(),
        ..Section::default()
    }
}

pub(super) fn f32(bench: &Bench) -> Result<Section> {
    let network = exported(bench)?;
    let onnxruntime = bench.venv.command("onnxruntime_core.py", std::slice::from_ref(&network));
    let sides = vec![
        ("ours", ours("--dtype f32")),
        ("OpenVINO", Side::Peer(openvino(bench, &network, "f32"))),
        ("ONNX Runtime", Side::Peer(onnxruntime)),
        ("torchvision channels-last", torchvision(bench, "channels_last")),
        ("torchvision eager", torchvision(bench, "eager")),
    ];
    let results = compete(bench, sides, bench.rounds(4), 1);
    let mut section = section(&results);
    let peak = |name: &str| results.get(name).and_then(|outcome| outcome.peak_rss_mib);
    let runtimes = [("OpenVINO", results.best_ms("OpenVINO")), ("ONNX Runtime", results.best_ms("ONNX Runtime"))];
    let faster = runtimes.iter().filter_map(|(_, time)| *time).fold(f64::INFINITY, f64::min);
    for peer in ["OpenVINO", "ONNX Runtime", "torchvision channels-last", "torchvision eager"] {
        let theirs = results.best_ms(peer);
        let asked = (theirs == Some(faster)).then_some(0.5);
        section.ratio("core, f32", results.best_ms("ours"), peer, theirs, asked);
    }
    for peer in ["OpenVINO", "ONNX Runtime", "torchvision channels-last", "torchvision eager"] {
        section.memory("peak memory, f32", peak("ours"), peer, peak(peer), None);
    }
    section.memory("peak memory, f32", peak("ours"), "the limit", Some(600.0), Some(1.0));
    Ok(section)
}

pub(super) fn bf16(bench: &Bench) -> Result<Section> {
    let network = exported(bench)?;
    let sides = vec![
        ("ours", ours("--dtype bf16")),
        ("OpenVINO", Side::Peer(openvino(bench, &network, "bf16"))),
        ("torchvision autocast", torchvision(bench, "bf16")),
    ];
    let results = compete(bench, sides, bench.rounds(4), 2);
    let mut section = section(&results);
    let ours = results.best_ms("ours");
    section.ratio("core, bf16", ours, "OpenVINO", results.best_ms("OpenVINO"), Some(0.75));
    section.ratio("core, bf16", ours, "torchvision autocast", results.best_ms("torchvision autocast"), None);
    Ok(section)
}

pub(super) fn int8(bench: &Bench) -> Result<Section> {
    let network = exported(bench)?;
    let sides = vec![
        ("ours", ours("--dtype int8")),
        ("ours, detect", ours("--dtype int8 --mode detect --candidates 300")),
        ("OpenVINO", Side::Peer(openvino(bench, &network, "int8"))),
    ];
    let results = compete(bench, sides, bench.rounds(4), 3);
    let mut section = section(&results);
    let theirs = results.best_ms("OpenVINO");
    section.ratio("core, int8", results.best_ms("ours"), "OpenVINO int8", theirs, Some(1.0));
    section.ratio(
        "detect, sparse heads, int8",
        results.best_ms("ours, detect"),
        "OpenVINO int8, core",
        theirs,
        Some(0.9),
    );
    for name in ["ours", "OpenVINO"] {
        let layers = results.get(name).map(|outcome| &outcome.description["layers"]);
        let not_int8 = results.get(name).map(|outcome| list(&outcome.description["not_int8"]));
        if let (Some(layers), Some(not_int8)) = (layers, not_int8) {
            section
                .notes
                .push(format!("{name}: layers that multiply, by precision: {layers}; not in int8: {not_int8}"));
        }
    }
    Ok(section)
}

/// Names with commas between them.
fn list(names: &Value) -> String {
    let names: Vec<&str> = names.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if names.is_empty() { "none".to_string() } else { names.join(", ") }
}

pub(super) fn avx2(bench: &Bench) -> Result<Section> {
    let network = exported(bench)?;
    let mut limited = openvino(bench, &network, "f32");
    limited.env("ONEDNN_MAX_CPU_ISA", "AVX2");
    let sides = vec![("ours", ours("--dtype f32 --isa avx2")), ("OpenVINO", Side::Peer(limited))];
    let results = compete(bench, sides, bench.rounds(4), 1);
    let mut section = section(&results);
    section.ratio("core, f32, AVX2", results.best_ms("ours"), "OpenVINO, AVX2", results.best_ms("OpenVINO"), Some(0.6));
    Ok(section)
}
