//! The steps of a network and of its reverse pass.

use super::super::plan::PlanError;
use super::super::plan::order::order;
use super::super::plan::record::{Kind, Recorder, Value};
use super::super::{ConvLayer, NormKind};
use super::lifetimes;
use super::recompute::{self, Copies};
use crate::kernels::cpu::inference::Storage;

/// Memory for numbers of the size of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SlotIdx(pub(in super::super) usize);

impl SlotIdx {
    /// The images that come in.
    pub const IMAGES: Self = Self(0);
}

impl From<Value> for SlotIdx {
    /// Where the value itself is.
    fn from(value: Value) -> Self {
        Self(value.0)
    }
}

/// What a slot holds, and from when to when, both included.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    /// The value whose rows and columns it has.
    pub(super) value: Value,
    pub(super) channels: usize,
    pub(super) storage: Storage,
    pub(super) first: usize,
    pub(super) last: usize,
}

/// How the numbers of maps are stored.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Storages {
    /// Like this, but in f32 what comes in and goes out, and maps whose pixels would be no whole words of four bytes: what the
    /// processor's kernels ask for.
    Words(Storage),
    /// All like this.
    Uniform(Storage),
}

impl Storages {
    /// Of a map of so many channels.
    pub(super) fn of(self, channels: usize, is_end: bool) -> Storage {
        match self {
            Self::Words(storage) if is_end || storage.pixel_len(channels) != channels => Storage::F32,
            Self::Words(storage) | Self::Uniform(storage) => storage,
        }
    }
}

/// The gradient of a value that a step read, as the step's reverse writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Where it is written.
    pub slot: SlotIdx,
    /// Whether others have written before.
    pub accumulate: bool,
    /// Whether the sum is whole and passes only where the value, which comes out of a ReLU, is positive.
    pub gate: bool,
}

/// How the gradient of a residual comes from that of the sum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResidualFlow {
    /// Nothing is trained before it.
    None,
    /// It is the same memory.
    Same,
    /// It is added to what is there.
    Add(SlotIdx),
}

/// One use of a convolution.
#[derive(Clone, Debug)]
pub struct Lane {
    /// The input.
    pub x: Value,
    /// Added before the activation.
    pub residual: Option<Value>,
    /// The output.
    pub y: Value,
    /// The convolution's result, where a norm follows it that needs it again.
    pub conv: Option<SlotIdx>,
    /// The gradient of the output; none where nothing is trained up to here.
    pub y_gradient: Option<SlotIdx>,
    /// Whether it has passed the output's ReLU.
    pub is_gated: bool,
    /// The gradient of the convolution's result: that of the output, or memory of its own where a norm lies between the two
    /// and a residual takes over the other.
    pub conv_gradient: Option<SlotIdx>,
    /// The gradient of the input, where something is trained before it.
    pub x_flow: Option<Flow>,
    /// That of the residual.
    pub residual_flow: ResidualFlow,
}

/// A step of a network, and what its reverse reads and writes.
#[derive(Clone, Debug)]
pub enum Work {
    /// The uses of one convolution: `y = activation(norm(conv(x)) + residual)` a lane.
    Conv {
        /// With its parameters' names.
        layer: ConvLayer,
        /// The norm as it is applied here.
        norm: Option<NormKind>,
        /// At least one.
        lanes: Vec<Lane>,
        /// Whether no other step's reverse has added to the layer's gradients before.
        is_first: bool,
    },
    /// Max pooling.
    MaxPool {
        /// The input.
        x: Value,
        /// The output.
        y: Value,
        /// Kernel, stride, padding.
        window: (usize, usize, usize),
        /// The gradient of the output, and that of the input.
        flow: Option<(SlotIdx, Flow)>,
    },
    /// `y = upsample(coarse) + fine`, nearest neighbour.
    UpsampleAdd {
        /// To be upsampled.
        coarse: Value,
        /// Of the size of the sum.
        fine: Value,
        /// The sum.
        y: Value,
        /// The gradient of the sum, and those of its terms.
        flow: Option<(SlotIdx, Option<Flow>, ResidualFlow)>,
    },
    /// `y = max(x, 0)`.
    Relu {
        /// The input.
        x: Value,
        /// The output.
        y: Value,
        /// The gradient of the output, and that of the input.
        flow: Option<(SlotIdx, Flow)>,
    },
}

