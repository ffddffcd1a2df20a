//! Bilinear resizing of a normalised picture, one output row after the other.

use rayon::prelude::*;
use retinanet_anchors::ImageSize;

use crate::resample::ResampleScratch;
use crate::{ImageView, Pixels, ResizeMethod};

/// v = (p - mean) / std, with p = byte / 255 looked up.
#[derive(Clone, Debug)]
pub(crate) struct Normalisation {
    mean: [f32; 3],
    std: [f32; 3],
    /// The 256 results of each channel: bytes are by far the usual source, and a division each would show.
    of_byte: [[f32; 3]; 256],
}

impl Normalisation {
    fn new(mean: [f32; 3], std: [f32; 3]) -> Self {
        let mut of_byte = [[0.0; 3]; 256];
        for (byte, entry) in of_byte.iter_mut().enumerate() {
            for c in 0..3 {
                entry[c] = (byte as f32 / 255.0 - mean[c]) / std[c];
            }
        }
        Self { mean, std, of_byte }
    }

    /// Normalises row `y`; each pixel goes into the first three values of an element of `out`.
    fn row<const PITCH: usize>(&self, image: &ImageView<'_>, y: usize, out: &mut [[f32; PITCH]]) {
        let from = y * image.size.width;
        let range = from..from + image.size.width;
        match image.pixels {
            Pixels::Bytes(values) => {
                for (out, rgb) in out.iter_mut().zip(&values.as_chunks::<3>().0[range]) {
                    for c in 0..3 {
                        out[c] = self.of_byte[usize::from(rgb[c])][c];
                    }
                }
            }
            Pixels::Floats(values) => {
                for (out, rgb) in out.iter_mut().zip(&values.as_chunks::<3>().0[range]) {
                    for c in 0..3 {
                        out[c] = (rgb[c] - self.mean[c]) / self.std[c];
                    }
                }
            }
        }
    }
}

/// The first of the two neighbouring source positions that an output position mixes, and the share of the second. Behind
/// the last source position it is repeated.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Tap {
    low: usize,
    weight: f32,
}

/// position = (i + 1/2) * source / target - 1/2, at least 0: half-pixel centres, the border repeated, no smoothing when the
/// picture shrinks.
fn taps(source: usize, target: usize) -> impl Iterator<Item = Tap> {
    let scale = source as f64 / target as f64;
    (0..target).map(move |i| {
        let position = ((i as f64 + 0.5) * scale - 0.5).max(0.0);
        let low = (position as usize).min(source - 1);
        Tap { low, weight: (position - low as f64).min(1.0) as f32 }
    })
}

/// Memory for preparing pictures, which grows to what the largest one took and is used again for the next.
#[derive(Clone, Debug, Default)]
pub struct PreparationScratch {
    across: Vec<Tap>,
    down: Vec<Tap>,
    rows: Vec<Rows>,
    resampling: ResampleScratch,
}

/// Rows on their way, of one task.
#[derive(Clone, Debug, Default)]
struct Rows {
    /// A source row with its last pixel repeated, four values a pixel so that a pixel is one vector.
    normalised: Vec<[f32; 4]>,
    /// Neighbouring output rows share source rows, so the last two are kept after the mixing across.
    kept: [KeptRow; 2],
}

#[derive(Clone, Debug, Default)]
struct KeptRow {
    y: Option<usize>,
    /// Three values a pixel, and room for one more behind the last.
    values: Vec<f32>,
}

/// Where a picture goes: the upper left of a canvas, the rest of which is 0.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Canvas {
    /// The picture's size on it; not 0.
    pub(crate) resized: ImageSize,
    /// Its own size, at least as large.
    pub(crate) padded: ImageSize,
}

/// Rows that one task fills, at least: enough that the two source rows kept between neighbours pay.
const BAND_ROWS: usize = 16;

