//! Pictures to normalised, resized, padded batches.

use retinanet_anchors::ImageSize;
use serde::{Deserialize, Serialize};

use crate::batch::ratios;
use crate::resize::{Canvas, prepare};
use crate::{
    Augmentation, Batch, BatchError, BatchImage, ConfigError, ImageView, PreparationScratch, ResizeMethod, Sample,
};

/// How a picture becomes the network's input.
///
/// v = (p - mean) / std, p in 0..=1, then bilinear resizing of the float picture, then zeros up to the batch's size. Where
/// [`resize`](Self::resize) is another toolkit's, a picture of bytes is resized first.
///
/// Source: torchvision `models/detection/transform.py`, `GeneralizedRCNNTransform`. Positions and weights of the resize are
/// computed in f64 here.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Preprocessing {
    /// Mean of red, green and blue, of pixels in 0..=1. Default ImageNet's.
    pub mean: [f32; 3],
    /// Standard deviation of red, green and blue, above 0. Default ImageNet's.
    pub std: [f32; 3],
    /// Pixels of the shorter side after resizing, unless the longer would pass `max_size`. Default 800.
    pub min_size: usize,
    /// Most pixels of the longer side after resizing. Default 1333.
    pub max_size: usize,
    /// The padded sides are multiples of this. Default 32.
    pub pad_to: usize,
    /// Whether training may decode images at a half, a quarter or an eighth of their sides, by means, where they are still as
    /// large as the resize makes them. Default false, as pixels then differ from torchvision's, which does not smooth; at
    /// exactly twice the size both are means over 2 x 2. Detection and scoring always decode whole images.
    pub reduced_decoding: bool,
    /// Whose resizing: the rounding of the sides, and how bytes are interpolated. Floats are always resized as torchvision
    /// does, which the other toolkits do with floats too.
    pub resize: ResizeMethod,
}

impl Default for Preprocessing {
    fn default() -> Self {
        Self {
            mean: [0.485, 0.456, 0.406],
            std: [0.229, 0.224, 0.225],
            min_size: 800,
            max_size: 1333,
            pad_to: 32,
            reduced_decoding: false,
            resize: ResizeMethod::Torchvision,
        }
    }
}

/// A side beyond this is a slip of the pen, not a picture: a single canvas would take 768 MiB, and the maps
/// that a network makes of it several times as much.
pub(crate) const MAX_SIDE: usize = 1 << 13;

