//! Steps of a training without the training around them.

use super::{DeviceLearner, DeviceStep};
use crate::config::Config;
use crate::ema::AveragedWeights;
use crate::error::Result;
use crate::loss::DetectionLoss;
use crate::model::Model;
use crate::optim::Optimizer;
use retinanet_cuda::Device;
use retinanet_data::Batch;
use std::ops::ControlFlow;
use std::sync::Arc;

/// Steps of a training on a device, for whoever gives it batches and keeps no checkpoints: targets, forward, losses, backward
/// and optimiser.
pub struct DeviceTrainingStep {
    device: Arc<dyn Device>,
    config: Config,
    model: Model,
    learner: DeviceLearner,
    optimizer: Optimizer,
    loss: DetectionLoss,
    average: Option<AveragedWeights>,
    /// Of the last step.
    pending: Option<DeviceStep>,
}

impl DeviceTrainingStep {
    /// Starts from the weights of a model, which stay as they are.
    ///
    /// # Errors
    /// The device has not so much memory, or the configuration's dtype is not one to train in.
    pub fn new(device: &Arc<dyn Device>, config: &Config, model: &Model) -> Result<Self> {
        let optimizer = Optimizer::with_rates(config.train.optimizer, &config.train.rates, &model.network.parameters());
        let loss = DetectionLoss::new(config.loss.clone(), config.box_coder);
        let average = config.train.ema.map(|ema| AveragedWeights::new(ema, &model.parameters)).transpose()?;
        let mut learner = DeviceLearner::new(device, config, model, &optimizer)?;
        learner.distribute(&model.parameters, (&optimizer, &loss), average.as_ref())?;
        let (device, config, model) = (Arc::clone(device), config.clone(), model.clone());
        Ok(Self { device, config, model, learner, optimizer, loss, average, pending: None })
    }

    /// Asks the device for a step, and waits for the one before, as a training does; for this one, too, where the configuration
    /// has losses that the processor computes. A step whose loss is not finite changes nothing.
    ///
    /// # Errors
    /// The device fails.
    pub fn step(&mut self, batch: &Batch, learning_rate: f64) -> Result<()> {
        let Self { config, model, learner, optimizer, loss, average, pending, .. } = self;
        // The first of all would be told of; the seed of the others is of no account to losses on a device.
        let (now, ignore) = ((1, learning_rate), &mut |_: crate::Event<'_>| ControlFlow::Continue(()));
        let launched = learner.launch((config, model), (optimizer, loss, average.as_mut()), batch, now, ignore)?;
        if let Some(before) = pending.replace(launched) {
            before.finish()?;
        }
        Ok(())
    }

    /// Waits for all steps.
    ///
    /// # Errors
    /// The device fails.
    pub fn synchronize(&self) -> Result<()> {
        Ok(self.device.synchronize()?)
    }
}

impl std::fmt::Debug for DeviceTrainingStep {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DeviceTrainingStep").field("device", &self.device.description()).finish_non_exhaustive()
    }
}
