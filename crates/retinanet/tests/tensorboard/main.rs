//! Event files as TensorBoard's own reader sees them: `read_events.py`, in the Python environment of the other runtimes.

use retinanet::run::{EncodedPicture, EventFile, RunFolder, read_events};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The Python environment that the README names, where there is one with TensorBoard.
fn python() -> Option<PathBuf> {
    let python = PathBuf::from(std::env::var_os("HOME")?).join(".cache/peers/venv/bin/python");
    let found = Command::new(&python).args(["-c", "import tensorboard"]).output().ok()?;
    found.status.success().then_some(python)
}

#[test]
fn tensorboard_reads_every_value() -> Result<(), Box<dyn std::error::Error>> {
    let Some(python) = python() else {
        eprintln!("skipped: expected TensorBoard in ~/.cache/peers/venv, found none");
        return Ok(());
    };
    let folder = tempfile::tempdir()?;
    let mut events = EventFile::create(&RunFolder::new(folder.path()))?;
    let steps = 300;
    for step in 1..=steps {
        events.scalars(step, [("loss/class", 1.0 / step as f64), ("speed/images_per_second", step as f64)])?;
        if step % 100 == 0 {
            events.scalars(step, [("class_AP/<b>&\u{e9}", 0.25)])?;
        }
    }
    let picture = retinanet_draw::RgbImage::new(5, 3);
    let png = retinanet_draw::encode_png(&picture)?;
    events.picture(7, "detections", EncodedPicture { width: 5, height: 3, png: &png })?;

    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tensorboard/read_events.py");
    let output = Command::new(python).arg(script).arg(folder.path()).output()?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let document: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let ours = read_events(events.path())?;
    for tag in ["loss/class", "speed/images_per_second", "class_AP/<b>&\u{e9}"] {
        let ours: Vec<_> = ours.iter().filter(|value| value.tag == tag).map(|v| (v.step as u64, v.scalar)).collect();
        let theirs = document["scalars"][tag].as_array().ok_or_else(|| format!("{tag}: {document}"))?;
        let theirs: Vec<_> =
            theirs.iter().map(|v| (v[0].as_u64().unwrap_or(0), v[1].as_f64().map(|v| v as f32))).collect();
        assert!(ours.len() >= 3, "{tag}");
        assert_eq!(ours, theirs, "{tag}");
    }
    assert_eq!(document["images"]["detections"], serde_json::json!([[7, 5, 3, "PNG"]]));
    assert!(document["first_wall_time"].as_f64().is_some_and(|time| time > 1.6e9));
    Ok(())
}
