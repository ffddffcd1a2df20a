//! All that was left out or looks wrong, in bounded memory.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use crate::{Effect, Place, Problem};

/// What was left out or looks wrong: every problem is counted by its kind, and the first of each kind are kept.
///
/// A file of a million bad lines costs as much memory as one of a hundred.
///
/// ```
/// use retinanet_annotations::{Effect, Place, Problem, Problems};
///
/// let mut problems = Problems::default();
/// for line in 1..=1_000_000 {
///     let what = format!("class: expected one of 0..=2, found {line}");
///     let path = std::path::Path::new("7.txt").into();
///     problems.push(Problem { path, place: Place::Line(line), what, effect: Effect::BoxDropped });
/// }
/// assert_eq!(problems.len(), 1_000_000);
/// assert_eq!(problems.iter().count(), Problems::KEPT_PER_KIND);
/// assert_eq!(problems.kinds()[0].kind, "class");
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problems {
    kept: Vec<Problem>,
    kinds: Vec<ProblemKind>,
}

/// How often something went wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProblemKind {
    /// What went wrong, without the values; see [`Problem::kind`].
    pub kind: String,
    /// What it led to.
    pub effect: Effect,
    /// How often.
    pub count: usize,
    /// How many of them are kept.
    pub kept: usize,
}

impl Problems {
    /// How many problems of one kind are kept.
    pub const KEPT_PER_KIND: usize = 100;

    /// How many kinds are told apart for each effect; damaged files may make up more, which are counted together.
    pub const MAX_KINDS: usize = 64;

    /// Counts a problem, and keeps it where it is among the first of its kind.
    pub fn push(&mut self, problem: Problem) {
        let kind = self.kind(problem.kind(), problem.effect);
        kind.count += 1;
        if kind.kept < Self::KEPT_PER_KIND {
            kind.kept += 1;
            self.kept.push(problem);
        }
    }

    /// Adds all of another collection behind those of this one.
    pub fn append(&mut self, other: Self) {
        for other_kind in &other.kinds {
            // Those that the other did not keep; the rest is counted below.
            self.kind(&other_kind.kind, other_kind.effect).count += other_kind.count - other_kind.kept;
        }
        other.kept.into_iter().for_each(|problem| self.push(problem));
    }

    /// The same for another part of what was read before, whose files may have been read for both: what is kept already is
    /// the same finding.
    pub(crate) fn append_new(&mut self, mut other: Self) {
        let known: HashSet<&Problem> = self.kept.iter().collect();
        for kind in &mut other.kinds {
            let is_known = |problem: &&Problem| {
                problem.effect == kind.effect && problem.kind() == kind.kind && known.contains(problem)
            };
            let again = other.kept.iter().filter(is_known).count();
            kind.count -= again;
            kind.kept -= again;
        }
        other.kept.retain(|problem| !known.contains(problem));
        other.kinds.retain(|kind| kind.count > 0);
        self.append(other);
    }

    /// The problems that are kept, in the order of their finding.
    pub fn iter(&self) -> std::slice::Iter<'_, Problem> {
        self.kept.iter()
    }

    /// How often each kind was found, in the order of the first of each.
    #[must_use]
    pub fn kinds(&self) -> &[ProblemKind] {
        &self.kinds
    }

    /// How many problems there are, whether kept or not.
    #[must_use]
    pub fn len(&self) -> usize {
        self.kinds.iter().map(|kind| kind.count).sum()
    }

    /// Whether nothing was found.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.kinds.is_empty()
    }

    /// How many problems had this effect, whether kept or not.
    #[must_use]
    pub fn count(&self, effect: Effect) -> usize {
        self.kinds.iter().filter(|kind| kind.effect == effect).map(|kind| kind.count).sum()
    }

    /// Notes something about a file or folder as a whole.
    pub(crate) fn note(&mut self, path: &Path, what: impl Into<String>) {
        self.push(Problem { path: path.into(), place: Place::File, what: what.into(), effect: Effect::Noted });
    }

    fn kind(&mut self, kind: &str, effect: Effect) -> &mut ProblemKind {
        let find = |kinds: &[ProblemKind], kind: &str| {
            kinds.iter().position(|known| known.effect == effect && known.kind == kind)
        };
        let position = find(&self.kinds, kind).unwrap_or_else(|| {
            let of_effect = self.kinds.iter().filter(|known| known.effect == effect).count();
            let kind = if of_effect < Self::MAX_KINDS { kind } else { "other" };
            find(&self.kinds, kind).unwrap_or_else(|| {
                self.kinds.push(ProblemKind { kind: kind.to_owned(), effect, count: 0, kept: 0 });
                self.kinds.len() - 1
            })
        });
        &mut self.kinds[position]
    }
}

