//! Levels of a feature pyramid.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::PyramidError;

/// A level of a feature pyramid: level n has one cell for each `2^n` pixels. Ordered fine to coarse.
///
/// Source: Lin et al. 2017, section 4, whose RetinaNet uses P3 to P7. Levels P1 to P8 exist here.
///
/// ```
/// use retinanet_anchors::PyramidLevel;
///
/// assert_eq!(PyramidLevel::P3.stride(), 8);
/// assert_eq!(PyramidLevel::P3.next(), Some(PyramidLevel::P4));
/// assert_eq!(PyramidLevel::P3.to_string(), "P3");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PyramidLevel(u8);

impl PyramidLevel {
    /// Stride 2.
    pub const P1: Self = Self(1);
    /// Stride 4.
    pub const P2: Self = Self(2);
    /// Stride 8, the finest of the paper's RetinaNet.
    pub const P3: Self = Self(3);
    /// Stride 16.
    pub const P4: Self = Self(4);
    /// Stride 32.
    pub const P5: Self = Self(5);
    /// Stride 64.
    pub const P6: Self = Self(6);
    /// Stride 128, the coarsest of the paper's RetinaNet.
    pub const P7: Self = Self(7);
    /// Stride 256.
    pub const P8: Self = Self(8);

    /// The finest level there is.
    pub const FINEST: Self = Self::P1;
    /// The coarsest level there is.
    pub const COARSEST: Self = Self::P8;

    /// Level `number`, or none outside 1 to 8.
    #[must_use]
    pub const fn new(number: u8) -> Option<Self> {
        if number >= Self::FINEST.0 && number <= Self::COARSEST.0 { Some(Self(number)) } else { None }
    }

    /// The n of Pn.
    #[must_use]
    pub const fn number(self) -> u8 {
        self.0
    }

    /// Pixels from one cell to the next, `2^n`.
    #[must_use]
    pub const fn stride(self) -> usize {
        1 << self.0
    }

    /// The next coarser level, or none after the coarsest.
    #[must_use]
    pub const fn next(self) -> Option<Self> {
        Self::new(self.0 + 1)
    }
}

impl fmt::Display for PyramidLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "P{}", self.0)
    }
}

impl FromStr for PyramidLevel {
    type Err = PyramidError;

    fn from_str(name: &str) -> Result<Self, PyramidError> {
        // One digit exactly, so that a level has one spelling: "P03" and "P+3" are refused.
        let level = match name.as_bytes() {
            [b'P', digit @ b'0'..=b'9'] => Self::new(digit - b'0'),
            _ => None,
        };
        level.ok_or_else(|| PyramidError::UnknownLevel { name: name.to_owned() })
    }
}

impl TryFrom<String> for PyramidLevel {
    type Error = PyramidError;

    fn try_from(name: String) -> Result<Self, PyramidError> {
        name.parse()
    }
}

impl From<PyramidLevel> for String {
    fn from(level: PyramidLevel) -> Self {
        level.to_string()
    }
}
