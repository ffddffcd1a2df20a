//! Training and validation parts of a set that comes undivided.

use std::cmp::Ordering;
use std::path::PathBuf;

use sha2::{Digest, Sha256};

use crate::names::composed;
use crate::{AnnotatedImage, AnnotationError, AnnotationSet};

/// How a set is divided that has no splits of its own, or none to validate on.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Division {
    /// The part of the images that is `val`. None is [`Division::DEFAULT_VAL_FRACTION`] for sets without splits, and
    /// nothing for sets that have a split to train on: only who says how much gets a part of that.
    pub val_fraction: Option<f64>,
    /// Another seed, another division.
    pub seed: u64,
}

/// One of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Train,
    Val,
}

impl Part {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Val => "val",
        }
    }
}

impl Division {
    /// The part of an undivided set that is `val` where nobody says.
    pub const DEFAULT_VAL_FRACTION: f64 = 0.2;

    /// The part that is `val`.
    #[must_use]
    pub fn fraction(&self) -> f64 {
        self.val_fraction.unwrap_or(Self::DEFAULT_VAL_FRACTION)
    }

    pub(crate) fn validate(&self) -> Result<(), AnnotationError> {
        match self.val_fraction {
            Some(found) if !(found > 0.0 && found < 1.0) => Err(AnnotationError::ValFraction { found }),
            _ => Ok(()),
        }
    }

    /// Which images are `val`, by position in the set.
    ///
    /// Images are spread so that each class, and the images with no boxes, have about the same part of their images in
    /// `val`; the fewer images a class has, the earlier it is looked at. Two images or more give at least one to each
    /// part. The outcome depends on the seed, the file names and the classes of each image, and not on the order of the
    /// images.
    ///
    /// Source: Sechidis, Tsoumakas, Vlahavas, *On the Stratification of Multi-label Data*, 2011, algorithm 1, for two
    /// subsets, with ties decided by a hash of the seed and the file name.
    #[must_use]
    pub fn is_val(&self, set: &AnnotationSet) -> Vec<bool> {
        Stratification::new(set, self.fraction(), self.seed).run()
    }

    /// Keeps one part of a set and notes that it was drawn.
    pub(crate) fn keep(&self, set: &mut AnnotationSet, part: Part) {
        let is_val = self.is_val(set);
        let (val, total) = (is_val.iter().filter(|&&is_val| is_val).count(), is_val.len());
        let root = common_folder(&set.images);
        let mut position = 0;
        set.images.retain(|_| {
            position += 1;
            is_val[position - 1] == (part == Part::Val)
        });
        set.problems.note(
            &root,
            format!(
                "{}: expected a split of this name, found none; {} of {total} images are drawn for it by seed {}",
                part.name(),
                if part == Part::Val { val } else { total - val },
                self.seed
            ),
        );
    }
}

/// For messages: the deepest folder that all images lie in.
fn common_folder(images: &[AnnotatedImage]) -> PathBuf {
    let mut folders = images.iter().filter_map(|image| image.path.parent());
    let mut common = folders.next().map(PathBuf::from).unwrap_or_default();
    for folder in folders {
        while !folder.starts_with(&common) && common.pop() {}
    }
    common
}

struct Stratification {
    /// Positions in the set, in an order that only depends on names and seed.
    order: Vec<usize>,
    /// The classes of each image, by position in the set; those with no boxes have one more class of their own.
    classes: Vec<Vec<usize>>,
    num_classes: usize,
    fraction: f64,
}

impl Stratification {
    fn new(set: &AnnotationSet, fraction: f64, seed: u64) -> Self {
        let empty = set.classes.len();
        let classes_of = |image: &AnnotatedImage| {
            let mut classes: Vec<usize> =
                image.annotations.iter().map(|annotation| annotation.class_idx).filter(|&idx| idx < empty).collect();
            classes.sort_unstable();
            classes.dedup();
            if classes.is_empty() { vec![empty] } else { classes }
        };
        let keys: Vec<[u8; 32]> = set.images.iter().map(|image| key(seed, &image.file_name)).collect();
        let mut order: Vec<usize> = (0..set.images.len()).collect();
        // Files of one name in several folders are told apart by these.
        let path = |idx: usize| &set.images[idx].path;
        order.sort_by(|&a, &b| keys[a].cmp(&keys[b]).then_with(|| path(a).cmp(path(b))));
        let classes = set.images.iter().map(classes_of).collect();
        Self { order, classes, num_classes: empty + 1, fraction }
    }

    fn run(&self) -> Vec<bool> {
        let num_images = self.order.len();
        let mut members: Vec<Vec<usize>> = vec![Vec::new(); self.num_classes];
        for &image in &self.order {
            self.classes[image].iter().for_each(|&class| members[class].push(image));
        }
        let mut remaining: Vec<usize> = members.iter().map(Vec::len).collect();
        let mut parts =
            [1.0 - self.fraction, self.fraction].map(|fraction| Wanted::new(fraction, num_images, &members));
        let mut is_val: Vec<Option<bool>> = vec![None; num_images];
        while let Some(rarest) =
            (0..self.num_classes).filter(|&class| remaining[class] > 0).min_by_key(|&c| remaining[c])
        {
            for &image in &members[rarest] {
                if is_val[image].is_some() {
                    continue;
                }
                let [train, val] = &parts;
                let order = val.classes[rarest].total_cmp(&train.classes[rarest]);
                let to_val = order.then(val.images.total_cmp(&train.images)) == Ordering::Greater;
                parts[usize::from(to_val)].take(&self.classes[image]);
                self.classes[image].iter().for_each(|&class| remaining[class] -= 1);
                is_val[image] = Some(to_val);
            }
        }
        let mut is_val: Vec<bool> = is_val.into_iter().map(|is_val| is_val == Some(true)).collect();
        // Where every class is rare, one part may have got nothing.
        if let [first, _, ..] = self.order[..]
            && is_val.iter().all(|&other| other == is_val[first])
        {
            is_val[first] = !is_val[first];
        }
        is_val
    }
}

