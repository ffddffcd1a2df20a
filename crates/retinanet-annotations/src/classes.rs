//! Which classes of a set are wanted, and under which names.

use std::collections::{HashMap, HashSet};

use crate::join::remap_classes;
use crate::{AnnotationError, AnnotationSet, Class};

/// Classes to keep, to leave out and to call differently. Names are those that the set has, compared exactly.
///
/// Renaming comes first and is one step, so that two classes may exchange their names; a new name that another class
/// has, or that several get, makes one class of them. [`include`](Self::include) and [`exclude`](Self::exclude) go by the
/// new names. Images stay, though no box of theirs may be left: they are data, too.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClassSelection {
    /// The classes to keep; all where it is empty.
    pub include: Vec<String>,
    /// Classes to leave out.
    pub exclude: Vec<String>,
    /// Old names and new ones.
    pub rename: Vec<(String, String)>,
}

impl ClassSelection {
    /// Whether everything stays as it is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Applies the selection; class indices follow the classes that are left, which keep their order and category ids.
    ///
    /// # Errors
    /// A name is none of the set's, or no class is left.
    ///
    /// ```
    /// use retinanet_annotations::{AnnotationSet, Class, ClassSelection};
    ///
    /// let class = |category_id, name: &str| Class { category_id, name: name.to_owned() };
    /// let classes = vec![class(1, "person"), class(3, "car"), class(8, "truck")];
    /// let mut set = AnnotationSet { classes, ..AnnotationSet::default() };
    /// let rename = vec![("truck".to_owned(), "car".to_owned())];
    /// let selection = ClassSelection { exclude: vec!["person".to_owned()], rename, ..ClassSelection::default() };
    /// selection.apply(&mut set)?;
    /// assert_eq!(set.classes, [class(3, "car")]);
    /// # Ok::<(), retinanet_annotations::AnnotationError>(())
    /// ```
    pub fn apply(&self, set: &mut AnnotationSet) -> Result<(), AnnotationError> {
        if self.is_empty() {
            return Ok(());
        }
        let renamed = self.renamed(&set.classes)?;
        let names: HashSet<&str> = renamed.iter().map(String::as_str).collect();
        for name in self.include.iter().chain(&self.exclude) {
            if !names.contains(name.as_str()) {
                return Err(unknown(name, renamed.iter().map(String::as_str)));
            }
        }
        let is_kept =
            |name: &String| (self.include.is_empty() || self.include.contains(name)) && !self.exclude.contains(name);
        let mut positions: HashMap<&str, usize> = HashMap::new();
        let mut classes: Vec<Class> = Vec::new();
        let mut map = Vec::with_capacity(renamed.len());
        for (class, name) in set.classes.iter().zip(&renamed) {
            if !is_kept(name) {
                map.push(None);
                continue;
            }
            let idx = *positions.entry(name.as_str()).or_insert_with(|| {
                classes.push(Class { category_id: class.category_id, name: name.clone() });
                classes.len() - 1
            });
            // The class that had the name before keeps its id.
            if class.name == *name {
                classes[idx].category_id = class.category_id;
            }
            map.push(Some(idx));
        }
        if classes.is_empty() {
            return Err(AnnotationError::NoClassLeft { classes: renamed });
        }
        remap_classes(&mut set.images, &map);
        if let Some(details) = &mut set.details {
            let old = std::mem::take(&mut details.class_fields);
            let new_name: HashMap<&str, &String> =
                set.classes.iter().map(|class| class.name.as_str()).zip(&renamed).collect();
            for (name, fields) in old {
                if let Some(new) = new_name.get(name.as_str()).filter(|new| is_kept(new)) {
                    details.class_fields.entry((*new).clone()).or_insert(fields);
                }
            }
        }
        set.classes = classes;
        Ok(())
    }

    /// The names after renaming, by class index.
    fn renamed(&self, classes: &[Class]) -> Result<Vec<String>, AnnotationError> {
        let mut new_names: HashMap<&str, &str> = HashMap::new();
        for (old, new) in &self.rename {
            if !classes.iter().any(|class| class.name == *old) {
                return Err(unknown(old, classes.iter().map(|class| class.name.as_str())));
            }
            if let Some(other) = new_names.insert(old, new).filter(|other| other != new) {
                return Err(AnnotationError::RenamedTwice {
                    name: old.clone(),
                    names: [other.to_owned(), new.clone()],
                });
            }
        }
        let renamed =
            |class: &Class| new_names.get(class.name.as_str()).map_or(class.name.as_str(), |new| new).to_owned();
        Ok(classes.iter().map(renamed).collect())
    }
}

fn unknown<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> AnnotationError {
    let known: Vec<String> = known.map(str::to_owned).collect();
    AnnotationError::UnknownClass { name: name.to_owned(), nearest: nearest(name, &known), classes: known }
}

