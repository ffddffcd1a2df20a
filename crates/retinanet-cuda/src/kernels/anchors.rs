//! The anchors of a list of feature map sizes, on a device.

use crate::device::{Device, Memory, Span};
use crate::error::{Error, Result};
use retinanet_anchors::BBox;
use std::ops::Range;
use std::sync::Arc;

/// The anchors of all levels, one level behind the other.
#[derive(Debug)]
pub struct AnchorTable {
    /// `[R, 4]` in f32.
    anchors: Memory,
    /// The first anchor of each level, and how many there are, in i32.
    first_on_device: Memory,
    first: Vec<usize>,
}

impl AnchorTable {
    /// A table of the anchors of each level.
    ///
    /// # Errors
    /// There is no memory for it, or there are more anchors than an i32 can count.
    pub fn new<'a>(device: &Arc<dyn Device>, levels: impl IntoIterator<Item = &'a [BBox]>) -> Result<Self> {
        let (mut bytes, mut first) = (Vec::new(), vec![0]);
        for level in levels {
            bytes.extend(level.iter().flat_map(|anchor| anchor.to_array()).flat_map(f32::to_ne_bytes));
            first.push(bytes.len() / 16);
        }
        let count = |&first: &usize| i32::try_from(first).map(i32::to_ne_bytes);
        let counts: std::result::Result<Vec<[u8; 4]>, _> = first.iter().map(count).collect();
        let counts = counts.map_err(|_| Error::Mismatch {
            place: "anchors".to_owned(),
            expected: format!("at most {}", i32::MAX),
            found: (bytes.len() / 16).to_string(),
        })?;
        let (anchors, first_on_device) = (Memory::of(device, &bytes)?, Memory::of(device, &counts.concat())?);
        Ok(Self { anchors, first_on_device, first })
    }

    /// R, over all levels.
    pub fn num_anchors(&self) -> usize {
        self.first[self.num_levels()]
    }

    /// How many levels there are.
    pub fn num_levels(&self) -> usize {
        self.first.len() - 1
    }

    /// Which of all anchors a level has.
    ///
    /// # Panics
    /// There is no such level.
    pub fn of_level(&self, level_idx: usize) -> Range<usize> {
        self.first[level_idx]..self.first[level_idx + 1]
    }

    /// `[R, 4]`, all of them.
    pub fn span(&self) -> Span<'_> {
        self.anchors.span()
    }

    /// `[R, 4]` of a level.
    ///
    /// # Panics
    /// There is no such level.
    pub fn level_span(&self, level_idx: usize) -> Span<'_> {
        let anchors = self.of_level(level_idx);
        self.span().part(anchors.start * 16, anchors.len() * 16)
    }

    /// The part of a level in memory that has a number for each anchor of each image, `[N, R]` of a level behind the other.
    ///
    /// # Panics
    /// There is no such level, or the span is shorter.
    pub fn level_part<'a>(&self, span: Span<'a>, level_idx: usize, images: usize, number_bytes: usize) -> Span<'a> {
        let anchors = self.of_level(level_idx);
        span.part(anchors.start * images * number_bytes, anchors.len() * images * number_bytes)
    }

    pub(super) fn first_on_device(&self) -> Span<'_> {
        self.first_on_device.span()
    }
}
