//! What of which sets is wanted: paths, splits, classes.

use std::path::{Path, PathBuf};

use crate::division::Part;
use crate::recognise::{Found, Reading, recognise};
use crate::{AnnotationError, AnnotationSet, ClassSelection, Division, Format, ImageSizeProbe, split};

/// The split that stands for every image of a set, unless a set has one of this name.
pub(crate) const ALL: &str = "all";

/// One or several data sets, and what is wanted of them.
///
/// Several sets become one: classes are joined by name ([`AnnotationSet::join`]). Then the classes are selected.
///
/// | the set has | `train` gives | `val` gives |
/// |---|---|---|
/// | a split of this name | that | that |
/// | no splits, or one of some other name | the images that are not `val` | a part drawn by [`Division`] |
/// | `train` and no `val`, and a [`val_fraction`](Division::val_fraction) is given | `train` without that part | a part drawn out of `train` |
/// | else | an error that lists the splits | the same |
///
/// `all` is every image, of any set.
///
/// ```no_run
/// use retinanet_annotations::{ClassSelection, DataRequest};
///
/// let mut request = DataRequest::new(["set-a", "set-b/instances.json"]);
/// request.classes = ClassSelection { include: vec!["dog".to_owned()], ..ClassSelection::default() };
/// let size = |_: &std::path::Path| Err("no relative boxes are expected".to_owned());
/// let (train, val) = (request.read(Some("train"), &size)?, request.read(Some("val"), &size)?);
/// # Ok::<(), retinanet_annotations::AnnotationError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DataRequest {
    /// The sets: folders or files, each in any format.
    pub paths: Vec<PathBuf>,
    /// Which classes of them, under which names.
    pub classes: ClassSelection,
    /// How a set is divided that has no part to validate on.
    pub division: Division,
    /// Whether to keep what detectors do not need: outlines, poses, fields that only one format has. They take memory.
    pub details: bool,
    /// Whether a box of Open Images is one of each class above its own, too, by the hierarchy beside the tables, as the
    /// challenge's evaluation expands them. Other formats have no hierarchy.
    pub expand_hierarchy: bool,
}

impl DataRequest {
    /// All classes of these sets, without details, sets without splits divided by seed 0.
    pub fn new<P: Into<PathBuf>>(paths: impl IntoIterator<Item = P>) -> Self {
        Self { paths: paths.into_iter().map(Into::into).collect(), ..Self::default() }
    }

    /// The splits that [`read`](Self::read) knows, of all sets together; none where no set is divided, and no
    /// [`val_fraction`](Division::val_fraction) asks for it.
    ///
    /// # Errors
    /// Nothing is there, or no format or several sets fit.
    pub fn splits(&self) -> Result<Vec<String>, AnnotationError> {
        let mut names: Vec<String> = Vec::new();
        for source in self.sources()? {
            for name in source.splits(&self.division) {
                if !names.iter().any(|known| split::is_same(known, &name)) {
                    names.push(name);
                }
            }
        }
        Ok(names)
    }

    /// The format of each set.
    ///
    /// # Errors
    /// Nothing is there, or no format or several sets fit.
    pub fn formats(&self) -> Result<Vec<Format>, AnnotationError> {
        Ok(self.sources()?.iter().map(|source| source.found.format()).collect())
    }

    /// Reads a split of every set: a name such as `train`, or several as `train+val`; all images where there is none.
    ///
    /// # Errors
    /// As [`read()`](crate::read()), for any of the sets; a class is asked for that no set has; the fraction to validate on
    /// is none.
    pub fn read(&self, split: Option<&str>, image_size: &ImageSizeProbe) -> Result<AnnotationSet, AnnotationError> {
        self.join(&mut |source, reading| source.read(split, &self.division, reading).map(Some), image_size)
    }

    /// The same, without the sets that have other splits, but not this one.
    pub(crate) fn read_where_known(
        &self,
        split: &str,
        image_size: &ImageSizeProbe,
    ) -> Result<AnnotationSet, AnnotationError> {
        let mut missing = None;
        let set = self.join(
            &mut |source, reading| match source.read(Some(split), &self.division, reading) {
                Err(error @ AnnotationError::SplitNotFound { .. }) if source.is_divided() => {
                    missing = Some(error);
                    Ok(None)
                }
                result => result.map(Some),
            },
            image_size,
        )?;
        match missing {
            Some(error) if set.classes.is_empty() && set.images.is_empty() => Err(error),
            _ => Ok(set),
        }
    }