impl FromIterator<Problem> for Problems {
    fn from_iter<T: IntoIterator<Item = Problem>>(problems: T) -> Self {
        let mut collected = Self::default();
        collected.extend(problems);
        collected
    }
}

impl Extend<Problem> for Problems {
    fn extend<T: IntoIterator<Item = Problem>>(&mut self, problems: T) {
        problems.into_iter().for_each(|problem| self.push(problem));
    }
}

impl<'a> IntoIterator for &'a Problems {
    type Item = &'a Problem;
    type IntoIter = std::slice::Iter<'a, Problem>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// Collects the problems of one file.
pub(crate) struct ProblemLog {
    path: Arc<Path>,
    pub(crate) problems: Problems,
}

impl ProblemLog {
    pub(crate) fn new(path: &Path) -> Self {
        Self { path: path.into(), problems: Problems::default() }
    }

    pub(crate) fn push(&mut self, place: Place, effect: Effect, what: impl Into<String>) {
        self.problems.push(Problem { path: Arc::clone(&self.path), place, what: what.into(), effect });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(what: &str, effect: Effect) -> Problem {
        Problem { path: Path::new("a").into(), place: Place::File, what: what.to_owned(), effect }
    }

    #[test]
    fn all_are_counted_and_few_are_kept() {
        let mut problems = Problems::default();
        for number in 0..10_000 {
            problems.push(problem(&format!("box: expected 1, found {number}"), Effect::BoxDropped));
            problems.push(problem(&format!("kind {number}: expected 1, found 2"), Effect::Noted));
        }
        assert_eq!(
            (problems.len(), problems.count(Effect::BoxDropped), problems.count(Effect::Noted)),
            (20_000, 10_000, 10_000)
        );
        assert_eq!(problems.kinds().len(), 1 + Problems::MAX_KINDS + 1);
        let mut both = problems.clone();
        both.append(problems);
        assert_eq!(both.count(Effect::BoxDropped), 20_000);
        assert_eq!(both.len(), 40_000);
        assert!(both.iter().count() < 1000, "{}", both.iter().count());
        let kept: usize = both.kinds().iter().map(|kind| kind.kept).sum();
        assert_eq!(kept, both.iter().count());
    }

    #[test]
    fn the_same_finding_of_two_parts_is_one() {
        let mut problems: Problems =
            ["a: 1", "b: 1", "a: 2"].map(|what| problem(what, Effect::Noted)).into_iter().collect();
        let part = ["b: 1", "a: 2", "a: 3"].map(|what| problem(what, Effect::Noted)).into_iter().collect();
        problems.append_new(part);
        let whats: Vec<&str> = problems.iter().map(|problem| problem.what.as_str()).collect();
        assert_eq!((problems.len(), whats), (4, vec!["a: 1", "b: 1", "a: 2", "a: 3"]));
    }

    #[test]
    fn a_long_text_is_no_long_kind() {
        assert_eq!(problem(&"é".repeat(1000), Effect::Noted).kind(), "é".repeat(LONGEST));
    }

    const LONGEST: usize = 80;
}
