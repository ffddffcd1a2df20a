//! What is seen only between images, splits and classes.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};

use retinanet_annotations::{Annotation, has_image_extension};

use super::few_boxes::UsualCount;
use super::finding::{Example, ExampleBox, FindingKind, Tally};
use super::fingerprint::twins;
use super::look::Looked;
use super::report::ClassStatistics;
use super::{CheckOptions, Joined, JoinedImage};

/// Boxes of an image that an example shows.
const MAX_BOXES: usize = 50;

/// Counts all of it.
pub(super) fn tally(joined: &Joined, looked: &[Looked], classes: &[ClassStatistics], options: &CheckOptions) -> Tally {
    let mut between = Between { joined, looked, limit: options.max_examples, tally: Tally::default() };
    between.splits();
    between.classes(classes, options.rare_class_boxes);
    between.category_ids();
    if joined.is_whole {
        between.unlisted();
    }
    between.duplicates();
    between.few_boxes();
    between.tally
}

struct Between<'a> {
    joined: &'a Joined<'a>,
    looked: &'a [Looked],
    limit: usize,
    tally: Tally,
}

impl Between<'_> {
    fn add(&mut self, kind: FindingKind, badness: f64, example: impl FnOnce() -> Example) {
        self.tally.add(self.limit, kind, badness, example);
    }

    /// Splits without images, and files in two splits.
    fn splits(&mut self) {
        let mut first: HashMap<&Path, usize> = HashMap::new();
        let mut listed = HashSet::new();
        for (split_idx, split) in self.joined.splits.iter().enumerate() {
            if split.annotations.images.is_empty() {
                let what = format!("split {}: no images", split.name);
                self.add(FindingKind::SplitEmpty, 0.0, || Example {
                    what,
                    split: Some(split.name.clone()),
                    ..Example::default()
                });
            }
            for image in &split.annotations.images {
                let path = image.path.as_path();
                let earlier = *first.entry(path).or_insert(split_idx);
                if earlier != split_idx && listed.insert(path) {
                    let what = format!("listed in {} and {}", self.joined.splits[earlier].name, split.name);
                    self.add(FindingKind::SplitOverlap, 0.0, || of_image(path, &split.name, what));
                }
            }
        }
    }

    /// Classes with few or no boxes, and those whose names are as good as equal.
    fn classes(&mut self, classes: &[ClassStatistics], rare: usize) {
        let mut by_letters: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        for class in classes {
            let letters: String =
                class.name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect();
            // Names of signs alone have nothing to compare.
            let key = if letters.is_empty() { class.name.clone() } else { letters };
            by_letters.entry(key).or_default().push(&class.name);
            let about = |what: String| Example { what, ..Example::default() };
            if class.boxes == 0 {
                self.add(FindingKind::ClassUnused, 0.0, || about(format!("class {:?}: no boxes", class.name)));
                continue;
            }
            if class.boxes < rare {
                let what = format!("class {:?}: expected at least {rare} boxes, found {}", class.name, class.boxes);
                self.add(FindingKind::ClassRare, -(class.boxes as f64), || about(what));
            }
            let by_split = class.boxes_by_split.iter().zip(self.joined.splits);
            let lacks = by_split.filter(|(boxes, split)| **boxes == 0 && !split.annotations.images.is_empty());
            let empty: Vec<&str> = lacks.map(|(_, split)| split.name.as_str()).collect();
            if !empty.is_empty() {
                let what =
                    format!("class {:?}: {} boxes, none of them in {}", class.name, class.boxes, empty.join(", "));
                self.add(FindingKind::ClassMissingInSplit, class.boxes as f64, || about(what));
            }
        }
        for names in by_letters.into_values().filter(|names| names.len() > 1) {
            for name in &names[1..] {
                let what = format!("classes {:?} and {name:?}", names[0]);
                self.add(FindingKind::ClassNamesAlike, 0.0, || Example { what, ..Example::default() });
            }
        }
    }

    /// Ids that are not the numbers of a row, as COCO's own are.
    fn category_ids(&mut self) {
        let mut told = HashSet::new();
        for split in self.joined.splits {
            let mut ids: Vec<i64> = split.annotations.classes.iter().map(|class| class.category_id).collect();
            ids.sort_unstable();
            let gaps: Vec<(i64, i64)> =
                ids.windows(2).map(|pair| (pair[0], pair[1])).filter(|(a, b)| b.saturating_sub(*a) > 1).collect();
            for (before, after) in gaps {
                if told.insert((before, after)) {
                    let what = format!("no category between {before} and {after}");
                    self.add(FindingKind::CategoryIdsSparse, 0.0, || Example { what, ..Example::default() });
                    let others = usize::try_from(after.saturating_sub(before) - 2).unwrap_or(usize::MAX);
                    self.tally.count_more(FindingKind::CategoryIdsSparse, others);
                }
            }
        }
    }

    /// Image files in the folders of listed images that no split lists.
    fn unlisted(&mut self) {
        let listed: HashSet<&Path> = self.joined.images.iter().map(|image| image.annotated.path.as_path()).collect();
        // What could not be listed is told elsewhere.
        let told: HashSet<PathBuf> = self
            .joined
            .splits
            .iter()
            .flat_map(|split| &split.annotations.problems)
            .map(|p| p.path.to_path_buf())
            .collect();
        let folders: BTreeSet<&Path> = listed.iter().filter_map(|path| path.parent()).collect();
        for folder in folders {
            let Ok(entries) = std::fs::read_dir(folder) else { continue };
            let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
            paths.sort();
            for path in paths {
                let is_hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
                if has_image_extension(&path) && !is_hidden && !listed.contains(path.as_path()) && !told.contains(&path)
                {
                    self.add(FindingKind::ImageUnlisted, 0.0, || Example {
                        what: "in no split".to_owned(),
                        file: Some(path.clone()),
                        image: Some(path),
                        ..Example::default()
                    });
                }
            }
        }
    }

    /// Pictures with the same pixels, and those that look alike.
    fn duplicates(&mut self) {
        let mut first: HashMap<u64, Vec<usize>> = HashMap::new();
        let mut unlike = Vec::new();
        let mut paths = HashSet::new();
        for (idx, image) in self.joined.images.iter().enumerate() {
            let Some(picture) = &self.looked[idx].picture else { continue };
            // A file that two splits list is told as such.
            if !paths.insert(image.annotated.path.as_path()) {
                continue;
            }
            let earlier = first.entry(picture.hash).or_default();
            let split = |idx: usize| self.joined.images[idx].split;
            // One image of each split stands for all that are equal.
            let in_split = earlier.iter().copied().find(|&other| split(other) == image.split);
            let elsewhere = earlier.iter().copied().find(|&other| split(other) != image.split);
            if earlier.is_empty() {
                unlike.push(idx);
            }
            if in_split.is_none() {
                earlier.push(idx);
            }
            if let Some(other) = elsewhere {
                self.pair(FindingKind::DuplicateAcrossSplits, 0.0, idx, other, "equal");
            } else if let Some(other) = in_split {
                self.pair(FindingKind::DuplicateImage, 0.0, idx, other, "equal");
            }
        }
        let fingerprint = |idx: &usize| {
            let picture = self.looked[*idx].picture.as_ref()?;
            Some((&*picture.fingerprint, self.joined.images[*idx].split))
        };
        let pictures: Vec<_> = unlike.iter().filter_map(fingerprint).collect();
        for (&idx, found) in unlike.iter().zip(twins(&pictures)) {
            let named = |likeness: f64| format!("correlation {likeness:.3}");
            if let Some((other, likeness)) = found.other_split {
                self.pair(FindingKind::NearDuplicateAcrossSplits, likeness, idx, unlike[other], &named(likeness));
            }
            if let Some((other, likeness)) = found.same_split {
                self.pair(FindingKind::NearDuplicateImage, likeness, idx, unlike[other], &named(likeness));
            }
        }
    }

    fn pair(&mut self, kind: FindingKind, badness: f64, idx: usize, other: usize, how: &str) {
        let (image, other) = (&self.joined.images[idx], &self.joined.images[other]);
        let [name, other_name] = [image, other].map(|image| self.joined.splits[image.split].name.as_str());
        self.tally.add(self.limit, kind, badness, || {
            let what = format!("{how} to {} of {other_name}", other.annotated.path.display());
            let other_image = Some(other.annotated.path.clone());
            Example { other_image, ..of_image(&image.annotated.path, name, what) }
        });
    }

    /// Images with far fewer boxes of a class than those that have it.
    fn few_boxes(&mut self) {
        let joined = self.joined;
        for (class_idx, class) in joined.classes.iter().enumerate() {
            let of_class = |image: &JoinedImage| {
                let is_of_class =
                    |annotation: &&Annotation| joined.class_idx(image.split, annotation.class_idx) == class_idx;
                image.annotated.annotations.iter().filter(is_of_class).count()
            };
            let counts: Vec<usize> = joined.images.iter().map(of_class).collect();
            let Some(usual) = UsualCount::of(&counts) else { continue };
            for (image, count) in joined.images.iter().zip(counts) {
                let Some(shortfall) = usual.shortfall(count) else { continue };
                self.add(FindingKind::ImageFewBoxes, shortfall, || {
                    let what = format!("{count} boxes of {class}, where {} are usual", usual.median);
                    let annotations = image.annotated.annotations.iter().enumerate().take(MAX_BOXES);
                    let shown = |(idx, annotation): (usize, &Annotation)| ExampleBox {
                        number: idx + 1,
                        class: joined.class_name(image.split, annotation.class_idx).to_owned(),
                        xywh: annotation.xywh,
                    };
                    let boxes = annotations.map(shown).collect();
                    Example { boxes, ..of_image(&image.annotated.path, &joined.splits[image.split].name, what) }
                });
            }
        }
    }
}

fn of_image(path: &Path, split: &str, what: String) -> Example {
    Example {
        what,
        split: Some(split.to_owned()),
        file: Some(path.to_owned()),
        image: Some(path.to_owned()),
        ..Example::default()
    }
}
