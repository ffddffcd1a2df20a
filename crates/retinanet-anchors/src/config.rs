//! Which anchors there are, as data.

use serde::{Deserialize, Serialize};

/// Which anchors there are at each location of each level: every octave scale with every aspect ratio.
///
/// The default is the paper's: 32 to 512 pixels, three scales an octave, three ratios, so nine anchors a location.
///
/// Source: Lin et al. 2017, section 4; torchvision's `models/detection/retinanet.py`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AnchorConfig {
    /// Side in pixels of the square anchor of octave scale 1, one a level, fine to coarse; positive.
    pub sizes: Vec<f32>,
    /// Factors on the size, the same at every level; positive.
    pub octave_scales: Vec<f64>,
    /// Height over width; positive.
    pub aspect_ratios: Vec<f64>,
    /// Where in its cell an anchor is centred, as a part of the stride, in `0..1`: 0 is the top left corner (all
    /// references), 0.5 the middle.
    pub offset: f32,
    /// How sizes become coordinates.
    pub rounding: AnchorRounding,
    /// How far apart cells are.
    pub stride: AnchorStride,
}

/// How sizes become coordinates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AnchorRounding {
    /// Not at all, as in the paper and Detectron2: worked out in f64 and rounded to f32 once.
    #[default]
    Exact,
    /// As torchvision: size times scale loses its fraction, and the corners around the centre are rounded to whole
    /// pixels, half to even (50.5 is 50). All in f32, as there.
    Torchvision,
}

/// How far apart cells are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AnchorStride {
    /// The level's own stride, `2^n` pixels.
    #[default]
    Declared,
    /// The padded image's size over the grid's, without remainder, separately across and down, as torchvision. Differs
    /// from the level's stride where a convolution rounded an odd size up: 320 pixels over 3 cells of P7 are 106.
    FromGrid,
}

impl Default for AnchorConfig {
    fn default() -> Self {
        Self {
            sizes: vec![32.0, 64.0, 128.0, 256.0, 512.0],
            octave_scales: vec![1.0, (1.0 / 3.0f64).exp2(), (2.0 / 3.0f64).exp2()],
            aspect_ratios: vec![0.5, 1.0, 2.0],
            offset: 0.0,
            rounding: AnchorRounding::Exact,
            stride: AnchorStride::Declared,
        }
    }
}

impl AnchorConfig {
    /// The anchors of torchvision's RetinaNet, to the digit: the paper's with torchvision's rounding and strides.
    #[must_use]
    pub fn torchvision() -> Self {
        Self { rounding: AnchorRounding::Torchvision, stride: AnchorStride::FromGrid, ..Self::default() }
    }
}
