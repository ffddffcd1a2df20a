//! What a step changes: weights, optimiser, loss.

#[cfg(feature = "cuda")]
use super::device::{DeviceLearner, DeviceStep};
use super::event::Event;
use super::named_state::NamedState;
use super::passes::{self, Passed};
use crate::compute_device::ComputeDevice;
use crate::config::Config;
use crate::detector::Detector;
use crate::ema::AveragedWeights;
use crate::error::Result;
use crate::loss::DetectionLoss;
use crate::model::Model;
use crate::optim::{Optimizer, clip_gradients, gradient_norm, gradient_norms};
use crate::training_step::TrainingStep;
use retinanet_annotations::Class;
use retinanet_data::Batch;
use std::ops::ControlFlow;
use std::path::Path;

/// Before the names of the weights in a checkpoint.
const MODEL: &str = "model.";

/// What a step changes.
pub(super) struct Learner {
    pub(super) detector: Detector,
    engine: Engine,
    optimizer: Optimizer,
    loss: DetectionLoss,
    /// The running average of the weights, where one is kept.
    average: Option<AveragedWeights>,
    /// Whether weights, optimiser and average are those of the last step, which a device has for itself.
    is_collected: bool,
}

/// The detector's network with the memory of its steps.
enum Engine {
    Cpu(Box<TrainingStep>),
    #[cfg(feature = "cuda")]
    Device(Box<DeviceLearner>),
}

/// A step that was asked for.
pub(super) enum Launched {
    /// And done.
    Done(Learned),
    #[cfg(feature = "cuda")]
    Device(DeviceStep),
}

impl Launched {
    /// Waits for the step, and says what came of it.
    ///
    /// # Errors
    /// A device fails.
    pub(super) fn finish(self) -> Result<Learned> {
        match self {
            Self::Done(learned) => Ok(learned),
            #[cfg(feature = "cuda")]
            Self::Device(step) => step.finish(),
        }
    }
}

/// What came of a step.
pub(super) struct Learned {
    pub(super) class_loss: f32,
    pub(super) box_loss: f32,
    /// Before clipping.
    pub(super) gradient_norm: f64,
    pub(super) num_foreground: usize,
    /// None if losses and gradients are finite numbers. If not, the step has changed nothing, and these are the norms of the
    /// gradients of all parameters.
    pub(super) not_finite: Option<Vec<(String, f64)>>,
}

impl Learner {
    /// At the start of a training.
    ///
    /// # Errors
    /// There is no memory for the average of the weights, or the dtype is not one to train in.
    pub(super) fn new(config: &Config, classes: Vec<Class>, model: Model, device: &ComputeDevice) -> Result<Self> {
        let optimizer = Optimizer::with_rates(config.train.optimizer, &config.train.rates, &model.network.parameters());
        let loss = DetectionLoss::new(config.loss.clone(), config.box_coder);
        let average = config.train.ema.map(|ema| AveragedWeights::new(ema, &model.parameters)).transpose()?;
        let engine = match device {
            ComputeDevice::Cpu => {
                let options = model.network.training_options(&config.train);
                Engine::Cpu(Box::new(TrainingStep::new(&model.network, &options)?))
            }
            #[cfg(feature = "cuda")]
            ComputeDevice::Cuda(device) => {
                Engine::Device(Box::new(DeviceLearner::new(device, config, &model, &optimizer)?))
            }
        };
        let detector = Detector::new(config.clone(), classes, model);
        let mut learner = Self { detector, engine, optimizer, loss, average, is_collected: true };
        learner.distribute()?;
        Ok(learner)
    }

    /// Gives a device what was put in here.
    fn distribute(&mut self) -> Result<()> {
        match &mut self.engine {
            Engine::Cpu(_) => Ok(()),
            #[cfg(feature = "cuda")]
            Engine::Device(device) => {
                let parts = (&self.optimizer, &self.loss);
                device.distribute(&self.detector.model.parameters, parts, self.average.as_ref())
            }
        }
    }

    /// Takes from a device what it has learned.
    fn collect(&mut self) -> Result<()> {
        if !std::mem::replace(&mut self.is_collected, true) {
            match &self.engine {
                Engine::Cpu(_) => {}
                #[cfg(feature = "cuda")]
                Engine::Device(device) => {
                    let parts = (&mut self.optimizer, &mut self.loss);
                    device.collect(&self.detector.model.parameters, parts, self.average.as_ref())?;
                }
            }
        }
        Ok(())
    }