/// How many images a part still wants.
struct Wanted {
    images: f64,
    classes: Vec<f64>,
}

impl Wanted {
    fn new(fraction: f64, num_images: usize, members: &[Vec<usize>]) -> Self {
        let classes = members.iter().map(|images| fraction * images.len() as f64).collect();
        Self { images: fraction * num_images as f64, classes }
    }

    fn take(&mut self, classes: &[usize]) {
        self.images -= 1.0;
        classes.iter().for_each(|&class| self.classes[class] -= 1.0);
    }
}

/// The same name gives the same key wherever the set lies, and on systems that write an umlaut as two characters.
fn key(seed: u64, file_name: &str) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(seed.to_le_bytes());
    hash.update(composed(file_name).replace('\\', "/").as_bytes());
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Annotation, Class};
    use proptest::prelude::*;

    /// An image for each list of classes.
    fn set(images: &[Vec<usize>], num_classes: usize) -> AnnotationSet {
        let image = |(idx, classes): (usize, &Vec<usize>)| AnnotatedImage {
            id: idx as i64,
            path: format!("folder/{idx}.jpg").into(),
            file_name: format!("{idx}.jpg"),
            size: None,
            annotations: classes.iter().map(|&class| Annotation::new(class, [0.0, 0.0, 1.0, 1.0])).collect(),
            details: None,
        };
        AnnotationSet {
            classes: (0..num_classes).map(|idx| Class { category_id: idx as i64, name: idx.to_string() }).collect(),
            images: images.iter().enumerate().map(image).collect(),
            ..AnnotationSet::default()
        }
    }

    fn val_names(set: &AnnotationSet, division: &Division) -> Vec<String> {
        let is_val = division.is_val(set);
        let val = set.images.iter().zip(is_val).filter(|(_, is_val)| *is_val);
        let mut names: Vec<String> = val.map(|(image, _)| image.file_name.clone()).collect();
        names.sort();
        names
    }

    #[test]
    fn every_class_and_the_images_without_boxes_are_divided_alike() {
        // Class 1 is in every fifth image, class 2 in every twentieth, every tenth image has no boxes.
        let classes = |idx: usize| match idx {
            idx if idx % 10 == 3 => vec![],
            idx if idx % 20 == 0 => vec![0, 1, 2, 2],
            idx if idx % 5 == 0 => vec![0, 1],
            _ => vec![0, 0],
        };
        let images: Vec<Vec<usize>> = (0..400).map(classes).collect();
        let set = set(&images, 3);
        for seed in 0..5 {
            let is_val = Division { val_fraction: Some(0.25), seed }.is_val(&set);
            let val_of = |test: &dyn Fn(&Vec<usize>) -> bool| {
                images.iter().zip(&is_val).filter(|(classes, is_val)| **is_val && test(classes)).count()
            };
            assert_eq!(val_of(&|_| true), 100, "seed {seed}");
            assert_eq!(val_of(&|classes| classes.is_empty()), 10);
            assert_eq!(val_of(&|classes| classes.contains(&1)), 20);
            assert_eq!(val_of(&|classes| classes.contains(&2)), 5);
        }
    }

    #[test]
    fn seeds_and_names_decide() {
        let set = set(&vec![vec![0]; 50], 1);
        let first = val_names(&set, &Division::default());
        assert_eq!(first.len(), 10);
        assert_ne!(first, val_names(&set, &Division { seed: 1, ..Division::default() }));
        // Another place, another order of listing, another spelling of the same letters: the same division.
        let mut moved = set.clone();
        moved.images.reverse();
        moved.images.iter_mut().for_each(|image| image.path = format!("/else/{}", image.file_name).into());
        assert_eq!(first, val_names(&moved, &Division::default()));
        assert_eq!(key(3, "\u{e4}/1.jpg"), key(3, "a\u{308}\\1.jpg"));
        // What this version draws, so that a later one draws the same.
        assert_eq!(first[..3], ["1.jpg", "14.jpg", "15.jpg"]);
    }

    proptest! {
        #[test]
        fn both_parts_get_something_near_the_fraction(
            images in prop::collection::vec(prop::collection::vec(0..4_usize, 0..4), 2..60),
            fraction in 0.05..0.95_f64,
            seed in any::<u64>(),
        ) {
            let set = set(&images, 4);
            let division = Division { val_fraction: Some(fraction), seed };
            let val = division.is_val(&set).iter().filter(|&&is_val| is_val).count();
            prop_assert!(val > 0 && val < images.len());
            // At most one image too few or too many for each class and for the images without boxes.
            prop_assert!((val as f64 - fraction * images.len() as f64).abs() <= 6.0, "{val} of {}", images.len());
            let [mut train, mut val] = [set.clone(), set.clone()];
            division.keep(&mut train, Part::Train);
            division.keep(&mut val, Part::Val);
            let mut ids: Vec<i64> = train.images.iter().chain(&val.images).map(|image| image.id).collect();
            ids.sort_unstable();
            prop_assert!(ids.iter().copied().eq(0..images.len() as i64));
        }
    }
}
