//! A detector ready to run: the network planned, memory kept from image to image.

#[cfg(feature = "cuda")]
pub(crate) mod device;
mod options;
pub(crate) mod report;
mod runner;
mod session;

pub use options::InferenceOptions;
pub use report::RunReport;
pub use runner::Runner;

use crate::compute_device::ComputeDevice;
use crate::config::Config;
use crate::detector::Detector;
use crate::error::Result;
use crate::model::{Network, Predictions};
use candle_core::Tensor;
#[cfg(feature = "cuda")]
use device::{DeviceNetwork, DeviceSession};
use retinanet_anchors::{Detection, ImageSize};
use retinanet_annotations::Class;
use retinanet_data::{Batch, Image, ImageView};
use retinanet_ops::network::plan::{Plan, PlanOptions, PlannedLayer};
use runner::Memory;
use session::Session;
#[cfg(feature = "cuda")]
use std::sync::Arc;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A detector ready to run, shared by any number of threads: each run takes memory of its own and leaves it for the next.
///
/// Detections are the same for any number of threads, for an image alone or in a batch, and with the sparse head or
/// without: to the last bit, in one precision and on one instruction set.
///
/// ```no_run
/// use retinanet::{Detector, InferenceOptions};
/// use retinanet_data::{DecodeLimits, decode_file};
///
/// let plan = Detector::load("runs/cells/last.safetensors")?.into_plan(&InferenceOptions::default())?;
/// let image = decode_file("cells.jpg".as_ref(), &DecodeLimits::default())?;
/// std::thread::scope(|scope| {
///     for _ in 0..2 {
///         scope.spawn(|| println!("{:?}", plan.detect(&image)));
///     }
/// });
/// # Ok::<(), retinanet::Error>(())
/// ```
#[derive(Debug)]
pub struct DetectionPlan {
    config: Config,
    classes: Vec<Class>,
    network: Network,
    engine: Engine,
    sparse_head: bool,
    pool: Option<rayon::ThreadPool>,
    shared: Mutex<Shared>,
}

/// What runs the network.
#[derive(Debug)]
enum Engine {
    Cpu(Plan),
    #[cfg(feature = "cuda")]
    Device(Arc<DeviceNetwork>),
}

impl Engine {
    /// Memory for one run at a time.
    fn session(&self) -> Session {
        match self {
            Self::Cpu(plan) => Session::Cpu(plan.session()),
            #[cfg(feature = "cuda")]
            Self::Device(network) => Session::Device(DeviceSession::new(Arc::clone(network))),
        }
    }
}

/// What runs leave behind.
#[derive(Debug, Default)]
struct Shared {
    idle: Vec<Memory>,
    last: RunReport,
}

impl Detector {
    /// Makes the detector ready to run; the detector stays, and with it its parameters.
    ///
    /// # Errors
    /// The processor or the model cannot do what the options ask for.
    pub fn plan(&self, options: &InferenceOptions) -> Result<DetectionPlan> {
        // The copies of the parameters are references to the same tensors.
        self.clone().into_plan(options)
    }

    /// As [`Self::plan`], with the parameters given up layer by layer, so that they never take memory twice.
    ///
    /// # Errors
    /// As [`Self::plan`].
    pub fn into_plan(self, options: &InferenceOptions) -> Result<DetectionPlan> {
        let Self { config, classes, model, quantization, .. } = self;
        options.check(quantization.is_some())?;
        let precision = options.precision;
        let engine = match &options.device {
            ComputeDevice::Cpu => {
                let (recorder, output) = model.network.record()?;
                let (first, rest) = (output.class_logits.values(), output.box_deltas.values());
                let isa = options.resolved_isa();
                let plan_options = PlanOptions { isa, precision, quantization: quantization.as_ref() };
                Engine::Cpu(Plan::consume(&recorder, first, rest, model.parameters, &plan_options)?)
            }
            #[cfg(feature = "cuda")]
            ComputeDevice::Cuda(device) => Engine::Device(Arc::new(DeviceNetwork::new(
                device,
                &model.network,
                &config,
                &model.parameters,
                precision,
            )?)),
        };
        let pool = options.threads.map(|threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build());
        Ok(DetectionPlan {
            config,
            classes,
            network: model.network,
            // A device computes everything in one go.
            sparse_head: options.sparse_head && options.device == ComputeDevice::Cpu,
            engine,
            pool: pool.transpose()?,
            shared: Mutex::default(),
        })
    }
}

