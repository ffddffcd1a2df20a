//! Where a network runs.

#[cfg(feature = "cuda")]
use std::sync::Arc;

/// Where a network runs, and what belongs to it: losses and the optimiser, or the choice of detections.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub enum ComputeDevice {
    /// The processor.
    #[default]
    Cpu,
    /// A GPU, or whatever else runs the kernels for one.
    #[cfg(feature = "cuda")]
    Cuda(Arc<dyn retinanet_cuda::Device>),
}

impl ComputeDevice {
    /// What it says of itself; nothing of the processor.
    pub fn description(&self) -> Option<String> {
        match self {
            Self::Cpu => None,
            #[cfg(feature = "cuda")]
            Self::Cuda(device) => Some(device.description()),
        }
    }
}

impl PartialEq for ComputeDevice {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Cpu, Self::Cpu) => true,
            #[cfg(feature = "cuda")]
            (Self::Cuda(one), Self::Cuda(other)) => Arc::ptr_eq(one, other),
            #[cfg(feature = "cuda")]
            _ => false,
        }
    }
}
