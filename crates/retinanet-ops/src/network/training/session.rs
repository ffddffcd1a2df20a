//! Training steps of a network: its memory, and the passes forward and back.

use super::super::Parameters;
use super::super::plan::PlanError;
use super::super::plan::arena::{ALIGNMENT, Arena};
use super::super::plan::record::{Recorder, Value};
use super::super::schedule::{Graph, Layout, Pass, SlotIdx, Storages};
use super::backward::Backward;
use super::forward::Forward;
use super::gradients::Gradients;
use super::memory::Views;
use super::parameters::Folded;
use super::statistics::{self, Seen};
use crate::kernels::ImageShape;
use crate::kernels::cpu::Isa;
use crate::kernels::cpu::inference::{Numbers, NumbersMut, Precision, Storage};
use crate::kernels::cpu::training::{Workspace, convert};

/// How a network is trained.
#[derive(Clone, Debug)]
pub struct TrainingOptions {
    /// The instruction set.
    pub isa: Isa,
    /// How activations and their gradients are stored, and what is multiplied: [`Precision::F32`] or [`Precision::Bf16`].
    /// Parameters, their gradients, the statistics of norms, and the outputs are f32 in any precision.
    pub precision: Precision,
    /// Blocks of layers that run again in the reverse pass, so that of their results only those are kept that other layers
    /// read: less memory for more time, and the same bits (Chen et al. 2016). A block is all layers whose names begin with
    /// one of these, such as `backbone.body.layer1.0.`.
    pub recompute: Vec<String>,
}

impl Default for TrainingOptions {
    /// f32 with the widest vectors of this processor.
    fn default() -> Self {
        Self { isa: Isa::detect(), precision: Precision::F32, recompute: Vec::new() }
    }
}

/// A network and the memory of its training steps: a pass forward, a pass back, over and over.
///
/// The reverse pass is our own: activations lie in one block of memory at places found from their lifetimes, and are gone
/// when no step needs them any more; gradients of activations take over their places; the uses of a layer on several levels
/// are one step, whose weight is packed once.
#[derive(Debug)]
pub struct TrainingSession {
    isa: Isa,
    graph: Graph,
    layout: Option<Layout>,
    arena: Arena,
    workspace: Workspace,
    folded: Folded,
    /// Of the norms of each step, lane by lane.
    statistics: Vec<Vec<Vec<f64>>>,
    seen: Vec<Seen>,
    gradients: Gradients,
    /// Whether the gradients belong to the running step already.
    has_gradients: bool,
}

impl TrainingSession {
    /// A session for what the outputs need of a recorded network.
    ///
    /// # Errors
    /// The precision is neither f32 nor bf16, or as [`Graph::training`].
    pub fn new(recorder: &Recorder, outputs: &[Value], options: &TrainingOptions) -> Result<Self, PlanError> {
        let storage = match options.precision {
            Precision::F32 => Storage::F32,
            Precision::Bf16 => Storage::Bf16,
            other => {
                let message = format!("training: precision: expected f32 or bf16, found {}", other.name());
                return Err(candle_core::Error::msg(message).into());
            }
        };
        let graph = Graph::training(recorder, outputs, Storages::Words(storage), &options.recompute)?;
        let gradients = Gradients::of(graph.convolutions().map(|(layer, _)| layer));
        Ok(Self {
            isa: options.isa.or_portable(),
            statistics: vec![Vec::new(); graph.works().len()],
            graph,
            layout: None,
            arena: Arena::empty(),
            workspace: Workspace::default(),
            folded: Folded::default(),
            seen: Vec::new(),
            gradients,
            has_gradients: false,
        })
    }

    /// Begins a step: gradients and statistics of the passes from here on add up, so that several small batches become a
    /// large one, and those from before are forgotten.
    pub fn begin(&mut self) {
        self.has_gradients = false;
        self.seen.clear();
    }

