//! One step of training, RetinaNet-R50 at 512 x 512 pixels, beside torchvision's.

use anyhow::Result;
use serde_json::json;

use crate::peers::Bench;
use crate::peers::contest::{Results, Side, compete};
use crate::peers::ours::words;
use crate::peers::section::Section;

const SIZE: usize = 512;
const BATCH: usize = 2;

pub(super) fn measure(bench: &Bench) -> Result<Section> {
    let mut section = Section::default();
    let f32 = precision(bench, &mut section, "f32", &["eager", "channels_last"], 0.6);
    section.memory("peak memory of training, f32", peak(&f32, "ours"), "the limit", Some(2048.0), Some(1.0));
    let bf16 = precision(bench, &mut section, "bf16", &["bf16", "bf16_channels_last"], 0.75);
    section.measured = json!({ "f32": f32.json(), "bf16": bf16.json() });
    Ok(section)
}

/// Ours beside torchvision's modes, of which the fastest counts.
fn precision(bench: &Bench, section: &mut Section, dtype: &str, modes: &[&'static str], asked: f64) -> Results {
    let ours = format!(
        "bench --mode train --preset paper_r50 --num-classes 80 --size {SIZE}x{SIZE} --batch {BATCH} --threads 2 --dtype {dtype}"
    );
    let theirs = |mode: &&'static str| {
        (*mode, Side::Peer(bench.venv.command("torch_step.py", &words(&format!("{mode} {SIZE} {BATCH}")))))
    };
    let sides = std::iter::once(("ours", Side::Ours(words(&ours)))).chain(modes.iter().map(theirs));
    let results = compete(bench, sides.collect(), bench.rounds(4), 2);
    section.commands.extend(results.commands.clone());
    section.failures.extend(results.failures.clone());
    let fastest = modes.iter().filter_map(|mode| results.best_ms(mode)).fold(f64::INFINITY, f64::min);
    for mode in modes {
        let (peer, theirs) = (format!("torchvision {mode}"), results.best_ms(mode));
        let asked = (theirs == Some(fastest)).then_some(asked);
        section.ratio(&format!("training step, {dtype}"), results.best_ms("ours"), &peer, theirs, asked);
        let what = format!("peak memory of training, {dtype}");
        section.memory(&what, peak(&results, "ours"), &peer, peak(&results, mode), None);
    }
    results
}

fn peak(results: &Results, name: &str) -> Option<f64> {
    results.get(name).and_then(|outcome| outcome.peak_rss_mib)
}
