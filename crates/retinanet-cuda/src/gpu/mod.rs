//! A GPU, through the driver, NVRTC and cuDNN, which are opened at run time.

mod cache;
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
use cache::Cache;
use context::{Context, Properties};
use library::Library;
use modules::Modules;
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
    /// A folder for compiled kernels, so that they are compiled once and not in every process; none if not given.
    pub cache: Option<PathBuf>,
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
        open_driver(&[])?;
        (0..context::count()?).map(|index| Ok(Properties::find(index)?.1.description())).collect()
    }

    /// Opens a GPU with all that it takes.
    ///
    /// # Errors
    /// The driver, NVRTC or cuDNN is missing or too old; there is no such GPU, or it is too old.
    pub fn open(options: GpuOptions) -> Result<Self> {
        let cuda = open_driver(&options.folders)?;
        let context = Arc::new(Context::open(options.index)?);
        Library::Nvrtc.open(&options.folders, cuda)?;
        Library::Cudnn.open(&options.folders, cuda)?;
        let (compiler, cudnn) = (nvrtc::version()?, cudnn::version());
        check_libraries(cuda, compiler, cudnn)?;
        memory::keep_freed_memory(&context)?;
        let target = Target::of(context.properties.capability, &nvrtc::supported()?)?;
        let cache = Cache::new(options.cache.clone(), compiler);
        let order = Order::new(State::new(Modules::new(&context, target, cache)));
        let versions = format!("NVRTC {}.{}, cuDNN {}", compiler.0, compiler.1, cudnn::version_text(cudnn));
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

impl Drop for Gpu {
    fn drop(&mut self) {
        // Kernels are unloaded next: nothing may run any more. Whatever failed has nobody to be told to.
        if self.context.make_current().is_ok() {
            _ = self.context.synchronize();
        }
    }
}

/// Opens the driver; the major version of CUDA that it is for.
fn open_driver(folders: &[PathBuf]) -> Result<u32> {
    Library::Driver.open(folders, 0)?;
    let driver = context::driver_version()?;
    check_driver(driver)?;
    Ok(driver.0)
}

fn check_driver((major, minor): (u32, u32)) -> Result<()> {
    if major >= 12 {
        return Ok(());
    }
    let what = format!("expected a driver for CUDA 12 or newer, found {major}.{minor}");
    let advice = "install NVIDIA's driver, version 525 or newer".to_owned();
    Err(Error::Library { library: "libcuda.so.1".to_owned(), what, advice })
}

/// Whether the libraries fit a driver for this version of CUDA.
fn check_libraries(cuda: u32, compiler: (u32, u32), cudnn: usize) -> Result<()> {
    let old =
        |library: &str, what: String, advice: String| Err(Error::Library { library: library.to_owned(), what, advice });
    if compiler.0 < 12 || compiler.0 > cuda {
        let what = format!("expected a version from 12 to the driver's {cuda}, found {}.{}", compiler.0, compiler.1);
        return old("libnvrtc", what, format!("install NVRTC {cuda}, or a newer driver"));
    }
    if cudnn / 10_000 != 9 {
        let what = format!("expected version 9, found {}", cudnn::version_text(cudnn));
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
            let checked = check_driver(driver).and_then(|()| check_libraries(driver.0, compiler, cudnn));
            let message = checked.err().map(|error| error.to_string());
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
        check((12, 8), (12, 8), 8_907, "libcudnn.so.9: expected version 9, found 8.9.7; install cuDNN 9");
    }
}
