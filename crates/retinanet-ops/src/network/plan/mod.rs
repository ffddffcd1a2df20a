//! A network planned for inference: recorded once, its weights packed, its feature maps in one block of memory.
//!
//! A [`Recorder`] writes down what a network's `forward` does. A [`Plan`] is made of that and of the parameters: norms are
//! folded, weights packed, the uses of one layer on several levels joined into one step, a storage chosen for every value.
//! A [`Session`] runs it: it lays the feature maps of given sizes out in its memory once, and then allocates nothing.
//!
//! A run has two halves. The first outputs (class logits) are computed everywhere; the other outputs (box deltas), and
//! what only they need, everywhere or only at the locations that turn out to be wanted.
//!
//! ```
//! use candle_core::{Device, Tensor};
//! use retinanet_ops::network::{ConvLayer, Engine, Parameters};
//! use retinanet_ops::network::plan::{Plan, PlanOptions, Recorder};
//!
//! let layer = ConvLayer::new("conv", 1, 2, 3, 1).with_relu();
//! let parameters = Parameters::new([
//!     ("conv.weight".to_owned(), Tensor::ones((2, 1, 3, 3), candle_core::DType::F32, &Device::Cpu)?),
//!     ("conv.bias".to_owned(), Tensor::new(&[0f32, -8.0], &Device::Cpu)?),
//! ])?;
//! let (mut recorder, image) = Recorder::new(1);
//! let y = recorder.conv(&layer, &image, None)?;
//! let plan = Plan::new(&recorder, &[y], &[], &parameters, &PlanOptions::default())?;
//!
//! let mut session = plan.session();
//! session.resize(&[(3, 3)])?;
//! session.input_mut(0).fill(1.0);
//! session.run_first();
//! // Nine taps in the middle, four in a corner.
//! assert_eq!(session.first_output(0, 0).values[4 * 2..5 * 2], [9.0, 1.0]);
//! assert_eq!(session.first_output(0, 0).values[..2], [4.0, 0.0]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub(super) mod arena;
mod error;
mod execute;
pub(super) mod layout;
mod masks;
pub(super) mod order;
pub(super) mod record;
mod session;
mod steps;
mod storages;

pub use error::PlanError;
pub use record::{Recorder, Value};
pub use session::{Output, Session};

use super::{Parameters, QuantizationTable};
use crate::kernels::cpu::Isa;
use crate::kernels::cpu::inference::Precision;
use std::sync::Arc;
use steps::{Source, Steps, Work};
use storages::Wishes;

/// How a network is run.
#[derive(Clone, Copy, Debug)]
pub struct PlanOptions<'a> {
    /// The instruction set.
    pub isa: Isa,
    /// What is multiplied. The outputs are f32 in any precision.
    pub precision: Precision,
    /// The layers that [`Precision::Int8`] runs in 8 bits; of no account to the others. Without it none does.
    pub quantization: Option<&'a QuantizationTable>,
}

impl Default for PlanOptions<'_> {
    /// f32 with the widest vectors of this processor.
    fn default() -> Self {
        Self { isa: Isa::detect(), precision: Precision::F32, quantization: None }
    }
}

/// A network ready to run on images of any sizes; shared by any number of sessions and threads.
#[derive(Clone, Debug)]
pub struct Plan {
    steps: Arc<Steps>,
}

/// A convolution of a plan.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PlannedLayer<'a> {
    /// Prefix of its parameters.
    pub name: &'a str,
    /// Of its products.
    pub precision: Precision,
}

impl Plan {
    /// Plans what `first` and `rest`, values of the recorder, need. What only `rest` needs can be computed in part.
    ///
    /// # Errors
    /// A parameter is missing, or the layers' numbers describe no convolution.
    pub fn new(
        recorder: &Recorder,
        first: &[Value],
        rest: &[Value],
        parameters: &Parameters,
        options: &PlanOptions,
    ) -> Result<Self, PlanError> {
        Self::build(recorder, first, rest, Source::Borrowed(parameters), options)
    }

    /// As [`Self::new`], and drops each layer's parameters as soon as they are packed, so that they never take memory twice.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn consume(
        recorder: &Recorder,
        first: &[Value],
        rest: &[Value],
        parameters: Parameters,
        options: &PlanOptions,
    ) -> Result<Self, PlanError> {
        Self::build(recorder, first, rest, Source::Owned(parameters), options)
    }

    fn build(
        recorder: &Recorder,
        first: &[Value],
        rest: &[Value],
        source: Source,
        options: &PlanOptions,
    ) -> Result<Self, PlanError> {
        let PlanOptions { isa, precision, quantization } = *options;
        let base = storages::base(precision, isa);
        let wishes = Wishes { base, quantization: quantization.filter(|_| precision == Precision::Int8) };
        Ok(Self { steps: Arc::new(steps::build(recorder, (first, rest), source, isa, &wishes)?) })
    }

    /// Memory and layout for one run at a time.
    pub fn session(&self) -> Session {
        Session::new(Arc::clone(&self.steps))
    }

    /// The convolutions in the order of execution.
    pub fn layers(&self) -> impl Iterator<Item = PlannedLayer<'_>> {
        self.steps.steps.iter().filter_map(|step| match &step.work {
            Work::Conv { lanes, .. } => {
                let precision = self.steps.slots[lanes[0].x.0].storage.precision();
                Some(PlannedLayer { name: &step.name, precision })
            }
            _ => None,
        })
    }
}
