//! What can be wrong with a pyramid or a description of anchors.

use thiserror::Error;

use crate::{ImageSize, PyramidLevel};

/// A range of pyramid levels that does not exist.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PyramidError {
    /// No level at all.
    #[error("pyramid: levels: expected at least 1, found 0")]
    Empty,
    /// More values than levels.
    #[error("pyramid: levels from {finest}: expected at most {available}, found {found}")]
    TooManyLevels {
        /// The finest level.
        finest: PyramidLevel,
        /// Levels from there to the coarsest there is.
        available: usize,
        /// Values given.
        found: usize,
    },
    /// A name that is not a level's.
    #[error("pyramid: level: expected P1 to P8, found {name:?}")]
    UnknownLevel {
        /// The name as read.
        name: String,
    },
}

/// A description of anchors that cannot be followed, or feature grids that do not fit it.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum AnchorError {
    /// A list that needs an element has none.
    #[error("anchors: {field}: expected at least 1 value, found 0")]
    Empty {
        /// The field of the configuration.
        field: &'static str,
    },
    /// A size, scale or ratio is zero, negative, infinite or NaN.
    #[error("anchors: {field}[{idx}]: expected a positive finite number, found {found}")]
    NotPositive {
        /// The field of the configuration.
        field: &'static str,
        /// Position in the list.
        idx: usize,
        /// The value there.
        found: f64,
    },
    /// The offset is not a part of a stride.
    #[error("anchors: offset: expected 0 <= offset < 1, found {found}")]
    Offset {
        /// The value given.
        found: f32,
    },
    /// There are more sizes than levels from the finest on.
    #[error("anchors: sizes: {0}")]
    Sizes(#[from] PyramidError),
    /// Rounding, or the range of f32, leaves an anchor without a usable side.
    #[error(
        "anchors: {level}: octave scale {octave_scale}, aspect ratio {aspect_ratio}: \
         expected positive finite sides, found {width} x {height}"
    )]
    Degenerate {
        /// The level of the anchor.
        level: PyramidLevel,
        /// Its octave scale.
        octave_scale: f64,
        /// Its aspect ratio, height over width.
        aspect_ratio: f64,
        /// Its width in pixels.
        width: f32,
        /// Its height in pixels.
        height: f32,
    },
    /// The feature grids are not of the levels that have sizes.
    #[error(
        "anchors: feature grids: expected {expected} levels from {expected_finest}, found {found} from {found_finest}"
    )]
    Levels {
        /// The finest level with anchors.
        expected_finest: PyramidLevel,
        /// How many levels have anchors.
        expected: usize,
        /// The finest grid given.
        found_finest: PyramidLevel,
        /// How many grids were given.
        found: usize,
    },
    /// A grid has no cells, or more of them than the image has pixels to divide among them.
    #[error(
        "anchors: {level}: expected a grid of at least 1x1 cells and at most {padded} (one a pixel), found {found}"
    )]
    Grid {
        /// The level of the grid.
        level: PyramidLevel,
        /// The padded image.
        padded: ImageSize,
        /// The grid given.
        found: ImageSize,
    },
    /// The anchors of a grid do not fit in memory.
    #[error("anchors: {level}: expected a grid whose anchors fit in memory, found {found}")]
    TooLarge {
        /// The level of the grid.
        level: PyramidLevel,
        /// The grid given.
        found: ImageSize,
    },
}
