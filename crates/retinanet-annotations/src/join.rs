//! Several sets as one: splits of a set by category id, sets of different origin by the names of their classes.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

use crate::{AnnotatedImage, AnnotationError, AnnotationSet, Class};

impl AnnotationSet {
    /// Adds the images of another split of the same set behind those of this one.
    ///
    /// Categories of the other split that this one lacks are added, and the class indices follow. Image ids that this set
    /// uses already are replaced by new ones above all others.
    ///
    /// # Errors
    /// One category id has two names.
    pub fn append(&mut self, other: Self) -> Result<(), AnnotationError> {
        let mut merged = self.classes.clone();
        let mut known: HashMap<i64, usize> = merged.iter().map(|class| class.category_id).zip(0..).collect();
        for class in &other.classes {
            match known.get(&class.category_id) {
                Some(&idx) if merged[idx].name != class.name => {
                    return Err(AnnotationError::ClassConflict {
                        category_id: class.category_id,
                        names: [merged[idx].name.clone(), class.name.clone()],
                    });
                }
                Some(_) => {}
                None => {
                    known.insert(class.category_id, merged.len());
                    merged.push(class.clone());
                }
            }
        }
        merged.sort_by_key(|class| class.category_id);
        let positions: HashMap<i64, usize> = merged.iter().map(|class| class.category_id).zip(0..).collect();
        let map = |classes: &[Class]| -> Vec<Option<usize>> {
            classes.iter().map(|class| positions.get(&class.category_id).copied()).collect()
        };
        let (own, others) = (map(&self.classes), map(&other.classes));
        remap_classes(&mut self.images, &own);
        self.classes = merged;
        self.add(other, &others);
        Ok(())
    }

    /// Adds the images of another set behind those of this one; classes of one name are one class, whatever their ids.
    ///
    /// Classes that this set lacks come behind its own, with their category id where it is free and else the lowest above
    /// all others. Image ids that this set uses already are replaced by new ones above all others. Files that both sets
    /// have, and names of classes that differ by case only, are noted as problems.
    ///
    /// ```
    /// use retinanet_annotations::{AnnotationSet, Class};
    ///
    /// let set = |ids: &[(i64, &str)]| {
    ///     let class = |&(category_id, name): &(i64, &str)| Class { category_id, name: name.to_owned() };
    ///     AnnotationSet { classes: ids.iter().map(class).collect(), ..AnnotationSet::default() }
    /// };
    /// let mut joined = set(&[(1, "cat"), (2, "dog")]);
    /// joined.join(set(&[(1, "dog"), (2, "cow"), (7, "ant")]));
    /// assert_eq!(joined.classes, set(&[(1, "cat"), (2, "dog"), (8, "cow"), (7, "ant")]).classes);
    /// ```
    pub fn join(&mut self, other: Self) {
        self.note_common_files(&other);
        self.join_unchecked(other);
    }

    /// The same without a look at the files.
    pub(crate) fn join_unchecked(&mut self, other: Self) {
        let mut unused = UnusedIds::above(self.classes.iter().chain(&other.classes).map(|class| class.category_id));
        let mut used: HashSet<i64> = self.classes.iter().map(|class| class.category_id).collect();
        let mut positions: HashMap<String, usize> = HashMap::new();
        for (idx, class) in self.classes.iter().enumerate() {
            positions.entry(class.name.clone()).or_insert(idx);
        }
        let own_by_case: HashMap<String, String> =
            self.classes.iter().map(|class| (class.name.to_lowercase(), class.name.clone())).collect();
        let mut map = Vec::with_capacity(other.classes.len());
        for class in &other.classes {
            let idx = *positions.entry(class.name.clone()).or_insert_with(|| {
                if let Some(own) = own_by_case.get(&class.name.to_lowercase()) {
                    let what =
                        format!("classes differ by case only: expected {own:?} in every set, found {:?}", class.name);
                    let path = other.images.first().map_or(PathBuf::new(), |image| image.path.clone());
                    self.problems.note(&path, what);
                }
                let category_id = if used.insert(class.category_id) { class.category_id } else { unused.next() };
                self.classes.push(Class { category_id, name: class.name.clone() });
                self.classes.len() - 1
            });
            map.push(Some(idx));
        }
        self.add(other, &map);
    }

    /// Adds the images of a set whose class `idx` is this set's class `map[idx]`.
    fn add(&mut self, other: Self, map: &[Option<usize>]) {
        let mut images = other.images;
        remap_classes(&mut images, map);
        let used: HashSet<i64> = self.images.iter().map(|image| image.id).collect();
        if images.iter().any(|image| used.contains(&image.id)) {
            let mut unused = UnusedIds::above(self.images.iter().chain(&images).map(|image| image.id));
            for image in images.iter_mut().filter(|image| used.contains(&image.id)) {
                image.id = unused.next();
            }
        }
        self.images.append(&mut images);
        self.problems.append_new(other.problems);
        if let Some(details) = other.details {
            for name in self.details.get_or_insert_default().merge(*details) {
                let path = self.images.first().map_or(PathBuf::new(), |image| image.path.clone());
                let what = format!("field {name}: expected the same in every part, found others; the first is kept");
                self.problems.note(&path, what);
            }
        }
    }

    fn note_common_files(&mut self, other: &Self) {
        // Links and dots may lead to one file by two names.
        let identity = |image: &AnnotatedImage| image.path.canonicalize().ok();
        let own: HashSet<PathBuf> = self.images.iter().filter_map(identity).collect();
        for image in &other.images {
            if identity(image).is_some_and(|file| own.contains(&file)) {
                self.problems.note(&image.path, "file is in two sets: expected each in one, found it again");
            }
        }
    }
}

/// Gives each box the class that `map` has for its own, and leaves out those for which it has none.
///
/// An index past the classes, in a set made by hand, stays past them.
pub(crate) fn remap_classes(images: &mut [AnnotatedImage], map: &[Option<usize>]) {
    for image in images {
        image.annotations.retain_mut(|annotation| match map.get(annotation.class_idx) {
            Some(Some(idx)) => {
                annotation.class_idx = *idx;
                true
            }
            Some(None) => false,
            None => {
                annotation.class_idx = usize::MAX;
                true
            }
        });
    }
}

/// Hands out ids that nobody has, upward from the highest, or from the lowest free one where that is the last number.
pub(crate) struct UnusedIds {
    next: i64,
    used: HashSet<i64>,
}

impl UnusedIds {
    pub(crate) fn above(ids: impl Iterator<Item = i64>) -> Self {
        let used: HashSet<i64> = ids.collect();
        let next = used.iter().max().map_or(1, |&max| max.checked_add(1).unwrap_or(1).max(1));
        Self { next, used }
    }

    pub(crate) fn next(&mut self) -> i64 {
        while !self.used.insert(self.next) {
            self.next = self.next.checked_add(1).unwrap_or(1);
        }
        self.next
    }
}