/// A part of the reverse pass; the number is an index into [`Graph::works`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// A step runs again, for a reverse that is to come.
    Again(usize),
    /// The reverse of a step.
    Reverse(usize),
}

/// The steps of a network in the order of execution, with or without their reverse, and the slots that they need.
#[derive(Debug)]
pub struct Graph {
    /// The steps of the network, then those that run again.
    pub(super) works: Vec<Work>,
    /// How many of them are the network's.
    pub(super) num_forward: usize,
    /// The reverse pass, in order.
    pub(super) backward: Vec<Pass>,
    /// Of values, by index; those that nothing needs have an empty life.
    pub(super) slots: Vec<Slot>,
    pub(super) outputs: Vec<Value>,
    /// The gradients of the outputs.
    pub(super) output_gradients: Vec<Option<SlotIdx>>,
}

/// The gradient of the input would take the place of that of the result while the layer's reverse reads it.
fn check_residual(work: &Work, is_trained: &[bool]) -> Result<(), PlanError> {
    let Work::Conv { layer, norm: None | Some(NormKind::FrozenBatch { .. }), lanes, .. } = work else { return Ok(()) };
    if lanes.iter().all(|lane| lane.residual != Some(lane.x) || !is_trained[lane.x.0]) {
        return Ok(());
    }
    let expected = "another value than the input, or a norm of the batch or of groups";
    Err(candle_core::Error::msg(format!("{}: residual: expected {expected}, found the input", layer.name)).into())
}

impl Graph {
    /// What the outputs, and the gradients of all that is trained, need of a recorded network.
    ///
    /// Layers whose names begin with one of `recompute` [run again](super::super::training::TrainingOptions::recompute).
    ///
    /// # Errors
    /// A layer adds its own input, at or before which something is trained, to its result with no norm of the batch or of
    /// groups between.
    pub fn training(
        recorder: &Recorder,
        outputs: &[Value],
        storages: Storages,
        recompute: &[String],
    ) -> Result<Self, PlanError> {
        let mut graph = Self::forward_only(recorder, outputs, storages, ConvLayer::applied_norm);
        graph.backward = (0..graph.works.len()).rev().map(Pass::Reverse).collect();
        let is_trained = graph.trained();
        graph.works.iter().try_for_each(|work| check_residual(work, &is_trained))?;
        let copies = recompute::insert(&mut graph, recompute);
        lifetimes::find(&mut graph, &copies, storages);
        Ok(graph)
    }

    /// What the outputs need of a recorded network whose batch norms all apply their running statistics.
    pub fn inference(recorder: &Recorder, outputs: &[Value], storages: Storages) -> Self {
        let norm = |layer: &ConvLayer| match layer.applied_norm() {
            Some(NormKind::Batch { epsilon, .. }) => Some(NormKind::FrozenBatch { epsilon }),
            norm => norm,
        };
        let mut graph = Self::forward_only(recorder, outputs, storages, norm);
        let copies = Copies::none(&graph);
        lifetimes::find(&mut graph, &copies, storages);
        graph
    }

