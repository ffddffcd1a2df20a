//! The anchors of one level, worked out when they are asked for.

use crate::{BBox, ImageSize};

/// The anchors of one level over a grid, each worked out when it is asked for: post-processing reads a few thousand of
/// the two hundred thousand that an image of 800 x 1344 pixels has.
///
/// The order is that of [`AnchorGenerator::generate`](crate::AnchorGenerator::generate), and so is every bit.
///
/// ```
/// use retinanet_anchors::{AnchorConfig, AnchorGenerator, BBox, ImageSize, Pyramid, PyramidLevel};
///
/// let config = AnchorConfig { sizes: vec![32.0], octave_scales: vec![1.0], ..AnchorConfig::default() };
/// let generator = AnchorGenerator::new(&config, PyramidLevel::P3)?;
/// let grids = Pyramid::new(PyramidLevel::P3, vec![ImageSize::new(2, 1)])?;
/// let levels = generator.on_grids(ImageSize::new(16, 8), &grids)?;
/// assert_eq!(levels.values()[0].len(), 6);
/// assert_eq!(levels.values()[0].get(4), Some(BBox::new(-8.0, -16.0, 24.0, 16.0)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LevelAnchors<'a> {
    /// Around the origin, one a kind.
    pub(crate) base_anchors: &'a [BBox],
    pub(crate) grid: ImageSize,
    /// Pixels from a cell to the next, across and down.
    pub(crate) stride: (usize, usize),
    /// Where in its cell a location is, in 0..1 of a stride.
    pub(crate) offset: f32,
}

impl LevelAnchors<'_> {
    /// R, how many there are: height * width * A.
    #[must_use]
    pub const fn len(&self) -> usize {
        // The generator has made sure that the product does not overflow.
        self.grid.width * self.grid.height * self.base_anchors.len()
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Columns and rows of the grid.
    #[must_use]
    pub const fn grid(&self) -> ImageSize {
        self.grid
    }

    /// A, the number of anchors at each location.
    #[must_use]
    pub const fn anchors_per_location(&self) -> usize {
        self.base_anchors.len()
    }

    /// The anchor of an index in the order (y, x, anchor); none past the last.
    #[must_use]
    pub fn get(&self, anchor_idx: usize) -> Option<BBox> {
        if anchor_idx >= self.len() {
            return None;
        }
        let (location, kind) = (anchor_idx / self.base_anchors.len(), anchor_idx % self.base_anchors.len());
        let (row, column) = (location / self.grid.width, location % self.grid.width);
        Some(moved(&self.base_anchors[kind], self.x(column), self.y(row)))
    }

    /// Appends all of them, in order.
    pub(crate) fn append_to(&self, anchors: &mut Vec<BBox>) {
        for row in 0..self.grid.height {
            let y = self.y(row);
            for column in 0..self.grid.width {
                let x = self.x(column);
                anchors.extend(self.base_anchors.iter().map(|anchor| moved(anchor, x, y)));
            }
        }
    }

    fn x(&self, column: usize) -> f32 {
        position(column, self.offset, self.stride.0)
    }

    fn y(&self, row: usize) -> f32 {
        position(row, self.offset, self.stride.1)
    }
}

fn position(cell: usize, offset: f32, stride: usize) -> f32 {
    ((cell as f64 + f64::from(offset)) * stride as f64) as f32
}

fn moved(anchor: &BBox, x: f32, y: f32) -> BBox {
    BBox::new(anchor.x0 + x, anchor.y0 + y, anchor.x1 + x, anchor.y1 + y)
}
