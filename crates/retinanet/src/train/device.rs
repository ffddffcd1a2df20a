//! Steps of a training on a device.

use super::event::Event;
use super::learner::Learned;
use super::not_finite::NotFinite;
use super::passes::{self, Passed, Passes};
use crate::config::Config;
use crate::ema::AveragedWeights;
use crate::error::{Error, Result};
use crate::loss::{DetectionLoss, Losses};
use crate::model::{Model, Predictions, values};
use crate::optim::{self, OptimizerConfig};
use crate::plan::device::element;
use crate::training_step::{gradients_of, predictions};
use retinanet_anchors::ImageSize;
use retinanet_cuda::Device;
use retinanet_cuda::kernels::UpdateRule;
use retinanet_cuda::network::{Optimizer, Tensors, Training, TrainingOptions, UpdateNumbers};
use retinanet_data::Batch;
use retinanet_ops::network::Parameters;
use retinanet_ops::network::training::Gradients;
use std::ops::ControlFlow;
use std::sync::Arc;

/// What a device has of a learner: parameters, moments and average, and the memory of the passes.
///
/// Parameters and moments are those of the device; the learner's own are as they were when they were collected last.
pub(super) struct DeviceLearner {
    training: Training,
    optimizer: Optimizer,
    average: Option<Tensors>,
}

impl DeviceLearner {
    /// # Errors
    /// The device has not so much memory, or the dtype is not one to train in.
    pub(super) fn new(
        device: &Arc<dyn Device>,
        config: &Config,
        model: &Model,
        optimizer: &optim::Optimizer,
    ) -> Result<Self> {
        let train = &config.train;
        let (recorder, output) = model.network.record()?;
        let outputs = [output.class_logits.into_values(), output.box_deltas.into_values()].concat();
        let recompute = model.network.training_options(train).recompute;
        let options = TrainingOptions { element: element(train.dtype)?, recompute };
        let training = Training::new(device, &recorder, &outputs, &options)?;
        let has_second = matches!(train.optimizer, OptimizerConfig::Adamw { .. });
        let numbers = |name: &str| {
            let slot = optimizer.slots().find(|(slot, _)| *slot == name).map(|(_, slot)| slot);
            let slot = slot.expect("the optimiser has all that is trained");
            UpdateNumbers { rate_factor: slot.rate_factor, decay: slot.weight_decay }
        };
        let optimizer = Optimizer::new(&training, has_second, numbers)?;
        let average = train.ema.map(|_| training.parameters().zeros_like()).transpose()?;
        Ok(Self { training, optimizer, average })
    }

    /// Gives the device what a learner starts from.
    pub(super) fn distribute(
        &mut self,
        parameters: &Parameters,
        optimizer: &optim::Optimizer,
        average: Option<&AveragedWeights>,
    ) -> Result<()> {
        for name in names(self.training.parameters()) {
            self.training.write(&name, &values(parameters, &name)?)?;
        }
        for (name, slot) in optimizer.slots() {
            self.optimizer.first().write(name, &slot.first)?;
            if let Some(second) = self.optimizer.second() {
                second.write(name, &slot.second)?;
            }
        }
        if let (Some(tensors), Some(average)) = (&self.average, average) {
            for name in names(tensors) {
                tensors.write(&name, &values(average.parameters(), &name)?)?;
            }
        }
        Ok(())
    }

    /// Gives a learner what the device has learned.
    pub(super) fn collect(
        &self,
        parameters: &Parameters,
        optimizer: &mut optim::Optimizer,
        average: Option<&AveragedWeights>,
    ) -> Result<()> {
        collect_tensors(self.training.parameters(), parameters)?;
        for (name, slot) in optimizer.slots_mut() {
            slot.first = self.optimizer.first().read(name)?;
            if let Some(second) = self.optimizer.second() {
                slot.second = second.read(name)?;
            }
        }
        if let (Some(tensors), Some(average)) = (&self.average, average) {
            collect_tensors(tensors, average.parameters())?;
        }
        Ok(())
    }

