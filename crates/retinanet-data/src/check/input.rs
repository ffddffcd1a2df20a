//! The splits of a data set, read one by one, so that what is between them can be seen.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use retinanet_annotations::{
    AnnotatedImage, AnnotationError, AnnotationSet, Class, ClassSelection, DataRequest, has_image_extension,
};
use walkdir::WalkDir;

use super::finding::{Example, FindingKind};
use crate::image_size;

/// One split, as its annotations have it.
#[derive(Clone, Debug)]
pub struct CheckSplit {
    /// Its name; `all` for a set that is not divided, `images` for a folder without annotations.
    pub name: String,
    /// What was read.
    pub annotations: AnnotationSet,
}

/// What is checked.
#[derive(Clone, Debug, Default)]
pub struct CheckInput {
    /// The splits, in the order of the set.
    pub splits: Vec<CheckSplit>,
    /// Whether these are all splits of the set, so that an image in none of them is in no split.
    pub is_whole: bool,
    /// What is to be said of the set before any image is looked at.
    pub(super) remarks: Vec<(FindingKind, Example)>,
}

impl CheckInput {
    /// The splits that were read before.
    #[must_use]
    pub fn new(splits: Vec<CheckSplit>) -> Self {
        Self { splits, is_whole: false, remarks: Vec::new() }
    }

    /// Reads the splits of one or several sets, each by itself: those that are asked for, as `train+val`, or all that there are.
    ///
    /// Of all that there are, lists of images of others are left out: a split that two others make up, such as `trainval`,
    /// and lists of a class's images in a split, such as `dog_train` beside `train`. A set that is not divided is one split,
    /// `all`, and a folder of images with no annotations is one, `images`. Where two sets have a split of one name, that of
    /// the second has the set's name before it.
    ///
    /// # Errors
    /// Nothing is there, no format or several sets fit, a split is not among those found, a class is asked for that no set
    /// has, or a file that a whole set depends on cannot be read.
    pub fn read(request: &DataRequest, split: Option<&str>) -> Result<Self, AnnotationError> {
        let mut input = Self { is_whole: split.is_none(), ..Self::default() };
        for path in &request.paths {
            let classes = ClassSelection::default();
            let one = DataRequest { paths: vec![path.clone()], classes, ..request.clone() };
            let label = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
            input.append(&label, Self::read_one(path, &one, split)?);
        }
        input.select(&request.classes)?;
        Ok(input)
    }

    fn read_one(path: &Path, request: &DataRequest, split: Option<&str>) -> Result<Self, AnnotationError> {
        let probe = |path: &Path| image_size(path).map_err(|error| error.to_string());
        let names = match (split, request.splits()) {
            (Some(split), _) => split.split('+').map(|name| name.trim().to_owned()).collect(),
            (None, Ok(names)) => names,
            (None, Err(error)) => return images_alone(path).ok_or(error),
        };
        let mut input = Self::default();
        if names.is_empty() {
            let annotations = request.read(None, &probe)?;
            input.splits.push(CheckSplit { name: "all".to_owned(), annotations });
            return Ok(input);
        }
        let mut derived = Vec::new();
        for name in &names {
            if split.is_none() && names.iter().any(|whole| is_part_of(name, whole)) {
                derived.push(name.clone());
                continue;
            }
            let annotations = request.read(Some(name), &probe)?;
            input.splits.push(CheckSplit { name: name.clone(), annotations });
        }
        if split.is_none() {
            derived.extend(input.remove_unions());
        }
        for name in derived {
            let what = format!("{name}: all of its images are in other splits");
            input.remarks.push((FindingKind::SplitDerived, Example { what, ..Example::default() }));
        }
        Ok(input)
    }

    /// Adds the splits of another set; where both have one of a name, `label` is put before that of the other.
    fn append(&mut self, label: &str, other: Self) {
        for mut split in other.splits {
            if self.splits.iter().any(|known| known.name == split.name) {
                split.name = format!("{label}/{}", split.name);
            }
            self.splits.push(split);
        }
        self.remarks.extend(other.remarks);
    }

    /// Selects classes by names that any of the splits may have.
    fn select(&mut self, selection: &ClassSelection) -> Result<(), AnnotationError> {
        if selection.is_empty() {
            return Ok(());
        }
        let mut classes: Vec<Class> = Vec::new();
        for class in self.splits.iter().flat_map(|split| &split.annotations.classes) {
            if !classes.iter().any(|known| known.name == class.name) {
                classes.push(class.clone());
            }
        }
        for CheckSplit { annotations, .. } in &mut self.splits {
            if annotations.classes.len() < classes.len() {
                annotations.join(AnnotationSet { classes: classes.clone(), ..AnnotationSet::default() });
            }
            selection.apply(annotations)?;
        }
        Ok(())
    }

