//! A network in training: parameters, their gradients and all passes on a device.

use super::output::Output;
use super::prepared::{Prepared, Room, Rooms, Size};
use super::reverse::Reverse;
use super::running::Running;
use super::slots::{Slots, storages};
use super::steps::Steps;
use super::tensors::Tensors;
use super::weights::Weights;
use crate::bytes::bytes_of;
use crate::device::{Device, Element, Memory, Span};
use crate::error::{Error, Result};
use crate::kernels::convert;
use retinanet_ops::network::plan::{Recorder, Value};
use retinanet_ops::network::schedule::{Graph, Pass, SlotIdx, Work};
use std::sync::Arc;

/// How a network is trained.
#[derive(Clone, Debug)]
pub struct TrainingOptions {
    /// How maps and their gradients are stored, and what is multiplied. Parameters and their gradients are f32 in any.
    pub element: Element,
    /// Blocks of layers that run again in the reverse pass, as in
    /// [`retinanet_ops::network::training::TrainingOptions::recompute`].
    pub recompute: Vec<String>,
}

/// Training steps of a network on a device: a pass forward, the losses' gradients, a pass back, over and over.
///
/// Nothing here waits for the device, or copies anything from it, but what is asked for.
#[derive(Debug)]
pub struct Training {
    device: Arc<dyn Device>,
    element: Element,
    graph: Graph,
    parameters: Tensors,
    gradients: Tensors,
    weights: Weights,
    weight_gradient: Memory,
    rooms: Rooms,
    images: Room,
    current: Option<Arc<Prepared>>,
    running: Running,
    /// Whether packed weights are those of the parameters: of layers that are trained, and of the others.
    is_packed: bool,
    are_frozen_packed: bool,
}

impl Training {
    /// A network whose parameters and gradients are 0.
    ///
    /// # Errors
    /// The device has not so much memory, or as [`Graph::training`].
    pub fn new(
        device: &Arc<dyn Device>,
        recorder: &Recorder,
        outputs: &[Value],
        options: &TrainingOptions,
    ) -> Result<Self> {
        let element = options.element;
        let graph = Graph::training(recorder, outputs, storages(element), &options.recompute)?;
        let specs = || graph.convolutions().flat_map(|(layer, _)| layer.parameters());
        let len = |shape: &[usize]| shape.iter().product::<usize>();
        let parameters = Tensors::zeros(device, specs().map(|spec| (spec.name, len(&spec.shape))))?;
        let trained = specs().filter(|spec| spec.trainable);
        let gradients = Tensors::zeros(device, trained.map(|spec| (spec.name, len(&spec.shape))))?;
        let weights = Weights::new(device, &graph, element)?;
        Ok(Self {
            weight_gradient: Memory::new(device, weights.largest() * element.size())?,
            device: Arc::clone(device),
            element,
            graph,
            parameters,
            gradients,
            weights,
            rooms: Rooms::default(),
            images: Room::default(),
            current: None,
            running: Running::default(),
            is_packed: false,
            are_frozen_packed: false,
        })
    }

    /// All parameters that the outputs need, in f32. Whoever changes those of layers that are not trained does so through
    /// [`Self::write`].
    pub fn parameters(&self) -> &Tensors {
        &self.parameters
    }

    /// The gradients of what is trained, since the last [`Self::begin`].
    pub fn gradients(&self) -> &Tensors {
        &self.gradients
    }

    /// Gives a parameter its values.
    ///
    /// # Errors
    /// There is none of this name, it has another number of values, or the copy fails.
    pub fn write(&mut self, name: &str, values: &[f32]) -> Result<()> {
        (self.is_packed, self.are_frozen_packed) = (false, false);
        self.parameters.write(name, values)
    }

    /// Begins a step: gradients and statistics of the passes from here on add up, and those from before are forgotten.
    ///
    /// # Errors
    /// The device fails.
    pub fn begin(&mut self) -> Result<()> {
        self.is_packed = false;
        self.running.forget();
        self.gradients.span().zero()
    }

    /// The sizes of the outputs for images of this size, without running anything.
    ///
    /// # Errors
    /// An image is too small for a layer, or there is not so much memory.
    pub fn prepare(&mut self, size: Size) -> Result<()> {
        // What the passes before have seen lies in memory that those to come use again.
        self.running.keep(&self.device, self.rooms.statistics_span())?;
        let (prepared, _) = self.rooms.prepare(&self.device, &self.graph, size)?;
        self.current = Some(prepared);
        Ok(())
    }

