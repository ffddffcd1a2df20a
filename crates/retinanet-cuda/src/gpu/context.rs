//! A GPU, its primary context, and the two streams that work and copies go through.

use super::call::check;
use crate::error::{Error, Result};
use cudarc::driver::sys::{self, CUcontext, CUdevice, CUdevice_attribute, CUdeviceptr, CUresult, CUstream};
use std::ffi::CStr;
use std::ptr::null_mut;
use std::sync::{Mutex, PoisonError};

/// Of CUDA; kernels and cuDNN 9 want it.
pub(super) const MIN_CAPABILITY: u32 = 75;

/// The version of CUDA that the driver is for: major and minor.
pub(super) fn driver_version() -> Result<(u32, u32)> {
    let mut version = 0;
    // SAFETY: writes one number; it needs no initialisation.
    check("cuDriverGetVersion", unsafe { sys::cuDriverGetVersion(&raw mut version) })?;
    let version = version.unsigned_abs();
    Ok((version / 1000, version % 1000 / 10))
}

/// How many GPUs there are. The driver is open.
pub(super) fn count() -> Result<usize> {
    // SAFETY: no preconditions.
    let result = unsafe { sys::cuInit(0) };
    if result == CUresult::CUDA_ERROR_NO_DEVICE {
        return Ok(0);
    }
    check("cuInit", result)?;
    let mut count = 0;
    // SAFETY: the driver is initialised; writes one number.
    check("cuDeviceGetCount", unsafe { sys::cuDeviceGetCount(&raw mut count) })?;
    Ok(usize::try_from(count).unwrap_or(0))
}

/// What a GPU is.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Properties {
    pub(super) name: String,
    /// 90 for 9.0.
    pub(super) capability: u32,
    /// All of it, in bytes.
    pub(super) memory: usize,
    /// Of CUDA, that the driver is for.
    pub(super) driver: (u32, u32),
    /// The highest clocks of the multiprocessors and of the memory, in MHz.
    pub(super) clocks: (u32, u32),
}

impl Properties {
    /// A GPU of those that were counted, and what it is.
    pub(super) fn find(index: usize) -> Result<(CUdevice, Self)> {
        let mut device = 0;
        // SAFETY: the driver is initialised, and refuses a number that is none of a GPU's; writes one handle.
        check("cuDeviceGet", unsafe { sys::cuDeviceGet(&raw mut device, index as i32) })?;
        Ok((device, Self::of(device)?))
    }