    /// As it was when it was [kept](Self::parts).
    ///
    /// # Errors
    /// An entry is missing, of another shape, or of something else.
    pub(super) fn restore(
        config: &Config,
        classes: Vec<Class>,
        mut parts: NamedState,
        device: &ComputeDevice,
    ) -> Result<Self> {
        let model = Model::with_tensors(config, classes.len(), parts.take_tensors(MODEL))?;
        let mut learner = Self::new(config, classes, model, device)?;
        learner.optimizer.restore(&mut parts)?;
        learner.loss.restore(&mut parts)?;
        if let Some(average) = &mut learner.average {
            average.restore(&mut parts)?;
        }
        parts.finish()?;
        learner.distribute()?;
        Ok(learner)
    }

    /// All that the next step depends on.
    ///
    /// # Errors
    /// candle cannot hold a list.
    pub(super) fn parts(&mut self) -> Result<NamedState> {
        self.collect()?;
        let mut parts = NamedState::default();
        parts.put_tensors(MODEL, self.detector.tensors());
        self.optimizer.keep(&mut parts)?;
        self.loss.keep(&mut parts);
        if let Some(average) = &self.average {
            average.keep(&mut parts);
        }
        Ok(parts)
    }

    /// The detector that is scored and written: the one that learns, or the average of it. It shares their memory.
    ///
    /// # Errors
    /// A device does not give it.
    pub(super) fn result(&mut self) -> Result<Detector> {
        self.collect()?;
        let mut result = self.detector.clone();
        if let Some(average) = &self.average {
            result.model.parameters = average.parameters().clone();
        }
        Ok(result)
    }

    /// Writes the model that detects.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(super) fn save_model(&mut self, path: &Path) -> Result<()> {
        self.result()?.save(path)
    }

    /// The first tensor of the model that has a value that is no finite number.
    pub(super) fn first_not_finite(&mut self) -> Result<Option<&str>> {
        self.collect()?;
        for (name, variable) in self.detector.model.parameters.iter() {
            let values = variable.as_detached_tensor().flatten_all()?.to_vec1::<f32>()?;
            if values.iter().any(|value| !value.is_finite()) {
                return Ok(Some(name));
            }
        }
        Ok(None)
    }

    /// How many steps may be launched beyond the one that is waited for: a device does one while the next is prepared.
    pub(super) fn steps_ahead(&self) -> usize {
        match self.engine {
            Engine::Cpu(_) => 0,
            #[cfg(feature = "cuda")]
            Engine::Device(_) => 1,
        }
    }

    /// One step of the optimiser; `step` seeds the losses that draw anchors.
    ///
    /// # Errors
    /// A tensor operation or a device fails.
    pub(super) fn launch(
        &mut self,
        batch: &Batch,
        step: usize,
        learning_rate: f64,
        on_event: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>,
    ) -> Result<Launched> {
        self.is_collected = matches!(self.engine, Engine::Cpu(_));
        let Self { detector: Detector { config, model, .. }, engine, optimizer, loss, average, .. } = self;
        let network = match engine {
            Engine::Cpu(network) => &mut **network,
            #[cfg(feature = "cuda")]
            Engine::Device(device) => {
                let (parts, now) = ((optimizer, loss, average.as_mut()), (step, learning_rate));
                return device.launch((config, model), parts, batch, now, on_event).map(Launched::Device);
            }
        };
        let passed = passes::run(network, (config, model), loss, batch, step, on_event)?;
        let Passed { class_loss, box_loss, num_foreground } = passed;

        let gradients = network.gradients_mut();
        let norm = match config.train.clip_norm {
            Some(limit) => clip_gradients(&model.parameters, gradients, limit)?,
            None => gradient_norm(&model.parameters, gradients)?,
        };
        let learned = Learned { class_loss, box_loss, gradient_norm: norm, num_foreground, not_finite: None };
        if !(class_loss.is_finite() && box_loss.is_finite() && norm.is_finite()) {
            let norms = gradient_norms(&model.parameters, gradients)?;
            return Ok(Launched::Done(Learned { not_finite: Some(norms), ..learned }));
        }
        optimizer.step(&model.parameters, gradients, learning_rate)?;
        network.update_running_statistics(model)?;
        if let Some(average) = average {
            average.update(&model.parameters)?;
        }
        Ok(Launched::Done(learned))
    }
}
