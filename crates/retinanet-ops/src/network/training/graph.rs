//! The steps of a network and of its reverse pass.

use super::super::plan::order::order;
use super::super::plan::record::{Kind, Recorder, Value};
use super::super::{ConvLayer, NormKind};
use super::lifetimes;
use super::recompute;
use crate::kernels::cpu::inference::Storage;

/// Memory for numbers of the size of a value; an index into [`Graph::slots`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SlotIdx(pub(super) usize);

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

/// The gradient of a value that a step read, as the step's reverse writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Flow {
    pub(super) slot: SlotIdx,
    /// Whether others have written before.
    pub(super) accumulate: bool,
    /// Whether the sum is whole and passes only where the value, which comes out of a ReLU, is positive.
    pub(super) gate: bool,
}

/// How the gradient of a residual comes from that of the sum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ResidualFlow {
    /// Nothing is trained before it.
    None,
    /// It is the same memory.
    Same,
    /// It is added to what is there.
    Add(SlotIdx),
}

/// One use of a convolution.
#[derive(Clone, Debug)]
pub(super) struct Lane {
    pub(super) x: Value,
    pub(super) residual: Option<Value>,
    pub(super) y: Value,
    /// The convolution's result, where a norm follows it that needs it again.
    pub(super) conv: Option<SlotIdx>,
    /// The gradient of the output; none where nothing is trained up to here.
    pub(super) y_gradient: Option<SlotIdx>,
    /// Whether it has passed the output's ReLU.
    pub(super) is_gated: bool,
    /// The gradient of the convolution's result: that of the output, or memory of its own where a norm lies between the two
    /// and a residual takes over the other.
    pub(super) conv_gradient: Option<SlotIdx>,
    pub(super) x_flow: Option<Flow>,
    pub(super) residual_flow: ResidualFlow,
}

#[derive(Clone, Debug)]
pub(super) enum Work {
    Conv {
        layer: ConvLayer,
        norm: Option<NormKind>,
        lanes: Vec<Lane>,
        /// Whether no other step's reverse has added to the layer's gradients before.
        is_first: bool,
    },
    MaxPool {
        x: Value,
        y: Value,
        window: (usize, usize, usize),
        flow: Option<(SlotIdx, Flow)>,
    },
    UpsampleAdd {
        coarse: Value,
        fine: Value,
        y: Value,
        /// The gradient of the sum, and those of its terms.
        flow: Option<(SlotIdx, Option<Flow>, ResidualFlow)>,
    },
    Relu {
        x: Value,
        y: Value,
        flow: Option<(SlotIdx, Flow)>,
    },
}

/// A part of the reverse pass; an index into [`Graph::works`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pass {
    /// A step runs again, for a reverse that is to come.
    Again(usize),
    /// The reverse of a step.
    Reverse(usize),
}

#[derive(Debug)]
pub(super) struct Graph {
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

impl Graph {
    /// What the outputs need of a recorded network, of whose layers some [run again](super::TrainingOptions::recompute).
    pub(super) fn new(recorder: &Recorder, outputs: &[Value], storage: Storage, recompute: &[String]) -> Self {
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
                    let (layer, norm) = (layer.clone(), layer.applied_norm());
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
            let is_f32 = idx == 0 || outputs.contains(&value);
            Slot { value, channels, storage: stored(storage, channels, is_f32), first: 0, last: 0 }
        };
        let slots = recorder.channels.iter().enumerate().map(slot).collect();
        let mut graph = Self {
            num_forward: works.len(),
            backward: (0..works.len()).rev().map(Pass::Reverse).collect(),
            works,
            slots,
            outputs: outputs.to_vec(),
            output_gradients: Vec::new(),
        };
        let copies = recompute::insert(&mut graph, recompute);
        lifetimes::find(&mut graph, &copies, storage);
        graph
    }

    /// Whether something is trained at or before each value.
    pub(super) fn trained(&self) -> Vec<bool> {
        let mut is_trained = vec![false; self.slots.len()];
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

    pub(super) fn slot_of(value: Value) -> SlotIdx {
        SlotIdx(value.0)
    }
}

/// How numbers of so many channels are stored: pixels are whole words.
pub(super) fn stored(storage: Storage, channels: usize, is_f32: bool) -> Storage {
    if is_f32 || storage.pixel_len(channels) != channels { Storage::F32 } else { storage }
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