    fn join(&self, read: &mut ReadSource<'_>, image_size: &ImageSizeProbe) -> Result<AnnotationSet, AnnotationError> {
        self.division.validate()?;
        let reading = Reading { image_size, details: self.details, expand_hierarchy: self.expand_hierarchy };
        let mut joined: Option<AnnotationSet> = None;
        for source in self.sources()? {
            match (&mut joined, read(&source, &reading)?) {
                (_, None) => {}
                (Some(joined), Some(set)) => joined.join(set),
                (None, set) => joined = set,
            }
        }
        let mut set = joined.unwrap_or_default();
        // A split that no set has is an error of its own.
        if !set.classes.is_empty() || !set.images.is_empty() {
            self.classes.apply(&mut set)?;
        }
        Ok(set)
    }

    pub(crate) fn sources(&self) -> Result<Vec<Source>, AnnotationError> {
        let source = |path: &PathBuf| Ok(Source { path: path.clone(), found: recognise(path)? });
        self.paths.iter().map(source).collect()
    }
}

/// Reads what is wanted of a set; none where it has nothing of it.
type ReadSource<'a> = dyn FnMut(&Source, &Reading) -> Result<Option<AnnotationSet>, AnnotationError> + 'a;

/// One set that was found.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) path: PathBuf,
    found: Found,
}

/// What is read for one request.
#[derive(Debug, Default, PartialEq)]
struct Pieces<'a> {
    /// Splits that the set has; every image where it is none.
    named: Option<Vec<&'a str>>,
    /// A part that is drawn, out of this split or of all images.
    drawn: Option<(Part, Option<&'a str>)>,
}

impl Source {
    pub(crate) fn is_divided(&self) -> bool {
        !is_undivided(&self.found.splits())
    }

    /// The splits of this set, with those that are drawn because a fraction is given.
    pub(crate) fn splits(&self, division: &Division) -> Vec<String> {
        let mut names = self.found.splits();
        if division.val_fraction.is_some() {
            if is_undivided(&names) {
                names = vec!["train".to_owned(), "val".to_owned()];
            } else if lacks_val(&names) {
                names.push("val".to_owned());
            }
        }
        if division.val_fraction.is_none() && is_undivided(&names) {
            names.clear();
        }
        names
    }

    pub(crate) fn read(
        &self,
        split: Option<&str>,
        division: &Division,
        reading: &Reading,
    ) -> Result<AnnotationSet, AnnotationError> {
        let parts = split::parts(&self.path, split)?;
        let names = self.found.splits();
        let pieces = match &parts {
            None => Pieces::default(),
            Some(parts) => pieces(&self.path, parts, &names, division)?,
        };
        let mut set = match (&pieces.named, &pieces.drawn) {
            (None, Some(_)) => None,
            (named, _) => Some(self.found.read(named.as_deref(), reading)?),
        };
        if let Some((part, from)) = pieces.drawn {
            let from = from.map(|from| vec![from]);
            let mut drawn = self.found.read(from.as_deref(), reading)?;
            division.keep(&mut drawn, part);
            match &mut set {
                None => set = Some(drawn),
                Some(set) => set.append(drawn)?,
            }
        }
        let mut set = set.unwrap_or_default();
        if division.val_fraction.is_some() && !is_undivided(&names) && !lacks_val(&names) {
            set.problems
                .note(&self.path, "val fraction: expected a set without a split to validate on, found one; it is used");
        }
        Ok(set)
    }
}

/// No splits, or a single one that is no part by its name.
fn is_undivided(names: &[String]) -> bool {
    let is_part = |name: &String| ["train", "val", "test"].iter().any(|part| split::fits(part, name));
    match names {
        [] => true,
        [only] => !is_part(only),
        _ => false,
    }
}

/// A split to train on, and none to validate on.
fn lacks_val(names: &[String]) -> bool {
    let has = |part| names.iter().any(|name| split::fits(part, name));
    has("train") && !has("val")
}

