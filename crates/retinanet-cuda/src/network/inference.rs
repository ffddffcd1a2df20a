//! A network for inference: weights packed once, a recording for each size of images.

use super::Parameter;
use super::output::Output;
use super::prepared::{Prepared, Room, Rooms, Size};
use super::slots::{Slots, storages};
use super::steps::Steps;
use super::tensors::Tensors;
use super::weights::Weights;
use crate::bytes::bytes_of;
use crate::device::{Device, Element, Memory, Recording, Span};
use crate::error::{Error, Result};
use crate::kernels::convert;
use retinanet_ops::network::ParameterKind;
use retinanet_ops::network::plan::{Recorder, Value};
use retinanet_ops::network::schedule::{Graph, SlotIdx};
use std::collections::HashMap;
use std::sync::Arc;

/// A network on a device, with all norms that have stored statistics folded into the weights.
///
/// All maps lie in one block of memory. What runs on images of one size is recorded when it first runs on them, and replayed
/// with one call from then on.
#[derive(Debug)]
pub struct Inference {
    device: Arc<dyn Device>,
    element: Element,
    graph: Graph,
    weights: Weights,
    vectors: Tensors,
    rooms: Rooms,
    /// Images in f32 as they come in, where the maps are stored otherwise.
    images: Room,
    recordings: HashMap<Size, Box<dyn Recording>>,
    current: Option<Arc<Prepared>>,
}

/// Recordings that are kept.
const MOST_RECORDINGS: usize = 64;

impl Inference {
    /// Puts a recorded network on a device; `parameter` gives the values of a parameter of this name.
    ///
    /// # Errors
    /// A parameter has another number of values, or the device has not so much memory.
    pub fn new(
        device: &Arc<dyn Device>,
        recorder: &Recorder,
        outputs: &[Value],
        element: Element,
        parameter: &Parameter<'_>,
    ) -> Result<Self> {
        let graph = Graph::inference(recorder, outputs, storages(element));
        let weights = Weights::new(device, &graph, element)?;
        let is_vector = |kind| kind != ParameterKind::Weight;
        let specs = || graph.convolutions().flat_map(|(layer, _)| layer.parameters());
        let lens = specs().filter(|spec| is_vector(spec.kind));
        let vectors = Tensors::zeros(device, lens.map(|spec| (spec.name, spec.shape.iter().product())))?;
        for spec in specs().filter(|spec| is_vector(spec.kind)) {
            vectors.write(&spec.name, &parameter(&spec.name)?)?;
        }
        // One weight after another passes through the same memory.
        let memory = Memory::new(device, weights.largest() * size_of::<f32>())?;
        for (layer, norm) in graph.convolutions() {
            let name = format!("{}.weight", layer.name);
            let values = parameter(&name)?;
            let expected: usize = super::weights::dimensions(layer).iter().product();
            if values.len() != expected {
                let (expected, found) = (format!("{expected} values"), values.len().to_string());
                return Err(Error::Mismatch { place: name, expected, found });
            }
            memory.span().write(bytes_of(&values))?;
            weights.pack(layer, norm, memory.span(), &vectors)?;
        }
        Ok(Self {
            device: Arc::clone(device),
            element,
            graph,
            weights,
            vectors,
            rooms: Rooms::default(),
            images: Room::default(),
            recordings: HashMap::new(),
            current: None,
        })
    }

    /// Computes the outputs of images `[N, H, W, C]`.
    ///
    /// # Errors
    /// There are more or fewer numbers, an image is too small for a layer, there is not so much memory, or the device fails.
    pub fn run(&mut self, images: &[f32], size: Size) -> Result<()> {
        let (prepared, has_moved) = self.rooms.prepare(&self.device, &self.graph, size)?;
        let expected = prepared.layout.shape(&self.graph, SlotIdx::IMAGES).len();
        if images.len() != expected {
            let (expected, found) = (format!("{expected} numbers"), images.len().to_string());
            return Err(Error::Mismatch { place: "images".to_owned(), expected, found });
        }
        let has_moved = has_moved | self.images.reserve(&self.device, size_of_val(images))?;
        if has_moved || self.recordings.len() >= MOST_RECORDINGS {
            self.recordings.clear();
        }
        self.current = Some(Arc::clone(&prepared));
        self.images.span().write(bytes_of(images))?;
        if let Some(recording) = self.recordings.get(&size) {
            // SAFETY: recordings go when the memory does.
            return unsafe { self.device.replay(&**recording) };
        }
        let recording = self.device.record(&mut || self.execute(&prepared))?;
        self.recordings.insert(size, recording);
        Ok(())
    }

    fn execute(&self, prepared: &Prepared) -> Result<()> {
        let slots = self.slots(prepared);
        let steps = Steps {
            slots,
            prepared,
            weights: &self.weights,
            vectors: &self.vectors,
            statistics: self.rooms.statistics.span(),
            workspace: self.rooms.workspace.span(),
        };
        let count = slots.shape(SlotIdx::IMAGES).len();
        convert(count, (Element::F32, self.images.span()), (self.element, slots.span(SlotIdx::IMAGES)))?;
        (0..self.graph.forward().len()).try_for_each(|work_idx| steps.forward(work_idx))
    }

    fn slots<'a>(&'a self, prepared: &'a Prepared) -> Slots<'a> {
        let memory: Span<'a> = self.rooms.slots.span();
        Slots { graph: &self.graph, layout: &prepared.layout, memory, element: self.element }
    }

    /// An output of the last [`Self::run`], which the next one overwrites.
    ///
    /// # Panics
    /// Nothing has run, or there are fewer outputs.
    pub fn output(&self, idx: usize) -> Output<'_> {
        let prepared = self.current.as_ref().expect("outputs come from a run");
        Output::of(&self.slots(prepared), self.graph.outputs()[idx])
    }
}
