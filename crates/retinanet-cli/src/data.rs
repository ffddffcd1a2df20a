//! Data sets as commands open them, with what was wrong said on standard error.

use crate::args::{CacheArgs, CachePlace};
use crate::table;
use anyhow::Context;
use retinanet::Config;
use retinanet_annotations::Effect;
use retinanet_data::{CachedDataset, Dataset, DiskCache, FileDataset};
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

/// Makes a folder for output, or says why that cannot be one.
pub(crate) fn make_folder(path: &Path) -> anyhow::Result<()> {
    anyhow::ensure!(!path.exists() || path.is_dir(), "{}: expected a folder, found a file", path.display());
    std::fs::create_dir_all(path).with_context(|| format!("{}: cannot make the folder", path.display()))
}

/// Opens a split to train on: its images are decoded smaller where the configuration allows it.
pub(crate) fn open_to_train(path: &Path, split: &str, config: &Config) -> anyhow::Result<FileDataset> {
    let dataset = open(path, split)?;
    Ok(match config.preprocessing.min_decoded_side(&config.train.augmentation) {
        Some(min_side) => dataset.with_min_side(min_side),
        None => dataset,
    })
}

/// Where the images of data sets are kept once they are decoded.
pub(crate) enum Cache {
    /// Most bytes of each data set.
    Memory(usize),
    /// One folder for all data sets.
    Disk(Arc<DiskCache>),
    None,
}

impl Cache {
    pub(crate) fn open(args: &CacheArgs) -> anyhow::Result<Self> {
        anyhow::ensure!(
            args.cache_dir.is_none() || args.cache == CachePlace::Disk,
            "--cache-dir: expected --cache disk, found another place"
        );
        Ok(match args.cache {
            CachePlace::None => Self::None,
            CachePlace::Memory => Self::Memory(usize::try_from(args.limit()).unwrap_or(usize::MAX)),
            CachePlace::Disk => {
                let folder = match &args.cache_dir {
                    Some(folder) => folder.clone(),
                    None => dirs::cache_dir()
                        .context("--cache-dir: expected a folder, found none of the user's for caches")?
                        .join("retinanet")
                        .join("images"),
                };
                let warn = |what: &str| eprintln!("warning: {what}");
                let cache = DiskCache::open(&folder, args.limit(), warn);
                Self::Disk(Arc::new(cache.with_context(|| format!("{}: cannot be the cache", folder.display()))?))
            }
        })
    }

    /// The same data set with its images kept.
    pub(crate) fn over(&self, dataset: FileDataset) -> Arc<dyn Dataset> {
        match self {
            Self::None => Arc::new(dataset),
            Self::Memory(limit) => Arc::new(CachedDataset::new(Arc::new(dataset), *limit)),
            Self::Disk(cache) => Arc::new(dataset.with_disk_cache(Arc::clone(cache))),
        }
    }
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
