//! The steps of a network and of its reverse pass, and what lives from when to when.
//!
//! Time runs over the steps forward, the loss, and the steps backward: step `i` of `n` runs at `i` and at `2 n - i`, the
//! loss at `n`.

use super::super::plan::order::order;
use super::super::plan::record::{Kind, Recorder, Value};
use super::super::{ConvLayer, NormKind};
use crate::Activation;
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

#[derive(Debug)]
pub(super) struct Graph {
    pub(super) works: Vec<Work>,
    /// Of values, by index; those that nothing needs have an empty life.
    pub(super) slots: Vec<Slot>,
    pub(super) outputs: Vec<Value>,
    /// The gradients of the outputs.
    pub(super) output_gradients: Vec<Option<SlotIdx>>,
}

impl Graph {
    /// What the outputs need of a recorded network.
    pub(super) fn new(recorder: &Recorder, outputs: &[Value], storage: Storage) -> Self {
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
        let mut graph = Self { works, slots, outputs: outputs.to_vec(), output_gradients: Vec::new() };
        Builder::new(&graph, storage).build(&mut graph);
        graph
    }

    pub(super) fn slot_of(value: Value) -> SlotIdx {
        SlotIdx(value.0)
    }
}

/// How numbers of so many channels are stored: pixels are whole words.
fn stored(storage: Storage, channels: usize, is_f32: bool) -> Storage {
    if is_f32 || storage.pixel_len(channels) != channels { Storage::F32 } else { storage }
}

