//! Pictures that look alike though their bytes differ: coded anew, resized, the next frame of a film.

use rayon::prelude::*;

use crate::Image;

/// The grid that a picture is reduced to; differences across give 16 x 16 bits.
const COLUMNS: usize = 17;
const ROWS: usize = 16;

/// What is kept of a picture: 304 bytes.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Fingerprint {
    /// Whether each cell of the grid is darker than the next one in its row (a "difference hash").
    gradient: [u64; 4],
    /// Mean brightness of each cell.
    cells: [u8; COLUMNS * ROWS],
}

/// Bits of 256 that may differ. Pictures that have nothing to do with each other differ in about 128, and coding anew or
/// resizing changes a few.
const MAX_DISTANCE: u32 = 40;

/// Least correlation of the brightness of the cells. 1 is the same picture up to brightness and contrast.
const MIN_CORRELATION: f64 = 0.985;

/// Standard deviation of the brightness, in steps of 255, below which a picture shows nothing that could be compared.
const MIN_CONTRAST: f64 = 3.0;

impl Fingerprint {
    pub(super) fn of(image: &Image) -> Self {
        let mut cells = [0; COLUMNS * ROWS];
        let (width, height) = (image.size.width, image.size.height);
        // At least one pixel, so that pictures smaller than the grid have cells, too.
        let span = |at: usize, parts: usize, side: usize| {
            let low = at * side / parts;
            low..((at + 1) * side / parts).max(low + 1)
        };
        for (idx, cell) in cells.iter_mut().enumerate() {
            let (columns, rows) = (span(idx % COLUMNS, COLUMNS, width), span(idx / COLUMNS, ROWS, height));
            let pixels = (columns.len() * rows.len()) as u64;
            let mut sum = 0;
            for row in rows {
                let row = &image.pixels[(row * width + columns.start) * 3..(row * width + columns.end) * 3];
                // Integer shares of red, green and blue near those of brightness.
                sum += row
                    .chunks_exact(3)
                    .map(|p| 2 * u64::from(p[0]) + 5 * u64::from(p[1]) + u64::from(p[2]))
                    .sum::<u64>();
            }
            *cell = (sum / (8 * pixels)) as u8;
        }
        let mut gradient = [0; 4];
        for row in 0..ROWS {
            for column in 0..COLUMNS - 1 {
                let bit = row * (COLUMNS - 1) + column;
                let rises = cells[row * COLUMNS + column] < cells[row * COLUMNS + column + 1];
                gradient[bit / 64] |= u64::from(rises) << (bit % 64);
            }
        }
        Self { gradient, cells }
    }

    fn mean_and_deviation(&self) -> (f64, f64) {
        let count = self.cells.len() as f64;
        let mean = self.cells.iter().map(|&cell| f64::from(cell)).sum::<f64>() / count;
        let variance = self.cells.iter().map(|&cell| (f64::from(cell) - mean).powi(2)).sum::<f64>() / count;
        (mean, variance.sqrt())
    }

    /// Correlation of the cells, -1 to 1; 0 where a picture shows next to nothing.
    fn correlation(&self, other: &Self) -> f64 {
        let ((mean_a, deviation_a), (mean_b, deviation_b)) = (self.mean_and_deviation(), other.mean_and_deviation());
        if deviation_a < MIN_CONTRAST || deviation_b < MIN_CONTRAST {
            return 0.0;
        }
        let pairs = self.cells.iter().zip(&other.cells);
        let covariance: f64 = pairs.map(|(&a, &b)| (f64::from(a) - mean_a) * (f64::from(b) - mean_b)).sum();
        covariance / (self.cells.len() as f64 * deviation_a * deviation_b)
    }
}

/// The earlier pictures that one looks most like, by index, with the correlation.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Twins {
    /// In its own split.
    pub(super) same_split: Option<(usize, f64)>,
    /// In another split.
    pub(super) other_split: Option<(usize, f64)>,
}

