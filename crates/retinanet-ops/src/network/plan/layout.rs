//! Where every feature map lies, for images of given sizes.

use super::PlanError;
use super::arena::{ALIGNMENT, Region};
use super::steps::{SlotIdx, Steps, Work};
use crate::kernels::{ImageShape, PoolShape, ShapeError};

/// The feature map of one image in one slot.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Place {
    pub(super) height: usize,
    pub(super) width: usize,
    /// Bytes from the start of the arena.
    pub(super) offset: usize,
    /// Numbers.
    pub(super) len: usize,
}

impl Place {
    pub(super) fn region(&self) -> Region {
        Region { offset: self.offset, len: self.len }
    }

    pub(super) fn num_pixels(&self) -> usize {
        self.height * self.width
    }
}

/// Where all is, for images of given sizes.
#[derive(Debug)]
pub(super) struct Layout {
    /// Rows and columns of the images.
    pub(super) sizes: Vec<(usize, usize)>,
    /// Of the pool that the workspace was measured for.
    pub(super) num_threads: usize,
    /// `[slots, images]`.
    places: Vec<Place>,
    /// Bytes.
    pub(super) arena_len: usize,
    pub(super) workspace_len: usize,
    pub(super) norm_workspace_len: usize,
    /// The most channels of a group norm.
    pub(super) norm_channels: usize,
    /// The most feature maps of one step.
    pub(super) max_planes: usize,
}

impl Layout {
    pub(super) fn new(steps: &Steps, sizes: &[(usize, usize)]) -> Result<Self, PlanError> {
        let num_images = sizes.len();
        let mut layout = Self {
            sizes: sizes.to_vec(),
            num_threads: rayon::current_num_threads(),
            places: vec![Place::default(); steps.slots.len() * num_images],
            arena_len: 0,
            workspace_len: 0,
            norm_workspace_len: 0,
            norm_channels: 0,
            max_planes: 0,
        };
        for (image, &(height, width)) in sizes.iter().enumerate() {
            let shape = ImageShape { batch: 1, height, width, channels: steps.slots[steps.input.0].channels };
            shape.check_not_empty().map_err(|source| PlanError::Shape { place: "image".to_owned(), source })?;
            layout.set_size(steps.input, image, (height, width));
        }
        for step in &steps.steps {
            layout
                .measure(steps, &step.work)
                .map_err(|source| PlanError::Shape { place: step.name.clone(), source })?;
        }
        layout.allot(steps)?;
        Ok(layout)
    }

    pub(super) fn num_images(&self) -> usize {
        self.sizes.len()
    }

    pub(super) fn place(&self, slot: SlotIdx, image: usize) -> &Place {
        &self.places[slot.0 * self.num_images() + image]
    }

    fn set_size(&mut self, slot: SlotIdx, image: usize, (height, width): (usize, usize)) {
        let idx = slot.0 * self.num_images() + image;
        self.places[idx] = Place { height, width, ..Place::default() };
    }

    fn size(&self, slot: SlotIdx, image: usize) -> (usize, usize) {
        let place = self.place(slot, image);
        (place.height, place.width)
    }

    /// The sizes of a step's results, and the workspace that it needs.
    fn measure(&mut self, steps: &Steps, work: &Work) -> Result<(), ShapeError> {
        let num_images = self.num_images();
        match work {
            Work::Conv { conv, norm, lanes, .. } => {
                for lane in lanes {
                    for image in 0..num_images {
                        let (height, width) = self.size(lane.x, image);
                        let size = conv.output_size(height, width)?;
                        if let Some(residual) =
                            lane.residual.map(|residual| self.size(residual, image)).filter(|&s| s != size)
                        {
                            return Err(ShapeError::new(
                                "residual",
                                format_args!("{size:?}"),
                                format_args!("{residual:?}"),
                            ));
                        }
                        for slot in lane.scratch.into_iter().chain([lane.y]) {
                            self.set_size(slot, image, size);
                        }
                        if let Some(norm) = norm {
                            self.norm_workspace_len = self.norm_workspace_len.max(norm.workspace_len(size.0 * size.1));
                            self.norm_channels = self.norm_channels.max(norm.weight.len());
                        }
                    }
                }
                let inputs = lanes.iter().flat_map(|lane| (0..num_images).map(|image| self.size(lane.x, image)));
                self.workspace_len = self.workspace_len.max(conv.workspace_len(inputs));
                self.max_planes = self.max_planes.max(lanes.len() * num_images);
            }
            &Work::MaxPool { x, kernel, stride, padding, y } => {
                for image in 0..num_images {
                    let output = pool_shape(steps, self, x, image, (kernel, stride, padding))?.output();
                    self.set_size(y, image, (output.height, output.width));
                }
            }
            &Work::UpsampleAdd { fine: x, y, .. } | &Work::Convert { x, y, .. } => {
                (0..num_images).for_each(|image| self.set_size(y, image, self.size(x, image)));
            }
        }
        Ok(())
    }

