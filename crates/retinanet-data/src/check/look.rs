//! One image: its file is read and decoded once, and only a few hundred bytes are kept.

use std::hash::{DefaultHasher, Hash, Hasher};

use retinanet_anchors::ImageSize;
use retinanet_annotations::AnnotatedImage;

use super::boxes::BoxCheck;
use super::finding::{Example, FindingKind, Tally};
use super::fingerprint::Fingerprint;
use super::{CheckOptions, Joined};
use crate::traits::{ImageFileFormat, image_traits};
use crate::{DecodeError, Image, ImageTraits, decode_file};

/// What is kept of an image.
#[derive(Debug, Default)]
pub(super) struct Looked {
    /// As displayed, where the file could be decoded.
    pub(super) size: Option<ImageSize>,
    pub(super) format: Option<ImageFileFormat>,
    pub(super) picture: Option<PictureKey>,
    /// For each box the IoU with its best anchor, where there is one to look for.
    pub(super) best_ious: Vec<Option<f32>>,
}

/// What tells a picture from others.
#[derive(Debug)]
pub(super) struct PictureKey {
    /// Of the decoded pixels and the size: equal for equal pictures, and different for others but once in 10^19.
    pub(super) hash: u64,
    pub(super) fingerprint: Box<Fingerprint>,
}

/// An image of a split.
pub(super) struct Subject<'a> {
    pub(super) joined: &'a Joined<'a>,
    pub(super) split: usize,
    pub(super) image: &'a AnnotatedImage,
}

impl Subject<'_> {
    /// An example that is about the image.
    pub(super) fn example(&self, what: String) -> Example {
        Example {
            what,
            split: Some(self.joined.splits[self.split].name.clone()),
            file: Some(self.image.path.clone()),
            image: Some(self.image.path.clone()),
            ..Example::default()
        }
    }

    pub(super) fn class_name(&self, class_idx: usize) -> &str {
        self.joined.class_name(self.split, class_idx)
    }
}

/// Reads, decodes and measures an image, and counts what is wrong with it.
pub(super) fn look(subject: &Subject, options: &CheckOptions, boxes: &BoxCheck, tally: &mut Tally) -> Looked {
    let mut looked = Looked::default();
    let limit = options.max_examples;
    let mut found = |kind, badness: f64, what: String| tally.add(limit, kind, badness, || subject.example(what));
    if subject.image.annotations.is_empty() && !subject.joined.classes.is_empty() {
        found(FindingKind::ImageWithoutBoxes, 0.0, "no boxes".to_owned());
    }
    let (traits, image) = match read(subject, options) {
        Ok(read) => read,
        Err(error) => {
            let is_missing =
                matches!(&error, DecodeError::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound);
            let kind = if is_missing { FindingKind::ImageMissing } else { FindingKind::ImageUnreadable };
            let text = error.to_string();
            let name = format!("{}: ", subject.image.path.display());
            found(kind, 0.0, text.strip_prefix(&name).unwrap_or(&text).to_owned());
            return looked;
        }
    };
    if traits.is_truncated {
        found(FindingKind::ImageTruncated, 0.0, "the file has no end marker".to_owned());
    }
    if traits.is_oriented() {
        let what =
            format!("EXIF orientation {}, stored as {}, shown as {}", traits.orientation, traits.stored, image.size);
        found(FindingKind::ExifOrientation, 0.0, what);
    }
    if traits.is_cmyk {
        found(FindingKind::ImageCmyk, 0.0, format!("{} channels", traits.channels));
    }
    if traits.bits > 8 {
        found(FindingKind::ImageDeep, f64::from(traits.bits), format!("{} bits a channel", traits.bits));
    }
    if image.pixels.chunks_exact(3).all(|pixel| pixel[0] == pixel[1] && pixel[1] == pixel[2]) {
        let stored = if traits.channels <= 2 { "stored in gray" } else { "stored in colour, all of it gray" };
        found(FindingKind::ImageGrayscale, 0.0, stored.to_owned());
    }
    if let Some(stated) = subject.image.size.filter(|stated| *stated != image.size) {
        let what = format!("size: expected {stated} as annotated, found {}", image.size);
        let kind = if traits.turned() == Some(stated) {
            FindingKind::ExifOrientationIgnored
        } else {
            FindingKind::ImageSizeMismatch
        };
        let (from, to) =
            (stated.width as f64 * stated.height as f64, image.size.width as f64 * image.size.height as f64);
        found(kind, (from / to).ln().abs(), what);
    }
    looked.best_ious = boxes.check(subject, image.size, limit, tally);
    looked.size = Some(image.size);
    looked.format = Some(traits.format);
    looked.picture = Some(PictureKey { hash: hash_of(&image), fingerprint: Box::new(Fingerprint::of(&image)) });
    looked
}

fn read(subject: &Subject, options: &CheckOptions) -> Result<(ImageTraits, Image), DecodeError> {
    let path = &subject.image.path;
    // The pixels first: what is too large is told with its size.
    let image = decode_file(path, &options.limits)?;
    Ok((image_traits(path, &options.limits)?, image))
}

fn hash_of(image: &Image) -> u64 {
    let mut hasher = DefaultHasher::new();
    (image.size.width, image.size.height).hash(&mut hasher);
    hasher.write(&image.pixels);
    hasher.finish()
}