impl Preprocessing {
    /// Looks at every field.
    ///
    /// # Errors
    /// The first field that is out of its range.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let wrong = |field, expected, found: String| Err(ConfigError { field, expected, found });
        if !self.mean.iter().all(|mean| mean.is_finite()) {
            return wrong("preprocessing.mean", "finite numbers", format!("{:?}", self.mean));
        }
        if !self.std.iter().all(|std| std.is_normal() && *std > 0.0) {
            return wrong("preprocessing.std", "numbers > 0", format!("{:?}", self.std));
        }
        for (field, side) in [
            ("preprocessing.min_size", self.min_size),
            ("preprocessing.max_size", self.max_size),
            ("preprocessing.pad_to", self.pad_to),
        ] {
            if !(1..=MAX_SIDE).contains(&side) {
                return wrong(field, "1..=8192", side.to_string());
            }
        }
        Ok(())
    }

    /// The size of a picture after resizing.
    ///
    /// floor(side * scale), scale = min(min_size / shorter, max_size / longer), in f64
    ///
    /// So 480 pixels asked to become 800 may become 799; the other toolkits round to the nearest. A side is at least 1,
    /// where torchvision fails at 0. A picture without pixels keeps its size.
    ///
    /// ```
    /// use retinanet_data::{Preprocessing, retinanet_anchors::ImageSize};
    ///
    /// let preprocessing = Preprocessing { min_size: 320, max_size: 512, ..Preprocessing::default() };
    /// assert_eq!(preprocessing.resized_size(ImageSize::new(320, 240)), ImageSize::new(426, 320));
    /// ```
    #[must_use]
    pub fn resized_size(&self, original: ImageSize) -> ImageSize {
        if original.width.min(original.height) == 0 {
            return original;
        }
        self.resize.resized_size(original, self.min_size, self.max_size)
    }

    /// Pixels of the shorter side that images to train on are decoded with, at least: those of the largest size that the
    /// augmentation may draw, enlarged as far as it may. None where only whole images will do.
    ///
    /// ```
    /// use retinanet_data::{Augmentation, Preprocessing};
    ///
    /// let preprocessing = Preprocessing { min_size: 240, reduced_decoding: true, ..Preprocessing::default() };
    /// let augmentation = Augmentation { min_sizes: vec![200, 300], ..Augmentation::default() };
    /// assert_eq!(preprocessing.min_decoded_side(&augmentation), Some(300));
    /// assert_eq!(Preprocessing::default().min_decoded_side(&augmentation), None);
    /// ```
    #[must_use]
    pub fn min_decoded_side(&self, augmentation: &Augmentation) -> Option<usize> {
        let largest = augmentation.min_sizes.iter().copied().max().unwrap_or(self.min_size);
        self.reduced_decoding.then(|| (largest as f64 * augmentation.max_enlargement()).ceil() as usize)
    }

    /// The size of the canvas for pictures of these sizes after resizing.
    #[must_use]
    pub fn padded_size(&self, resized: &[ImageSize]) -> ImageSize {
        let up = |side: usize| side.next_multiple_of(self.pad_to.max(1));
        ImageSize::new(
            up(resized.iter().map(|size| size.width).max().unwrap_or(0)),
            up(resized.iter().map(|size| size.height).max().unwrap_or(0)),
        )
    }

    /// The sizes of a picture by itself: after resizing, and of its canvas.
    #[must_use]
    pub fn sizes(&self, original: ImageSize) -> PreparedSizes {
        let resized = self.resized_size(original);
        PreparedSizes { resized, padded: self.padded_size(&[resized]) }
    }

    /// Normalises, resizes and pads one picture into memory of the caller, `[H, W, 3]` of [`sizes`](Self::sizes)`.padded`,
    /// in one pass and on the threads of the pool it is called in: the values of a [`batch`](Self::batch) of this picture.
    ///
    /// Takes no memory once `scratch` has been used for a picture as large, into one as large.
    ///
    /// # Errors
    /// The picture has no pixels or not three values each, a field is out of its range, or `out` has another length.
    ///
    /// ```
    /// use retinanet_data::{Image, PreparationScratch, Preprocessing, retinanet_anchors::ImageSize};
    ///
    /// let gray = Image { size: ImageSize::new(2, 1), pixels: vec![128; 6] };
    /// let preprocessing = Preprocessing { min_size: 1, max_size: 9, pad_to: 4, ..Preprocessing::default() };
    /// let padded = preprocessing.sizes(gray.size).padded;
    /// let mut pixels = vec![0.0; padded.width * padded.height * 3];
    /// let prepared = preprocessing.prepare_into(&gray.view(), &mut PreparationScratch::default(), &mut pixels)?;
    /// assert_eq!((prepared.resized, padded), (ImageSize::new(2, 1), ImageSize::new(4, 4)));
    /// assert_eq!(pixels, preprocessing.batch(&[gray.view()])?.pixels);
    /// # Ok::<(), retinanet_data::BatchError>(())
    /// ```
    pub fn prepare_into(
        &self,
        image: &ImageView<'_>,
        scratch: &mut PreparationScratch,
        out: &mut [f32],
    ) -> Result<BatchImage, BatchError> {
        self.validate()?;
        check_length(0, image)?;
        let PreparedSizes { resized, padded } = self.sizes(image.size);
        let expected = values(padded, 1).unwrap_or(usize::MAX);
        if out.len() != expected {
            return Err(BatchError::WrongOutput { padded, expected, found: out.len() });
        }
        let canvas = Canvas { resized, padded };
        prepare(image, self.resize, (self.mean, self.std), canvas, rayon::current_num_threads(), scratch, out);
        Ok(BatchImage { index: 0, original: image.size, resized, boxes: Vec::new(), classes: Vec::new() })
    }

    /// Normalises, resizes and pads pictures that have no boxes, on all threads.
    ///
    /// # Errors
    /// There is no picture, one has no pixels or not three values each, or a field is out of its range.
    ///
    /// ```
    /// use retinanet_data::{Image, Preprocessing, retinanet_anchors::ImageSize};
    ///
    /// let gray = Image { size: ImageSize::new(2, 1), pixels: vec![128; 6] };
    /// let preprocessing = Preprocessing { min_size: 1, max_size: 9, pad_to: 4, ..Preprocessing::default() };
    /// let batch = preprocessing.batch(&[gray.view()])?;
    /// assert_eq!(batch.padded, ImageSize::new(4, 4));
    /// assert_eq!(batch.pixels[0], (128.0 / 255.0 - 0.485) / 0.229);
    /// assert_eq!(batch.pixels[6..], [0.0; 42]);
    /// # Ok::<(), retinanet_data::BatchError>(())
    /// ```
    pub fn batch(&self, images: &[ImageView<'_>]) -> Result<Batch, BatchError> {
        self.canvas(images, Threads::All)
    }

    /// Normalises, resizes and pads samples; boxes are scaled across and down by the ratio of the integer sizes.
    ///
    /// `index` of each [`BatchImage`] is the number given beside its sample. Runs on the calling thread alone, as a
    /// loader has threads of its own.
    ///
    /// # Errors
    /// As [`batch`](Self::batch).
    pub fn batch_of_samples(&self, samples: &[(usize, Sample)]) -> Result<Batch, BatchError> {
        let views: Vec<ImageView<'_>> = samples.iter().map(|(_, s)| s.image.view()).collect();
        let mut batch = self.canvas(&views, Threads::Caller)?;
        for (image, (index, sample)) in batch.images.iter_mut().zip(samples) {
            let (sx, sy) = ratios(image.original, image.resized);
            image.index = *index;
            image.boxes = sample.boxes.iter().map(|bbox| bbox.scale(sx, sy)).collect();
            image.classes.clone_from(&sample.classes);
        }
        Ok(batch)
    }

    fn canvas(&self, images: &[ImageView<'_>], threads: Threads) -> Result<Batch, BatchError> {
        self.validate()?;
        if images.is_empty() {
            return Err(BatchError::Empty);
        }
        for (position, image) in images.iter().enumerate() {
            check_length(position, image)?;
        }
        let resized: Vec<ImageSize> = images.iter().map(|i| self.resized_size(i.size)).collect();
        let padded = self.padded_size(&resized);
        let total =
            values(padded, images.len()).filter(|&total| total <= isize::MAX as usize / size_of::<f32>()).ok_or(
                BatchError::TooLarge { max: isize::MAX as usize / size_of::<f32>(), images: images.len(), padded },
            )?;
        let mut pixels = vec![0.0; total];
        let threads = match threads {
            Threads::All => rayon::current_num_threads(),
            Threads::Caller => 1,
        };
        let mut scratch = PreparationScratch::default();
        let canvases = pixels.chunks_exact_mut(total / images.len());
        for ((image, &resized), out) in images.iter().zip(&resized).zip(canvases) {
            let canvas = Canvas { resized, padded };
            prepare(image, self.resize, (self.mean, self.std), canvas, threads, &mut scratch, out);
        }
        let images = images.iter().zip(resized).enumerate();
        let images = images.map(|(index, (image, resized))| BatchImage {
            index,
            original: image.size,
            resized,
            boxes: Vec::new(),
            classes: Vec::new(),
        });
        Ok(Batch { pixels, padded, images: images.collect() })
    }
}

/// The sizes of a picture on its way to the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PreparedSizes {
    /// After resizing.
    pub resized: ImageSize,
    /// With the padding right of and below it.
    pub padded: ImageSize,
}

fn check_length(position: usize, image: &ImageView<'_>) -> Result<(), BatchError> {
    let expected = values(image.size, 1).unwrap_or(usize::MAX);
    if expected == 0 || image.pixels.len() != expected {
        return Err(BatchError::WrongLength { position, expected, found: image.pixels.len() });
    }
    Ok(())
}

#[derive(Clone, Copy)]
enum Threads {
    All,
    Caller,
}

fn values(size: ImageSize, images: usize) -> Option<usize> {
    size.width.checked_mul(size.height)?.checked_mul(3)?.checked_mul(images)
}
