//! Pictures of the worst: the boxes in question, drawn.

use rayon::prelude::*;
use retinanet_anchors::BBox;
use retinanet_data::check::{Example, Finding, FindingKind};
use retinanet_data::{DecodeLimits, decode_file};
use retinanet_draw::{LabelledBox, RgbImage, Thumbnail, class_color, draw_detections, grid, picture_from_rgb};
use std::path::Path;

/// Pictures of a finding.
const PICTURES: usize = 8;

/// Longer side of a picture, in pixels.
const SIDE: u32 = 320;

/// Boxes beyond this number have no tag: tags would hide them.
const MAX_TAGS: usize = 4;

/// A picture with its place among the examples of the finding.
pub(super) struct Tile {
    pub(super) example: usize,
    pub(super) picture: RgbImage,
}

/// The pictures of a finding: of the first examples whose image can be read. Each image is opened again, a few at a time.
pub(super) fn tiles(finding: &Finding) -> Vec<Tile> {
    let examples: Vec<(usize, &Example)> = finding.examples.iter().enumerate().take(PICTURES).collect();
    let tile = |&(idx, example): &(usize, &Example)| {
        let picture = draw(finding.kind, example)?;
        Some(Tile { example: idx, picture })
    };
    examples.par_iter().filter_map(tile).collect()
}

/// All pictures of a finding on one.
pub(super) fn sheet(tiles: &[Tile]) -> anyhow::Result<RgbImage> {
    let pictures: Vec<RgbImage> = tiles.iter().map(|tile| tile.picture.clone()).collect();
    Ok(grid(&pictures, 4, 6)?)
}

/// Whether the boxes are what matters, not the whole image.
fn is_about_boxes(kind: FindingKind) -> bool {
    use FindingKind::{BoxClassConflict, BoxDuplicate, BoxTiny, BoxUnmatched};
    matches!(kind, BoxDuplicate | BoxClassConflict | BoxTiny | BoxUnmatched)
}

fn draw(kind: FindingKind, example: &Example) -> Option<RgbImage> {
    let picture = open(example.image.as_deref()?)?;
    if let Some(other) = &example.other_image {
        let other = open(other)?;
        return grid(&[&picture, &other].map(|picture| Thumbnail::whole(picture, SIDE / 2).picture), 2, 2).ok();
    }
    let boxes: Vec<BBox> = example.boxes.iter().map(|shown| corners(shown.xywh)).collect();
    let window = if is_about_boxes(kind) { around(&boxes) } else { None };
    let mut thumbnail = match window {
        Some(window) => Thumbnail::cut(&picture, &window, SIDE),
        None => Thumbnail::whole(&picture, SIDE),
    };
    let labelled: Vec<LabelledBox> = example
        .boxes
        .iter()
        .zip(&boxes)
        .enumerate()
        .map(|(idx, (shown, bbox))| LabelledBox {
            bbox: thumbnail.place(bbox),
            text: if boxes.len() <= MAX_TAGS { shown.class.clone() } else { String::new() },
            color: class_color(if boxes.len() <= MAX_TAGS { idx } else { 0 }),
        })
        .collect();
    draw_detections(&mut thumbnail.picture, &labelled);
    Some(thumbnail.picture)
}

fn open(path: &Path) -> Option<RgbImage> {
    let image = decode_file(path, &DecodeLimits::default()).ok()?;
    picture_from_rgb(image.size, image.pixels).ok()
}

fn corners([x, y, width, height]: [f64; 4]) -> BBox {
    BBox::new(x as f32, y as f32, (x + width) as f32, (y + height) as f32)
}

/// The boxes with what is around them: as much again on each side, and enough to see where they are.
fn around(boxes: &[BBox]) -> Option<BBox> {
    const LEAST: f32 = 48.0;
    let joined = boxes
        .iter()
        .copied()
        .reduce(|a, b| BBox::new(a.x0.min(b.x0), a.y0.min(b.y0), a.x1.max(b.x1), a.y1.max(b.y1)))?;
    let (x, y) = joined.center();
    let reach = joined.width().max(joined.height()).max(LEAST);
    Some(BBox::new(x - reach, y - reach, x + reach, y + reach))
}