fn pieces<'a>(
    path: &Path,
    parts: &[&'a str],
    names: &[String],
    division: &Division,
) -> Result<Pieces<'a>, AnnotationError> {
    if parts.contains(&ALL) && !names.iter().any(|name| split::is_same(name, ALL)) {
        return Ok(Pieces::default());
    }
    let is_undivided = is_undivided(names);
    let is_drawn = is_undivided || (division.val_fraction.is_some() && lacks_val(names));
    let mut wanted: Vec<(Part, &str)> = Vec::new();
    let mut named: Vec<&str> = Vec::new();
    for &part in parts {
        let drawn = [Part::Train, Part::Val].into_iter().find(|half| is_drawn && split::fits(half.name(), part));
        match drawn {
            Some(half) => wanted.push((half, part)),
            None => named.push(part),
        }
    }
    if is_undivided {
        if !named.is_empty() {
            // The one name that it has means all of it, and so does none at all.
            let knows = |part: &&&str| names.iter().any(|name| split::fits(part, name));
            if let Some(unknown) = named.iter().find(|part| !knows(part)) {
                return Err(AnnotationError::SplitNotFound {
                    path: path.to_owned(),
                    split: (*unknown).to_owned(),
                    splits: Vec::new(),
                });
            }
            return Ok(Pieces::default());
        }
        return Ok(match wanted.as_slice() {
            [(half, _)] => Pieces { named: None, drawn: Some((*half, None)) },
            _ => Pieces::default(),
        });
    }
    Ok(match wanted.as_slice() {
        [] => Pieces { named: Some(named), drawn: None },
        [(half, _)] => Pieces { named: (!named.is_empty()).then_some(named), drawn: Some((*half, Some("train"))) },
        _ => Pieces { named: Some([&["train"], named.as_slice()].concat()), drawn: None },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(names: &[&str], fraction: Option<f64>, parts: &[&str], expected: Result<Pieces, &str>) {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let division = Division { val_fraction: fraction, seed: 0 };
        let found = pieces(Path::new("set"), parts, &names, &division);
        assert_eq!(found.map_err(|error| error.to_string()), expected.map_err(str::to_owned), "{parts:?} of {names:?}");
    }

    fn named<'a>(parts: &[&'a str]) -> Pieces<'a> {
        Pieces { named: Some(parts.to_vec()), drawn: None }
    }

    #[test]
    fn splits_are_found_or_drawn() {
        let drawn = |part, from| Ok(Pieces { named: None, drawn: Some((part, from)) });
        check(&["train", "val"], None, &["val"], Ok(named(&["val"])));
        check(&["train", "val"], Some(0.1), &["val"], Ok(named(&["val"])));
        check(&["train", "val"], None, &["all"], Ok(Pieces::default()));
        check(&["all", "val"], None, &["all"], Ok(named(&["all"])));
        // Undivided.
        check(&[], None, &["train"], drawn(Part::Train, None));
        check(&["boxes"], None, &["valid"], drawn(Part::Val, None));
        check(&[], None, &["val", "train"], Ok(Pieces::default()));
        check(&["boxes"], Some(0.5), &["boxes"], Ok(Pieces::default()));
        check(
            &[],
            None,
            &["test"],
            Err("set: split: expected train or val, which are drawn as the set is not divided, or all, found \"test\""),
        );
        // Train without val.
        check(&["train2017", "test"], None, &["val"], Ok(named(&["val"])));
        check(&["train2017", "test"], Some(0.1), &["val"], drawn(Part::Val, Some("train")));
        check(&["train2017", "test"], Some(0.1), &["train"], drawn(Part::Train, Some("train")));
        check(&["train", "test"], Some(0.1), &["val", "train", "test"], Ok(named(&["train", "test"])));
        check(
            &["train", "test"],
            Some(0.1),
            &["test", "train"],
            Ok(Pieces { named: Some(vec!["test"]), drawn: Some((Part::Train, Some("train"))) }),
        );
        // Only a part: nothing is drawn out of a split to test on.
        check(&["test"], Some(0.1), &["train"], Ok(named(&["train"])));
    }
}
