//! Data sets as commands open them, with what was wrong said on standard error.

use crate::args::{CacheArgs, CachePlace};
use crate::table;
use anyhow::Context;
use retinanet::Config;
use retinanet_annotations::{AnnotationError, DataRequest, Effect, ProblemKind, Problems};
use retinanet_data::{CachedDataset, DataError, Dataset, DiskCache, FileDataset};
use std::path::Path;
use std::sync::Arc;

/// How many problems or failures are printed before the rest is counted.
const SHOWN: usize = 10;

/// How many problems of one kind are printed before the rest of it is counted.
const SHOWN_PER_KIND: usize = 4;

/// Opens a split of the sets that are asked for, and reports its problems.
pub(crate) fn open(request: &DataRequest, split: &str) -> anyhow::Result<FileDataset> {
    let dataset = FileDataset::open_request(request, Some(split)).map_err(|error| with_hint(error, request, split))?;
    let set = dataset.annotations();
    let objects: usize = set.images.iter().map(|image| image.annotations.len()).sum();
    let empty = set.images.iter().filter(|image| image.annotations.is_empty()).count();
    let without = if empty > 0 { format!(" ({empty} with no boxes, which are data too)") } else { String::new() };
    let images = table::count(set.images.len(), "image", "images");
    let boxes = table::count(objects, "box", "boxes");
    let classes = table::count(set.classes.len(), "class", "classes");
    eprintln!("{split}: {images}, {boxes}, {classes}{without}");
    report_problems(&set.problems);
    Ok(dataset)
}

/// Says how to ask for a split that a set does not have.
fn with_hint(error: DataError, request: &DataRequest, split: &str) -> anyhow::Error {
    let is_missing = matches!(&error, DataError::Annotations(AnnotationError::SplitNotFound { .. }));
    let context = format!("cannot read the split {split:?} of the data");
    let error = anyhow::Error::from(error);
    if is_missing && request.division.val_fraction.is_none() && ["val", "valid", "validation"].contains(&split) {
        let hint = format!(
            "{error:#}; --val-fraction .2 draws one out of train, --val-fraction and --split-seed alike for every command"
        );
        return anyhow::anyhow!("{context}: {hint}");
    }
    error.context(context)
}

/// The split that is asked for, else `test`, where a set has it.
pub(crate) fn split_to_score(request: &DataRequest, asked: Option<&str>) -> anyhow::Result<String> {
    if let Some(split) = asked {
        return Ok(split.to_owned());
    }
    let splits = request.splits()?;
    let is_test =
        |name: &String| name.to_lowercase().split(|c: char| !c.is_ascii_alphabetic()).any(|word| word == "test");
    if splits.iter().any(is_test) {
        return Ok("test".to_owned());
    }
    let known = match splits.as_slice() {
        [] => "the data is not divided: train and val are drawn from it".to_owned(),
        names => format!("the data has {}", names.join(", ")),
    };
    anyhow::bail!("--split: expected a name, as there is no split test; {known}, and all is every image");
}

/// Images of a set that could not be used, as its problems say; they count as failures, as those that fail later do.
pub(crate) fn num_dropped_images(dataset: &dyn Dataset) -> usize {
    dataset.annotations().problems.count(Effect::ImageDropped)
}

/// Prints the first problems of each kind, and how many more there are of it.
pub(crate) fn report_problems(problems: &Problems) {
    let mut left = SHOWN;
    for kind in problems.kinds() {
        // The last kinds are not crowded out by the first.
        let shown = left.min(SHOWN_PER_KIND);
        left -= shown.min(kind.count);
        let of_kind = problems.iter().filter(|problem| problem.effect == kind.effect && problem.kind() == kind.kind);
        of_kind.take(shown).for_each(|problem| eprintln!("problem: {problem}"));
        match kind.count - shown.min(kind.count) {
            0 => {}
            rest if shown == 0 => eprintln!("problem: {}: {rest} times", kind.kind),
            rest => eprintln!("problem: {}: and {rest} more", kind.kind),
        }
    }
}

/// How often each kind of problem was found, for JSON.
pub(crate) fn problem_kinds(problems: &Problems) -> Vec<serde_json::Value> {
    let kind = |kind: &ProblemKind| {
        let effect = match kind.effect {
            Effect::BoxDropped => "box dropped",
            Effect::ImageDropped => "image dropped",
            _ => "noted",
        };
        serde_json::json!({ "kind": kind.kind, "effect": effect, "count": kind.count })
    };
    problems.kinds().iter().map(kind).collect()
}

/// Makes a folder for output, or says why that cannot be one.
pub(crate) fn make_folder(path: &Path) -> anyhow::Result<()> {
    anyhow::ensure!(!path.exists() || path.is_dir(), "{}: expected a folder, found a file", path.display());
    std::fs::create_dir_all(path).with_context(|| format!("{}: cannot make the folder", path.display()))
}

/// Opens a split to train on: its images are decoded smaller where the configuration allows it.
pub(crate) fn open_to_train(request: &DataRequest, split: &str, config: &Config) -> anyhow::Result<FileDataset> {
    let dataset = open(request, split)?;
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
            args.cache_dir.is_none() || args.place() == CachePlace::Disk,
            "--cache-dir: expected --cache disk, found another place"
        );
        Ok(match args.place() {
            CachePlace::None => Self::None,
            CachePlace::Memory => Self::Memory(usize::try_from(args.limit()).unwrap_or(usize::MAX)),
            CachePlace::Disk => {
                let folder = match &args.cache_dir {
                    Some(folder) => folder.clone(),
                    None => crate::zoo::user_cache("--cache-dir")?.join("images"),
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
