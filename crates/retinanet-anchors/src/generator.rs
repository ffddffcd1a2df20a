//! Anchors of a feature pyramid.

use crate::{
    AnchorConfig, AnchorError, AnchorRounding, AnchorStride, BBox, ImageSize, LevelAnchors, Pyramid, PyramidLevel,
};

/// Makes the anchors of a feature pyramid from the sizes that its grids really have.
///
/// ```
/// use retinanet_anchors::{AnchorConfig, AnchorGenerator, BBox, ImageSize, Pyramid, PyramidLevel};
///
/// let config = AnchorConfig { sizes: vec![32.0], octave_scales: vec![1.0], ..AnchorConfig::default() };
/// let generator = AnchorGenerator::new(&config, PyramidLevel::P3)?;
/// assert_eq!(generator.anchors_per_location(), 3);
///
/// let grids = Pyramid::new(PyramidLevel::P3, vec![ImageSize::new(2, 1)])?;
/// let anchors = generator.generate(ImageSize::new(16, 8), &grids)?;
/// // The square one (ratio 1 comes second) at the second cell, 8 pixels to the right of the first.
/// assert_eq!(anchors.values()[0][4], BBox::new(-8.0, -16.0, 24.0, 16.0));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct AnchorGenerator {
    /// Per level, the anchors around the origin; the same number at every level.
    base_anchors: Pyramid<Vec<BBox>>,
    anchors_per_location: usize,
    offset: f32,
    stride: AnchorStride,
}

impl AnchorGenerator {
    /// The generator for as many levels as there are sizes, from `finest` on.
    ///
    /// # Errors
    /// A list is empty; a size, scale or ratio is not positive and finite; the offset is not in `0..1`; there are more
    /// sizes than levels; an anchor has a side that rounds to 0 or passes the range of f32.
    pub fn new(config: &AnchorConfig, finest: PyramidLevel) -> Result<Self, AnchorError> {
        let sizes: Vec<f64> = config.sizes.iter().copied().map(f64::from).collect();
        check_positive("sizes", &sizes)?;
        check_positive("octave_scales", &config.octave_scales)?;
        check_positive("aspect_ratios", &config.aspect_ratios)?;
        if !(0.0..1.0).contains(&config.offset) {
            return Err(AnchorError::Offset { found: config.offset });
        }
        let levels = Pyramid::new(finest, sizes)?;
        let base_anchors = levels.try_map(|level, &size| base_anchors(config, level, size))?;
        let anchors_per_location = config.octave_scales.len() * config.aspect_ratios.len();
        Ok(Self { base_anchors, anchors_per_location, offset: config.offset, stride: config.stride })
    }

    /// A, the number of anchors at each location of a grid, the same at every level.
    #[must_use]
    pub const fn anchors_per_location(&self) -> usize {
        self.anchors_per_location
    }

    /// Per level, the A anchors around the origin, in the order that those at a location have.
    #[must_use]
    pub const fn base_anchors(&self) -> &Pyramid<Vec<BBox>> {
        &self.base_anchors
    }

    /// Where in its cell an anchor is centred, as a part of the stride.
    #[must_use]
    pub const fn offset(&self) -> f32 {
        self.offset
    }

    /// How far apart cells are.
    #[must_use]
    pub const fn stride(&self) -> AnchorStride {
        self.stride
    }

    /// The levels that have anchors, fine to coarse.
    pub fn levels(&self) -> impl DoubleEndedIterator<Item = PyramidLevel> + Clone {
        self.base_anchors.levels()
    }

    /// The anchors of every level in pixels of the padded image; they reach beyond its borders.
    ///
    /// # Shapes
    /// - `padded`: the image as the network sees it, padding included
    /// - `grids`: for each level that has a size, the width and height of its feature map
    /// - returns, a level, `height * width * A` anchors in the order (y, x, anchor); those at one location by aspect
    ///   ratio, then octave scale, as torchvision's head has them (Detectron2's has scale first)
    ///
    /// # Errors
    /// The grids are of other levels than the sizes, a grid has no cells or more across or down than the image has
    /// pixels, or the anchors do not fit in memory.
    pub fn generate(&self, padded: ImageSize, grids: &Pyramid<ImageSize>) -> Result<Pyramid<Vec<BBox>>, AnchorError> {
        self.on_grids(padded, grids)?.try_map(|level, anchors| {
            let too_large = |_| AnchorError::TooLarge { level, found: anchors.grid() };
            let mut all = Vec::new();
            all.try_reserve_exact(anchors.len()).map_err(too_large)?;
            anchors.append_to(&mut all);
            Ok(all)
        })
    }

