//! Where every slot lies, for a batch of images of one size.

use super::super::plan::PlanError;
use super::super::plan::arena::Region;
use super::super::plan::layout::{Block, Life, arrange};
use super::super::plan::record::Value;
use super::graph::{Graph, SlotIdx, Work};
use crate::kernels::{ConvShape, ImageShape, PoolShape, ShapeError};
use crate::network::ConvLayer;

/// The sizes of all values, and the places of all slots.
#[derive(Debug)]
pub struct Layout {
    /// N, H and W of the images.
    images: (usize, usize, usize),
    /// Of each value.
    sizes: Vec<(usize, usize)>,
    regions: Vec<Region>,
    alignment: usize,
    /// Bytes.
    len: usize,
}

impl Layout {
    /// Lays the slots out for N images of H rows and W columns, each at a multiple of `alignment` bytes.
    ///
    /// # Errors
    /// An image is empty or too small for a layer, or the maps are more than memory has addresses for.
    pub fn new(graph: &Graph, images: (usize, usize, usize), alignment: usize) -> Result<Self, PlanError> {
        let mut layout = Self { images, sizes: Vec::new(), regions: Vec::new(), alignment, len: 0 };
        layout.sizes = vec![(0, 0); graph.slots.len()];
        layout.sizes[0] = (images.1, images.2);
        let image = layout.shape(graph, SlotIdx::IMAGES);
        image.check_not_empty().map_err(|source| PlanError::Shape { place: "images".to_owned(), source })?;
        for work in &graph.works {
            layout.measure(graph, work).map_err(|source| PlanError::Shape { place: name(work).to_owned(), source })?;
        }
        layout.allot(graph)?;
        Ok(layout)
    }

    /// N, H and W of the images.
    pub fn images(&self) -> (usize, usize, usize) {
        self.images
    }

    /// Bytes of the block that all slots lie in.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no slots, which a graph always has.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The shape of a slot, all images together.
    pub fn shape(&self, graph: &Graph, slot: SlotIdx) -> ImageShape {
        let slot = &graph.slots[slot.0];
        let (height, width) = self.sizes[slot.value.0];
        ImageShape { batch: self.images.0, height, width, channels: slot.channels }
    }

    /// Where a slot begins, in bytes from the start of the block.
    pub fn offset(&self, slot: SlotIdx) -> usize {
        self.regions[slot.0].offset
    }

    pub(in super::super) fn region(&self, slot: SlotIdx) -> Region {
        self.regions[slot.0]
    }

    /// The convolution of a value by a layer's weight.
    ///
    /// # Errors
    /// They do not fit; those of the graph that this layout was made of do.
    pub fn conv_shape(&self, graph: &Graph, layer: &ConvLayer, x: Value) -> Result<ConvShape, ShapeError> {
        let weight = [layer.out_channels, layer.in_channels / layer.conv.groups.max(1), layer.kernel, layer.kernel];
        let input = self.shape(graph, x.into());
        ConvShape::new(input, weight, layer.conv.stride, layer.conv.padding, layer.conv.groups)
    }

    /// The pooling of a value by a window of kernel, stride and padding.
    ///
    /// # Errors
    /// As [`Self::conv_shape`].
    pub fn pool_shape(
        &self,
        graph: &Graph,
        x: Value,
        (kernel, stride, padding): (usize, usize, usize),
    ) -> Result<PoolShape, ShapeError> {
        PoolShape::new(self.shape(graph, x.into()), kernel, stride, padding)
    }

    /// The sizes of a step's results.
    fn measure(&mut self, graph: &Graph, work: &Work) -> Result<(), ShapeError> {
        match work {
            Work::Conv { layer, lanes, .. } => {
                for lane in lanes {
                    let output = self.conv_shape(graph, layer, lane.x)?.output();
                    let size = (output.height, output.width);
                    if let Some(found) = lane.residual.map(|residual| self.sizes[residual.0]).filter(|&s| s != size) {
                        return Err(ShapeError::new("residual", format!("{size:?}"), format!("{found:?}")));
                    }
                    self.sizes[lane.y.0] = size;
                }
            }
            &Work::MaxPool { x, y, window, .. } => {
                let output = self.pool_shape(graph, x, window)?.output();
                self.sizes[y.0] = (output.height, output.width);
            }
            &(Work::UpsampleAdd { fine: x, y, .. } | Work::Relu { x, y, .. }) => self.sizes[y.0] = self.sizes[x.0],
        }
        Ok(())
    }

    /// Gives every slot its place: two share memory where one is read for the last time before the other is written.
    fn allot(&mut self, graph: &Graph) -> Result<(), PlanError> {
        self.regions = vec![Region { offset: 0, len: 0 }; graph.slots.len()];
        let mut blocks = Vec::with_capacity(graph.slots.len());
        for (slot_idx, slot) in graph.slots.iter().enumerate() {
            let ImageShape { batch, height, width, channels } = self.shape(graph, SlotIdx(slot_idx));
            let len = [height, width, channels].iter().try_fold(batch, |product, &side| product.checked_mul(side));
            let bytes = len.and_then(|len| len.checked_mul(slot.storage.bytes()));
            let bytes = bytes.filter(|&bytes| bytes <= isize::MAX as usize / 2).ok_or(PlanError::TooLarge)?;
            self.regions[slot_idx].len = len.unwrap_or_default();
            let life = Life { first: slot.first, last: slot.last };
            blocks.push(Block { slot_idx, len: bytes.next_multiple_of(self.alignment), life, start: 0 });
        }
        blocks.sort_by_key(|block| std::cmp::Reverse(block.len));
        self.len = arrange(&mut blocks).ok_or(PlanError::TooLarge)?;
        for block in blocks {
            self.regions[block.slot_idx].offset = block.start;
        }
        Ok(())
    }
}

fn name(work: &Work) -> &str {
    match work {
        Work::Conv { layer, .. } => &layer.name,
        Work::MaxPool { .. } => "max pool",
        Work::UpsampleAdd { .. } => "upsample and add",
        Work::Relu { .. } => "relu",
    }
}
