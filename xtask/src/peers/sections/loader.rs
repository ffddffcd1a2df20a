//! From image files to batches, beside torchvision's and OpenCV's in the processes of a DataLoader.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::{Map, Value, json};

use crate::peers::Bench;
use crate::peers::contest::{Outcome, Side, compete};
use crate::peers::document::digits;
use crate::peers::ours::{text, words};
use crate::peers::section::{Section, Table};

/// Workers of all sides, and images of a batch: small_r18's.
const WORKERS: usize = 2;
const BATCH: usize = 4;

/// Ours takes at most so much of torchvision's time.
const ASKED: f64 = 0.5;

/// Folders of the data whose images are decoded on one thread, and how many of each.
const SETS: [&str; 4] = ["bccd", "aquarium", "coco128x2", "photos"];
const IMAGES_PER_SET: usize = 40;

pub(super) fn measure(bench: &Bench) -> Result<Section> {
    let mut section = Section::default();
    let loading = loading(bench, &mut section)?;
    let decoding = decoding(bench, &mut section)?;
    section.measured = json!({ "loading": loading, "decoding": decoding });
    Ok(section)
}

fn loading(bench: &Bench, section: &mut Section) -> Result<Value> {
    let data = bench.data("bccd")?.display().to_string();
    let voc = bench.data("bccd/BCCD")?.display().to_string();
    let ours = |more: &str| {
        let mut arguments = words(&format!(
            "bench --mode data --preset small_r18 --split train --workers {WORKERS} --batch {BATCH} {more} --data"
        ));
        arguments.push(data.clone());
        Side::Ours(arguments)
    };
    let theirs = |library: &str| {
        let arguments = [library, &voc, &BATCH.to_string(), &WORKERS.to_string()].map(str::to_string);
        Side::Peer(bench.venv.command("loader.py", &arguments))
    };
    let reduced = "--set preprocessing.reduced_decoding=true";
    let disk = bench.venv.cache().join("decoded");
    let sides = vec![
        ("ours", ours("--cache none --epochs 2")),
        ("torchvision", theirs("torchvision")),
        ("pillow", theirs("pillow")),
        ("opencv", theirs("opencv")),
        ("ours, decoded at a half", ours(&format!("--cache none --epochs 2 {reduced}"))),
        ("ours, cached in memory", ours("--cache memory --epochs 3")),
        ("ours, cached on disk", ours(&format!("--cache disk --epochs 3 --cache-dir {}", disk.display()))),
    ];
    let results = compete(bench, sides, bench.rounds(5), 1);
    section.commands.extend(results.commands.clone());
    section.failures.extend(results.failures.clone());
    let best = |name: &str| results.best_ms(name);
    let decoders = [("torchvision", "torchvision, decode_image"), ("pillow", "torchvision, Pillow")];
    let faster = decoders
        .into_iter()
        .min_by(|a, b| best(a.0).unwrap_or(f64::INFINITY).total_cmp(&best(b.0).unwrap_or(f64::INFINITY)));
    let what = "an epoch of 205 blood cell images, small_r18, nothing cached";
    if let Some((name, shown)) = faster {
        section.ratio(what, best("ours"), shown, best(name), Some(ASKED));
    }
    section.ratio(what, best("ours"), "OpenCV", best("opencv"), None);

    let images = results.get("ours").and_then(|ours: &Outcome| ours.description["images"].as_f64());
    let mut rows = vec![["loader", "images/s", "ms an epoch"].map(str::to_string).to_vec()];
    for name in [
        "ours",
        "ours, decoded at a half",
        "ours, cached in memory",
        "ours, cached on disk",
        "torchvision",
        "pillow",
        "opencv",
    ] {
        if let (Some(ms), Some(images)) = (best(name), images) {
            rows.push(vec![name.to_string(), digits(images * 1e3 / ms), digits(ms)]);
        }
    }
    let title = format!("Loading: decode, flip, resize to 240 x 320, normalise, pad; {WORKERS} workers, batch {BATCH}");
    section.tables.push(Table { title, rows });
    Ok(results.json())
}

fn decoding(bench: &Bench, section: &mut Section) -> Result<Value> {
    fs::create_dir_all(bench.venv.cache())?;
    let heading = ["images", "ours", "Pillow", "torchvision", "OpenCV", "ours at 1/2", "at 1/4", "at 1/8"];
    let mut rows = vec![heading.map(str::to_string).to_vec()];
    let mut measured = Map::new();
    let rounds = bench.rounds(4).to_string();
    for set in SETS {
        let mut files = Vec::new();
        jpegs(&bench.data(set)?, &mut files)?;
        files.sort();
        let step = files.len().div_ceil(IMAGES_PER_SET).max(1);
        let lines: Vec<String> = files.iter().step_by(step).map(|path| path.display().to_string()).collect();
        let list = bench.venv.cache().join(format!("{set}.txt"));
        fs::write(&list, lines.join("\n")).with_context(|| format!("{}: could not write", list.display()))?;
        let list = list.display().to_string();
        let ours = bench.ours.decode(&[list.clone(), rounds.clone()])?;
        let theirs = bench.venv.run("loader.py", &["decode".to_string(), list, rounds.clone()])?;
        let cell = |value: &Value| value.as_f64().map_or_else(|| "-".to_string(), digits);
        let mut row = vec![format!("{set}, {}", lines.len()), cell(&ours["1/1"])];
        row.extend(["Pillow", "torchvision", "OpenCV"].map(|name| cell(&theirs[name])));
        row.extend(["1/2", "1/4", "1/8"].map(|name| cell(&ours[name])));
        rows.push(row);
        measured.insert(set.to_string(), json!({ "ours": ours, "theirs": theirs }));
    }
    section.tables.push(Table { title: "Decoding, milliseconds an image on one thread".to_string(), rows });
    let list = bench.venv.cache().join("SET.txt").display().to_string();
    section.commands.push(format!("target/release/examples/decode {list} {rounds}"));
    section.commands.push(text(&bench.venv.command("loader.py", &["decode".to_string(), list, rounds])));
    Ok(measured.into())
}

/// Every JPEG below a folder.
fn jpegs(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("{}: could not read", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            jpegs(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("jpg")) {
            files.push(path);
        }
    }
    Ok(())
}
