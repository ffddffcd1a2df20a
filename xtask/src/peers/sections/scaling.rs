//! How the time grows with pixels and with threads.

use anyhow::Result;
use serde_json::Value;

use crate::peers::Bench;
use crate::peers::document::digits;
use crate::peers::ours::{text, words};
use crate::peers::section::{Section, Table};

/// Shorter and longer sides, in the shape of 800 x 1344.
const SIZES: [&str; 4] = ["400x672", "600x1008", "800x1344", "1000x1680"];

pub(super) fn measure(bench: &Bench) -> Result<Section> {
    let mut section = Section::default();
    let mut measured = Vec::new();
    let heading = ["size", "network's input", "1 thread", "2 threads", "ns a pixel, 2 threads", "speed-up"];
    let mut rows = vec![heading.map(str::to_string).to_vec()];
    for size in if bench.quick { &SIZES[..1] } else { &SIZES[..] } {
        let mut run = |threads: usize| {
            let options = format!("--preset torchvision_r50_v1 --size {size} --dtype f32 --threads {threads}");
            let arguments = words(&format!("bench --mode core {options} --repeat 2 --json"));
            section.commands.push(text(&bench.ours.retinanet(&arguments)));
            bench.ours.json(&arguments).map_err(|error| section.failures.push(format!("{error:#}"))).ok()
        };
        let (Some(one), Some(two)) = (run(1), run(2)) else { continue };
        let number = |answer: &Value, key: &str| answer[key].as_f64().unwrap_or(f64::NAN);
        let (width, height) = (number(&two, "width"), number(&two, "height"));
        let (single, double) = (number(&one, "min_ms"), number(&two, "min_ms"));
        rows.push(vec![
            (*size).to_string(),
            format!("{height}x{width}"),
            format!("{} ms", digits(single)),
            format!("{} ms", digits(double)),
            digits(double * 1e6 / (width * height)),
            digits(single / double),
        ]);
        measured.extend([one, two]);
    }
    section.tables.push(Table { title: "Core, f32".to_string(), rows });
    section.measured = measured.into();
    Ok(section)
}