    /// Gives every feature map its place: two share memory where one is read for the last time before the other is
    /// written. The largest first, each at the lowest place that is free while it lives.
    fn allot(&mut self, steps: &Steps) -> Result<(), PlanError> {
        let mut lives = lives(steps);
        let under = laid_over(steps, &mut lives);
        let num_images = self.num_images();
        let mut blocks = Vec::with_capacity(lives.len());
        for (slot_idx, (slot, life)) in steps.slots.iter().zip(lives).enumerate() {
            let mut len = 0usize;
            for place in &mut self.places[slot_idx * num_images..][..num_images] {
                let numbers = place.height.checked_mul(place.width);
                let numbers = numbers.and_then(|pixels| pixels.checked_mul(slot.storage.pixel_len(slot.channels)));
                place.len = numbers.ok_or(PlanError::TooLarge)?;
                place.offset = len;
                let bytes =
                    place.len.checked_mul(slot.storage.bytes()).filter(|&bytes| bytes <= isize::MAX as usize / 2);
                let bytes = bytes.ok_or(PlanError::TooLarge)?.next_multiple_of(ALIGNMENT);
                len = len.checked_add(bytes).ok_or(PlanError::TooLarge)?;
            }
            if under[slot_idx].is_none() {
                blocks.push(Block { slot_idx, len, life, start: 0 });
            }
        }
        blocks.sort_by_key(|block| std::cmp::Reverse(block.len));
        self.arena_len = arrange(&mut blocks).ok_or(PlanError::TooLarge)?;
        for block in blocks {
            self.places[block.slot_idx * num_images..][..num_images].iter_mut().for_each(|p| p.offset += block.start);
        }
        // Slots are numbered in the order of the steps, so that what a slot lies over has its place already.
        for (slot_idx, under) in under.into_iter().enumerate() {
            let Some(under) = under else { continue };
            for image in 0..num_images {
                self.places[slot_idx * num_images + image].offset = self.place(under, image).offset;
            }
        }
        Ok(())
    }
}

/// The shape of a pooling step for one image.
pub(super) fn pool_shape(
    steps: &Steps,
    layout: &Layout,
    x: SlotIdx,
    image: usize,
    (kernel, stride, padding): (usize, usize, usize),
) -> Result<PoolShape, ShapeError> {
    let (height, width) = layout.size(x, image);
    let input = ImageShape { batch: 1, height, width, channels: steps.slots[x.0].channels };
    PoolShape::new(input, kernel, stride, padding)
}

/// From the step that writes a slot to the last that reads it, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct Life {
    pub(in super::super) first: usize,
    pub(in super::super) last: usize,
}

impl Life {
    fn meets(self, other: Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }
}

/// The life of every slot; outputs live on for the caller.
fn lives(steps: &Steps) -> Vec<Life> {
    let mut lives = vec![Life { first: 0, last: 0 }; steps.slots.len()];
    for (step_idx, step) in steps.steps.iter().enumerate() {
        step.work.writes(|slot| lives[slot.0] = Life { first: step_idx, last: step_idx });
        step.work.reads(|slot| lives[slot.0].last = step_idx);
    }
    for output in steps.first.iter().chain(&steps.rest) {
        lives[output.0].last = usize::MAX;
    }
    lives
}