    /// Removes splits that are made of at least two others, each wholly inside, and gives their names.
    fn remove_unions(&mut self) -> Vec<String> {
        let images: Vec<HashSet<&Path>> = self
            .splits
            .iter()
            .map(|split| split.annotations.images.iter().map(|image| image.path.as_path()).collect())
            .collect();
        let is_union = |idx: usize| {
            let whole = &images[idx];
            let parts = || images.iter().filter(|part| !part.is_empty() && part.len() < whole.len());
            let inside: Vec<&HashSet<&Path>> = parts().filter(|part| part.is_subset(whole)).collect();
            inside.len() >= 2 && whole.iter().all(|path| inside.iter().any(|part| part.contains(path)))
        };
        let unions: Vec<bool> = (0..images.len()).map(is_union).collect();
        let mut removed = Vec::new();
        let mut is_removed = unions.into_iter();
        self.splits.retain(|split| {
            let keep = !is_removed.next().unwrap_or(false);
            if !keep {
                removed.push(split.name.clone());
            }
            keep
        });
        removed
    }
}

/// Whether a name is that of a list beside a split, as `dog_train` is beside `train`.
fn is_part_of(name: &str, whole: &str) -> bool {
    const SPLITS: [&str; 6] = ["train", "val", "valid", "validation", "test", "trainval"];
    name != whole && SPLITS.contains(&whole) && name.rsplit_once('_').is_some_and(|(_, word)| word == whole)
}

/// The images of a folder, or of one in it, where nothing looks like annotations.
fn images_alone(path: &Path) -> Option<CheckInput> {
    let mut images: Vec<PathBuf> = Vec::new();
    for entry in WalkDir::new(path).max_depth(8).sort_by_file_name() {
        let entry = entry.ok()?;
        let ending = entry.path().extension().unwrap_or_default().to_string_lossy().to_lowercase();
        if ["json", "xml", "yaml", "yml", "csv"].contains(&ending.as_str()) {
            return None;
        }
        if has_image_extension(entry.path()) && entry.file_type().is_file() {
            images.push(entry.into_path());
        }
    }
    if images.is_empty() {
        return None;
    }
    let what = format!("{}: a folder of images without annotations", path.display());
    let example = Example { what, file: Some(path.to_owned()), ..Example::default() };
    let annotated = |(path, id): (PathBuf, i64)| {
        let file_name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        AnnotatedImage { id, path, file_name, ..AnnotatedImage::default() }
    };
    let images = images.into_iter().zip(1..).map(annotated).collect();
    let annotations = AnnotationSet { images, ..AnnotationSet::default() };
    let splits = vec![CheckSplit { name: "images".to_owned(), annotations }];
    Some(CheckInput { splits, is_whole: true, remarks: vec![(FindingKind::NoAnnotations, example)] })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(name: &str, images: &[&str]) -> CheckSplit {
        let image = |name: &&str| AnnotatedImage { path: PathBuf::from(name), ..AnnotatedImage::default() };
        let annotations = AnnotationSet { images: images.iter().map(image).collect(), ..AnnotationSet::default() };
        CheckSplit { name: name.to_owned(), annotations }
    }

    #[track_caller]
    fn check(splits: &[(&str, &[&str])], removed: &[&str]) {
        let mut input = CheckInput::new(splits.iter().map(|(name, images)| split(name, images)).collect());
        assert_eq!(input.remove_unions(), removed);
        assert_eq!(input.splits.len(), splits.len() - removed.len());
    }

    #[test]
    fn unions_are_removed_and_leaks_are_not() {
        check(&[("train", &["a", "b"]), ("val", &["c"]), ("trainval", &["a", "b", "c"])], &["trainval"]);
        // The same images twice are a leak, and so is a part of them.
        check(&[("train", &["a", "b"]), ("val", &["a", "b"])], &[]);
        check(&[("train", &["a", "b"]), ("val", &["a"])], &[]);
        check(&[("train", &["a", "b"]), ("val", &["c"]), ("test", &["a", "c"])], &[]);
        check(&[("train", &[]), ("val", &[])], &[]);
    }

    #[test]
    fn lists_of_a_class_are_parts() {
        assert!(is_part_of("dog_train", "train") && is_part_of("dining_table_val", "val"));
        assert!(!is_part_of("train", "train") && !is_part_of("train2017_100", "train") && !is_part_of("a_b", "b"));
    }

    #[test]
    fn a_second_set_keeps_its_names_apart() {
        let mut input = CheckInput::new(vec![split("train", &["a"])]);
        input.append("more", CheckInput::new(vec![split("train", &["b"]), split("test", &["c"])]));
        let names: Vec<&str> = input.splits.iter().map(|split| split.name.as_str()).collect();
        assert_eq!(names, ["train", "more/train", "test"]);
    }
}
