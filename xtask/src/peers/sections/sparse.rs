//! Sparse heads beside dense ones, on photos, with as many locations that pass as are asked for.

use anyhow::Result;

use crate::peers::Bench;
use crate::peers::contest::{Side, compete};
use crate::peers::document::digits;
use crate::peers::ours::words;
use crate::peers::section::{Section, Table};

/// Locations an image, and the most that sparse may take of dense.
const CANDIDATES: [(usize, Option<f64>); 3] = [(300, Some(0.85)), (30, None), (3000, None)];

pub(super) fn measure(bench: &Bench) -> Result<Section> {
    let photos = bench.data("photos")?.display().to_string();
    let mut section = Section::default();
    let heading = ["locations an image", "sparse", "dense", "share of the box tower", "pass the threshold"];
    let mut rows = vec![heading.map(str::to_string).to_vec()];
    let mut measured = serde_json::Map::new();
    for (candidates, asked) in CANDIDATES {
        if bench.quick && asked.is_none() {
            continue;
        }
        let mut arguments = words(&format!(
            "bench --mode detect --preset torchvision_r50_v1 --threads 2 --candidates {candidates} --beside-dense --images"
        ));
        arguments.push(photos.clone());
        // One process makes all runs: it draws the weights and moves the bias before the first.
        let runs = if asked.is_some() { bench.rounds(3) } else { 1 };
        let results = compete(bench, vec![("ours", Side::Ours(arguments))], 1, runs);
        section.commands.extend(results.commands.clone());
        section.failures.extend(results.failures.clone());
        let Some(ours) = results.get("ours") else { continue };
        let number = |key: &str| ours.description[key].as_f64();
        let dense = number("dense_min_ms");
        section.ratio(&format!("nine photos, {candidates} locations"), Some(ours.best_ms), "ours, dense", dense, asked);
        let cell = |value: Option<f64>, unit: &str| {
            value.map_or_else(|| "-".to_string(), |value| format!("{} {unit}", digits(value)))
        };
        rows.push(vec![
            candidates.to_string(),
            cell(Some(ours.best_ms), "ms"),
            cell(dense, "ms"),
            cell(number("box_tower_share").map(|share| share * 100.0), "%"),
            cell(number("locations_per_image"), ""),
        ]);
        measured.insert(candidates.to_string(), results.json());
    }
    section.tables.push(Table { title: "Detection on the photos, one after the other".to_string(), rows });
    section.measured = measured.into();
    Ok(section)
}