impl Lane {
    fn new(x: Value, residual: Option<Value>, y: Value) -> Self {
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

/// What the reverse walk knows of each value.
struct Builder {
    storage: Storage,
    /// Steps.
    count: usize,
    /// Whether something is trained at or before it.
    is_trained: Vec<bool>,
    is_relu: Vec<bool>,
    /// The step that computes it.
    step: Vec<usize>,
    gradient: Vec<Option<SlotIdx>>,
    slots: Vec<Slot>,
}

impl Builder {
    fn new(graph: &Graph, storage: Storage) -> Self {
        let values = graph.slots.len();
        let mut builder = Self {
            storage,
            count: graph.works.len(),
            is_trained: vec![false; values],
            is_relu: vec![false; values],
            step: vec![0; values],
            gradient: vec![None; values],
            slots: graph.slots.clone(),
        };
        for (step, work) in graph.works.iter().enumerate() {
            match work {
                Work::Conv { layer, lanes, .. } => {
                    for lane in lanes {
                        let is_trained = layer.trainable
                            || builder.is_trained[lane.x.0]
                            || lane.residual.is_some_and(|residual| builder.is_trained[residual.0]);
                        builder.compute(lane.y, step, is_trained, layer.activation == Activation::Relu);
                    }
                }
                &Work::MaxPool { x, y, .. } => builder.compute(y, step, builder.is_trained[x.0], false),
                &Work::UpsampleAdd { coarse, fine, y, .. } => {
                    builder.compute(y, step, builder.is_trained[coarse.0] || builder.is_trained[fine.0], false);
                }
                &Work::Relu { x, y, .. } => builder.compute(y, step, builder.is_trained[x.0], true),
            }
        }
        builder
    }

    fn compute(&mut self, y: Value, step: usize, is_trained: bool, is_relu: bool) {
        (self.is_trained[y.0], self.is_relu[y.0], self.step[y.0]) = (is_trained, is_relu, step);
        self.slots[y.0].first = step;
        self.slots[y.0].last = step;
    }

    /// When the reverse of a step runs.
    fn reverse(&self, step: usize) -> usize {
        2 * self.count - step
    }

    /// A value is read at a time.
    fn read(&mut self, value: Value, time: usize) {
        let slot = &mut self.slots[value.0];
        slot.last = slot.last.max(time);
    }

    /// A slot of the size of a value, from one time to another.
    fn add_slot(&mut self, value: Value, first: usize, last: usize) -> SlotIdx {
        let channels = self.slots[value.0].channels;
        let storage = stored(self.storage, channels, false);
        self.slots.push(Slot { value, channels, storage, first, last });
        SlotIdx(self.slots.len() - 1)
    }

    /// The gradient of a value that a reverse step at `time` writes.
    fn flow(&mut self, value: Value, time: usize) -> Option<Flow> {
        if !self.is_trained[value.0] {
            return None;
        }
        let accumulate = self.gradient[value.0].is_some();
        let slot =
            self.gradient[value.0].unwrap_or_else(|| self.add_slot(value, time, self.reverse(self.step[value.0])));
        self.gradient[value.0] = Some(slot);
        // What is computed last in a forward pass is reversed first: a later one writes the whole sum, and takes this over.
        Some(Flow { slot, accumulate, gate: false })
    }

    /// The gradient of a value that equals that of a sum, `gradient`, which nobody reads afterwards.
    fn residual_flow(&mut self, residual: Value, gradient: SlotIdx) -> ResidualFlow {
        if !self.is_trained[residual.0] {
            return ResidualFlow::None;
        }
        if let Some(slot) = self.gradient[residual.0] {
            return ResidualFlow::Add(slot);
        }
        self.gradient[residual.0] = Some(gradient);
        let last = self.reverse(self.step[residual.0]);
        self.slots[gradient.0].last = self.slots[gradient.0].last.max(last);
        ResidualFlow::Same
    }

    fn build(mut self, graph: &mut Graph) {
        for (step, work) in graph.works.iter_mut().enumerate() {
            self.read_forward(work, step);
        }
        for &output in &graph.outputs {
            self.read(output, self.count);
            let is_trained = self.is_trained[output.0];
            let gradient = is_trained.then(|| self.add_slot(output, self.count, self.reverse(self.step[output.0])));
            self.gradient[output.0] = gradient;
            graph.output_gradients.push(gradient);
        }
        // The last step whose reverse writes a value's gradient as a convolution can pass it through the value's ReLU.
        let mut is_gated = vec![false; self.step.len()];
        let mut gates = vec![None; self.step.len()];
        for step in (0..self.count).rev() {
            match &graph.works[step] {
                Work::Conv { lanes, .. } => {
                    for (lane_idx, lane) in lanes.iter().enumerate() {
                        if let Some(residual) = lane.residual {
                            gates[residual.0] = None;
                        }
                        gates[lane.x.0] = Some((step, lane_idx));
                    }
                }
                &Work::MaxPool { x, .. } | &Work::Relu { x, .. } => gates[x.0] = None,
                &Work::UpsampleAdd { coarse, fine, .. } => (gates[coarse.0], gates[fine.0]) = (None, None),
            }
        }
        for (value, gate) in gates.iter().enumerate() {
            is_gated[value] = gate.is_some() && self.is_relu[value] && self.is_trained[value];
        }
        let mut reversed: Vec<String> = Vec::new();
        for step in (0..self.count).rev() {
            let time = self.reverse(step);
            match &mut graph.works[step] {
                Work::Conv { layer, norm, lanes, is_first } => {
                    *is_first = !reversed.contains(&layer.name);
                    reversed.push(layer.name.clone());
                    for (lane_idx, lane) in lanes.iter_mut().enumerate() {
                        let is_last = gates[lane.x.0] == Some((step, lane_idx));
                        self.reverse_conv(layer, *norm, lane, time, is_last && is_gated[lane.x.0]);
                        lane.is_gated = is_gated[lane.y.0];
                        if self.is_relu[lane.y.0] && !lane.is_gated && lane.y_gradient.is_some() {
                            self.read(lane.y, time);
                        }
                    }
                }
                Work::MaxPool { x, y, flow, .. } => {
                    if let Some(gradient) = self.gradient[y.0] {
                        *flow = self.flow(*x, time).map(|flow| (gradient, flow));
                        self.read(*x, time);
                    }
                }
                Work::UpsampleAdd { coarse, fine, y, flow } => {
                    if let Some(gradient) = self.gradient[y.0] {
                        let coarse = self.flow(*coarse, time);
                        *flow = Some((gradient, coarse, self.residual_flow(*fine, gradient)));
                    }
                }
                Work::Relu { x, y, flow } => {
                    if let Some(gradient) = self.gradient[y.0] {
                        *flow = self.flow(*x, time).map(|flow| (gradient, flow));
                        self.read(*y, time);
                    }
                }
            }
        }
        graph.slots = self.slots;
    }

    /// What a step reads when it runs, and keeps for its reverse.
    fn read_forward(&mut self, work: &mut Work, step: usize) {
        match work {
            Work::Conv { layer, norm, lanes, .. } => {
                let is_frozen = matches!(norm, None | Some(NormKind::FrozenBatch { .. }));
                for lane in lanes {
                    self.read(lane.x, step);
                    lane.residual.into_iter().for_each(|residual| self.read(residual, step));
                    if !is_frozen {
                        let needs = layer.trainable || self.is_trained[lane.x.0];
                        let last = if needs { self.reverse(step) } else { step };
                        lane.conv = Some(self.add_slot(lane.y, step, last));
                    }
                }
            }
            &mut (Work::MaxPool { x, .. } | Work::Relu { x, .. }) => self.read(x, step),
            &mut Work::UpsampleAdd { coarse, fine, .. } => {
                self.read(coarse, step);
                self.read(fine, step);
            }
        }
    }

    fn reverse_conv(&mut self, layer: &ConvLayer, norm: Option<NormKind>, lane: &mut Lane, time: usize, gate: bool) {
        let Some(y_gradient) = self.gradient[lane.y.0] else { return };
        lane.y_gradient = Some(y_gradient);
        if let Some(residual) = lane.residual {
            lane.residual_flow = self.residual_flow(residual, y_gradient);
        }
        if !layer.trainable && !self.is_trained[lane.x.0] {
            return;
        }
        let has_norm = !matches!(norm, None | Some(NormKind::FrozenBatch { .. }));
        let is_taken = lane.residual_flow == ResidualFlow::Same;
        lane.conv_gradient = Some(if has_norm && is_taken { self.add_slot(lane.y, time, time) } else { y_gradient });
        lane.x_flow = self.flow(lane.x, time).map(|flow| Flow { gate, ..flow });
        if layer.trainable || lane.x_flow.is_some_and(|flow| flow.gate) {
            self.read(lane.x, time);
        }
    }
}
