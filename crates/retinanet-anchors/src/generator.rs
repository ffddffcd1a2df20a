//! Anchors of a feature pyramid.

use serde::{Deserialize, Serialize};

use crate::{AnchorError, BBox, ImageSize, Pyramid, PyramidLevel};

/// Which anchors there are at each location of each level.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AnchorConfig {
    /// Side in pixels of the square anchor of octave scale 1, one a level, fine to coarse.
    pub sizes: Vec<f32>,
    /// Factors on the size, at every level.
    pub octave_scales: Vec<f64>,
    /// Height over width.
    pub aspect_ratios: Vec<f64>,
    /// Where in its cell an anchor is centred, as a part of the stride: 0 is the cell's corner, 0.5 its middle.
    pub offset: f32,
    /// How sizes become coordinates.
    pub rounding: AnchorRounding,
    /// How far cells are apart.
    pub stride: AnchorStride,
}

/// How sizes become coordinates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AnchorRounding {
    /// Not rounded.
    #[default]
    Exact,
    /// To whole pixels as torchvision does.
    Torchvision,
}

/// How far cells are apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AnchorStride {
    /// The level's own stride.
    #[default]
    Declared,
    /// The padded image's size divided by the grid's, without remainder.
    FromGrid,
}

impl Default for AnchorConfig {
    fn default() -> Self {
        Self {
            sizes: vec![32.0, 64.0, 128.0, 256.0, 512.0],
            octave_scales: (0..3)
                .map(|third| (f64::from(third) / 3.0).exp2())
                .collect(),
            aspect_ratios: vec![0.5, 1.0, 2.0],
            offset: 0.0,
            rounding: AnchorRounding::Exact,
            stride: AnchorStride::Declared,
        }
    }
}

impl AnchorConfig {
    /// torchvision's RetinaNet.
    #[must_use]
    pub fn torchvision() -> Self {
        Self {
            rounding: AnchorRounding::Torchvision,
            stride: AnchorStride::FromGrid,
            ..Self::default()
        }
    }
}

/// Makes the anchors of a feature pyramid.
#[derive(Clone, Debug, PartialEq)]
pub struct AnchorGenerator {
    base_anchors: Pyramid<Vec<BBox>>,
}

impl AnchorGenerator {
    /// The generator.
    ///
    /// # Errors
    /// The configuration cannot be followed.
    pub fn new(config: &AnchorConfig, finest: PyramidLevel) -> Result<Self, AnchorError> {
        let _ = (config, finest);
        unimplemented!()
    }

    /// Anchors at each location of a grid.
    #[must_use]
    pub fn anchors_per_location(&self) -> usize {
        self.base_anchors.values()[0].len()
    }

    /// The anchors of every level.
    ///
    /// # Errors
    /// The grids do not fit.
    pub fn generate(
        &self,
        padded: ImageSize,
        grids: &Pyramid<ImageSize>,
    ) -> Result<Pyramid<Vec<BBox>>, AnchorError> {
        let _ = (padded, grids);
        unimplemented!()
    }
}