    /// The steps in order, the lives of their slots not known yet.
    fn forward_only(
        recorder: &Recorder,
        outputs: &[Value],
        storages: Storages,
        norm: impl Fn(&ConvLayer) -> Option<NormKind>,
    ) -> Self {
        let groups = order(recorder, outputs, &[]).groups;
        let works = groups.iter().map(|group| {
            let operations: Vec<_> = group.operations.iter().map(|&i| &recorder.operations[i]).collect();
            let y = operations[0].y;
            match &operations[0].kind {
                Kind::Conv { layer, .. } => {
                    let lanes = operations.iter().filter_map(|operation| match operation.kind {
                        Kind::Conv { x, residual, .. } => Some(Lane::new(x, residual, operation.y)),
                        _ => None,
                    });
                    let (layer, norm) = (layer.clone(), norm(layer));
                    Work::Conv { lanes: lanes.collect(), layer, norm, is_first: true }
                }
                &Kind::MaxPool { x, kernel, stride, padding } => {
                    Work::MaxPool { x, y, window: (kernel, stride, padding), flow: None }
                }
                &Kind::UpsampleAdd { coarse, fine } => Work::UpsampleAdd { coarse, fine, y, flow: None },
                &Kind::Relu { x } => Work::Relu { x, y, flow: None },
            }
        });
        let works: Vec<Work> = works.collect();
        let slot = |(idx, &channels): (usize, &usize)| {
            let value = Value(idx);
            let is_end = idx == 0 || outputs.contains(&value);
            Slot { value, channels, storage: storages.of(channels, is_end), first: 0, last: 0 }
        };
        let slots = recorder.channels.iter().enumerate().map(slot).collect();
        let (num_forward, backward, output_gradients) = (works.len(), Vec::new(), Vec::new());
        Self { works, num_forward, backward, slots, outputs: outputs.to_vec(), output_gradients }
    }

    /// The steps of the network, then those that run again in the reverse pass.
    pub fn works(&self) -> &[Work] {
        &self.works
    }

    /// The steps of the network.
    pub fn forward(&self) -> &[Work] {
        &self.works[..self.num_forward]
    }

    /// The reverse pass, in order; empty for inference.
    pub fn backward(&self) -> &[Pass] {
        &self.backward
    }

    /// The outputs, in the order given.
    pub fn outputs(&self) -> &[Value] {
        &self.outputs
    }

    /// The gradient of each output, to be written between the two passes; none where nothing is trained before it.
    pub fn output_gradients(&self) -> &[Option<SlotIdx>] {
        &self.output_gradients
    }

    /// The convolutions in the order of [`Self::works`], with their norms as they are applied here.
    pub fn convolutions(&self) -> impl Iterator<Item = (&ConvLayer, Option<NormKind>)> {
        self.works.iter().filter_map(|work| match work {
            Work::Conv { layer, norm, .. } => Some((layer, *norm)),
            _ => None,
        })
    }

    /// How the numbers of a slot are stored.
    pub fn storage(&self, slot: SlotIdx) -> Storage {
        self.slots[slot.0].storage
    }

    /// Whether something is trained at or before each value; nothing is without a reverse pass.
    pub(super) fn trained(&self) -> Vec<bool> {
        let mut is_trained = vec![false; self.slots.len()];
        if self.backward.is_empty() {
            return is_trained;
        }
        for work in &self.works {
            match work {
                Work::Conv { layer, lanes, .. } => {
                    for lane in lanes {
                        let before = [Some(lane.x), lane.residual].into_iter().flatten();
                        let is_reached = before.into_iter().any(|value| is_trained[value.0]);
                        is_trained[lane.y.0] = layer.trainable || is_reached;
                    }
                }
                &Work::MaxPool { x, y, .. } | &Work::Relu { x, y, .. } => is_trained[y.0] = is_trained[x.0],
                &Work::UpsampleAdd { coarse, fine, y, .. } => {
                    is_trained[y.0] = is_trained[coarse.0] || is_trained[fine.0];
                }
            }
        }
        is_trained
    }
}

impl Lane {
    pub(super) fn new(x: Value, residual: Option<Value>, y: Value) -> Self {
        Self {
            x,
            residual,
            y,
            conv: None,
            y_gradient: None,
            is_gated: false,
            conv_gradient: None,
            x_flow: None,
            residual_flow: ResidualFlow::None,
        }
    }
}
