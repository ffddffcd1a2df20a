//! The steps of the reverse pass.

use super::convolve;
use super::steps::Steps;
use super::tensors::Tensors;
use crate::device::{Activation, Span};
use crate::error::Result;
use crate::kernels::{
    accumulate, batch_norm_gradient, channel_sums, gate, group_norm_gradient, max_pool_gradient, relu_gradient,
    unpack_weight_gradient, upsample_gradient,
};
use retinanet_ops::network::schedule::{Flow, Lane, ResidualFlow, SlotIdx, Work};
use retinanet_ops::network::{ConvLayer, NormKind};

/// A network with its memory during a reverse pass.
#[derive(Clone, Copy)]
pub(super) struct Reverse<'a> {
    pub(super) steps: Steps<'a>,
    /// Of the parameters that are trained; they are added to.
    pub(super) gradients: &'a Tensors,
    /// Room for the gradient of any packed weight.
    pub(super) weight_gradient: Span<'a>,
}

impl Reverse<'_> {
    /// Runs the reverse of a step.
    pub(super) fn run(&self, work_idx: usize) -> Result<()> {
        let slots = self.steps.slots;
        let element = slots.element;
        match &slots.graph.works()[work_idx] {
            Work::Conv { layer, norm, lanes, .. } => self.conv(work_idx, layer, *norm, lanes),
            &Work::MaxPool { x, window, flow: Some((gradient, flow)), .. } => max_pool_gradient(
                element,
                &slots.pool(x, window),
                slots.span(x),
                slots.span(gradient),
                flow.accumulate,
                slots.span(flow.slot),
            ),
            &Work::UpsampleAdd { flow: Some((gradient, coarse, fine)), .. } => {
                if let Some(Flow { slot, accumulate, .. }) = coarse {
                    let (shape, coarse_shape) = (slots.shape(gradient), slots.shape(slot));
                    let (from, to) = ((&shape, slots.span(gradient)), (&coarse_shape, slots.span(slot)));
                    upsample_gradient(element, from, accumulate, to)?;
                }
                self.residual(gradient, fine)
            }
            &Work::Relu { y, flow: Some((gradient, flow)), .. } => {
                let (y, from, to) = (slots.span(y), slots.span(gradient), slots.span(flow.slot));
                relu_gradient(element, slots.shape(gradient).len(), y, from, flow.accumulate, to)
            }
            // Nothing is trained before these.
            Work::MaxPool { .. } | Work::UpsampleAdd { .. } | Work::Relu { .. } => Ok(()),
        }
    }

    /// Gives a residual the gradient of the sum.
    fn residual(&self, gradient: SlotIdx, flow: ResidualFlow) -> Result<()> {
        let slots = self.steps.slots;
        match flow {
            ResidualFlow::Add(slot) => {
                accumulate(slots.element, slots.shape(slot).len(), slots.span(gradient), slots.span(slot))
            }
            ResidualFlow::None | ResidualFlow::Same => Ok(()),
        }
    }

    fn conv(&self, work_idx: usize, layer: &ConvLayer, norm: Option<NormKind>, lanes: &[Lane]) -> Result<()> {
        let slots = self.steps.slots;
        for (lane_idx, lane) in lanes.iter().enumerate() {
            let Some(y_gradient) = lane.y_gradient else { continue };
            if layer.activation == Activation::Relu && !lane.is_gated {
                gate(slots.element, slots.shape(lane.y).len(), slots.span(lane.y), slots.span(y_gradient))?;
            }
            self.residual(y_gradient, lane.residual_flow)?;
            let Some(gradient) = lane.conv_gradient else { continue };
            match norm {
                Some(NormKind::FrozenBatch { .. }) => {}
                Some(kind) => {
                    let statistics = self.steps.lane_statistics(work_idx, lane_idx);
                    self.norm(layer, kind, lane, (y_gradient, gradient), statistics)?;
                }
                None => {
                    if let Some(bias) = self.gradients.get(&format!("{}.bias", layer.name)) {
                        let shape = slots.shape(gradient);
                        channel_sums(slots.element, &shape, slots.span(gradient), bias, self.steps.workspace)?;
                    }
                }
            }
            self.weight(layer, lane, gradient)?;
        }
        lanes.iter().try_for_each(|lane| self.input(layer, lane))
    }

    /// From the gradient behind a norm to the one before it, and those of its parameters.
    fn norm(
        &self,
        layer: &ConvLayer,
        kind: NormKind,
        lane: &Lane,
        (from, to): (SlotIdx, SlotIdx),
        statistics: Span<'_>,
    ) -> Result<()> {
        let slots = self.steps.slots;
        let (Some((name, _)), Some((weight, _)), Some(conv)) =
            (&layer.norm, self.steps.norm_parameters(layer)?, lane.conv)
        else {
            unreachable!("the layer has a norm")
        };
        let parameters = (self.gradients.get(&format!("{name}.weight")), self.gradients.get(&format!("{name}.bias")));
        let (element, shape, workspace) = (slots.element, slots.shape(conv), self.steps.workspace);
        let (x, from, to) = (slots.span(conv), slots.span(from), slots.span(to));
        match kind {
            NormKind::Group { groups, .. } => {
                group_norm_gradient(element, &shape, groups, x, weight, statistics, from, to, parameters, workspace)
            }
            NormKind::Batch { epsilon, .. } | NormKind::FrozenBatch { epsilon } => {
                batch_norm_gradient(element, &shape, epsilon, x, weight, statistics, from, to, parameters, workspace)
            }
        }
    }

    /// Adds to the gradient of the weight. Each use is added in f32, whatever the maps are stored in.
    fn weight(&self, layer: &ConvLayer, lane: &Lane, gradient: SlotIdx) -> Result<()> {
        let Some(sum) = self.gradients.get(&format!("{}.weight", layer.name)) else { return Ok(()) };
        let slots = self.steps.slots;
        let (convolution, weight) = (slots.convolution(layer, lane.x), self.steps.weights.get(layer)?);
        let packed = self.weight_gradient.part(0, weight.packed.bytes());
        convolve::weight_gradient(&convolution, slots.span(lane.x), slots.span(gradient), packed)?;
        let scale = weight.folded.map(|(scale, _)| scale);
        unpack_weight_gradient(slots.element, weight.dimensions, packed, scale, sum)
    }

    /// Writes the gradient of an input, cut where the ReLU that it came out of let nothing pass.
    fn input(&self, layer: &ConvLayer, lane: &Lane) -> Result<()> {
        let (Some(gradient), Some(flow)) = (lane.conv_gradient, lane.x_flow) else { return Ok(()) };
        let slots = self.steps.slots;
        let (convolution, weight) = (slots.convolution(layer, lane.x), self.steps.weights.get(layer)?.packed);
        let x_gradient = slots.span(flow.slot);
        convolve::input_gradient(&convolution, weight, slots.span(gradient), flow.accumulate, x_gradient)?;
        if flow.gate {
            gate(slots.element, slots.shape(lane.x).len(), slots.span(lane.x), x_gradient)?;
        }
        Ok(())
    }
}
