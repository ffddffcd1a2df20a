//! Turning by right angles, exact in pixels and boxes.

use retinanet_anchors::{BBox, ImageSize};

use super::flip::{flip_horizontal, flip_vertical};
use crate::{Image, Sample};

/// Turns clockwise by so many right angles, boxes too.
#[must_use]
pub fn turn(mut sample: Sample, quarters: usize) -> Sample {
    match quarters % 4 {
        0 => sample,
        2 => {
            flip_horizontal(&mut sample);
            flip_vertical(&mut sample);
            sample
        }
        quarters => {
            let Sample { image, mut boxes, classes } = sample;
            let ImageSize { width, height } = image.size;
            let (w, h) = (width as f32, height as f32);
            for bbox in &mut boxes {
                let BBox { x0, y0, x1, y1 } = *bbox;
                *bbox =
                    if quarters == 1 { BBox::new(h - y1, x0, h - y0, x1) } else { BBox::new(y0, w - x1, y1, w - x0) };
            }
            Sample { image: quarter(&image, quarters == 1), boxes, classes }
        }
    }
}

/// One right angle: columns become rows, from the bottom up when it goes clockwise.
fn quarter(image: &Image, is_clockwise: bool) -> Image {
    /// Squares of so many pixels a side are read and written while they are in the fastest cache.
    const TILE: usize = 32;
    let ImageSize { width, height } = image.size;
    let (from, _) = image.pixels.as_chunks::<3>();
    let mut pixels = vec![0; image.pixels.len()];
    let (to, _) = pixels.as_chunks_mut::<3>();
    for tile_y in (0..height).step_by(TILE) {
        for tile_x in (0..width).step_by(TILE) {
            for x in tile_x..(tile_x + TILE).min(width) {
                for y in tile_y..(tile_y + TILE).min(height) {
                    let at = if is_clockwise { x * height + (height - 1 - y) } else { (width - 1 - x) * height + y };
                    to[at] = from[y * width + x];
                }
            }
        }
    }
    Image { size: ImageSize::new(height, width), pixels }
}