    /// The same anchors, each worked out when it is asked for.
    ///
    /// # Errors
    /// As [`generate`](Self::generate), but for anchors that could be numbered and would not fit in memory.
    pub fn on_grids(
        &self,
        padded: ImageSize,
        grids: &Pyramid<ImageSize>,
    ) -> Result<Pyramid<LevelAnchors<'_>>, AnchorError> {
        if grids.finest() != self.base_anchors.finest() || grids.len() != self.base_anchors.len() {
            return Err(AnchorError::Levels {
                expected_finest: self.base_anchors.finest(),
                expected: self.base_anchors.len(),
                found_finest: grids.finest(),
                found: grids.len(),
            });
        }
        let mut base_anchors = self.base_anchors.values().iter();
        grids.try_map(|level, &grid| {
            let base_anchors = base_anchors.next().map_or(&[][..], Vec::as_slice);
            if !(1..=padded.width).contains(&grid.width) || !(1..=padded.height).contains(&grid.height) {
                return Err(AnchorError::Grid { level, padded, found: grid });
            }
            let num_locations = grid.width.checked_mul(grid.height);
            num_locations
                .and_then(|num_locations| num_locations.checked_mul(base_anchors.len()))
                .ok_or(AnchorError::TooLarge { level, found: grid })?;
            let stride = match self.stride {
                AnchorStride::Declared => (level.stride(), level.stride()),
                AnchorStride::FromGrid => (padded.width / grid.width, padded.height / grid.height),
            };
            Ok(LevelAnchors { base_anchors, grid, stride, offset: self.offset })
        })
    }
}

fn check_positive(field: &'static str, values: &[f64]) -> Result<(), AnchorError> {
    if values.is_empty() {
        return Err(AnchorError::Empty { field });
    }
    match values.iter().position(|value| !(value.is_finite() && *value > 0.0)) {
        Some(idx) => Err(AnchorError::NotPositive { field, idx, found: values[idx] }),
        None => Ok(()),
    }
}

fn base_anchors(config: &AnchorConfig, level: PyramidLevel, size: f64) -> Result<Vec<BBox>, AnchorError> {
    let mut anchors = Vec::with_capacity(config.aspect_ratios.len() * config.octave_scales.len());
    for &aspect_ratio in &config.aspect_ratios {
        for &octave_scale in &config.octave_scales {
            let (half_width, half_height) = match config.rounding {
                AnchorRounding::Exact => exact_half_extent(size * octave_scale, aspect_ratio),
                AnchorRounding::Torchvision => torchvision_half_extent(size * octave_scale, aspect_ratio),
            };
            let anchor = BBox::new(-half_width, -half_height, half_width, half_height);
            // The area too: one that passes the range of f32 would have no IoU.
            if !(anchor.area() > 0.0 && anchor.area().is_finite()) {
                let (width, height) = (anchor.width(), anchor.height());
                return Err(AnchorError::Degenerate { level, octave_scale, aspect_ratio, width, height });
            }
            anchors.push(anchor);
        }
    }
    Ok(anchors)
}

/// The ratio changes the shape and keeps the area.
fn exact_half_extent(size: f64, aspect_ratio: f64) -> (f32, f32) {
    let root = aspect_ratio.sqrt();
    ((0.5 * size / root) as f32, (0.5 * size * root) as f32)
}

fn torchvision_half_extent(size: f64, aspect_ratio: f64) -> (f32, f32) {
    // In f32 because torchvision's tensors are, whatever the model's type; ties are decided on these numbers.
    let size = size.trunc() as f32;
    let root = (aspect_ratio as f32).sqrt();
    let (width, height) = ((1.0 / root) * size, root * size);
    ((width / 2.0).round_ties_even(), (height / 2.0).round_ties_even())
}