/// For each picture (its fingerprint and split) the earlier ones that it looks most like.
///
/// Every pair whose numbers of set bits allow for it is compared, by all threads: some seconds for 100,000 pictures.
pub(super) fn twins(pictures: &[(&Fingerprint, usize)]) -> Vec<Twins> {
    // Beside each other in memory, as nearly all of the time goes into walking over them.
    let mut sorted: Vec<Entry> = pictures
        .iter()
        .enumerate()
        .map(|(idx, (fingerprint, _))| {
            let gradient = fingerprint.gradient;
            Entry { ones: gradient.iter().map(|bits| bits.count_ones()).sum(), idx, gradient }
        })
        .collect();
    sorted.sort_unstable_by_key(|entry| (entry.ones, entry.idx));
    let find = |entry: &Entry| {
        let (fingerprint, split) = pictures[entry.idx];
        let first = sorted.partition_point(|other| other.ones + MAX_DISTANCE < entry.ones);
        let end = sorted.partition_point(|other| other.ones <= entry.ones + MAX_DISTANCE);
        let mut twins = Twins::default();
        for other in
            sorted[first..end].iter().filter(|other| other.distance(entry) <= MAX_DISTANCE && other.idx < entry.idx)
        {
            let (other_fingerprint, other_split) = pictures[other.idx];
            let likeness = fingerprint.correlation(other_fingerprint);
            if likeness < MIN_CORRELATION {
                continue;
            }
            let best = if other_split == split { &mut twins.same_split } else { &mut twins.other_split };
            // Of equal ones the first picture, whatever the order of the search.
            if best.is_none_or(|(at, best)| likeness > best || (likeness == best && other.idx < at)) {
                *best = Some((other.idx, likeness));
            }
        }
        (entry.idx, twins)
    };
    let found: Vec<(usize, Twins)> = sorted.par_iter().map(find).collect();
    let mut twins = vec![Twins::default(); pictures.len()];
    for (idx, of_one) in found {
        twins[idx] = of_one;
    }
    twins
}

/// A picture among others, sorted by how many of its bits are set.
struct Entry {
    ones: u32,
    idx: usize,
    gradient: [u64; 4],
}

impl Entry {
    /// How many bits differ.
    fn distance(&self, other: &Self) -> u32 {
        self.gradient.iter().zip(&other.gradient).map(|(a, b)| (a ^ b).count_ones()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Dataset, GeneratedConfig, GeneratedDataset};
    use retinanet_anchors::ImageSize;

    fn generated(count: usize) -> Vec<Image> {
        let config = GeneratedConfig { images: count, ..GeneratedConfig::default() };
        let dataset = GeneratedDataset::new(config).expect("a good configuration");
        (0..count).map(|idx| dataset.sample(idx).expect("a picture").image).collect()
    }

    /// Half as large, darker, with other noise.
    fn changed(image: &Image) -> Image {
        let size = ImageSize::new(image.size.width / 2, image.size.height / 2);
        let mut pixels = Vec::new();
        for y in 0..size.height {
            for x in 0..size.width {
                let at = |dx: usize, dy: usize| ((2 * y + dy) * image.size.width + 2 * x + dx) * 3;
                let corners = [at(0, 0), at(1, 0), at(0, 1), at(1, 1)];
                let noise = ((x * 31 + y * 17) % 5) as u8;
                for channel in 0..3 {
                    let mean = corners.iter().map(|corner| u32::from(image.pixels[corner + channel])).sum::<u32>() / 4;
                    pixels.push((mean / 8 * 7) as u8 + noise);
                }
            }
        }
        Image { size, pixels }
    }

    #[test]
    fn changed_pictures_are_found_and_others_are_not() {
        let images = generated(40);
        let prints: Vec<Fingerprint> =
            images.iter().cloned().chain(images.iter().map(changed)).map(|image| Fingerprint::of(&image)).collect();
        let pictures: Vec<(&Fingerprint, usize)> = prints.iter().enumerate().map(|(i, print)| (print, i % 3)).collect();
        for (idx, twins) in twins(&pictures).into_iter().enumerate() {
            let expected = idx.checked_sub(40);
            // 40 pictures later is another of the three splits.
            assert_eq!(twins.other_split.map(|(at, _)| at), expected, "{idx}");
            assert_eq!(twins.same_split, None, "{idx}");
        }
    }

    #[test]
    fn tiny_and_flat_pictures_are_no_twins() {
        let flat = |side: usize, value: u8| {
            let size = ImageSize::new(side, side);
            Fingerprint::of(&Image { size, pixels: vec![value; side * side * 3] })
        };
        let prints = [flat(1, 9), flat(1, 9), flat(200, 250), flat(200, 251)];
        assert_eq!(prints[0].cells, [9; COLUMNS * ROWS]);
        let pictures: Vec<(&Fingerprint, usize)> = prints.iter().map(|print| (print, 0)).collect();
        assert!(twins(&pictures).iter().all(|twins| *twins == Twins::default()));
    }
}
