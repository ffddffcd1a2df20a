//! What lives from when to when.
//!
//! Time runs over the steps forward, the loss, and the passes backward.

use super::super::plan::record::Value;
use super::super::{ConvLayer, NormKind};
use super::graph::{Flow, Graph, Lane, Pass, ResidualFlow, Slot, SlotIdx, Storages, Work};
use super::recompute::Copies;
use crate::Activation;

/// Finds the life of every slot, and adds slots for what the reverse pass writes.
pub(super) fn find(graph: &mut Graph, copies: &Copies, storages: Storages) {
    Builder::new(graph, copies, storages).build(graph);
}

/// What the reverse walk knows of each step and value.
struct Builder<'a> {
    storages: Storages,
    /// When each step runs, and its reverse; never, for a step whose copy is reversed in its place.
    times: Vec<(usize, Option<usize>)>,
    /// When the loss is computed.
    loss: usize,
    copies: &'a Copies,
    /// Whether something is trained at or before it.
    is_trained: Vec<bool>,
    is_relu: Vec<bool>,
    /// When the reverse runs of the step that computes it.
    reverse: Vec<usize>,
    gradient: Vec<Option<SlotIdx>>,
    slots: Vec<Slot>,
}

impl<'a> Builder<'a> {
    fn new(graph: &Graph, copies: &'a Copies, storages: Storages) -> Self {
        let values = graph.slots.len();
        let loss = graph.num_forward;
        let mut times: Vec<(usize, Option<usize>)> = (0..graph.works.len()).map(|work| (work, None)).collect();
        for (pass, time) in graph.backward.iter().zip(loss + 1..) {
            match *pass {
                Pass::Again(work) => times[work].0 = time,
                Pass::Reverse(work) => times[work].1 = Some(time),
            }
        }
        let mut builder = Self {
            storages,
            times,
            loss,
            copies,
            is_trained: graph.trained(),
            is_relu: vec![false; values],
            reverse: vec![loss; values],
            gradient: vec![None; values],
            slots: graph.slots.clone(),
        };
        for (work, &time) in graph.works.iter().zip(&builder.times.clone()) {
            match work {
                Work::Conv { layer, lanes, .. } => {
                    lanes.iter().for_each(|lane| builder.compute(lane.y, time, layer.activation == Activation::Relu));
                }
                &Work::MaxPool { y, .. } | &Work::UpsampleAdd { y, .. } => builder.compute(y, time, false),
                &Work::Relu { y, .. } => builder.compute(y, time, true),
            }
        }
        builder
    }

    fn compute(&mut self, y: Value, (time, reverse): (usize, Option<usize>), is_relu: bool) {
        self.is_relu[y.0] = is_relu;
        (self.slots[y.0].first, self.slots[y.0].last) = (time, time);
        if let Some(reverse) = reverse {
            self.reverse[self.copies.original(y).0] = reverse;
        }
    }

    /// When the last of a value's gradient is read.
    fn reverse_of(&self, value: Value) -> usize {
        self.reverse[self.copies.original(value).0]
    }

    /// The gradient of a value, which its copies share.
    fn gradient(&mut self, value: Value) -> &mut Option<SlotIdx> {
        &mut self.gradient[self.copies.original(value).0]
    }

    /// A value is read at a time.
    fn read(&mut self, value: Value, time: usize) {
        let slot = &mut self.slots[value.0];
        slot.last = slot.last.max(time);
    }

    /// A slot of the size of a value, from one time to another.
    fn add_slot(&mut self, value: Value, first: usize, last: usize) -> SlotIdx {
        let channels = self.slots[value.0].channels;
        let storage = self.storages.of(channels, false);
        self.slots.push(Slot { value, channels, storage, first, last });
        SlotIdx(self.slots.len() - 1)
    }

    /// The gradient of a value that a reverse step at `time` writes.
    fn flow(&mut self, value: Value, time: usize) -> Option<Flow> {
        if !self.is_trained[value.0] {
            return None;
        }
        let existing = *self.gradient(value);
        let slot = existing.unwrap_or_else(|| self.add_slot(value, time, self.reverse_of(value)));
        *self.gradient(value) = Some(slot);
        // What is computed last in a forward pass is reversed first: a later one writes the whole sum, and takes this over.
        Some(Flow { slot, accumulate: existing.is_some(), gate: false })
    }

    /// The gradient of a value that equals that of a sum, `gradient`, which nobody reads afterwards.
    fn residual_flow(&mut self, residual: Value, gradient: SlotIdx) -> ResidualFlow {
        if !self.is_trained[residual.0] {
            return ResidualFlow::None;
        }
        if let Some(slot) = *self.gradient(residual) {
            return ResidualFlow::Add(slot);
        }
        *self.gradient(residual) = Some(gradient);
        let last = self.reverse_of(residual);
        self.slots[gradient.0].last = self.slots[gradient.0].last.max(last);
        ResidualFlow::Same
    }

