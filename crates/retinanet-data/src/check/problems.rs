//! What the readers of annotations told, as findings.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use retinanet_annotations::{Effect, Place, Problem};

use super::finding::{Example, FindingKind, Tally};
use super::input::CheckSplit;

/// Counts each problem once, though several splits tell of it.
pub(super) fn tally(splits: &[CheckSplit], limit: usize) -> Tally {
    let mut tally = Tally::default();
    let mut told: HashSet<(Arc<Path>, Option<i64>, &str)> = HashSet::new();
    for split in splits.iter().filter(|split| !split.annotations.problems.is_empty()) {
        let images = ImagesByStem::new(split);
        // Of many alike the readers keep the first; the rest is as new as those are.
        let mut new_kinds: HashMap<(&str, Effect), FindingKind> = HashMap::new();
        for problem in &split.annotations.problems {
            let (line, id) = position(problem.place);
            let place = line.map(|line| line as i64).or(id);
            if !told.insert((Arc::clone(&problem.path), place, &problem.what)) {
                continue;
            }
            let kind = kind(problem);
            new_kinds.insert((problem.kind(), problem.effect), kind);
            tally.add(limit, kind, 0.0, || Example {
                what: problem.what.clone(),
                split: Some(split.name.clone()),
                file: Some(problem.path.to_path_buf()),
                line,
                id,
                image: images.of(problem),
                ..Example::default()
            });
        }
        for counted in split.annotations.problems.kinds() {
            if let Some(kind) = new_kinds.get(&(counted.kind.as_str(), counted.effect)) {
                tally.count_more(*kind, counted.count - counted.kept);
            }
        }
    }
    tally
}

/// What a problem is about, told by the part of its text that names the quantity.
fn kind(problem: &Problem) -> FindingKind {
    let what = problem.what.as_str();
    let starts = |words: &[&str]| words.iter().any(|word| what.starts_with(word));
    if what.contains("box has non-positive") {
        FindingKind::BoxWithoutArea
    } else if what.contains("box is outside the image") {
        FindingKind::BoxOutside
    } else if starts(&["class:", "category_id:", "LabelName:", "name: expected text"]) {
        FindingKind::UnknownClass
    } else if starts(&["image_id:"]) {
        FindingKind::UnknownImage
    } else if what.contains("id is used again") {
        FindingKind::DuplicateId
    } else if what.contains("is listed again") {
        FindingKind::ImageListedTwice
    } else if starts(&["image: expected one of this name"]) {
        FindingKind::LabelWithoutImage
    } else if starts(&["labels: expected", "image: expected"]) {
        FindingKind::ImageWithoutLabelFile
    } else if what.contains("images are drawn for it by seed") {
        FindingKind::SplitDrawn
    } else if starts(&["image left out: expected a file"]) {
        FindingKind::ImageMissing
    } else if starts(&["image size:"]) {
        if !problem.path.exists() { FindingKind::ImageMissing } else { FindingKind::ImageUnreadable }
    } else {
        match problem.effect {
            Effect::BoxDropped => FindingKind::LabelMalformed,
            Effect::ImageDropped => FindingKind::LabelUnreadable,
            _ => FindingKind::SetDescription,
        }
    }
}

/// The line or the id of a place.
fn position(place: Place) -> (Option<usize>, Option<i64>) {
    match place {
        Place::Line(line) => (Some(line), None),
        Place::Annotation(id) | Place::Image(id) | Place::Category(id) => (None, Some(id)),
        _ => (None, None),
    }
}

/// The image that a label file of the same name belongs to.
struct ImagesByStem<'a>(HashMap<&'a std::ffi::OsStr, &'a Path>);

impl<'a> ImagesByStem<'a> {
    fn new(split: &'a CheckSplit) -> Self {
        let images = split.annotations.images.iter().map(|image| image.path.as_path());
        Self(images.filter_map(|path| Some((path.file_stem()?, path))).collect())
    }

    fn of(&self, problem: &Problem) -> Option<PathBuf> {
        self.0.get(problem.path.file_stem()?).map(|path| path.to_path_buf())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(what: &str, effect: Effect, expected: FindingKind) {
        let problem =
            Problem { path: Path::new("nowhere.txt").into(), place: Place::File, what: what.to_owned(), effect };
        assert_eq!(kind(&problem), expected, "{what}");
    }

    /// The words of every reader; tests with files, in `tests/check.rs`, make sure that these are their words.
    #[test]
    fn problems_are_told_apart() {
        use Effect::{BoxDropped, ImageDropped, Noted};
        check("box has non-positive width: expected > 0, found 0", BoxDropped, FindingKind::BoxWithoutArea);
        check(
            "box has non-positive height: expected > 0, found 0 (kept for scoring)",
            Noted,
            FindingKind::BoxWithoutArea,
        );
        check("box is outside the image: expected it within 9x9, found left 12", Noted, FindingKind::BoxOutside);
        check("class: expected one of 0..=2, found \"3\"", BoxDropped, FindingKind::UnknownClass);
        check("category_id: expected the id of a category, found 9", BoxDropped, FindingKind::UnknownClass);
        check("image_id: expected the id of an image, found 9", BoxDropped, FindingKind::UnknownImage);
        check("id is used again: expected ids that differ, found 3 again", Noted, FindingKind::DuplicateId);
        check("image is listed again: expected each once, found \"a\" again", Noted, FindingKind::ImageListedTwice);
        check("image: expected one of this name, found nothing", Noted, FindingKind::LabelWithoutImage);
        check("labels: expected labels/a.txt, found nothing", Noted, FindingKind::ImageWithoutLabelFile);
        check("image: expected a.xml in Annotations, found nothing", ImageDropped, FindingKind::ImageWithoutLabelFile);
        check("image size: expected a readable image, found rubbish", ImageDropped, FindingKind::ImageMissing);
        check("columns: expected 5, or a class and at least 3 pairs, found 4", BoxDropped, FindingKind::LabelMalformed);
        check("LabelName: expected a described label, found \"/m/0\"", BoxDropped, FindingKind::UnknownClass);
        check(
            "image left out: expected a file \"a\".jpg or the like, found nothing",
            ImageDropped,
            FindingKind::ImageMissing,
        );
        let drawn = "val: expected a split of this name, found none; 3 of 15 images are drawn for it by seed 0";
        check(drawn, Noted, FindingKind::SplitDrawn);
        check("XML: unexpected end", ImageDropped, FindingKind::LabelUnreadable);
        check("nc: expected 1 as there are names, found 3", Noted, FindingKind::SetDescription);
    }
}
