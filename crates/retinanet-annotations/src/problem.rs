//! One thing that was left out or looks wrong while the rest was read.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// Something that does not stop the reading. Displayed as `where: what: expected E, found F`.
///
/// ```
/// use retinanet_annotations::{Effect, Place, Problem};
///
/// let problem = Problem {
///     path: std::path::Path::new("labels/7.txt").into(),
///     place: Place::Line(3),
///     what: "box has non-positive width: expected > 0, found 0".to_owned(),
///     effect: Effect::BoxDropped,
/// };
/// assert_eq!(
///     problem.to_string(),
///     "labels/7.txt: line 3: box has non-positive width: expected > 0, found 0"
/// );
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Problem {
    /// The file it is in.
    pub path: Arc<Path>,
    /// Where in the file.
    pub place: Place,
    /// What is wrong, what was expected and what was found.
    pub what: String,
    /// What it led to.
    pub effect: Effect,
}

/// Where in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Place {
    /// The file as a whole.
    File,
    /// A line, from 1.
    Line(usize),
    /// The annotation with this id (COCO).
    Annotation(i64),
    /// The annotation at this position, from 0, where it has no id (COCO).
    AnnotationAt(usize),
    /// The image with this id (COCO).
    Image(i64),
    /// The image at this position, from 0, where it has no id (COCO).
    ImageAt(usize),
    /// The category with this id (COCO).
    Category(i64),
}

/// What a problem led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Effect {
    /// All was kept.
    Noted,
    /// A box is left out.
    BoxDropped,
    /// An image and all that is known of it is left out.
    ImageDropped,
}

impl Problem {
    /// What is wrong, without the values: the text before the first colon.
    #[must_use]
    pub fn kind(&self) -> &str {
        let kind = self.what.split(": ").next().unwrap_or_default();
        let end = kind.char_indices().nth(LONGEST_KIND).map_or(kind.len(), |(end, _)| end);
        &kind[..end]
    }
}

/// A kind is some words, whatever a damaged file holds.
const LONGEST_KIND: usize = 80;

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File => Ok(()),
            Self::Line(line) => write!(f, ": line {line}"),
            Self::Annotation(id) => write!(f, ": annotation {id}"),
            Self::AnnotationAt(position) => write!(f, ": annotations[{position}]"),
            Self::Image(id) => write!(f, ": image {id}"),
            Self::ImageAt(position) => write!(f, ": images[{position}]"),
            Self::Category(id) => write!(f, ": category {id}"),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}: {}", self.path.display(), self.place, self.what)
    }
}
