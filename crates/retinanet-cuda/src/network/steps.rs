//! What the steps of a network share, and the steps forward.

use super::convolve;
use super::prepared::Prepared;
use super::slots::Slots;
use super::tensors::Tensors;
use super::weights::Weights;
use crate::device::{Activation, Span};
use crate::error::Result;
use crate::kernels::{batch_norm, batch_norm_statistics, group_norm, max_pool, relu, upsample_add};
use retinanet_ops::network::schedule::{Lane, Work};
use retinanet_ops::network::{ConvLayer, NormKind};

/// A network with its memory during a run.
#[derive(Clone, Copy)]
pub(super) struct Steps<'a> {
    pub(super) slots: Slots<'a>,
    pub(super) prepared: &'a Prepared,
    pub(super) weights: &'a Weights,
    /// Biases and norms.
    pub(super) vectors: &'a Tensors,
    pub(super) statistics: Span<'a>,
    pub(super) workspace: Span<'a>,
}

impl<'a> Steps<'a> {
    /// Runs a step.
    pub(super) fn forward(&self, work_idx: usize) -> Result<()> {
        let slots = self.slots;
        match &slots.graph.works()[work_idx] {
            Work::Conv { layer, norm, lanes, .. } => {
                for (lane_idx, lane) in lanes.iter().enumerate() {
                    self.conv(layer, *norm, lane, self.lane_statistics(work_idx, lane_idx))?;
                }
                Ok(())
            }
            &Work::MaxPool { x, y, window, .. } => {
                max_pool(slots.element, &slots.pool(x, window), slots.span(x), slots.span(y))
            }
            &Work::UpsampleAdd { coarse, fine, y, .. } => {
                let (coarse_shape, shape) = (slots.shape(coarse), slots.shape(fine));
                let (coarse, fine) = ((&coarse_shape, slots.span(coarse)), (&shape, slots.span(fine)));
                upsample_add(slots.element, coarse, fine, slots.span(y))
            }
            &Work::Relu { x, y, .. } => relu(slots.element, slots.shape(y).len(), slots.span(x), slots.span(y)),
        }
    }

    /// What a lane's norm finds of its map.
    pub(super) fn lane_statistics(&self, work: usize, lane: usize) -> Span<'a> {
        let (start, len) = self.prepared.statistics(work, lane);
        self.statistics.part(start, len)
    }

    fn conv(&self, layer: &ConvLayer, norm: Option<NormKind>, lane: &Lane, statistics: Span<'_>) -> Result<()> {
        let slots = self.slots;
        let (convolution, weight) = (slots.convolution(layer, lane.x), self.weights.get(layer)?);
        let (x, y) = (slots.span(lane.x), slots.span(lane.y));
        let residual = lane.residual.map(|residual| slots.span(residual));
        let Some(conv) = lane.conv.map(|conv| slots.span(conv)) else {
            let bias = match weight.folded {
                Some((_, shift)) => shift,
                None => self.vectors.find(&format!("{}.bias", layer.name))?,
            };
            let (weight, bias, activation) = (weight.packed, Some(bias), layer.activation);
            return convolve::forward(&convolution, convolve::Forward { x, weight, bias, residual, activation, y });
        };
        let (weight, bias, activation) = (weight.packed, None, Activation::None);
        convolve::forward(&convolution, convolve::Forward { x, weight, bias, residual: None, activation, y: conv })?;

        let (shape, element, workspace) = (slots.shape(lane.y), slots.element, self.workspace);
        let (Some(kind), Some(parameters)) = (norm, self.norm_parameters(layer)?) else {
            unreachable!("a convolution's result is kept for a norm")
        };
        match kind {
            NormKind::Group { groups, epsilon } => group_norm(
                element,
                &shape,
                groups,
                epsilon,
                conv,
                parameters,
                statistics,
                residual,
                layer.activation,
                y,
                workspace,
            ),
            NormKind::Batch { epsilon, .. } | NormKind::FrozenBatch { epsilon } => {
                batch_norm_statistics(element, &shape, conv, statistics, workspace)?;
                let activation = layer.activation;
                batch_norm(element, &shape, epsilon, conv, parameters, statistics, residual, activation, y, workspace)
            }
        }
    }

    /// Weight and bias of a layer's norm.
    pub(super) fn norm_parameters(&self, layer: &ConvLayer) -> Result<Option<(Span<'a>, Span<'a>)>> {
        let Some((name, _)) = &layer.norm else { return Ok(None) };
        let vector = |leaf: &str| self.vectors.find(&format!("{name}.{leaf}"));
        Ok(Some((vector("weight")?, vector("bias")?)))
    }
}