    /// Computes the outputs, and keeps what their gradients need.
    ///
    /// # Shapes
    /// - `images`: `[N, H, W, C]`
    ///
    /// # Errors
    /// An image is too small for a layer, a parameter is missing, of another shape or no f32 on the CPU, or the feature
    /// maps do not fit in memory.
    pub fn forward(
        &mut self,
        parameters: &Parameters,
        images: &[f32],
        (batch, height, width): (usize, usize, usize),
    ) -> Result<(), PlanError> {
        if self.layout.as_ref().is_none_or(|layout| layout.images() != (batch, height, width)) {
            let layout = Layout::new(&self.graph, (batch, height, width), ALIGNMENT)?;
            self.layout = None;
            self.arena.reserve(layout.len())?;
            self.layout = Some(layout);
        }
        let Some(layout) = &self.layout else { unreachable!("it was made above") };
        let views = Views { arena: &self.arena, graph: &self.graph, layout };
        let expected = views.shape(SlotIdx::IMAGES).len();
        if images.len() != expected {
            let found = images.len();
            let message = format!("training: images: expected {expected} numbers, found {found}");
            return Err(candle_core::Error::msg(message).into());
        }
        // SAFETY: nothing else borrows the arena; the first slot is the images'.
        let NumbersMut::F32(input) = (unsafe { views.numbers_mut(SlotIdx::IMAGES) }) else {
            unreachable!("images are f32")
        };
        input.copy_from_slice(images);
        let mut forward = Forward {
            isa: self.isa,
            views,
            parameters,
            workspace: &mut self.workspace,
            folded: &mut self.folded,
            seen: Some(&mut self.seen),
        };
        for (work, statistics) in self.graph.forward().iter().zip(&mut self.statistics) {
            forward.run(work, statistics)?;
        }
        Ok(())
    }

    /// Shape and numbers of an output, `[N, H, W, C]`, until [`Self::backward`] uses its memory.
    ///
    /// # Panics
    /// There was no [`Self::forward`] before, or there are fewer outputs.
    pub fn output(&self, idx: usize) -> (ImageShape, &[f32]) {
        let views = self.views();
        let value = self.graph.outputs()[idx];
        // SAFETY: all that writes to the arena borrows the session mutably.
        match unsafe { views.value(value) } {
            Numbers::F32(numbers) => (views.shape_of(value), numbers),
            _ => unreachable!("outputs are f32"),
        }
    }

    /// Takes the gradient of an output, to be given for each of them between the two passes.
    ///
    /// # Panics
    /// There was no [`Self::forward`] before, there are fewer outputs, or the output has another number of values.
    pub fn set_output_gradient(&mut self, idx: usize, gradient: &[f32]) {
        let views = self.views();
        assert_eq!(gradient.len(), views.shape_of(self.graph.outputs()[idx]).len(), "training: gradient of an output");
        let Some(slot) = self.graph.output_gradients()[idx] else { return };
        // SAFETY: nothing else borrows the arena.
        convert(self.isa, gradient, unsafe { views.numbers_mut(slot) });
    }

    /// Adds the gradients of all trained parameters, from those of the outputs, to those of the step.
    ///
    /// # Errors
    /// A parameter is missing, of another shape or no f32 on the CPU.
    ///
    /// # Panics
    /// There was no [`Self::forward`] before.
    pub fn backward(&mut self, parameters: &Parameters) -> Result<(), PlanError> {
        let layout = self.layout.as_ref().expect("a pass forward comes first");
        let views = Views { arena: &self.arena, graph: &self.graph, layout };
        let (isa, accumulate) = (self.isa, self.has_gradients);
        for pass in self.graph.backward() {
            let (workspace, folded) = (&mut self.workspace, &mut self.folded);
            match *pass {
                Pass::Again(idx) => {
                    // The first time has counted its statistics.
                    let mut forward = Forward { isa, views, parameters, workspace, folded, seen: None };
                    forward.run(&self.graph.works()[idx], &mut self.statistics[idx])?;
                }
                Pass::Reverse(idx) => {
                    let gradients = &mut self.gradients;
                    let mut backward = Backward { isa, views, parameters, workspace, folded, gradients, accumulate };
                    backward.run(&self.graph.works()[idx], &self.statistics[idx])?;
                }
            }
        }
        self.has_gradients = true;
        Ok(())
    }

    /// The gradients of the step.
    pub fn gradients(&self) -> &Gradients {
        &self.gradients
    }

    /// The same, to be scaled or added to.
    pub fn gradients_mut(&mut self) -> &mut Gradients {
        &mut self.gradients
    }

    /// Moves the running statistics of every batch norm by its momentum, once for each [`Self::forward`] of the step.
    ///
    /// Apart from the passes themselves, so that a step whose loss is not finite can be dropped with nothing changed.
    ///
    /// # Errors
    /// A running statistic is missing.
    pub fn update_running_statistics(&self, parameters: &Parameters) -> Result<(), PlanError> {
        Ok(statistics::update(parameters, &self.seen)?)
    }

    /// Bytes of all activations and their gradients.
    pub fn memory_len(&self) -> usize {
        self.arena.len()
    }

    fn views(&self) -> Views<'_> {
        let layout = self.layout.as_ref().expect("a pass forward comes first");
        Views { arena: &self.arena, graph: &self.graph, layout }
    }
}