    /// One step of the optimiser.
    ///
    /// # Errors
    /// The loss or a gradient is not finite, and nothing has changed on the device; or the device fails.
    pub(super) fn step(
        &mut self,
        (config, model): (&Config, &Model),
        (optimizer, loss, average): (&mut optim::Optimizer, &mut DetectionLoss, &mut Option<AveragedWeights>),
        batch: &Batch,
        (step, learning_rate): (usize, f64),
        on_event: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>,
    ) -> Result<Learned> {
        self.optimizer.judge().begin()?;
        let passed = passes::run(&mut OnDevice(&mut self.training), (config, model), loss, batch, step, on_event)?;
        let Passed { class_loss, box_loss, num_foreground } = passed;
        self.optimizer.judge().class_loss().write(&f64::from(class_loss).to_ne_bytes())?;
        self.optimizer.judge().box_loss().write(&f64::from(box_loss).to_ne_bytes())?;

        let (rule, steps) = optimizer.begin_step();
        let rule = match rule {
            OptimizerConfig::Sgd { momentum, .. } => UpdateRule::Sgd { momentum },
            OptimizerConfig::Adamw { .. } => UpdateRule::Adamw { step: steps },
        };
        let average = average.as_mut().map(AveragedWeights::begin_update);
        let limit = config.train.clip_norm;
        self.optimizer.step(&self.training, (rule, learning_rate, limit), self.average.as_ref().zip(average))?;
        let report = self.optimizer.report()?;
        if !report.is_finite {
            let norms = optim::gradient_norms(&model.parameters, &self.gradients()?)?;
            let losses = [report.class_loss as f32, report.box_loss as f32];
            let found = NotFinite::new(step, losses, norms, learning_rate, &config.train, batch);
            return Err(Error::LossNotFinite(Box::new(found)));
        }
        Ok(Learned { class_loss, box_loss, gradient_norm: report.norm, num_foreground })
    }

    /// The gradients of the last step.
    fn gradients(&self) -> Result<Gradients> {
        let gradients = self.training.gradients();
        let gradient = |name: String| gradients.read(&name).map(|values| (name, values));
        Ok(names(gradients)
            .into_iter()
            .map(gradient)
            .collect::<retinanet_cuda::Result<Vec<_>>>()?
            .into_iter()
            .collect())
    }
}

fn names(tensors: &Tensors) -> Vec<String> {
    tensors.iter().map(|(name, _)| name.to_owned()).collect()
}

/// Copies tensors from a device into variables of the same names.
fn collect_tensors(tensors: &Tensors, parameters: &Parameters) -> Result<()> {
    for (name, _) in tensors.iter() {
        let variable = parameters.variable(name)?;
        let values = tensors.read(name)?;
        variable.set(&candle_core::Tensor::from_vec(values, variable.shape(), variable.device())?)?;
    }
    Ok(())
}

/// The passes of a network on a device, whose losses are computed on the processor.
struct OnDevice<'a>(&'a mut Training);

impl Passes for OnDevice<'_> {
    fn begin(&mut self) -> Result<()> {
        Ok(self.0.begin()?)
    }

    fn forward(&mut self, model: &Model, pixels: &[f32], images: usize, padded: ImageSize) -> Result<Predictions> {
        let ImageSize { width, height } = padded;
        self.0.forward(pixels, (images, height, width))?;
        predictions(&model.network, |idx| {
            let output = self.0.output(idx);
            Ok((output.shape, output.read()?.into()))
        })
    }

    fn backward(&mut self, _model: &Model, predictions: Predictions, losses: Losses) -> Result<()> {
        let training = &*self.0;
        gradients_of(predictions, losses, &mut |idx, gradient| {
            training.output_gradient(idx).map_or(Ok(()), |output| Ok(output.write(gradient)?))
        })?;
        Ok(self.0.backward()?)
    }
}
