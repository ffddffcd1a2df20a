//! Data sets written in any of the formats.

use std::collections::HashMap;
use std::fmt::Display;
use std::path::{Path, PathBuf};

use retinanet_anchors::ImageSize;

use crate::{
    AnnotatedImage, Annotation, AnnotationError, AnnotationSet, Class, Effect, Format, ImageSizeProbe, Place, Problem,
    Problems, SetDetails, coco, csv, open_images, voc, yolo,
};

mod conversion;
mod files;
mod losses;
mod names;

pub use conversion::{Conversion, Converted, ConvertedSplit, ImageTransfer};
pub use losses::{Loss, Losses};

use losses::Holding;
use names::Names;

/// One split as a format writes it: names are bare and unique, sizes known where the format needs them.
pub(crate) struct NamedSplit<'a> {
    /// Empty for a set that is not divided.
    pub(crate) name: &'a str,
    pub(crate) images: &'a [AnnotatedImage],
}

/// Splits made ready for a format, and what that cost.
pub(crate) struct Prepared {
    format: Format,
    classes: Vec<Class>,
    details: Option<Box<SetDetails>>,
    splits: Vec<(String, Vec<AnnotatedImage>)>,
    pub(crate) losses: Losses,
    pub(crate) problems: Problems,
    /// Images whose files had to be called differently, and their new names.
    pub(crate) renamed: Vec<(PathBuf, String)>,
}

/// The folder of a split's images, below the set's.
pub(crate) fn image_folder(format: Format, split: &str) -> String {
    match format {
        Format::Voc => "JPEGImages".to_owned(),
        Format::OpenImages if !split.is_empty() => split.to_owned(),
        _ if split.is_empty() => "images".to_owned(),
        _ => format!("images/{split}"),
    }
}

/// Left, top, right and bottom as parts of the image's sides; none where the size is not known.
pub(crate) fn relative(annotation: &Annotation, size: Option<ImageSize>) -> Option<[f64; 4]> {
    let (width, height) = size.map(|size| (size.width as f64, size.height as f64))?;
    let [x, y, w, h] = annotation.xywh;
    Some([x / width, y / height, (x + w) / width, (y + h) / height])
}

/// Writes one of the files of many images. Each is plainly written: the folder as a whole appears when all are there.
pub(crate) fn write_text(path: &Path, text: &str) -> Result<(), AnnotationError> {
    std::fs::write(path, text).map_err(|source| AnnotationError::Io { path: path.to_owned(), source })
}

impl Format {
    /// Writes the annotation files of a set's splits into a folder, and tells what the format could not hold.
    ///
    /// [`Conversion`] does it for a folder that is whole or not there, and brings the image files to their places.
    ///
    /// A split without a name is the whole of a set that is not divided. Images are called by the bare names of their
    /// files, with a number behind them where two are the same. Classes are joined by name over the splits.
    ///
    /// # Errors
    /// A class index is past the classes, a number is not finite, or the folder cannot be written to.
    pub fn write(
        self,
        folder: &Path,
        splits: Vec<(String, AnnotationSet)>,
        image_size: &ImageSizeProbe,
    ) -> Result<Losses, AnnotationError> {
        let prepared = Prepared::new(self, splits, image_size)?;
        prepared.write(folder)?;
        Ok(prepared.losses)
    }
}