/// The most similar of the names, where one is similar at all.
fn nearest(name: &str, known: &[String]) -> Option<String> {
    /// Below, names have little more in common than some letters.
    const LEAST: f64 = 0.5;
    let lower = name.to_lowercase();
    let similarity = |other: &String| strsim::normalized_damerau_levenshtein(&lower, &other.to_lowercase());
    let best = known.iter().map(|other| (similarity(other), other)).max_by(|a, b| a.0.total_cmp(&b.0))?;
    (best.0 >= LEAST).then(|| best.1.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{AnnotatedImage, Annotation};

    fn set() -> AnnotationSet {
        let names = ["person", "car", "truck", "bus"];
        let classes: Vec<Class> =
            names.iter().zip(1..).map(|(name, id)| Class { category_id: id * 10, name: (*name).to_owned() }).collect();
        let annotations = (0..4).map(|idx| Annotation::new(idx, [0.0, 0.0, 1.0 + idx as f64, 1.0])).collect();
        let image =
            AnnotatedImage { id: 1, path: "a".into(), file_name: "a".into(), size: None, annotations, details: None };
        AnnotationSet { classes, images: vec![image], ..AnnotationSet::default() }
    }

    fn selection(include: &[&str], exclude: &[&str], rename: &[(&str, &str)]) -> ClassSelection {
        let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        let rename = rename.iter().map(|&(old, new)| (old.to_owned(), new.to_owned())).collect();
        ClassSelection { include: owned(include), exclude: owned(exclude), rename }
    }

    /// Classes as (id, name), and the name and width of each box.
    #[track_caller]
    fn check(selection: &ClassSelection, classes: &[(i64, &str)], boxes: &[(&str, f64)]) {
        let mut set = set();
        selection.apply(&mut set).unwrap();
        let found: Vec<(i64, &str)> =
            set.classes.iter().map(|class| (class.category_id, class.name.as_str())).collect();
        assert_eq!(found, classes);
        let found: Vec<(&str, f64)> = set.images[0]
            .annotations
            .iter()
            .map(|annotation| (set.classes[annotation.class_idx].name.as_str(), annotation.xywh[2]))
            .collect();
        assert_eq!(found, boxes);
    }

    #[test]
    fn classes_are_kept_left_out_and_renamed() {
        check(&selection(&["bus", "car"], &[], &[]), &[(20, "car"), (40, "bus")], &[("car", 2.0), ("bus", 4.0)]);
        check(&selection(&["bus", "car"], &["car"], &[]), &[(40, "bus")], &[("bus", 4.0)]);
        check(
            &selection(&[], &["person"], &[("truck", "car"), ("bus", "omnibus")]),
            &[(20, "car"), (40, "omnibus")],
            &[("car", 2.0), ("car", 3.0), ("omnibus", 4.0)],
        );
        // Merged into the later class, which keeps its id.
        check(
            &selection(&["bus"], &[], &[("car", "bus"), ("truck", "bus")]),
            &[(40, "bus")],
            &[("bus", 2.0), ("bus", 3.0), ("bus", 4.0)],
        );
        check(
            &selection(&["car", "bus"], &[], &[("car", "bus"), ("bus", "car")]),
            &[(20, "bus"), (40, "car")],
            &[("bus", 2.0), ("car", 4.0)],
        );
    }

    #[track_caller]
    fn check_error(selection: &ClassSelection, expected: &str) {
        let mut changed = set();
        assert_eq!(selection.apply(&mut changed).unwrap_err().to_string(), expected);
        assert_eq!(changed, set());
    }

    #[test]
    fn unknown_names_are_errors_with_the_nearest() {
        check_error(
            &selection(&["trukc"], &[], &[]),
            "classes: name: expected one of \"person\", \"car\", \"truck\", \"bus\", found \"trukc\"; did you mean \"truck\"?",
        );
        check_error(
            &selection(&[], &["PERSONS"], &[]),
            "classes: name: expected one of \"person\", \"car\", \"truck\", \"bus\", found \"PERSONS\"; did you mean \"person\"?",
        );
        check_error(
            &selection(&[], &[], &[("zebra crossing", "x")]),
            "classes: name: expected one of \"person\", \"car\", \"truck\", \"bus\", found \"zebra crossing\"",
        );
        // A name that was given away is gone.
        check_error(
            &selection(&["car"], &[], &[("car", "auto")]),
            "classes: name: expected one of \"person\", \"auto\", \"truck\", \"bus\", found \"car\"",
        );
        check_error(
            &selection(&[], &[], &[("car", "auto"), ("car", "bus")]),
            "classes: new name of \"car\": expected one, found \"auto\" and \"bus\"",
        );
        check_error(
            &selection(&["car"], &["car"], &[]),
            "classes: selection: expected at least one of \"person\", \"car\", \"truck\", \"bus\" to be left, found none",
        );
    }
}
