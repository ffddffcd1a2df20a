//! How a detector is run.

use crate::compute_device::ComputeDevice;
use crate::error::{Error, Result};
use retinanet_ops::kernels::cpu::Isa;
use retinanet_ops::kernels::cpu::inference::Precision;

/// How a detector is run. No choice changes what is computed beyond the rounding of the precision and instruction set.
#[derive(Clone, Debug, PartialEq)]
pub struct InferenceOptions {
    /// Where the network runs. Instruction set, threads and the sparse head are the processor's.
    pub device: ComputeDevice,
    /// What the convolutions multiply; sums, logits and boxes are f32 in any.
    pub precision: Precision,
    /// The instruction set; the widest of this processor if none.
    pub isa: Option<Isa>,
    /// Threads of the plan's own; those of the pool that a run is called in, or rayon's global ones, if none.
    pub threads: Option<usize>,
    /// Whether the box subnet is evaluated only where a class score passes the threshold. The detections are the same.
    pub sparse_head: bool,
}

impl Default for InferenceOptions {
    /// The processor with everything that it has, f32, the sparse head.
    fn default() -> Self {
        Self { device: ComputeDevice::Cpu, precision: Precision::F32, isa: None, threads: None, sparse_head: true }
    }
}

impl InferenceOptions {
    /// The instruction set to use.
    pub(super) fn resolved_isa(&self) -> Isa {
        self.isa.unwrap_or_else(Isa::detect)
    }

    /// Whether the processor and the model can do what is asked for.
    pub(super) fn check(&self, is_quantized: bool) -> Result<()> {
        let unusable = |precision, expected: &str, found: String| {
            Err(Error::Precision { precision, expected: expected.to_owned(), found })
        };
        let isa = self.resolved_isa();
        match self.precision {
            // A device says by itself what it cannot do.
            _ if self.device != ComputeDevice::Cpu => Ok(()),
            Precision::Bf16 if !isa.has_bf16_products() => {
                let expected = "a processor with AVX512-BF16 (f32 runs on any)";
                unusable("bf16", expected, format!("{isa:?} without it"))
            }
            Precision::F16 => unusable("f16", "a GPU (f32 runs on any processor)", "the processor".to_owned()),
            Precision::Int8 if !is_quantized => {
                let expected = "a quantised model (f32 needs none)";
                unusable("int8", expected, "a model without the ranges of its activations".to_owned())
            }
            _ => Ok(()),
        }
    }
}