    fn build(mut self, graph: &mut Graph) {
        for (work, times) in graph.works.iter_mut().zip(self.times.clone()) {
            self.read_forward(work, times);
        }
        for &output in &graph.outputs {
            self.read(output, self.loss);
            let is_trained = self.is_trained[output.0];
            let gradient = is_trained.then(|| self.add_slot(output, self.loss, self.reverse_of(output)));
            *self.gradient(output) = gradient;
            graph.output_gradients.push(gradient);
        }
        let reverses = graph.backward.iter().zip(self.loss + 1..).filter_map(|(pass, time)| match *pass {
            Pass::Reverse(work) => Some((work, time)),
            Pass::Again(_) => None,
        });
        let reverses: Vec<(usize, usize)> = reverses.collect();
        // The last step whose reverse writes a value's gradient as a convolution can pass it through the value's ReLU.
        let mut gates = vec![None; self.is_trained.len()];
        let mut gate = |value: Value, by| gates[self.copies.original(value).0] = by;
        for &(step, _) in &reverses {
            match &graph.works[step] {
                Work::Conv { lanes, .. } => {
                    for (lane_idx, lane) in lanes.iter().enumerate() {
                        lane.residual.into_iter().for_each(|residual| gate(residual, None));
                        gate(lane.x, Some((step, lane_idx)));
                    }
                }
                &Work::MaxPool { x, .. } | &Work::Relu { x, .. } => gate(x, None),
                &Work::UpsampleAdd { coarse, fine, .. } => [coarse, fine].into_iter().for_each(|x| gate(x, None)),
            }
        }
        for ((gate, is_relu), is_trained) in gates.iter_mut().zip(&self.is_relu).zip(&self.is_trained) {
            *gate = gate.filter(|_| *is_relu && *is_trained);
        }
        let mut reversed: Vec<String> = Vec::new();
        for (step, time) in reverses {
            match &mut graph.works[step] {
                Work::Conv { layer, norm, lanes, is_first } => {
                    *is_first = !reversed.contains(&layer.name);
                    reversed.push(layer.name.clone());
                    for (lane_idx, lane) in lanes.iter_mut().enumerate() {
                        let is_gate = gates[self.copies.original(lane.x).0] == Some((step, lane_idx));
                        self.reverse_conv(layer, *norm, lane, time, is_gate);
                        lane.is_gated = gates[self.copies.original(lane.y).0].is_some();
                        if self.is_relu[lane.y.0] && !lane.is_gated && lane.y_gradient.is_some() {
                            self.read(lane.y, time);
                        }
                    }
                }
                Work::MaxPool { x, y, flow, .. } => {
                    if let Some(gradient) = *self.gradient(*y) {
                        *flow = self.flow(*x, time).map(|flow| (gradient, flow));
                        self.read(*x, time);
                    }
                }
                Work::UpsampleAdd { coarse, fine, y, flow } => {
                    if let Some(gradient) = *self.gradient(*y) {
                        let coarse = self.flow(*coarse, time);
                        *flow = Some((gradient, coarse, self.residual_flow(*fine, gradient)));
                    }
                }
                Work::Relu { x, y, flow } => {
                    if let Some(gradient) = *self.gradient(*y) {
                        *flow = self.flow(*x, time).map(|flow| (gradient, flow));
                        self.read(*y, time);
                    }
                }
            }
        }
        graph.slots = self.slots;
    }

    /// What a step reads when it runs, and keeps for its reverse.
    fn read_forward(&mut self, work: &mut Work, (time, reverse): (usize, Option<usize>)) {
        match work {
            Work::Conv { layer, norm, lanes, .. } => {
                let is_frozen = matches!(norm, None | Some(NormKind::FrozenBatch { .. }));
                for lane in lanes {
                    self.read(lane.x, time);
                    lane.residual.into_iter().for_each(|residual| self.read(residual, time));
                    if !is_frozen {
                        let needs = layer.trainable || self.is_trained[lane.x.0];
                        let last = reverse.filter(|_| needs).unwrap_or(time);
                        lane.conv = Some(self.add_slot(lane.y, time, last));
                    }
                }
            }
            &mut (Work::MaxPool { x, .. } | Work::Relu { x, .. }) => self.read(x, time),
            &mut Work::UpsampleAdd { coarse, fine, .. } => {
                self.read(coarse, time);
                self.read(fine, time);
            }
        }
    }

    fn reverse_conv(&mut self, layer: &ConvLayer, norm: Option<NormKind>, lane: &mut Lane, time: usize, gate: bool) {
        let Some(y_gradient) = *self.gradient(lane.y) else { return };
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
