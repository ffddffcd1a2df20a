//! One value per level of a feature pyramid.

use crate::{PyramidError, PyramidLevel};

/// One value per level over a contiguous range of levels, ordered fine to coarse; never empty.
///
/// ```
/// use retinanet_anchors::{Pyramid, PyramidLevel};
///
/// let strides = Pyramid::new(PyramidLevel::P3, vec![8, 16, 32])?;
/// assert_eq!(strides.get(PyramidLevel::P5), Some(&32));
/// assert_eq!(strides.get(PyramidLevel::P6), None);
/// let doubled = strides.map(|level, stride| stride * 2 + usize::from(level.number()));
/// assert_eq!(doubled.values(), [19, 36, 69]);
/// # Ok::<(), retinanet_anchors::PyramidError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pyramid<T> {
    finest: PyramidLevel,
    values: Vec<T>,
}

impl<T> Pyramid<T> {
    /// The pyramid whose first value belongs to `finest`, the next to the level after it, and so on.
    ///
    /// # Errors
    /// There is no value, or there are more than levels from `finest` on.
    pub fn new(finest: PyramidLevel, values: Vec<T>) -> Result<Self, PyramidError> {
        let available = usize::from(PyramidLevel::COARSEST.number() - finest.number()) + 1;
        match values.len() {
            0 => Err(PyramidError::Empty),
            found if found > available => Err(PyramidError::TooManyLevels { finest, available, found }),
            _ => Ok(Self { finest, values }),
        }
    }

    /// The finest level.
    #[must_use]
    pub const fn finest(&self) -> PyramidLevel {
        self.finest
    }

    /// How many levels there are, at least one.
    #[expect(clippy::len_without_is_empty, reason = "a pyramid is never empty")]
    #[must_use]
    pub const fn len(&self) -> usize {
        self.values.len()
    }

    /// The levels, fine to coarse.
    pub fn levels(&self) -> impl DoubleEndedIterator<Item = PyramidLevel> + Clone + use<T> {
        // `new` made sure that every number of the range is a level.
        let first = self.finest.number();
        (first..first + self.values.len() as u8).filter_map(PyramidLevel::new)
    }

    /// Each level with its value, fine to coarse.
    pub fn iter(&self) -> impl Iterator<Item = (PyramidLevel, &T)> + Clone {
        self.levels().zip(&self.values)
    }

    /// The values alone, fine to coarse.
    #[must_use]
    pub fn values(&self) -> &[T] {
        &self.values
    }

    /// The values, fine to coarse.
    #[must_use]
    pub fn into_values(self) -> Vec<T> {
        self.values
    }

    /// The value of a level, or none outside the range.
    #[must_use]
    pub fn get(&self, level: PyramidLevel) -> Option<&T> {
        let level_idx = level.number().checked_sub(self.finest.number())?;
        self.values.get(usize::from(level_idx))
    }

    /// The pyramid over the same levels with each value put through `f`.
    #[must_use]
    pub fn map<U>(&self, mut f: impl FnMut(PyramidLevel, &T) -> U) -> Pyramid<U> {
        Pyramid { finest: self.finest, values: self.iter().map(|(level, value)| f(level, value)).collect() }
    }

    /// The pyramid over the same levels with each value put through `f`.
    ///
    /// # Errors
    /// The first error of `f`; coarser levels are then not visited.
    pub fn try_map<U, E>(&self, mut f: impl FnMut(PyramidLevel, &T) -> Result<U, E>) -> Result<Pyramid<U>, E> {
        let values = self.iter().map(|(level, value)| f(level, value)).collect::<Result<_, E>>()?;
        Ok(Pyramid { finest: self.finest, values })
    }
}
