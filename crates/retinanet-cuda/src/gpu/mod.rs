//! A GPU, through the driver, NVRTC and cuDNN, which are opened at run time.

mod call;
mod context;
mod convolve;
mod cudnn;
mod event;
mod graph;
mod library;
mod memory;
mod modules;
mod nvrtc;
mod staging;
mod state;
mod submit;

use crate::device::Device;
use crate::error::{Error, Result};
use context::{Context, Properties};
use library::Library;
use nvrtc::Target;
use state::{Order, State};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How a GPU is opened and used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GpuOptions {
    /// Which of the GPUs that the driver shows.
    pub index: usize,
    /// Folders in which NVRTC and cuDNN are looked for before the places that the system knows: of a toolkit, of Python's `nvidia`
    /// packages, or of a virtual environment.
    pub folders: Vec<PathBuf>,
    /// Whether f32 convolutions may multiply in TF32, with 10 bits of mantissa: several times faster, three digits.
    pub tf32: bool,
    /// Whether the fastest convolution algorithms are found by trying them. Then results may differ in their last bits from run to
    /// run; without it, they are the same for the same GPU, driver and cuDNN.
    pub fastest: bool,
}

/// A GPU: one stream for work, one for bytes that come in beside it, memory from the driver's pool.
#[derive(Debug)]
pub struct Gpu {
    // Dropped in this order: what was made in the context goes before it.
    order: Order,
    context: Arc<Context>,
    options: GpuOptions,
    versions: String,
}

impl Gpu {
    /// What the driver shows, each in one line; nothing is opened.
    ///
    /// # Errors
    /// There is no driver, or it does not work.
    pub fn list() -> Result<Vec<String>> {
        Library::Driver.open(&[], 0)?;
        (0..context::count()?).map(|index| Ok(Properties::find(index)?.1.description())).collect()
    }

    /// Opens a GPU with all that it takes.
    ///
    /// # Errors
    /// The driver, NVRTC or cuDNN is missing or too old; there is no such GPU, or it is too old.
    pub fn open(options: GpuOptions) -> Result<Self> {
        Library::Driver.open(&options.folders, 0)?;
        let context = Arc::new(Context::open(options.index)?);
        let (cuda, _) = context.properties.driver;
        Library::Nvrtc.open(&options.folders, cuda)?;
        Library::Cudnn.open(&options.folders, cuda)?;
        let compiler = nvrtc::version()?;
        let cudnn = cudnn::version();
        check_versions(context.properties.driver, compiler, cudnn)?;
        memory::keep_freed_memory(&context)?;
        let target = Target::of(context.properties.capability, &nvrtc::supported()?)?;
        let order = Order::new(State::new(&context, target));
        let versions = format!("NVRTC {}.{}, cuDNN {}", compiler.0, compiler.1, cudnn_version(cudnn));
        Ok(Self { order, context, options, versions })
    }

    /// The time from when all work before is done until all of `work` is done.
    ///
    /// # Errors
    /// It fails.
    pub fn time(&self, work: &mut dyn FnMut() -> Result<()>) -> Result<Duration> {
        self.synchronize()?;
        let start = Instant::now();
        work()?;
        self.synchronize()?;
        Ok(start.elapsed())
    }
}

fn cudnn_version(version: usize) -> String {
    format!("{}.{}.{}", version / 10_000, version / 100 % 100, version % 100)
}

/// Whether the libraries fit each other.
fn check_versions(driver: (u32, u32), compiler: (u32, u32), cudnn: usize) -> Result<()> {
    let (cuda, _) = driver;
    let old =
        |library: &str, what: String, advice: String| Err(Error::Library { library: library.to_owned(), what, advice });
    if cuda < 12 {
        let what = format!("expected a driver for CUDA 12 or newer, found {}.{}", driver.0, driver.1);
        return old("libcuda.so.1", what, "install NVIDIA's driver, version 525 or newer".to_owned());
    }
    if compiler.0 < 12 || compiler.0 > cuda {
        let what = format!("expected a version from 12 to the driver's {cuda}, found {}.{}", compiler.0, compiler.1);
        return old("libnvrtc", what, format!("install NVRTC {cuda}, or a newer driver"));
    }
    if cudnn / 10_000 != 9 {
        let what = format!("expected version 9, found {}", cudnn_version(cudnn));
        return old("libcudnn.so.9", what, "install cuDNN 9".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_that_do_not_fit_are_named() {
        #[track_caller]
        fn check(driver: (u32, u32), compiler: (u32, u32), cudnn: usize, expected: &str) {
            let message = check_versions(driver, compiler, cudnn).err().map(|error| error.to_string());
            assert_eq!(message.unwrap_or_default(), expected);
        }
        check((12, 0), (12, 0), 90_100, "");
        check((13, 1), (12, 9), 91_902, "");
        check((13, 0), (13, 0), 91_902, "");
        let old = "libcuda.so.1: expected a driver for CUDA 12 or newer, found 11.8; install NVIDIA's driver, version 525 or newer";
        check((11, 8), (11, 8), 90_100, old);
        let new =
            "libnvrtc: expected a version from 12 to the driver's 12, found 13.0; install NVRTC 12, or a newer driver";
        check((12, 8), (13, 0), 90_100, new);
        check((12, 8), (12, 8), 8_907, "libcudnn.so.9: expected version 9, found 0.89.7; install cuDNN 9");
    }
}