/// Normalises, resizes and pads a picture in one pass; `image` has pixels, and three values each, and `out` is as large as the
/// canvas. The bands of rows are worked on by up to `threads` threads, and the values do not depend on it.
pub(crate) fn prepare(
    image: &ImageView<'_>,
    method: ResizeMethod,
    (mean, std): ([f32; 3], [f32; 3]),
    canvas: Canvas,
    threads: usize,
    scratch: &mut PreparationScratch,
    out: &mut [f32],
) {
    let (Canvas { resized, padded }, PreparationScratch { across, down, rows, resampling }) = (canvas, scratch);
    // Bytes resized by another toolkit's method are normalised and put in place, which changes their size no more.
    let is_resampled = match image.pixels {
        Pixels::Bytes(bytes) => method.resize_bytes(bytes, image.size, resized, threads, resampling),
        Pixels::Floats(_) => false,
    };
    let resampled = ImageView { size: resized, pixels: Pixels::Bytes(&resampling.resized) };
    let image = if is_resampled { &resampled } else { image };
    across.clear();
    across.extend(taps(image.size.width, resized.width));
    down.clear();
    down.extend(taps(image.size.height, resized.height));
    let resize = Resize { image, normalisation: Normalisation::new(mean, std), across, down };

    // Several bands a thread even out what threads are kept from by others.
    let num_bands = if threads > 1 { resized.height.div_ceil(BAND_ROWS).min(4 * threads) } else { 1 };
    let band_rows = resized.height.div_ceil(num_bands);
    if rows.len() < num_bands {
        rows.resize_with(num_bands, Rows::default);
    }
    let row_len = padded.width * 3;
    let (picture, below) = out.split_at_mut(resized.height * row_len);
    let fill = |(band, (out, rows)): (usize, (&mut [f32], &mut Rows))| {
        resize.fill_rows(band * band_rows, out, row_len, rows);
    };
    if num_bands > 1 {
        picture.par_chunks_mut(band_rows * row_len).zip(rows).enumerate().for_each(fill);
    } else {
        fill((0, (picture, &mut rows[0])));
    }
    below.fill(0.0);
}

/// A picture on its way to its new size.
struct Resize<'a> {
    image: &'a ImageView<'a>,
    normalisation: Normalisation,
    across: &'a [Tap],
    down: &'a [Tap],
}

impl Resize<'_> {
    /// Fills output rows from `first_row` on, as many as `out` has room for; rows of `out` start `row_len` values apart, and
    /// what lies right of the picture becomes 0.
    fn fill_rows(&self, first_row: usize, out: &mut [f32], row_len: usize, rows: &mut Rows) {
        let width = self.across.len() * 3;
        let Rows { normalised, kept } = rows;
        normalised.resize(self.image.size.width + 1, [0.0; 4]);
        for row in &mut *kept {
            row.y = None;
            row.values.resize(width + 1, 0.0);
        }
        for (tap, out) in self.down[first_row..].iter().zip(out.chunks_mut(row_len)) {
            let (low, high) = (tap.low, (tap.low + 1).min(self.image.size.height - 1));
            for y in [low, high] {
                if kept.iter().all(|row| row.y != Some(y)) {
                    let replaced = usize::from(kept[0].y == Some(low) || kept[0].y == Some(high));
                    self.source_row(y, normalised, &mut kept[replaced].values);
                    kept[replaced].y = Some(y);
                }
            }
            let row_of = |y: usize| &kept[usize::from(kept[0].y != Some(y))].values[..width];
            let (out, right) = out.split_at_mut(width);
            mix(row_of(low), row_of(high), tap.weight, out);
            right.fill(0.0);
        }
    }

    /// A source row, normalised and resized across.
    fn source_row(&self, y: usize, normalised: &mut [[f32; 4]], out: &mut [f32]) {
        let width = self.image.size.width;
        if width == self.across.len() {
            return self.normalisation.row(self.image, y, out.as_chunks_mut::<3>().0);
        }
        self.normalisation.row(self.image, y, normalised);
        normalised[width] = normalised[width - 1];
        for (x, tap) in self.across.iter().enumerate() {
            let (low, high) = (normalised[tap.low], normalised[tap.low + 1]);
            let mixed: [f32; 4] = std::array::from_fn(|c| (1.0 - tap.weight) * low[c] + tap.weight * high[c]);
            // One store of four values; the next pixel's begins at the fourth.
            out[3 * x..3 * x + 4].copy_from_slice(&mixed);
        }
    }
}

