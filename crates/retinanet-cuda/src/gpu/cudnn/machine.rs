//! What plans are made for.

use super::descriptor::Descriptor;
use crate::error::Result;
use cudarc::cudnn::sys::{cudnnBackendAttributeName_t as Name, cudnnHandle_t};

/// A GPU that is here, or, in tests, the description of one.
#[derive(Debug)]
pub(super) enum Machine {
    Here(cudnnHandle_t),
    #[cfg(test)]
    Described(Descriptor),
}

impl Machine {
    /// Says it to a graph of operations.
    pub(super) fn set_for_graph(&self, graph: &Descriptor) -> Result<()> {
        match self {
            Self::Here(handle) => graph.set(Name::CUDNN_ATTR_OPERATIONGRAPH_HANDLE, &[*handle]),
            #[cfg(test)]
            Self::Described(_) => Ok(()),
        }
    }

    /// Says it to what proposes algorithms for a graph.
    pub(super) fn set_for_heuristic(&self, heuristic: &Descriptor) -> Result<()> {
        match self {
            Self::Here(_) => {
                // It has the graph's.
                _ = heuristic;
                Ok(())
            }
            #[cfg(test)]
            Self::Described(gpu) => heuristic.link(Name::CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, &[gpu]),
        }
    }

    /// Says it to a plan.
    pub(super) fn set_for_plan(&self, plan: &Descriptor) -> Result<()> {
        match self {
            Self::Here(handle) => plan.set(Name::CUDNN_ATTR_EXECUTION_PLAN_HANDLE, &[*handle]),
            #[cfg(test)]
            Self::Described(gpu) => plan.link(Name::CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP, &[gpu]),
        }
    }
}

#[cfg(test)]
impl Machine {
    /// The description of a GPU of this compute capability, `90` for 9.0, with as much of everything as the data centre's of it.
    pub(super) fn described(capability: u32) -> Result<Self> {
        use cudarc::cudnn::sys::cudnnBackendDescriptorType_t as Kind;
        let [multiprocessors, shared, threads, l2] = match capability {
            75 => [40, 65_536, 1024, 4 << 20],
            80 => [108, 166_912, 2048, 40 << 20],
            _ => [132, 232_448, 2048, 50 << 20],
        };
        let version = capability * 10;
        let json = format!(
            r#"{{"cudaDeviceId": 0, "deviceName": "described", "deviceVer": {version}, "driverVer": 13000, "isTccDriver": 0,
            "l2CacheSize": {l2}, "maxBlockSize": [1024, 1024, 64], "maxCtasPerSM": 32, "maxGridSize": [2147483647, 65535, 65535],
            "maxRegistersPerSM": 65536, "maxSharedMemoryPerBlock": 49152, "maxSharedMemoryPerBlockOptin": {shared},
            "maxThreadsPerBlock": 1024, "maxThreadsPerSM": {threads}, "memClockRateKHz": 2619000,
            "multiProcessorCount": {multiprocessors}, "pciDeviceId": 9008, "regsPerBlock": 65536,
            "reservedSharedMemoryPerBlock": 1024, "smClockRateKHz": 1980000, "supportCoopLaunch": 1,
            "totalGlobalMem": 17179869184, "warpSize": 32}}"#
        );
        let gpu = Descriptor::new(Kind::CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR)?;
        gpu.set(Name::CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, json.as_bytes())?;
        gpu.finalize()?;
        Ok(Self::Described(gpu))
    }
}
