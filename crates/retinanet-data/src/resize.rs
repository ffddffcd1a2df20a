//! Bilinear resizing of a normalised picture, one output row after the other.

use retinanet_anchors::ImageSize;

use crate::{ImageView, Pixels};

/// v = (p - mean) / std, with p = byte / 255 looked up.
pub(crate) struct Normalisation {
    mean: [f32; 3],
    std: [f32; 3],
    /// The 256 results of each channel: bytes are by far the usual source, and a division each would show.
    of_byte: Box<[[f32; 3]; 256]>,
}

impl Normalisation {
    pub(crate) fn new(mean: [f32; 3], std: [f32; 3]) -> Self {
        let mut of_byte = Box::new([[0.0; 3]; 256]);
        for (byte, entry) in of_byte.iter_mut().enumerate() {
            for c in 0..3 {
                entry[c] = (byte as f32 / 255.0 - mean[c]) / std[c];
            }
        }
        Self { mean, std, of_byte }
    }

    fn row(&self, image: &ImageView<'_>, y: usize, out: &mut [[f32; 3]]) {
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

/// The two source positions that an output position mixes, and the share of the second.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Tap {
    low: usize,
    high: usize,
    weight: f32,
}

/// position = (i + 1/2) * source / target - 1/2, at least 0: half-pixel centres, the border repeated, no smoothing when the
/// picture shrinks.
fn taps(source: usize, target: usize) -> Vec<Tap> {
    let scale = source as f64 / target as f64;
    let tap = |i: usize| {
        let position = ((i as f64 + 0.5) * scale - 0.5).max(0.0);
        let low = (position as usize).min(source - 1);
        Tap { low, high: (low + 1).min(source - 1), weight: (position - low as f64).min(1.0) as f32 }
    };
    (0..target).map(tap).collect()
}

/// A picture on its way to its new size.
pub(crate) struct Resize<'a> {
    image: &'a ImageView<'a>,
    normalisation: &'a Normalisation,
    across: Vec<Tap>,
    down: Vec<Tap>,
}

impl<'a> Resize<'a> {
    /// `image` has pixels, and three values each; `target` has pixels.
    pub(crate) fn new(image: &'a ImageView<'a>, normalisation: &'a Normalisation, target: ImageSize) -> Self {
        Self {
            image,
            normalisation,
            across: taps(image.size.width, target.width),
            down: taps(image.size.height, target.height),
        }
    }

    /// Fills output rows from `first_row` on, as many as `out` has room for; rows of `out` start `row_len` values apart.
    /// What lies right of the picture is left alone.
    pub(crate) fn fill_rows(&self, first_row: usize, out: &mut [f32], row_len: usize) {
        let width = self.across.len();
        let mut normalised = vec![[0.0; 3]; self.image.size.width];
        // Neighbouring output rows share source rows, so the last two are kept after the mixing across.
        let mut kept = [KeptRow::empty(width), KeptRow::empty(width)];
        for (tap, out) in self.down[first_row..].iter().zip(out.chunks_mut(row_len)) {
            for y in [tap.low, tap.high] {
                if kept.iter().all(|row| row.y != Some(y)) {
                    let replaced = usize::from(kept[0].y == Some(tap.low) || kept[0].y == Some(tap.high));
                    self.normalisation.row(self.image, y, &mut normalised);
                    self.mix_across(&normalised, &mut kept[replaced].values);
                    kept[replaced].y = Some(y);
                }
            }
            let row_of = |y: usize| {
                let row = &kept[usize::from(kept[0].y != Some(y))];
                row.values.as_flattened()
            };
            mix(row_of(tap.low), row_of(tap.high), tap.weight, &mut out[..width * 3]);
        }
    }

    fn mix_across(&self, row: &[[f32; 3]], out: &mut [[f32; 3]]) {
        if row.len() == out.len() {
            out.copy_from_slice(row);
            return;
        }
        for (out, tap) in out.iter_mut().zip(&self.across) {
            let (low, high) = (row[tap.low], row[tap.high]);
            for c in 0..3 {
                out[c] = (1.0 - tap.weight) * low[c] + tap.weight * high[c];
            }
        }
    }
}

struct KeptRow {
    y: Option<usize>,
    values: Vec<[f32; 3]>,
}

impl KeptRow {
    fn empty(width: usize) -> Self {
        Self { y: None, values: vec![[0.0; 3]; width] }
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
    fn check(source: usize, target: usize, expected: &[(usize, usize, f32)]) {
        let found: Vec<_> = taps(source, target).iter().map(|tap| (tap.low, tap.high, tap.weight)).collect();
        assert_eq!(found, expected, "{source} -> {target}");
    }

    #[test]
    fn positions_by_hand() {
        check(2, 2, &[(0, 1, 0.0), (1, 1, 0.0)]);
        check(2, 4, &[(0, 1, 0.0), (0, 1, 0.25), (0, 1, 0.75), (1, 1, 0.25)]);
        check(4, 2, &[(0, 1, 0.5), (2, 3, 0.5)]);
        check(1, 2, &[(0, 0, 0.0), (0, 0, 0.25)]);
        check(9, 3, &[(1, 2, 0.0), (4, 5, 0.0), (7, 8, 0.0)]);
    }

    #[test]
    fn bands_join_without_a_seam() {
        let size = ImageSize::new(5, 7);
        let values: Vec<u8> = (0..105u8).map(|i| i.wrapping_mul(37)).collect();
        let image = ImageView { size, pixels: Pixels::Bytes(&values) };
        let normalisation = Normalisation::new([0.5; 3], [0.25; 3]);
        for target in [ImageSize::new(11, 16), ImageSize::new(3, 4), size] {
            let resize = Resize::new(&image, &normalisation, target);
            let row_len = target.width * 3 + 6;
            let mut whole = vec![0.0; row_len * target.height];
            resize.fill_rows(0, &mut whole, row_len);
            let mut bands = vec![0.0; whole.len()];
            for (band, out) in bands.chunks_mut(3 * row_len).enumerate() {
                resize.fill_rows(3 * band, out, row_len);
            }
            assert_eq!(whole, bands);
            // Every value again, straight from the definition, in f64.
            for (y, row) in whole.chunks(row_len).enumerate() {
                assert!(row[target.width * 3..].iter().all(|&v| v == 0.0));
                for x in 0..target.width {
                    for c in 0..3 {
                        let expected = by_definition(&values, size, target, x, y, c);
                        let found = f64::from(row[x * 3 + c]);
                        assert!((found - expected).abs() < 1e-6, "{x} {y}: {expected} {found}");
                    }
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