fn mix(low: &[f32], high: &[f32], weight: f32, out: &mut [f32]) {
    for ((out, low), high) in out.iter_mut().zip(low).zip(high) {
        *out = (1.0 - weight) * low + weight * high;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(source: usize, target: usize, expected: &[(usize, f32)]) {
        let found: Vec<_> = taps(source, target).map(|tap| (tap.low, tap.weight)).collect();
        assert_eq!(found, expected, "{source} -> {target}");
    }

    #[test]
    fn positions_by_hand() {
        check(2, 2, &[(0, 0.0), (1, 0.0)]);
        check(2, 4, &[(0, 0.0), (0, 0.25), (0, 0.75), (1, 0.25)]);
        check(4, 2, &[(0, 0.5), (2, 0.5)]);
        check(1, 2, &[(0, 0.0), (0, 0.25)]);
        check(9, 3, &[(1, 0.0), (4, 0.0), (7, 0.0)]);
    }

    #[test]
    fn values_are_the_definitions_whatever_the_bands_and_the_memory() {
        let size = ImageSize::new(5, 47);
        let values: Vec<u8> = (0..5 * 47 * 3).map(|i| (i * 37 % 256) as u8).collect();
        let image = ImageView { size, pixels: Pixels::Bytes(&values) };
        let norm = ([0.5; 3], [0.25; 3]);
        let mut scratch = PreparationScratch::default();
        for (width, height) in [(11, 99), (3, 34), (5, 47), (5, 60), (7, 47), (1, 1)] {
            let canvas =
                Canvas { resized: ImageSize::new(width, height), padded: ImageSize::new(width + 2, height + 3) };
            let (row_len, total) = ((width + 2) * 3, (width + 2) * (height + 3) * 3);
            let mut whole = vec![7.0; total];
            prepare(&image, ResizeMethod::Torchvision, norm, canvas, 1, &mut PreparationScratch::default(), &mut whole);
            for threads in [2, 3, 16] {
                let mut bands = vec![8.0; total];
                prepare(&image, ResizeMethod::Torchvision, norm, canvas, threads, &mut scratch, &mut bands);
                assert_eq!(whole, bands);
            }
            // Every value again, straight from the definition, in f64.
            for (y, row) in whole.chunks(row_len).enumerate() {
                for (at, found) in row.iter().enumerate() {
                    let (x, c) = (at / 3, at % 3);
                    let is_picture = x < width && y < height;
                    let expected = if is_picture { by_definition(&values, size, canvas.resized, x, y, c) } else { 0.0 };
                    assert!((f64::from(*found) - expected).abs() < 1e-6, "{x} {y}: {expected} {found}");
                }
            }
        }
    }

    fn by_definition(values: &[u8], from: ImageSize, to: ImageSize, x: usize, y: usize, c: usize) -> f64 {
        let position = |i: usize, from: usize, to: usize| ((i as f64 + 0.5) * (from as f64 / to as f64) - 0.5).max(0.0);
        let (px, py) = (position(x, from.width, to.width), position(y, from.height, to.height));
        let at = |x: f64, y: f64| {
            let x = (x as usize).min(from.width - 1);
            let y = (y as usize).min(from.height - 1);
            (f64::from(values[(y * from.width + x) * 3 + c]) / 255.0 - 0.5) / 0.25
        };
        let (fx, fy) = (px.fract(), py.fract());
        let top = at(px, py) * (1.0 - fx) + at(px + 1.0, py) * fx;
        let bottom = at(px, py + 1.0) * (1.0 - fx) + at(px + 1.0, py + 1.0) * fx;
        top * (1.0 - fy) + bottom * fy
    }
}
