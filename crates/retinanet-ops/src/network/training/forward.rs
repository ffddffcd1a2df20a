//! One step forward.

use super::super::plan::PlanError;
use super::super::schedule::{Lane, Work};
use super::super::{NormKind, Parameters};
use super::memory::Views;
use super::norm::Norm;
use super::parameters::{Folded, Tensors};
use super::statistics::Seen;
use crate::Activation;
use crate::kernels::cpu::Isa;
use crate::kernels::cpu::training::{Forward as ConvForward, Workspace, forward, max_pool, relu, upsample_add};
use crate::network::ConvLayer;

/// What the steps forward share.
pub(super) struct Forward<'a> {
    pub(super) isa: Isa,
    pub(super) views: Views<'a>,
    pub(super) parameters: &'a Parameters,
    pub(super) workspace: &'a mut Workspace,
    pub(super) folded: &'a mut Folded,
    /// Takes what the batch norms see, unless they have seen it before.
    pub(super) seen: Option<&'a mut Vec<Seen>>,
}

impl Forward<'_> {
    /// Runs a step; `statistics` becomes those of its norms, lane by lane.
    pub(super) fn run(&mut self, work: &Work, statistics: &mut Vec<Vec<f64>>) -> Result<(), PlanError> {
        let views = self.views;
        statistics.clear();
        match work {
            Work::Conv { layer, norm, lanes, .. } => self.conv(layer, *norm, lanes, statistics)?,
            &Work::MaxPool { x, y, window, .. } => {
                let shape = views.layout.pool_shape(views.graph, x, window).expect("the layout was made of it");
                // SAFETY: see `Views`: a step writes its result, which is none of what it reads.
                unsafe { max_pool(self.isa, &shape, views.value(x), views.value_mut(y)) };
            }
            &Work::UpsampleAdd { coarse, fine, y, .. } => {
                let (coarse_shape, shape) = (views.shape_of(coarse), views.shape_of(y));
                // SAFETY: as above.
                let (coarse, fine, y) = unsafe { (views.value(coarse), views.value(fine), views.value_mut(y)) };
                upsample_add(self.isa, (&coarse_shape, coarse), (&shape, fine), y);
            }
            // SAFETY: as above.
            &Work::Relu { x, y, .. } => unsafe { relu(self.isa, views.value(x), views.value_mut(y)) },
        }
        Ok(())
    }

    fn conv(
        &mut self,
        layer: &ConvLayer,
        norm: Option<NormKind>,
        lanes: &[Lane],
        statistics: &mut Vec<Vec<f64>>,
    ) -> Result<(), PlanError> {
        let Self { isa, views, ref mut workspace, ref mut folded, ref mut seen, .. } = *self;
        Tensors::of(self.parameters, layer)?.with(|weight, others| {
            match norm {
                None => convolve(isa, views, layer, lanes, weight, Some(others[0]), workspace),
                Some(NormKind::FrozenBatch { epsilon }) => {
                    folded.fold(weight, others, epsilon);
                    convolve(isa, views, layer, lanes, &folded.weight, Some(&folded.shift), workspace);
                }
                Some(kind) => {
                    convolve(isa, views, layer, lanes, weight, None, workspace);
                    for lane in lanes {
                        let conv = lane.conv.expect("a norm has its input kept");
                        let shape = views.shape(conv);
                        let norm = Norm { isa, kind, shape, weight: others[0], bias: others[1] };
                        // SAFETY: see `Views`: the convolution's result is read and the lane's own is written.
                        let of_lane = unsafe {
                            let residual = lane.residual.map(|residual| views.value(residual));
                            norm.forward(
                                views.numbers(conv),
                                residual,
                                layer.activation,
                                views.value_mut(lane.y),
                                workspace,
                            )
                        };
                        if let (NormKind::Batch { momentum, .. }, Some((name, _)), Some(seen)) =
                            (kind, &layer.norm, seen.as_deref_mut())
                        {
                            let (name, count) = (name.clone(), shape.num_pixels());
                            seen.push(Seen { name, momentum, statistics: of_lane.clone(), count });
                        }
                        statistics.push(of_lane);
                    }
                }
            }
            Ok(())
        })
    }
}

/// The convolution of all lanes, with what follows it unless a norm lies between.
fn convolve(
    isa: Isa,
    views: Views<'_>,
    layer: &ConvLayer,
    lanes: &[Lane],
    weight: &[f32],
    shift: Option<&[f32]>,
    workspace: &mut Workspace,
) {
    let map = |lane: &Lane| {
        let shape = views.layout.conv_shape(views.graph, layer, lane.x).expect("the layout was made of it");
        // SAFETY: see `Views`: each lane writes slots of its own, and reads none that this step writes.
        unsafe {
            match lane.conv {
                Some(conv) => ConvForward { shape, x: views.value(lane.x), residual: None, y: views.numbers_mut(conv) },
                None => {
                    let residual = lane.residual.map(|residual| views.value(residual));
                    ConvForward { shape, x: views.value(lane.x), residual, y: views.value_mut(lane.y) }
                }
            }
        }
    };
    let activation = if lanes.iter().any(|lane| lane.conv.is_some()) { Activation::None } else { layer.activation };
    let mut maps: Vec<ConvForward> = lanes.iter().map(map).collect();
    forward(isa, weight, shift, activation, &mut maps, workspace);
}
