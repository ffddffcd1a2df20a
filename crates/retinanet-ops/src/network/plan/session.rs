//! A run of a plan: its memory, and the steps in their order.

use super::PlanError;
use super::execute::Memory;
use super::layout::Layout;
use super::masks::Masks;
use super::steps::{SlotIdx, Steps};
use crate::kernels::cpu::inference::{Numbers, NumbersMut, Storage};
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Layouts that are kept: images come in a few sizes.
const KEPT_LAYOUTS: usize = 8;

/// What one run of a [`Plan`](super::Plan) at a time needs: its memory, laid out for the sizes of the images.
///
/// Several sessions of one plan run side by side. After the first run on images of given sizes a session allocates
/// nothing for the next [of these sizes](Session::resize).
#[derive(Debug)]
pub struct Session {
    steps: Arc<Steps>,
    /// The one in use first.
    layouts: Vec<(Layout, Masks)>,
    memory: Memory,
    /// Of the last run: of each part, what the first outputs needed and the rest.
    times: Vec<[Duration; 2]>,
}

/// An output of one image.
#[derive(Clone, Copy, Debug)]
pub struct Output<'a> {
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// `[H, W, C]`.
    pub values: &'a [f32],
}

impl Session {
    pub(super) fn new(steps: Arc<Steps>) -> Self {
        Self {
            times: vec![[Duration::ZERO; 2]; steps.parts.len()],
            steps,
            layouts: Vec::new(),
            memory: Memory::empty(),
        }
    }

    /// Prepares for images of these sizes, rows and columns of each; what was computed before is lost.
    ///
    /// # Errors
    /// An image is empty or too small for a layer, or the feature maps do not fit in memory.
    pub fn resize(&mut self, sizes: &[(usize, usize)]) -> Result<(), PlanError> {
        let num_threads = rayon::current_num_threads();
        let fits = |(layout, _): &(Layout, Masks)| layout.sizes == sizes && layout.num_threads == num_threads;
        match self.layouts.iter().position(fits) {
            Some(idx) => self.layouts[..=idx].rotate_right(1),
            None => {
                let layout = Layout::new(&self.steps, sizes)?;
                let masks = Masks::new(&self.steps, &layout);
                self.layouts.truncate(KEPT_LAYOUTS - 1);
                self.layouts.insert(0, (layout, masks));
            }
        }
        if let Err(error) = self.memory.reserve(&self.layouts[0].0) {
            // No layout fits the memory that is left.
            self.layouts.clear();
            return Err(error);
        }
        Ok(())
    }

    fn layout(&self) -> &Layout {
        &self.layouts.first().expect("`resize` comes before all else").0
    }

    /// The pixels of an image, `[H, W, C]`, to be written before each run: later steps use their memory.
    ///
    /// # Panics
    /// [`Self::resize`] was not called, or there are fewer images.
    pub fn input_mut(&mut self, image: usize) -> &mut [f32] {
        let region = self.layout().place(self.steps.input, image).region();
        // SAFETY: the session is borrowed by the caller alone.
        match unsafe { self.memory.arena.numbers_mut(region, Storage::F32) } {
            NumbersMut::F32(pixels) => pixels,
            _ => unreachable!("the input is f32"),
        }
    }

    /// Computes the first outputs from the input.
    ///
    /// # Panics
    /// [`Self::resize`] was not called.
    pub fn run_first(&mut self) {
        self.times.fill([Duration::ZERO; 2]);
        self.run(0..self.steps.num_first, false);
    }

    /// Computes all of the other outputs; after [`Self::run_first`].
    ///
    /// # Panics
    /// [`Self::resize`] was not called.
    pub fn run_rest(&mut self) {
        self.run(self.steps.num_first..self.steps.steps.len(), false);
    }

    /// Forgets which locations are wanted of the other outputs.
    ///
    /// # Panics
    /// [`Self::resize`] was not called.
    pub fn clear_wanted(&mut self) {
        self.layouts.first_mut().expect("`resize` comes before all else").1.clear();
    }

    /// The locations of one of the other outputs, `[H, W]`, to be set to 1 where they are wanted; 0 elsewhere.
    ///
    /// # Panics
    /// [`Self::resize`] was not called, there are fewer outputs or images, or the output is a first output too.
    pub fn wanted_mut(&mut self, output: usize, image: usize) -> &mut [u8] {
        let slot = self.steps.rest[output];
        let (layout, masks) = self.layouts.first_mut().expect("`resize` comes before all else");
        masks.of(slot, image, layout.place(slot, image)).expect("an output that the first outputs do not need")
    }

    /// Computes the other outputs where they are wanted, with the same bits as [`Self::run_rest`]; elsewhere they are
    /// unspecified. Returns the share of the rest's multiplications that it took.
    ///
    /// # Panics
    /// [`Self::resize`] was not called.
    pub fn run_rest_where_wanted(&mut self) -> f64 {
        let (layout, masks) = self.layouts.first_mut().expect("`resize` comes before all else");
        let share = masks.propagate(&self.steps, layout);
        self.run(self.steps.num_first..self.steps.steps.len(), true);
        share
    }

    fn run(&mut self, range: Range<usize>, where_wanted: bool) {
        let steps = &*self.steps;
        let (layout, masks) = self.layouts.first().expect("`resize` comes before all else");
        for step_idx in range {
            let step = &steps.steps[step_idx];
            let is_rest = step_idx >= steps.num_first;
            let start = Instant::now();
            let masks = where_wanted.then(|| masks.of_step(step_idx - steps.num_first));
            self.memory.execute(steps, layout, step, masks);
            self.times[step.part][usize::from(is_rest)] += start.elapsed();
        }
    }

    /// The time that each part of the network took in the last run: its name, what the first outputs needed of it, and the
    /// rest.
    pub fn times(&self) -> impl Iterator<Item = (&'static str, Duration, Duration)> {
        self.steps.parts.iter().zip(&self.times).map(|(&name, &[first, rest])| (name, first, rest))
    }

    /// Bytes that the session holds.
    pub fn memory_len(&self) -> usize {
        self.memory.len()
    }

    /// One of the first outputs.
    ///
    /// # Panics
    /// [`Self::resize`] was not called, or there are fewer outputs or images.
    pub fn first_output(&self, output: usize, image: usize) -> Output<'_> {
        self.output(self.steps.first[output], image)
    }

    /// One of the other outputs.
    ///
    /// # Panics
    /// [`Self::resize`] was not called, or there are fewer outputs or images.
    pub fn rest_output(&self, output: usize, image: usize) -> Output<'_> {
        self.output(self.steps.rest[output], image)
    }

    fn output(&self, slot: SlotIdx, image: usize) -> Output<'_> {
        let place = self.layout().place(slot, image);
        // SAFETY: all that writes to the arena borrows the session mutably.
        match unsafe { self.memory.arena.numbers(place.region(), Storage::F32) } {
            Numbers::F32(values) => Output { height: place.height, width: place.width, values },
            _ => unreachable!("outputs are f32"),
        }
    }
}