impl DetectionPlan {
    /// The class of each output, in order.
    pub fn classes(&self) -> &[Class] {
        &self.classes
    }

    /// What the detector was trained with, and how pictures come in and detections go out.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Every convolution in the order of execution, and what it multiplies.
    pub fn layers(&self) -> impl Iterator<Item = PlannedLayer<'_>> {
        let layers: Box<dyn Iterator<Item = PlannedLayer<'_>>> = match &self.engine {
            Engine::Cpu(plan) => Box::new(plan.layers()),
            #[cfg(feature = "cuda")]
            Engine::Device(network) => Box::new(network.layers()),
        };
        layers
    }

    /// Detections of one picture, best first, in its own pixels.
    ///
    /// # Errors
    /// The picture has no pixels, or its feature maps do not fit in memory.
    pub fn detect(&self, image: &Image) -> Result<Vec<Detection>> {
        Ok(self.detect_batch(&[image])?.pop().unwrap_or_default())
    }

    /// Detections of several pictures in one pass, each padded by itself: they may differ in size, and what is found in one
    /// does not depend on the others.
    ///
    /// # Errors
    /// As [`Self::detect`].
    pub fn detect_batch(&self, images: &[&Image]) -> Result<Vec<Vec<Detection>>> {
        if images.is_empty() {
            return Ok(Vec::new());
        }
        let views: Vec<ImageView<'_>> = images.iter().map(|image| image.view()).collect();
        self.install(|| self.runner().detect(&views))
    }

    /// Detections of a prepared batch, in the pixels of the original pictures.
    ///
    /// # Errors
    /// As [`Self::detect`].
    pub fn detect_prepared(&self, batch: &Batch) -> Result<Vec<Vec<Detection>>> {
        if batch.images.is_empty() {
            return Ok(Vec::new());
        }
        self.install(|| self.runner().detect_prepared(batch))
    }

    /// All class logits and box deltas of images `[N, H, W, 3]`.
    ///
    /// # Errors
    /// The images have another shape or type, or their feature maps do not fit in memory.
    pub fn predict(&self, images: &Tensor) -> Result<Predictions> {
        let (num_images, height, width, _) = images.dims4()?;
        let mut runner = self.runner();
        runner.resize(&vec![ImageSize::new(width, height); num_images])?;
        for image_idx in 0..num_images {
            let pixels = images.get(image_idx)?.flatten_all()?.to_vec1::<f32>()?;
            let input = runner.input_mut(image_idx);
            if pixels.len() != input.len() {
                let found = format!("images: expected [N, H, W, 3], found {:?}", images.dims());
                return Err(candle_core::Error::Msg(found).into());
            }
            input.copy_from_slice(&pixels);
        }
        runner.run()?;
        runner.predictions()
    }

    /// Memory to run the network in on prepared pixels.
    pub fn runner(&self) -> Runner<'_> {
        let memory = self.shared().idle.pop();
        Runner::new(self, memory.unwrap_or_else(|| Memory::new(self.engine.session())))
    }

    /// What the run took that ended last.
    pub fn last_run(&self) -> RunReport {
        self.shared().last
    }

    fn give_back(&self, memory: Memory) {
        let mut shared = self.shared();
        shared.last = memory.report;
        shared.idle.push(memory);
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        // What a run that panicked leaves behind is memory like any other.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `body` on a thread of the pool, so that the kernels that it calls find their pool around them: from outside, a
    /// thread would sleep and be woken again for each of them.
    ///
    /// Whoever waits for a device does not belong on such a thread.
    fn install<R: Send>(&self, body: impl FnOnce() -> R + Send) -> R {
        #[cfg(feature = "cuda")]
        if let Engine::Device(_) = self.engine {
            return body();
        }
        match &self.pool {
            Some(pool) => pool.install(body),
            None => rayon::scope(|_| body()),
        }
    }
}