    fn of(device: CUdevice) -> Result<Self> {
        use CUdevice_attribute::{
            CU_DEVICE_ATTRIBUTE_CLOCK_RATE, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR,
            CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE,
        };
        let attribute = |attribute| {
            let mut value = 0;
            // SAFETY: writes one number.
            check("cuDeviceGetAttribute", unsafe { sys::cuDeviceGetAttribute(&raw mut value, attribute, device) })?;
            Ok::<_, Error>(value.unsigned_abs())
        };
        let mut name = [0; 256];
        // SAFETY: writes at most so many characters, the last a zero.
        check("cuDeviceGetName", unsafe { sys::cuDeviceGetName(name.as_mut_ptr(), 256, device) })?;
        // SAFETY: it ends with a zero, as said above.
        let name = unsafe { CStr::from_ptr(name.as_ptr()) }.to_string_lossy().into_owned();
        let mut memory = 0;
        // SAFETY: writes one number.
        check("cuDeviceTotalMem", unsafe { sys::cuDeviceTotalMem_v2(&raw mut memory, device) })?;
        let major = attribute(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?;
        let minor = attribute(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?;
        let clocks = (
            attribute(CU_DEVICE_ATTRIBUTE_CLOCK_RATE)? / 1000,
            attribute(CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE)? / 1000,
        );
        Ok(Self { name, capability: major * 10 + minor, memory, driver: driver_version()?, clocks })
    }

    pub(super) fn description(&self) -> String {
        let Self { name, capability, memory, driver: (major, minor), clocks: (clock, memory_clock) } = self;
        let (whole, tenth, gib) = (capability / 10, capability % 10, *memory as f64 / f64::from(1 << 30));
        format!(
            "{name}, compute capability {whole}.{tenth}, {gib:.1} GiB, up to {clock} MHz, memory {memory_clock} MHz, \
             driver for CUDA {major}.{minor}"
        )
    }
}

/// Outlives all that is made in it.
#[derive(Debug)]
pub(super) struct Context {
    device: CUdevice,
    context: CUcontext,
    /// Where all work goes.
    pub(super) compute: CUstream,
    /// Where bytes come in beside it.
    pub(super) copy: CUstream,
    pub(super) properties: Properties,
    /// Memory that was given back when it could not be freed: while work is captured, that would become part of it.
    returned: Mutex<Vec<CUdeviceptr>>,
}

// SAFETY: handles of the driver, which may be used from any thread.
unsafe impl Send for Context {}
// SAFETY: as above.
unsafe impl Sync for Context {}

impl Context {
    /// Opens a GPU. The driver is open.
    pub(super) fn open(index: usize) -> Result<Self> {
        let found = count()?;
        if found == 0 {
            let what = "expected at least one GPU, found none".to_owned();
            return Err(Error::Library {
                library: "libcuda.so.1".to_owned(),
                what,
                advice: "see what nvidia-smi says".to_owned(),
            });
        }
        if index >= found {
            return Err(Error::NoDevice { index, found });
        }
        let (device, properties) = Properties::find(index)?;
        if properties.capability < MIN_CAPABILITY {
            let expected = format!("compute capability {}.{} or higher", MIN_CAPABILITY / 10, MIN_CAPABILITY % 10);
            return Err(Error::Mismatch {
                place: format!("device {index}"),
                expected,
                found: properties.description(),
            });
        }
        let mut context = null_mut();
        // SAFETY: writes one handle.
        check("cuDevicePrimaryCtxRetain", unsafe { sys::cuDevicePrimaryCtxRetain(&raw mut context, device) })?;
        let mut opened =
            Self { device, context, compute: null_mut(), copy: null_mut(), properties, returned: Mutex::default() };
        opened.make_current()?;
        opened.compute = stream()?;
        opened.copy = stream()?;
        Ok(opened)
    }

    /// Waits for both streams. It is current.
    pub(super) fn synchronize(&self) -> Result<()> {
        for stream in [self.copy, self.compute] {
            // SAFETY: the stream lives.
            check("cuStreamSynchronize", unsafe { sys::cuStreamSynchronize(stream) })?;
        }
        Ok(())
    }

    /// Keeps memory until the next time that some is reserved.
    ///
    /// # Safety
    /// It comes from the driver's pool, and no work from here on uses it.
    pub(super) unsafe fn give_back(&self, address: CUdeviceptr) {
        self.returned.lock().unwrap_or_else(PoisonError::into_inner).push(address);
    }

    /// Frees what was given back, when all work before has been done. The context is current, and nothing is captured.
    pub(super) fn free_returned(&self) {
        for address in self.returned.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            // What fails here has failed before: errors of earlier work come back from every call, and are told where it is
            // waited for.
            // SAFETY: as whoever gave it back says.
            _ = unsafe { sys::cuMemFreeAsync(address, self.compute) };
        }
    }

    pub(super) fn device(&self) -> CUdevice {
        self.device
    }

    /// Makes it the one that this thread's calls are for.
    pub(super) fn make_current(&self) -> Result<()> {
        // SAFETY: it is retained until `self` is dropped.
        check("cuCtxSetCurrent", unsafe { sys::cuCtxSetCurrent(self.context) })
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // What fails here cannot be told to anybody.
        if self.make_current().is_err() {
            return;
        }
        self.free_returned();
        for stream in [self.compute, self.copy].into_iter().filter(|stream| !stream.is_null()) {
            // SAFETY: made in `open`; all that uses it holds `self` and is gone.
            _ = unsafe { sys::cuStreamDestroy_v2(stream) };
        }
        // SAFETY: retained in `open`.
        _ = unsafe { sys::cuDevicePrimaryCtxRelease_v2(self.device) };
    }
}

/// A stream that does not wait for the default one.
fn stream() -> Result<CUstream> {
    let mut stream = null_mut();
    let flags = sys::CUstream_flags_enum::CU_STREAM_NON_BLOCKING as u32;
    // SAFETY: a context is current; writes one handle.
    check("cuStreamCreate", unsafe { sys::cuStreamCreate(&raw mut stream, flags) })?;
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gpu_is_described_in_one_line() {
        let properties = Properties {
            name: "NVIDIA H100 80GB HBM3".to_owned(),
            capability: 90,
            memory: 85_028_765_696,
            driver: (12, 8),
            clocks: (1980, 2619),
        };
        let expected = "NVIDIA H100 80GB HBM3, compute capability 9.0, 79.2 GiB, up to 1980 MHz, memory 2619 MHz, driver for CUDA 12.8";
        assert_eq!(properties.description(), expected);
    }
}
