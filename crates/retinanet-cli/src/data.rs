//! Data sets as commands open them, with what was wrong said on standard error.

use crate::table;
use anyhow::Context;
use retinanet_annotations::Effect;
use retinanet_data::{CachedDataset, Dataset, FileDataset};
use std::path::Path;
use std::sync::Arc;

/// How many problems are printed before the rest is counted.
const SHOWN: usize = 10;

/// Opens a split and reports its problems.
pub(crate) fn open(path: &Path, split: &str) -> anyhow::Result<FileDataset> {
    let dataset =
        FileDataset::open(path, Some(split)).with_context(|| format!("cannot read the split {split:?} of the data"))?;
    let set = dataset.annotations();
    let objects: usize = set.images.iter().map(|image| image.annotations.len()).sum();
    let empty = set.images.iter().filter(|image| image.annotations.is_empty()).count();
    let without = if empty > 0 { format!(" ({empty} with no boxes, which are data too)") } else { String::new() };
    let images = table::count(set.images.len(), "image", "images");
    let boxes = table::count(objects, "box", "boxes");
    let classes = table::count(set.classes.len(), "class", "classes");
    eprintln!("{split}: {images}, {boxes}, {classes}{without}");
    report("problem", &set.problems);
    Ok(dataset)
}

/// Images of a set that could not be used, as its problems say; they count as failures, as those that fail later do.
pub(crate) fn num_dropped_images(dataset: &dyn Dataset) -> usize {
    dataset.annotations().problems.iter().filter(|problem| problem.effect == Effect::ImageDropped).count()
}

/// Most memory that the decoded images of one split are kept in, so that each is decoded once.
const CACHE_BYTES: usize = 1 << 30;

/// The same data set with its images kept in memory while there is room.
pub(crate) fn cached(dataset: impl Dataset + 'static) -> Arc<dyn Dataset> {
    Arc::new(CachedDataset::new(Arc::new(dataset), CACHE_BYTES))
}

/// Prints the first of these and counts the rest.
pub(crate) fn report(kind: &str, items: &[impl std::fmt::Display]) {
    for item in items.iter().take(SHOWN) {
        eprintln!("{kind}: {item}");
    }
    if items.len() > SHOWN {
        eprintln!("{kind}: and {} more", items.len() - SHOWN);
    }
}
