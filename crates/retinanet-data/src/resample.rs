//! Resizing as other toolkits do it, on bytes and to the bit: a network trained behind one library's resizing scores a
//! little less behind another's.

mod opencv;
mod pillow;

use rayon::prelude::*;
use retinanet_anchors::ImageSize;
use serde::{Deserialize, Serialize};

/// Whose resizing a picture goes through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResizeMethod {
    /// torchvision's: sides rounded down; bilinear on the normalised floats, no smoothing when the picture shrinks.
    #[default]
    Torchvision,
    /// Detectron2's: sides rounded to the nearest; Pillow's bilinear filter on bytes, which averages when the picture
    /// shrinks, with its rounding to bytes.
    Detectron2,
    /// MMDetection's: sides rounded to the nearest; OpenCV's linear interpolation on bytes, in its fixed point.
    Mmdetection,
}

/// Memory for resizing bytes, used again for the next picture.
#[derive(Clone, Debug, Default)]
pub(crate) struct ResampleScratch {
    pillow: pillow::Scratch,
    opencv: opencv::Scratch,
    /// The resized picture.
    pub(crate) resized: Vec<u8>,
}

impl ResizeMethod {
    /// The size of a picture after resizing; no side of `original` is 0.
    ///
    /// Source: torchvision `models/detection/transform.py`; Detectron2 `data/transforms/augmentation_impl.py`,
    /// `ResizeShortestEdge`; mmcv `image/geometric.py`, `rescale_size`.
    pub(crate) fn resized_size(self, original: ImageSize, min_size: usize, max_size: usize) -> ImageSize {
        let ImageSize { width, height } = original;
        let (width, height) = (width as f64, height as f64);
        let (shorter, longer) = (width.min(height), width.max(height));
        let (min_size, max_size) = (min_size as f64, max_size as f64);
        let scale = (min_size / shorter).min(max_size / longer);
        let (width, height) = match self {
            Self::Torchvision => ((width * scale).floor(), (height * scale).floor()),
            Self::Mmdetection => ((width * scale + 0.5).floor(), (height * scale + 0.5).floor()),
            Self::Detectron2 => {
                // To the shorter side first, then to the limit of the longer one: its order of roundings.
                let scale = min_size / shorter;
                let (mut width, mut height) =
                    if height < width { (scale * width, min_size) } else { (min_size, scale * height) };
                if width.max(height) > max_size {
                    let scale = max_size / width.max(height);
                    (width, height) = (width * scale, height * scale);
                }
                ((width + 0.5).floor(), (height + 0.5).floor())
            }
        };
        ImageSize::new((width as usize).max(1), (height as usize).max(1))
    }

    /// Resizes RGB bytes into `scratch.resized`, or says that this method works on floats.
    pub(crate) fn resize_bytes(
        self,
        pixels: &[u8],
        from: ImageSize,
        to: ImageSize,
        threads: usize,
        scratch: &mut ResampleScratch,
    ) -> bool {
        let ResampleScratch { pillow, opencv, resized } = scratch;
        match self {
            Self::Torchvision => return false,
            Self::Detectron2 => pillow::resize(pixels, from, to, threads, pillow, resized),
            Self::Mmdetection => opencv::resize(pixels, from, to, threads, opencv, resized),
        }
        true
    }
}

/// Calls `fill` with the number of each row and the row, on all threads of the pool if there may be several.
fn for_each_row(pixels: &mut [u8], row_len: usize, threads: usize, fill: impl Fn(usize, &mut [u8]) + Sync) {
    if threads > 1 {
        pixels.par_chunks_mut(row_len).enumerate().for_each(|(y, row)| fill(y, row));
    } else {
        pixels.chunks_mut(row_len).enumerate().for_each(|(y, row)| fill(y, row));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checksums that `tests/golden/resample.py` made with Pillow and OpenCV.
    const GOLDENS: &str = include_str!("../tests/golden/resample.txt");

    #[test]
    fn bytes_are_those_of_pillow_and_opencv() {
        let mut scratch = ResampleScratch::default();
        for line in GOLDENS.lines() {
            let fields: Vec<&str> = line.split(' ').collect();
            let number = |i: usize| fields[i].parse::<usize>().expect("a number");
            let (from, to) = (ImageSize::new(number(1), number(2)), ImageSize::new(number(3), number(4)));
            let method = match fields[0] {
                "pillow" => ResizeMethod::Detectron2,
                "opencv" => ResizeMethod::Mmdetection,
                other => panic!("{other}"),
            };
            let pixels = (0..from.width * from.height * 3).map(|i| ((i * 37 + i * i % 251 + 11) % 256) as u8);
            let pixels: Vec<u8> = pixels.collect();
            for threads in [1, 4] {
                assert!(method.resize_bytes(&pixels, from, to, threads, &mut scratch));
                let found = &scratch.resized;
                assert_eq!(found.len(), to.width * to.height * 3, "{line}");
                let first: Vec<usize> = found.iter().take(6).map(|&byte| usize::from(byte)).collect();
                let expected: Vec<usize> = (6..6 + first.len()).map(|i| fields[i].parse().expect("a byte")).collect();
                assert_eq!(first, expected, "{line}");
                let hash = found.iter().fold(0xCBF2_9CE4_8422_2325, |hash: u64, &byte| {
                    (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3)
                });
                assert_eq!(format!("{hash:016x}"), fields[5], "{line}");
            }
        }
        let (one, mut scratch) = (ImageSize::new(1, 1), ResampleScratch::default());
        assert!(!ResizeMethod::Torchvision.resize_bytes(&[1, 2, 3], one, one, 1, &mut scratch));
    }

    #[test]
    fn sides_are_rounded_as_each_toolkit_does() {
        let size = |method: ResizeMethod, width, height| {
            let ImageSize { width, height } = method.resized_size(ImageSize::new(width, height), 800, 1333);
            (width, height)
        };
        let all = [ResizeMethod::Torchvision, ResizeMethod::Detectron2, ResizeMethod::Mmdetection];
        // The shorter side decides, 640 x 800 / 427 = 1199.06; the longer one does, 375 x 1333 / 1242 = 402.48.
        assert_eq!(all.map(|method| size(method, 640, 427)), [(1199, 800); 3]);
        assert_eq!(all.map(|method| size(method, 1242, 375)), [(1333, 402); 3]);
        // 350 x 1333 / 701 = 665.55, 640 x 800 / 480 = 1066.67.
        assert_eq!(all.map(|method| size(method, 701, 350)), [(1333, 665), (1333, 666), (1333, 666)]);
        assert_eq!(all.map(|method| size(method, 480, 640)), [(800, 1066), (800, 1067), (800, 1067)]);
        assert_eq!(size(ResizeMethod::Detectron2, 5000, 1), (1333, 1));
    }
}
