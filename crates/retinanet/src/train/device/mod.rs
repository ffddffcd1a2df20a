//! Steps of a training on a device.

mod losses;
mod passes;
mod step;

pub use step::DeviceTrainingStep;

use super::event::Event;
use super::learner::Learned;
use super::passes::Passed;
use crate::config::Config;
use crate::ema::AveragedWeights;
use crate::error::Result;
use crate::loss::DetectionLoss;
use crate::model::{Model, values};
use crate::optim::{self, OptimizerConfig};
use crate::plan::device::element;
use passes::HostLosses;
use retinanet_cuda::Device;
use retinanet_cuda::kernels::{PendingReport, StepReport, UpdateRule};
use retinanet_cuda::network::{Losses, Optimizer, Tensors, Training, TrainingOptions, UpdateNumbers};
use retinanet_data::Batch;
use retinanet_ops::network::Parameters;
use std::ops::ControlFlow;
use std::sync::Arc;

/// What a device has of a learner: parameters, moments and average, and the memory of the passes.
///
/// Parameters and moments are those of the device; the learner's own are as they were when they were collected last.
pub(super) struct DeviceLearner {
    training: Training,
    /// None where the processor computes them.
    losses: Option<Losses>,
    optimizer: Optimizer,
    average: Option<Tensors>,
    /// Of what is trained.
    names: Arc<[String]>,
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
        let losses = losses::losses(device, config, model.network.num_classes())?;
        let names = names(training.gradients()).into();
        Ok(Self { training, losses, optimizer, average, names })
    }

    /// Gives the device what a learner starts from.
    pub(super) fn distribute(
        &mut self,
        parameters: &Parameters,
        (optimizer, loss): (&optim::Optimizer, &DetectionLoss),
        average: Option<&AveragedWeights>,
    ) -> Result<()> {
        for name in names(self.training.parameters()) {
            self.training.write(&name, &values(parameters, &name)?)?;
        }
        if let Some(losses) = &self.losses {
            losses.set_average(loss.average())?;
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
        (optimizer, loss): (&mut optim::Optimizer, &mut DetectionLoss),
        average: Option<&AveragedWeights>,
    ) -> Result<()> {
        collect_tensors(self.training.parameters(), parameters)?;
        if let Some(losses) = &self.losses {
            loss.set_average(losses.average()?);
        }
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

    /// Asks the device for a step of the optimiser, and waits for nothing unless the processor computes the losses.
    ///
    /// # Errors
    /// The device fails.
    pub(super) fn launch(
        &mut self,
        (config, model): (&Config, &Model),
        (optimizer, loss, average): (&mut optim::Optimizer, &mut DetectionLoss, Option<&mut AveragedWeights>),
        batch: &Batch,
        (step, learning_rate): (usize, f64),
        on_event: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>,
    ) -> Result<DeviceStep> {
        let judge = self.optimizer.judge();
        judge.begin()?;
        match &mut self.losses {
            Some(losses) => losses::run((&mut self.training, losses, judge), (config, model), batch, step, on_event)?,
            None => {
                let passes = &mut HostLosses(&mut self.training);
                let passed = super::passes::run(passes, (config, model), loss, batch, step, on_event)?;
                let Passed { class_loss, box_loss, num_foreground } = passed;
                judge.class_loss().write(&f64::from(class_loss).to_ne_bytes())?;
                judge.box_loss().write(&f64::from(box_loss).to_ne_bytes())?;
                judge.num_foreground().write(&(num_foreground as i64).to_ne_bytes())?;
            }
        }
        let (rule, steps) = optimizer.begin_step();
        let rule = match rule {
            OptimizerConfig::Sgd { momentum, .. } => UpdateRule::Sgd { momentum },
            OptimizerConfig::Adamw { .. } => UpdateRule::Adamw { step: steps },
        };
        let average = self.average.as_ref().zip(average.map(AveragedWeights::begin_update));
        let numbers = (rule, learning_rate, config.train.clip_norm);
        self.optimizer.step(&self.training, numbers, average)?;
        Ok(DeviceStep { report: self.optimizer.report()?, names: Arc::clone(&self.names) })
    }
}

/// A step that a device was asked for.
pub(super) struct DeviceStep {
    report: PendingReport,
    /// Of what is trained, in the order of the report.
    names: Arc<[String]>,
}

impl DeviceStep {
    /// Waits for the step, but for none that was launched after it, and says what came of it.
    ///
    /// # Errors
    /// The device fails.
    pub(super) fn finish(self) -> Result<Learned> {
        let StepReport { class_loss, box_loss, norm, num_foreground, not_finite } = self.report.wait()?;
        Ok(Learned {
            class_loss: class_loss as f32,
            box_loss: box_loss as f32,
            gradient_norm: norm,
            num_foreground,
            not_finite: not_finite.map(|norms| self.names.iter().cloned().zip(norms).collect()),
        })
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
