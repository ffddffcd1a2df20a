//! Where a network runs: `--device`, and what is said where that cannot be.

#[cfg(feature = "cuda")]
mod gpu;

use clap::Args;
use retinanet::ComputeDevice;
use std::path::PathBuf;

/// Where to compute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum DeviceArg {
    /// The processor.
    #[default]
    Cpu,
    /// A GPU, by its place among those that the driver shows.
    Cuda(usize),
}

impl DeviceArg {
    /// As it is given.
    pub(crate) fn name(self) -> String {
        match self {
            Self::Cpu => "cpu".to_owned(),
            Self::Cuda(index) => format!("cuda:{index}"),
        }
    }
}

/// `cpu`, `cuda` for the first GPU, or `cuda:N`.
fn parse(text: &str) -> Result<DeviceArg, String> {
    let index = match text.split_once(':') {
        None if text == "cpu" => return Ok(DeviceArg::Cpu),
        None if text == "cuda" => Some(0),
        Some(("cuda", index)) => index.parse().ok(),
        _ => None,
    };
    index.map(DeviceArg::Cuda).ok_or_else(|| format!("expected cpu, cuda, or cuda:N as cuda:1, found {text:?}"))
}

/// What every command that runs a network takes to say where.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct DeviceArgs {
    /// Where to compute: cpu, cuda, or cuda:N for one of several GPUs; cpu if not given
    #[arg(long, value_name = "DEVICE", value_parser = parse)]
    pub(crate) device: Option<DeviceArg>,
    /// cuda: where NVRTC and cuDNN are, if the system does not know: a CUDA toolkit, a virtual environment, or Python's nvidia
    /// folder. CUDA_PATH, CUDA_HOME, VIRTUAL_ENV and CONDA_PREFIX are looked through too
    #[arg(long, value_name = "DIR", requires = "device")]
    pub(crate) cuda_path: Option<PathBuf>,
    /// cuda: multiply f32 in TF32 in convolutions, several times faster and to three digits
    #[arg(long, requires = "device")]
    pub(crate) tf32: bool,
    /// cuda: find the fastest convolutions by trying them; the last bits may then differ from run to run
    #[arg(long, requires = "device")]
    pub(crate) fastest: bool,
}

impl DeviceArgs {
    /// What was asked for.
    pub(crate) fn asked(&self) -> DeviceArg {
        self.device.unwrap_or_default()
    }

    /// Opens what was asked for.
    pub(crate) fn open(&self) -> anyhow::Result<ComputeDevice> {
        match self.asked() {
            DeviceArg::Cpu => Ok(ComputeDevice::Cpu),
            device @ DeviceArg::Cuda(index) => {
                self.open_gpu(index).map_err(|error| anyhow::anyhow!("--device {}: {error:#}", device.name()))
            }
        }
    }

    /// For what has no use for a GPU.
    pub(crate) fn check_is_cpu(&self, what: &str) -> anyhow::Result<()> {
        let found = self.asked();
        anyhow::ensure!(found == DeviceArg::Cpu, "--device: expected cpu for {what}, found {}", found.name());
        Ok(())
    }

    #[cfg(not(feature = "cuda"))]
    fn open_gpu(&self, _: usize) -> anyhow::Result<ComputeDevice> {
        anyhow::bail!("this program was built without CUDA: build it with --features cuda");
    }
}

/// A line for each GPU, or one that says why there is none; nothing of a program that knows none.
pub(crate) fn gpus() -> Vec<String> {
    #[cfg(not(feature = "cuda"))]
    return Vec::new();
    #[cfg(feature = "cuda")]
    gpu::lines(retinanet_cuda::Gpu::list())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_parsed_and_named() {
        for (text, device, name) in [
            ("cpu", DeviceArg::Cpu, "cpu"),
            ("cuda", DeviceArg::Cuda(0), "cuda:0"),
            ("cuda:0", DeviceArg::Cuda(0), "cuda:0"),
            ("cuda:12", DeviceArg::Cuda(12), "cuda:12"),
        ] {
            assert_eq!(parse(text), Ok(device));
            assert_eq!(device.name(), name);
        }
        for text in ["", "gpu", "CUDA", "cuda:", "cuda:x", "cuda:-1", "cuda:1:2", "cpu:0", "cuda 1"] {
            let error = parse(text).expect_err(text);
            assert!(error.contains("cuda:N") && error.contains(text), "{error}");
        }
    }
}