/// Of every slot, the slot whose memory it takes over, whose life is made as long: a convolution's result lies over its
/// residual where nothing else reads that at the step or later.
fn laid_over(steps: &Steps, lives: &mut [Life]) -> Vec<Option<SlotIdx>> {
    let mut under: Vec<Option<SlotIdx>> = vec![None; steps.slots.len()];
    let bytes = |slot: SlotIdx| steps.slots[slot.0].storage.bytes();
    for (step_idx, step) in steps.steps.iter().enumerate() {
        let Work::Conv { lanes, norm: None, .. } = &step.work else { continue };
        for (lane_idx, lane) in lanes.iter().enumerate() {
            let Some(residual) = lane.residual else { continue };
            let is_read_otherwise = lanes.iter().enumerate().any(|(other_idx, other)| {
                other.x == residual || (other_idx != lane_idx && other.residual == Some(residual))
            });
            if lives[residual.0].last == step_idx && !is_read_otherwise && bytes(residual) == bytes(lane.y) {
                under[lane.y.0] = Some(residual);
                // The memory lives on in the slot that had it first.
                let mut first = residual;
                while let Some(earlier) = under[first.0] {
                    first = earlier;
                }
                lives[first.0].last = lives[lane.y.0].last;
            }
        }
    }
    under
}

/// Memory of one slot.
#[derive(Debug)]
pub(in super::super) struct Block {
    pub(in super::super) slot_idx: usize,
    pub(in super::super) len: usize,
    pub(in super::super) life: Life,
    pub(in super::super) start: usize,
}

/// Sets the start of every block, in the order given; returns the end of the last, or none beyond what can be addressed.
pub(in super::super) fn arrange(blocks: &mut [Block]) -> Option<usize> {
    let mut end = 0usize;
    let mut taken: Vec<(usize, usize)> = Vec::with_capacity(blocks.len());
    for idx in 0..blocks.len() {
        let (placed, rest) = blocks.split_at_mut(idx);
        let block = &mut rest[0];
        taken.clear();
        let neighbours = placed.iter().filter(|other| other.life.meets(block.life));
        taken.extend(neighbours.map(|other| (other.start, other.start + other.len)));
        taken.sort_unstable();
        let mut start = 0;
        for &(from, to) in &taken {
            if from >= start && from - start >= block.len {
                break;
            }
            start = start.max(to);
        }
        block.start = start;
        end = end.max(start.checked_add(block.len).filter(|&end| end <= isize::MAX as usize)?);
    }
    Some(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(first: usize, last: usize, len: usize) -> Block {
        Block { slot_idx: 0, len, life: Life { first, last }, start: 0 }
    }

    #[test]
    fn blocks_that_live_together_lie_apart_and_the_others_share() {
        let mut blocks = [block(0, 1, 100), block(1, 2, 60), block(2, 3, 50), block(3, 4, 70)];
        assert_eq!(arrange(&mut blocks), Some(160));
        assert_eq!(blocks.map(|block| block.start), [0, 100, 0, 50]);
    }

    #[test]
    fn a_hole_is_filled() {
        let mut blocks = [block(0, 9, 10), block(0, 1, 20), block(0, 9, 5), block(2, 9, 20)];
        assert_eq!(arrange(&mut blocks), Some(35));
        assert_eq!(blocks.map(|block| block.start), [0, 10, 30, 10]);
    }

    #[test]
    fn no_two_that_live_together_overlap() {
        let mut state = 7u64;
        let mut next = |below: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % below
        };
        for _ in 0..200 {
            let mut blocks: Vec<Block> = (0..40)
                .map(|_| {
                    let first = next(30);
                    block(first, first + next(6), 64 * next(9))
                })
                .collect();
            let end = arrange(&mut blocks).expect("small blocks");
            for (i, a) in blocks.iter().enumerate() {
                assert!(a.start + a.len <= end);
                for b in blocks[..i].iter().filter(|b| b.life.meets(a.life)) {
                    assert!(a.start + a.len <= b.start || b.start + b.len <= a.start, "{a:?} {b:?}");
                }
            }
        }
    }
}
