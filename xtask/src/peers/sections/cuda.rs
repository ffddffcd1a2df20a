//! On a GPU: detection, a step of training and the focal loss, beside torchvision eager, in bf16, and compiled.

use anyhow::Result;
use serde_json::json;

use crate::peers::Bench;
use crate::peers::contest::{Results, Side, compete};
use crate::peers::gpu::Clocks;
use crate::peers::ours::words;
use crate::peers::section::{Section, Table};

/// Eager f32; channels-last and autocast to bf16; that, compiled.
const MODES: [&str; 3] = ["eager", "channels_last", "compile"];
const SIZE: [usize; 2] = [800, 1344];
/// Locations an image whose scores pass, as a trained network has them on photos.
const CANDIDATES: usize = 300;
/// The share of the bandwidth of a copy that is asked of the focal loss.
const BANDWIDTH: f64 = 0.7;
/// Images, anchors and classes of the focal loss.
const LOGITS: [usize; 3] = [16, 201_600, 80];

pub(super) fn inference(bench: &Bench) -> Result<Section> {
    let [height, width] = SIZE;
    watched(|section| {
        let mut measured = serde_json::Map::new();
        for (batch, runs) in [(1, 50), (16, 10)] {
            let ours = |dtype: &str| {
                Side::Ours(words(&format!(
                    "bench --mode detect --preset torchvision_r50_v1 --num-classes 91 --size {height}x{width} --batch {batch} \
                     --candidates {CANDIDATES} --device cuda --fastest --dtype {dtype}"
                )))
            };
            let options = format!("--height {height} --width {width} --batch {batch} --candidates {CANDIDATES}");
            let mut sides = vec![("ours", ours("bf16")), ("ours, f32", ours("f32"))];
            sides.extend(MODES.map(|mode| (mode, peer(bench, "torch_gpu_detect.py", mode, &options))));
            let results = compete(bench, sides, bench.rounds(4), runs);
            beside_all(section, &format!("detection, bf16, batch {batch}"), &results, 1.0);
            section.ratio(
                "detection, f32 without TF32, beside f32",
                results.best_ms("ours, f32"),
                "torchvision eager",
                results.best_ms("eager"),
                None,
            );
            measured.insert(batch.to_string(), results.json());
        }
        section.measured = measured.into();
        Ok(())
    })
}

pub(super) fn train(bench: &Bench) -> Result<Section> {
    let ([height, width], batch) = (SIZE, 16);
    watched(|section| {
        let ours = format!(
            "bench --mode train --preset paper_r50 --num-classes 80 --size {height}x{width} --batch {batch} --device cuda --dtype bf16"
        );
        let options = format!("--height {height} --width {width} --batch {batch}");
        let mut sides = vec![("ours", Side::Ours(words(&ours)))];
        sides.extend(MODES.map(|mode| (mode, peer(bench, "torch_gpu_step.py", mode, &options))));
        let results = compete(bench, sides, bench.rounds(3), 10);
        beside_all(section, &format!("training step, bf16, batch {batch}"), &results, 1.0);
        section.measured = results.json();
        Ok(())
    })
}

pub(super) fn focal(bench: &Bench) -> Result<Section> {
    let [images, anchors, classes] = LOGITS;
    watched(|section| {
        let options = format!("--images {images} --anchors {anchors} --classes {classes}");
        let sides = MODES.map(|mode| (mode, peer(bench, "torch_gpu_focal.py", mode, &options)));
        let results = compete(bench, sides.into(), bench.rounds(2), 5);
        section.commands = results.commands.clone();
        section.failures = results.failures.clone();
        section.commands.push("target/release/examples/cuda_focal".to_string());
        let ours = bench.ours.cuda_focal()?;
        let number = |dtype: &str, key: &str| ours[dtype][key].as_f64();
        section.ratio(
            "focal loss, value + gradient, f32",
            number("f32", "ms"),
            "torchvision eager",
            results.best_ms("eager"),
            None,
        );
        for mode in &MODES[1..] {
            let what = "focal loss, value + gradient, bf16";
            section.ratio(what, number("bf16", "ms"), &format!("torchvision {mode}"), results.best_ms(mode), None);
        }
        let mut rows = vec![["logits", "GB/s", "of a copy", "asked"].map(str::to_string).to_vec()];
        for dtype in ["f32", "bf16"] {
            if let (Some(loss), Some(copy)) = (number(dtype, "gb_per_s"), number(dtype, "copy_gb_per_s")) {
                let cells = [format!("{loss:.0}"), format!("{:.2}", loss / copy), format!(">= {BANDWIDTH}")];
                rows.push(std::iter::once(dtype.to_string()).chain(cells).collect());
            }
        }
        let title = format!("Bytes of logits read and gradients written, {images} x {anchors} x {classes}:");
        section.tables.push(Table { title, rows });
        section.measured = json!({ "ours": ours, "theirs": results.json() });
        Ok(())
    })
}

fn peer(bench: &Bench, script: &str, mode: &str, options: &str) -> Side {
    Side::Peer(bench.venv.command(script, &words(&format!("{mode} {options}"))))
}

/// A row for each mode of torchvision's; the fastest is the one that counts.
fn beside_all(section: &mut Section, what: &str, results: &Results, asked: f64) {
    section.commands.extend(results.commands.clone());
    section.failures.extend(results.failures.clone());
    let fastest = MODES.iter().filter_map(|mode| results.best_ms(mode)).fold(f64::INFINITY, f64::min);
    for mode in MODES {
        let theirs = results.best_ms(mode);
        let asked = (theirs == Some(fastest)).then_some(asked);
        section.ratio(what, results.best_ms("ours"), &format!("torchvision {mode}"), theirs, asked);
    }
}

/// The section that `measure` fills, with the clocks that the GPU had meanwhile.
fn watched(measure: impl FnOnce(&mut Section) -> Result<()>) -> Result<Section> {
    let (mut section, clocks) = (Section::default(), Clocks::watch()?);
    let done = measure(&mut section);
    section.notes.push(clocks.finish());
    done.map(|()| section)
}
