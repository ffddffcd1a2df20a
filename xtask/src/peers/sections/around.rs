//! Around the network: matching anchors with boxes, and the focal loss.

use anyhow::Result;
use serde_json::json;

use crate::peers::Bench;
use crate::peers::section::Section;

pub(super) fn measure(bench: &Bench) -> Result<Section> {
    let commands = ["target/release/examples/around", "python xtask/peers/around.py"].map(str::to_string).to_vec();
    let mut section = Section { commands, ..Section::default() };
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..bench.rounds(2) {
        ours.push(bench.ours.around()?);
        theirs.push(bench.venv.run("around.py", &[])?);
    }
    for (what, key, asked) in [
        ("IoU + matching, 201,600 anchors with 100 boxes", "matching_ms", 1.0 / 20.0),
        ("focal loss, value + gradient, 2 x 201,600 x 80", "focal_loss_ms", 1.0 / 15.0),
    ] {
        let best =
            |answers: &[serde_json::Value]| answers.iter().filter_map(|answer| answer[key].as_f64()).reduce(f64::min);
        section.ratio(what, best(&ours), "torchvision", best(&theirs), Some(asked));
    }
    section.measured = json!({ "ours": ours, "theirs": theirs });
    Ok(section)
}
