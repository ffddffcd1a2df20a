//! From the start of the process to the written result: one image, a small model.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use crate::peers::Bench;
use crate::peers::ours::text;
use crate::peers::section::Section;

/// The picture: 320 x 240 pixels.
const WIDTH: u32 = 320;
const HEIGHT: u32 = 240;

/// Turns of each side. Ours takes so little that more of them cost nothing.
const OURS: usize = 20;
const THEIRS: usize = 3;

pub(super) fn measure(bench: &Bench) -> Result<Section> {
    fs::create_dir_all(bench.venv.cache())?;
    let image = bench.venv.cache().join("picture.bmp");
    fs::write(&image, bitmap()).with_context(|| format!("{}: could not write", image.display()))?;
    let model = bench.root.join("weights/blood_cells_r18.safetensors");
    let [model, image] = [&model, &image].map(|path| path.display().to_string());
    let options = ["detect", "--model", &model, "--json", "--no-pictures", "--threads", "2", &image];
    let mut ours = bench.ours.retinanet(&options.map(str::to_string));
    let mut theirs = bench.venv.command("detect.py", &[model.clone(), image.clone()]);

    let mut section = Section { commands: vec![text(&ours), text(&theirs)], ..Section::default() };
    let output = bench.venv.cache().join("result.json");
    // The first of each reads the files into the system's cache.
    let (mut best_ours, mut best_theirs) = (f64::INFINITY, f64::INFINITY);
    time(&mut ours, &output)?;
    time(&mut theirs, &output)?;
    for _ in 0..bench.rounds(THEIRS) {
        best_theirs = best_theirs.min(time(&mut theirs, &output)?);
        for _ in 0..OURS.div_ceil(THEIRS) {
            best_ours = best_ours.min(time(&mut ours, &output)?);
        }
    }
    section.measured = json!({ "ours_ms": best_ours, "theirs_ms": best_theirs });
    section.ratio(
        "start to written result, small_r18, 320 x 240",
        Some(best_ours),
        "torchvision",
        Some(best_theirs),
        Some(1.0 / 20.0),
    );
    Ok(section)
}

/// Milliseconds from the start of the process to its end, with what it says written to a file.
fn time(command: &mut Command, output: &Path) -> Result<f64> {
    let file = File::create(output).with_context(|| format!("{}: could not write", output.display()))?;
    command.stdin(Stdio::null()).stdout(file).stderr(Stdio::null());
    let start = Instant::now();
    let status = command.status().with_context(|| format!("{}: could not start", text(command)))?;
    let elapsed = start.elapsed().as_secs_f64() * 1e3;
    ensure!(status.success(), "{}: {status}", text(command));
    Ok(elapsed)
}

/// An uncompressed BMP with soft discs: a file header, an info header, rows of blue, green and red.
fn bitmap() -> Vec<u8> {
    let size = WIDTH * HEIGHT * 3;
    let mut bytes = b"BM".to_vec();
    for number in [54 + size, 0, 54, 40, WIDTH, HEIGHT] {
        bytes.extend(number.to_le_bytes());
    }
    bytes.extend([1, 0, 24, 0]);
    bytes.extend([0; 24]);
    for y in 0..HEIGHT {
        for x in 0..WIDTH {
            let from_center = |value: u32| f64::from(value % 64) - 32.0;
            let distance = from_center(x).hypot(from_center(y));
            let shade = (230.0 - 90.0 / (1.0 + (distance - 20.0).exp())) as u8;
            bytes.extend([shade, shade / 2, shade / 4 * 3]);
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bitmap_is_as_long_as_it_says() {
        let bytes = bitmap();
        let length = u32::from_le_bytes([bytes[2], bytes[3], bytes[4], bytes[5]]);
        assert_eq!(bytes.len(), length as usize);
        assert_eq!(bytes.len(), 54 + 320 * 240 * 3);
        assert!(bytes[54..].iter().max() > bytes[54..].iter().min());
    }
}
