//! Annotated pictures on disk.

use anyhow::Context;
use retinanet_anchors::Detection;
use retinanet_annotations::{Class, write_atomically};
use retinanet_data::Image;
use retinanet_draw::{RgbImage, draw_detections, encode_jpeg, encode_png, label_detections, picture_from_rgb};
use std::path::Path;

/// The picture with every detection from this score on.
pub(crate) fn annotate(
    image: &Image,
    detections: &[Detection],
    classes: &[Class],
    score_threshold: f32,
) -> anyhow::Result<RgbImage> {
    let mut picture = picture_from_rgb(image.size, image.pixels.clone())?;
    let shown: Vec<Detection> =
        detections.iter().filter(|detection| detection.score >= score_threshold).copied().collect();
    let names: Vec<&str> = classes.iter().map(|class| class.name.as_str()).collect();
    draw_detections(&mut picture, &label_detections(&shown, &names));
    Ok(picture)
}

/// Writes a picture, as JPEG or PNG by its ending, whole or not at all.
pub(crate) fn write(path: &Path, picture: &RgbImage) -> anyhow::Result<()> {
    let is_png = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("png"));
    let bytes = if is_png { encode_png(picture) } else { encode_jpeg(picture, 92) };
    let bytes = bytes.with_context(|| format!("{}: cannot encode", path.display()))?;
    write_atomically(path, |file| file.write_all(&bytes)).with_context(|| format!("{}: cannot write", path.display()))
}