impl Prepared {
    pub(crate) fn new(
        format: Format,
        splits: Vec<(String, AnnotationSet)>,
        image_size: &ImageSizeProbe,
    ) -> Result<Self, AnnotationError> {
        let mut all = AnnotationSet::default();
        let mut parts = Vec::new();
        let num_classes = splits.iter().map(|(_, set)| set.classes.len()).max().unwrap_or(0);
        for (name, set) in splits {
            check_classes(&set)?;
            let start = all.images.len();
            // Ids stay those of the split: only the classes and all that belongs to them are joined.
            let ids: Vec<i64> = set.images.iter().map(|image| image.id).collect();
            all.join_unchecked(set);
            for (image, id) in all.images[start..].iter_mut().zip(&ids) {
                image.id = *id;
            }
            parts.push((name, ids.len()));
        }
        let mut problems = std::mem::take(&mut all.problems);
        if all.classes.len() < num_classes {
            problems.note(
                Path::new("classes"),
                format!("names: expected {num_classes} that differ, found {}", all.classes.len()),
            );
        }
        let mut images = all.images.into_iter();
        let mut names = Names::default();
        let mut prepared_splits = Vec::new();
        for (name, count) in parts {
            let name = if name.is_empty() { name } else { names::safe(&name, "split") };
            let folder = image_folder(format, &name);
            let mut split: Vec<AnnotatedImage> = images.by_ref().take(count).collect();
            names.begin(folder);
            split.iter_mut().for_each(|image| names.give(image));
            if format == Format::Yolo {
                // A folder has no other order, and images are numbered in it when they are read.
                split.sort_by(|a, b| a.file_name.cmp(&b.file_name));
            }
            split.retain_mut(|image| measure(format, image, image_size, &mut problems));
            prepared_splits.push((name, split));
        }
        let mut losses = Losses::default();
        let classes = losses.of_classes(format, all.classes, &prepared_splits, all.details.as_deref());
        let mut holding = Holding::new(format, &mut losses, &prepared_splits);
        for (_, split) in &mut prepared_splits {
            for (image, number) in split.iter_mut().zip(1..) {
                holding.of_image(image, number);
            }
        }
        Ok(Self {
            format,
            classes,
            details: all.details,
            splits: prepared_splits,
            losses,
            problems,
            renamed: names.renamed,
        })
    }

    pub(crate) fn splits(&self) -> impl Iterator<Item = NamedSplit<'_>> {
        self.splits.iter().map(|(name, images)| NamedSplit { name, images })
    }

    /// Writes the annotation files.
    pub(crate) fn write(&self, folder: &Path) -> Result<(), AnnotationError> {
        let splits: Vec<NamedSplit> = self.splits().collect();
        let details = self.details.as_deref();
        match self.format {
            Format::Coco => coco::write_splits(folder, &self.classes, details, &splits),
            Format::Voc => voc::write(folder, &self.classes, &splits),
            Format::Yolo => yolo::write(folder, &self.classes, &splits),
            Format::Csv => csv::write(folder, &self.classes, &splits),
            Format::OpenImages => open_images::write(folder, &self.classes, details, &splits),
        }
    }

    /// Where each image file comes from and goes to, below the set's folder; each place once.
    pub(crate) fn transfers(&self) -> Vec<(&Path, PathBuf)> {
        let mut transfers: HashMap<PathBuf, &Path> = HashMap::new();
        let mut order = Vec::new();
        for split in self.splits() {
            let folder = PathBuf::from(image_folder(self.format, split.name));
            for image in split.images {
                let target = folder.join(&image.file_name);
                if transfers.insert(target.clone(), &image.path).is_none() {
                    order.push((image.path.as_path(), target));
                }
            }
        }
        order
    }
}

/// A set made by hand may have an index past its classes.
fn check_classes(set: &AnnotationSet) -> Result<(), AnnotationError> {
    for image in &set.images {
        for annotation in &image.annotations {
            let wrong = |what: &str, expected: &dyn Display, found: &dyn Display| {
                Err(AnnotationError::content(&image.path, &format!("image {}: {what}", image.id), expected, found))
            };
            if annotation.class_idx >= set.classes.len() {
                return wrong("class index", &format!("less than {}", set.classes.len()), &annotation.class_idx);
            }
            if let Some(number) = annotation.xywh.iter().chain([&annotation.area]).find(|number| !number.is_finite()) {
                return wrong("box and area", &"finite numbers", number);
            }
        }
    }
    Ok(())
}

/// Fills in the size of an image; an image whose size a format needs and nobody knows is left out.
fn measure(format: Format, image: &mut AnnotatedImage, image_size: &ImageSizeProbe, problems: &mut Problems) -> bool {
    if image.size.is_some() || format == Format::Csv {
        return true;
    }
    let is_needed = matches!(format, Format::Yolo | Format::OpenImages);
    match image_size(&image.path) {
        Ok(size) if size.width > 0 && size.height > 0 => image.size = Some(size),
        Ok(_) if !is_needed => {}
        Err(_) if !is_needed => {}
        found => {
            let found = found.map_or_else(|reason| reason, |size| size.to_string());
            let what = format!("image size: expected one for relative boxes, found {found}");
            let path = image.path.as_path().into();
            problems.push(Problem { path, place: Place::File, what, effect: Effect::ImageDropped });
            return false;
        }
    }
    true
}
