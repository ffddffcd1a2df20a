//! Bilinear resizing, normalising and padding of a picture in one pass, one output row after the other.

use rayon::prelude::*;
use retinanet_anchors::ImageSize;

use crate::resample::ResampleScratch;
use crate::{ImageView, Pixels, ResizeMethod};

/// v = (p - mean) / std, with p the stored value times `unit`.
#[derive(Clone, Debug)]
struct Normalisation {
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

    /// The same as one product and one sum, v = scale * stored + shift, for values that are stored in units of `unit`. The
    /// fourth channel is none.
    fn line(&self, unit: f64) -> Line {
        let [mut scale, mut shift] = [[0.0; 4]; 2];
        for c in 0..3 {
            let (mean, std) = (f64::from(self.mean[c]), f64::from(self.std[c]));
            scale[c] = (unit / std) as f32;
            shift[c] = (-mean / std) as f32;
        }
        Line { scale, shift }
    }
}

#[derive(Clone, Copy, Debug)]
struct Line {
    scale: [f32; 4],
    shift: [f32; 4],
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
    /// One row a task: two source rows mixed, three values a pixel, the last pixel twice, and room for one value more.
    rows: Vec<Vec<f32>>,
    resampling: ResampleScratch,
}

/// Where a picture goes: the upper left of a canvas, the rest of which is 0.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Canvas {
    /// The picture's size on it; not 0.
    pub(crate) resized: ImageSize,
    /// Its own size, at least as large.
    pub(crate) padded: ImageSize,
}

/// Rows that one task fills, at least: enough that handing them out does not show.
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
        rows.resize_with(num_bands, Vec::new);
    }
    let row_len = padded.width * 3;
    let (picture, below) = out.split_at_mut(resized.height * row_len);
    let fill = |(band, (out, row)): (usize, (&mut [f32], &mut Vec<f32>))| {
        resize.fill_rows(band * band_rows, out, row_len, row);
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
    fn fill_rows(&self, first_row: usize, out: &mut [f32], row_len: usize, row: &mut Vec<f32>) {
        let width = self.across.len() * 3;
        let is_same_size = self.image.size == ImageSize::new(self.across.len(), self.down.len());
        for (y, out) in out.chunks_mut(row_len).enumerate() {
            let (out, right) = out.split_at_mut(width);
            if is_same_size {
                self.normalised(first_row + y, out);
            } else {
                self.resized(self.down[first_row + y], row, out);
            }
            right.fill(0.0);
        }
    }

    /// A source row that keeps its size.
    fn normalised(&self, y: usize, out: &mut [f32]) {
        let width = self.image.size.width;
        let range = y * width..(y + 1) * width;
        let out = out.as_chunks_mut::<3>().0.iter_mut();
        match self.image.pixels {
            Pixels::Bytes(values) => {
                for (out, rgb) in out.zip(&values.as_chunks::<3>().0[range]) {
                    for c in 0..3 {
                        out[c] = self.normalisation.of_byte[usize::from(rgb[c])][c];
                    }
                }
            }
            Pixels::Floats(values) => {
                for (out, rgb) in out.zip(&values.as_chunks::<3>().0[range]) {
                    for c in 0..3 {
                        out[c] = (rgb[c] - self.normalisation.mean[c]) / self.normalisation.std[c];
                    }
                }
            }
        }
    }

    /// An output row: two source rows mixed, then the neighbours in the mixed row, then normalised. The mixing down comes
    /// first as it runs over adjacent values; normalising last is the same, since the shares of a mixture sum to 1.
    fn resized(&self, tap: Tap, row: &mut Vec<f32>, out: &mut [f32]) {
        let ImageSize { width, height } = self.image.size;
        let (low, high) = (tap.low, (tap.low + 1).min(height - 1));
        row.resize(3 * (width + 1) + 1, 0.0);
        let range = |y: usize| 3 * y * width..3 * (y + 1) * width;
        let mixed = &mut row[..3 * width];
        let unit = match self.image.pixels {
            Pixels::Bytes(values) => {
                mix_down(&values[range(low)], &values[range(high)], tap.weight, mixed);
                1.0 / 255.0
            }
            Pixels::Floats(values) => {
                mix_down(&values[range(low)], &values[range(high)], tap.weight, mixed);
                1.0
            }
        };
        row.copy_within(3 * (width - 1)..3 * width, 3 * width);
        mix_across(row, self.across, self.normalisation.line(unit), out);
    }
}

/// out = low + weight * (high - low)
fn mix_down<T: Copy + Into<f32>>(low: &[T], high: &[T], weight: f32, out: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has AVX2, as was asked a line before.
        return unsafe { mix_down_avx2(low, high, weight, out) };
    }
    mix_down_anywhere(low, high, weight, out);
}

/// The same for vectors of eight, which the compiler makes of the plain loop.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn mix_down_avx2<T: Copy + Into<f32>>(low: &[T], high: &[T], weight: f32, out: &mut [f32]) {
    mix_down_anywhere(low, high, weight, out);
}

#[inline(always)]
fn mix_down_anywhere<T: Copy + Into<f32>>(low: &[T], high: &[T], weight: f32, out: &mut [f32]) {
    for ((out, &low), &high) in out.iter_mut().zip(low).zip(high) {
        let (low, high): (f32, f32) = (low.into(), high.into());
        *out = low + weight * (high - low);
    }
}

/// Mixes neighbouring pixels of `row` and normalises: three values a tap. Pixels are read and written four values at once,
/// the fourth of which the next pixel overwrites.
fn mix_across(row: &[f32], across: &[Tap], line: Line, out: &mut [f32]) {
    let Some((last, before)) = across.split_last() else { return };
    let mixed = |tap: &Tap| -> [f32; 4] {
        let neighbours: &[f32; 7] = row[3 * tap.low..][..7].try_into().expect("seven values");
        std::array::from_fn(|c| {
            let (low, high) = (neighbours[c], neighbours[c + 3]);
            line.scale[c] * (low + tap.weight * (high - low)) + line.shift[c]
        })
    };
    for (x, tap) in before.iter().enumerate() {
        out[3 * x..3 * x + 4].copy_from_slice(&mixed(tap));
    }
    out[3 * before.len()..].copy_from_slice(&mixed(last)[..3]);
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
