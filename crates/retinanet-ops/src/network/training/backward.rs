//! One step of the reverse pass.

use super::super::plan::PlanError;
use super::super::schedule::{Flow, Lane, ResidualFlow, SlotIdx, Work};
use super::super::{NormKind, Parameters};
use super::gradients::{Gradients, trains};
use super::memory::Views;
use super::norm::Norm;
use super::parameters::{Folded, Tensors};
use crate::Activation;
use crate::kernels::cpu::Isa;
use crate::kernels::cpu::training::{
    InputGradient, WeightGradient, Workspace, accumulate, channel_sums, gate, input_gradient, max_pool_gradient,
    relu_gradient, upsample_gradient, weight_gradient,
};
use crate::network::ConvLayer;

/// What the steps back share.
pub(super) struct Backward<'a> {
    pub(super) isa: Isa,
    pub(super) views: Views<'a>,
    pub(super) parameters: &'a Parameters,
    pub(super) workspace: &'a mut Workspace,
    pub(super) folded: &'a mut Folded,
    pub(super) gradients: &'a mut Gradients,
    /// Whether gradients of parameters are added to what is there.
    pub(super) accumulate: bool,
}

impl Backward<'_> {
    /// Runs the reverse of a step, whose norms had these statistics.
    pub(super) fn run(&mut self, work: &Work, statistics: &[Vec<f64>]) -> Result<(), PlanError> {
        let (isa, views) = (self.isa, self.views);
        match work {
            Work::Conv { layer, norm, lanes, is_first } => {
                self.conv(layer, *norm, lanes, *is_first && !self.accumulate, statistics)?;
            }
            &Work::MaxPool { x, window, flow: Some((gradient, flow)), .. } => {
                let shape = views.layout.pool_shape(views.graph, x, window).expect("the layout was made of it");
                // SAFETY: see `Views`: the gradient of the input is none of what is read.
                unsafe {
                    let (x, y_gradient, x_gradient) =
                        (views.value(x), views.numbers(gradient), views.numbers_mut(flow.slot));
                    max_pool_gradient(isa, &shape, x, y_gradient, flow.accumulate, x_gradient, self.workspace);
                }
            }
            &Work::UpsampleAdd { flow: Some((gradient, coarse, fine)), .. } => {
                if let Some(Flow { slot, accumulate, .. }) = coarse {
                    let (shape, size) = (views.shape(slot), views.shape(gradient));
                    // SAFETY: as above.
                    let (y_gradient, x_gradient) = unsafe { (views.numbers(gradient), views.numbers_mut(slot)) };
                    upsample_gradient(
                        isa,
                        &shape,
                        (size.height, size.width),
                        y_gradient,
                        accumulate,
                        x_gradient,
                        self.workspace,
                    );
                }
                self.residual(gradient, fine);
            }
            &Work::Relu { y, flow: Some((gradient, flow)), .. } => {
                // SAFETY: as above.
                unsafe {
                    let (y, y_gradient) = (views.value(y), views.numbers(gradient));
                    relu_gradient(isa, y, y_gradient, flow.accumulate, views.numbers_mut(flow.slot));
                }
            }
            // Nothing is trained before these.
            Work::MaxPool { .. } | Work::UpsampleAdd { .. } | Work::Relu { .. } => {}
        }
        Ok(())
    }

    /// Gives a residual the gradient of the sum.
    fn residual(&self, gradient: SlotIdx, flow: ResidualFlow) {
        if let ResidualFlow::Add(slot) = flow {
            // SAFETY: see `Views`: another slot is written than read.
            unsafe { accumulate(self.isa, self.views.numbers(gradient), self.views.numbers_mut(slot)) };
        }
    }

    fn conv(
        &mut self,
        layer: &ConvLayer,
        norm: Option<NormKind>,
        lanes: &[Lane],
        overwrite: bool,
        statistics: &[Vec<f64>],
    ) -> Result<(), PlanError> {
        for lane in lanes {
            let Some(gradient) = lane.y_gradient else { continue };
            if layer.activation == Activation::Relu && !lane.is_gated {
                // SAFETY: see `Views`.
                unsafe { gate(self.isa, self.views.value(lane.y), self.views.numbers_mut(gradient)) };
            }
            self.residual(gradient, lane.residual_flow);
        }
        if lanes.iter().all(|lane| lane.conv_gradient.is_none()) {
            return Ok(());
        }
        if overwrite {
            for spec in layer.parameters() {
                self.gradients.get_mut(&spec.name).into_iter().for_each(|gradient| gradient.fill(0.0));
            }
        }
        Tensors::of(self.parameters, layer)?.with(|weight, others| {
            match norm {
                Some(NormKind::FrozenBatch { epsilon }) => {
                    self.folded.fold(weight, others, epsilon);
                    let folded = std::mem::take(&mut self.folded.weight);
                    self.weight(layer, lanes, true);
                    self.input(layer, lanes, &folded);
                    self.folded.weight = folded;
                }
                Some(kind) => {
                    for (lane, statistics) in lanes.iter().zip(statistics) {
                        self.norm(layer, kind, (others[0], others[1]), lane, statistics);
                    }
                    self.weight(layer, lanes, false);
                    self.input(layer, lanes, weight);
                }
                None => {
                    if let Some(bias) = self.gradients.get_mut(&format!("{}.bias", layer.name)) {
                        for gradient in lanes.iter().filter_map(|lane| lane.conv_gradient) {
                            // SAFETY: see `Views`.
                            let numbers = unsafe { self.views.numbers(gradient) };
                            channel_sums(self.isa, &self.views.shape(gradient), numbers, bias, self.workspace);
                        }
                    }
                    self.weight(layer, lanes, false);
                    self.input(layer, lanes, weight);
                }
            }
            Ok(())
        })
    }

    /// From the gradient behind a norm to the one before it, and those of its parameters.
    fn norm(
        &mut self,
        layer: &ConvLayer,
        kind: NormKind,
        (weight, bias): (&[f32], &[f32]),
        lane: &Lane,
        statistics: &[f64],
    ) {
        let (Some((name, _)), Some(conv)) = (&layer.norm, lane.conv) else { unreachable!("the layer has a norm") };
        let (Some(from), Some(to)) = (lane.y_gradient, lane.conv_gradient) else { return };
        let norm = Norm { isa: self.isa, kind, shape: self.views.shape(conv), weight, bias };
        let mut parts = [vec![0.0; weight.len()], vec![0.0; weight.len()]];
        let [weight_part, bias_part] = &mut parts;
        // SAFETY: see `Views`: the two gradients are one slot, which is then borrowed once, or two.
        unsafe {
            let y_gradient = (from != to).then(|| self.views.numbers(from));
            let (x, x_gradient) = (self.views.numbers(conv), self.views.numbers_mut(to));
            norm.backward(x, statistics, y_gradient, x_gradient, (weight_part, bias_part), self.workspace);
        }
        if trains(Some(kind)) {
            for (leaf, part) in ["weight", "bias"].iter().zip(&parts) {
                let gradient = self.gradients.get_mut(&format!("{name}.{leaf}")).into_iter().flatten();
                gradient.zip(part).for_each(|(gradient, part)| *gradient += part);
            }
        }
    }

    /// Adds to the gradient of the weight; of a folded one, times the scale that was folded into it.
    fn weight(&mut self, layer: &ConvLayer, lanes: &[Lane], is_folded: bool) {
        let Some(gradient) = self.gradients.get_mut(&format!("{}.weight", layer.name)) else { return };
        let views = self.views;
        let maps = lanes.iter().filter_map(|lane| {
            let y_gradient = lane.conv_gradient?;
            let shape = views.layout.conv_shape(views.graph, layer, lane.x).expect("the layout was made of it");
            // SAFETY: see `Views`: only parameters' gradients are written.
            Some(unsafe { WeightGradient { shape, x: views.value(lane.x), y_gradient: views.numbers(y_gradient) } })
        });
        let maps: Vec<WeightGradient> = maps.collect();
        let scale = is_folded.then_some(self.folded.scale.as_slice());
        weight_gradient(self.isa, &maps, scale, gradient, self.workspace);
    }

    /// Writes the gradients of the inputs.
    fn input(&mut self, layer: &ConvLayer, lanes: &[Lane], weight: &[f32]) {
        let views = self.views;
        let map = |lane: &Lane| {
            let (y_gradient, flow) = (lane.conv_gradient?, lane.x_flow?);
            let shape = views.layout.conv_shape(views.graph, layer, lane.x).expect("the layout was made of it");
            // SAFETY: see `Views`: the gradient of an input is none of what is read, and maps of one input are not run
            // together.
            Some(unsafe {
                InputGradient {
                    shape,
                    y_gradient: views.numbers(y_gradient),
                    accumulate: flow.accumulate,
                    relu_input: flow.gate.then(|| views.value(lane.x)),
                    x_gradient: views.numbers_mut(flow.slot),
                }
            })
        };
        let is_shared = lanes.iter().enumerate().any(|(idx, lane)| lanes[..idx].iter().any(|other| other.x == lane.x));
        if is_shared {
            for lane in lanes {
                input_gradient(self.isa, weight, &mut map(lane).into_iter().collect::<Vec<_>>(), self.workspace);
            }
        } else {
            input_gradient(self.isa, weight, &mut lanes.iter().filter_map(map).collect::<Vec<_>>(), self.workspace);
        }
    }
}