    /// Computes the outputs of images `[N, H, W, C]`, and keeps what their gradients need.
    ///
    /// # Errors
    /// There are more or fewer numbers, an image is too small for a layer, there is not so much memory, or the device fails.
    pub fn forward(&mut self, images: &[f32], size: Size) -> Result<()> {
        self.prepare(size)?;
        let prepared = self.prepared();
        let expected = prepared.layout.shape(&self.graph, SlotIdx::IMAGES).len();
        if images.len() != expected {
            let (expected, found) = (format!("{expected} numbers"), images.len().to_string());
            return Err(Error::Mismatch { place: "images".to_owned(), expected, found });
        }
        self.images.reserve(&self.device, size_of_val(images))?;
        self.images.span().write(bytes_of(images))?;
        self.pack()?;
        let steps = self.steps(&prepared);
        let slot = steps.slots.span(SlotIdx::IMAGES);
        convert(images.len(), (Element::F32, self.images.span()), (self.element, slot))?;
        (0..self.graph.forward().len()).try_for_each(|work_idx| steps.forward(work_idx))?;
        self.running.see(&self.graph, &prepared);
        Ok(())
    }

    /// An output of the last [`Self::forward`], until [`Self::backward`] uses its memory.
    ///
    /// # Panics
    /// There was no [`Self::prepare`] or [`Self::forward`], or there are fewer outputs.
    pub fn output(&self, idx: usize) -> Output<'_> {
        let prepared = self.current.as_ref().expect("a pass forward comes first");
        Output::of(&self.slots(prepared), self.graph.outputs()[idx])
    }

    /// The gradient of an output, to be written between the two passes; none where nothing is trained before it.
    ///
    /// # Panics
    /// As for [`Self::output`].
    pub fn output_gradient(&self, idx: usize) -> Option<Output<'_>> {
        let prepared = self.current.as_ref().expect("a pass forward comes first");
        self.graph.output_gradients()[idx].map(|slot| Output::of(&self.slots(prepared), slot))
    }

    /// Adds the gradients of all trained parameters, from those of the outputs, to those of the step.
    ///
    /// # Errors
    /// The device fails.
    ///
    /// # Panics
    /// There was no [`Self::forward`].
    pub fn backward(&mut self) -> Result<()> {
        let prepared = self.prepared();
        let steps = self.steps(&prepared);
        let weight_gradient = self.weight_gradient.span();
        let reverse = Reverse { steps, gradients: &self.gradients, weight_gradient };
        self.graph.backward().iter().try_for_each(|pass| match *pass {
            Pass::Again(work_idx) => steps.forward(work_idx),
            Pass::Reverse(work_idx) => reverse.run(work_idx),
        })
    }

    /// Moves the running statistics of every batch norm by its momentum, once for each [`Self::forward`] of the step; not where
    /// the i32 in `go` is 0.
    ///
    /// # Errors
    /// The device fails.
    pub fn update_running_statistics(&self, go: Option<Span<'_>>) -> Result<()> {
        self.running.update(&self.parameters, self.rooms.statistics_span(), go)
    }

    /// Bytes of all maps and their gradients.
    pub fn memory_len(&self) -> usize {
        self.rooms.len()
    }

    fn prepared(&self) -> Arc<Prepared> {
        Arc::clone(self.current.as_ref().expect("a pass forward comes first"))
    }

    fn slots<'a>(&'a self, prepared: &'a Prepared) -> Slots<'a> {
        let memory = self.rooms.slots.span();
        Slots { graph: &self.graph, layout: &prepared.layout, memory, element: self.element }
    }

    fn steps<'a>(&'a self, prepared: &'a Prepared) -> Steps<'a> {
        Steps {
            slots: self.slots(prepared),
            prepared,
            weights: &self.weights,
            vectors: &self.parameters,
            statistics: self.rooms.statistics.span(),
            workspace: self.rooms.workspace.span(),
        }
    }

    /// Packs the weights that have changed since they were packed.
    fn pack(&mut self) -> Result<()> {
        for work in self.graph.forward() {
            let Work::Conv { layer, norm, .. } = work else { continue };
            if if layer.trainable { self.is_packed } else { self.are_frozen_packed } {
                continue;
            }
            let weight = self.parameters.find(&format!("{}.weight", layer.name))?;
            self.weights.pack(layer, *norm, weight, &self.parameters)?;
        }
        (self.is_packed, self.are_frozen_packed) = (true, true);
        Ok(())
    }
}
