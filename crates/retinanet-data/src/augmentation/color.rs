//! Brightness, contrast, saturation, hue and the loss of colour.

use crate::Image;

/// A change of all colours of a picture; by default none.
///
/// Source of the definitions and their order: torchvision's `RandomPhotometricDistort` (SSD: Liu et al. 2016) with the contrast
/// first, and its functions `adjust_brightness`, `adjust_contrast`, `adjust_saturation`, `adjust_hue` and `rgb_to_grayscale`. Values
/// are rounded once here, after each step there.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ColorChange {
    /// Values are multiplied by this, at least 0.
    pub brightness: f64,
    /// Distances from the mean gray of the picture are multiplied by this, at least 0.
    pub contrast: f64,
    /// Distances from the gray of the pixel are multiplied by this, at least 0.
    pub saturation: f64,
    /// The hue goes round by this share of the circle, -0.5..=0.5; the largest and the smallest of the three values stay.
    pub hue: f64,
    /// Whether gray alone is left.
    pub is_gray: bool,
}

impl Default for ColorChange {
    fn default() -> Self {
        Self { brightness: 1.0, contrast: 1.0, saturation: 1.0, hue: 0.0, is_gray: false }
    }
}

/// Shares of red, green and blue in the gray of a colour (ITU-R BT.601, as torchvision rounds them).
const GRAY: [f32; 3] = [0.2989, 0.587, 0.114];

/// Changes the colours of a picture.
pub fn adjust_colors(image: &mut Image, change: &ColorChange) {
    let tone = tones(image, change.brightness, change.contrast);
    if change.saturation != 1.0 || change.hue != 0.0 || change.is_gray {
        let (pixels, _) = image.pixels.as_chunks_mut::<3>();
        for block in pixels.chunks_mut(BLOCK) {
            mix_block(block, &tone, change);
        }
    } else if change.brightness != 1.0 || change.contrast != 1.0 {
        let table = tone.map(|value| value.round() as u8);
        for value in &mut image.pixels {
            *value = table[usize::from(*value)];
        }
    }
}

/// What brightness and contrast make of each of the 256 values, not rounded.
fn tones(image: &Image, brightness: f64, contrast: f64) -> [f32; 256] {
    let mut tone = std::array::from_fn(|value| (value as f64 * brightness).min(255.0));
    if contrast != 1.0 {
        let mean = mean_gray(image, &tone);
        tone = tone.map(|value| (mean + contrast * (value - mean)).clamp(0.0, 255.0));
    }
    tone.map(|value| value as f32)
}

/// The mean gray of a picture whose values are looked up in a table.
fn mean_gray(image: &Image, tone: &[f64; 256]) -> f64 {
    let mut counts = [[0_u32; 256]; 3];
    let (pixels, _) = image.pixels.as_chunks::<3>();
    for rgb in pixels {
        for c in 0..3 {
            counts[c][usize::from(rgb[c])] += 1;
        }
    }
    let sum =
        |counts: &[u32; 256]| counts.iter().zip(tone).map(|(&count, value)| f64::from(count) * value).sum::<f64>();
    let weighted: f64 = counts.iter().zip(GRAY).map(|(counts, share)| f64::from(share) * sum(counts)).sum();
    weighted / pixels.len().max(1) as f64
}

/// Pixels that are worked on together, a channel after the other, so that the compiler makes vectors of them.
const BLOCK: usize = 64;

fn mix_block(block: &mut [[u8; 3]], tone: &[f32; 256], change: &ColorChange) {
    let mut channels = [[0.0_f32; BLOCK]; 3];
    for (i, rgb) in block.iter().enumerate() {
        for c in 0..3 {
            channels[c][i] = tone[usize::from(rgb[c])];
        }
    }
    if change.saturation != 1.0 {
        saturate(&mut channels, change.saturation as f32);
    }
    if change.hue != 0.0 {
        turn_hue(&mut channels, 6.0 * change.hue as f32);
    }
    if change.is_gray {
        saturate(&mut channels, 0.0);
    }
    for (i, rgb) in block.iter_mut().enumerate() {
        // All values lie in 0..=255, and the conversion cuts the fraction.
        *rgb = [0, 1, 2].map(|c| (channels[c][i] + 0.5) as u8);
    }
}

fn saturate(channels: &mut [[f32; BLOCK]; 3], factor: f32) {
    let [red, green, blue] = channels;
    for i in 0..BLOCK {
        let gray = GRAY[0] * red[i] + GRAY[1] * green[i] + GRAY[2] * blue[i];
        for value in [&mut red[i], &mut green[i], &mut blue[i]] {
            let mixed = gray + factor * (*value - gray);
            *value = mixed.clamp(0.0, 255.0);
        }
    }
}

/// Moves the hue by so many sixths of the circle, -3..=3.
fn turn_hue(channels: &mut [[f32; BLOCK]; 3], sixths: f32) {
    let [red, green, blue] = channels;
    for i in 0..BLOCK {
        let (r, g, b) = (red[i], green[i], blue[i]);
        let (most, least) = (r.max(g).max(b), r.min(g).min(b));
        let range = most - least;
        // Gray has no hue; any will do, as it has no range either.
        let scale = if range > 0.0 { 1.0 / range } else { 0.0 };
        let of_blue = 4.0 + (r - g) * scale;
        let of_green = 2.0 + (b - r) * scale;
        let of_red = (g - b) * scale;
        let hue = if r == most {
            of_red
        } else if g == most {
            of_green
        } else {
            of_blue
        };
        let hue = hue + sixths;
        let hue = if hue < 0.0 { hue + 6.0 } else { hue };
        let hue = if hue >= 6.0 { hue - 6.0 } else { hue };
        // How near each channel is to its own hue: red at 0 (and 6), green at 2, blue at 4.
        let near = [(hue - 3.0).abs() - 1.0, 2.0 - (hue - 2.0).abs(), 2.0 - (hue - 4.0).abs()];
        let [r, g, b] = near.map(|near| least + range * near.clamp(0.0, 1.0));
        (red[i], green[i], blue[i]) = (r, g, b);
    }
}
