//! Kernels from their source, by NVRTC.

use crate::device::Source;
use crate::error::{Error, Result};
use cudarc::nvrtc::sys::{self, nvrtcProgram, nvrtcResult};
use std::ffi::{CStr, CString, c_char};
use std::ptr::{null, null_mut};

/// What a source is compiled to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// Code of this very compute capability.
    Machine(u32),
    /// PTX of this one, which the driver compiles for a newer GPU.
    Virtual(u32),
}

impl Target {
    /// The best for a GPU, of what the compiler knows.
    pub(super) fn of(capability: u32, supported: &[u32]) -> Result<Self> {
        match supported.iter().copied().filter(|&supported| supported <= capability).max() {
            Some(best) if best == capability => Ok(Self::Machine(best)),
            Some(best) => Ok(Self::Virtual(best)),
            None => {
                let what = format!("expected it to compile for compute capability {capability}, found {supported:?}");
                Err(Error::Library {
                    library: "libnvrtc".to_owned(),
                    what,
                    advice: "install an older version".to_owned(),
                })
            }
        }
    }

    fn option(self) -> String {
        match self {
            Self::Machine(capability) => format!("--gpu-architecture=sm_{capability}"),
            Self::Virtual(capability) => format!("--gpu-architecture=compute_{capability}"),
        }
    }
}

fn check(call: &'static str, result: nvrtcResult) -> Result<()> {
    if result == nvrtcResult::NVRTC_SUCCESS {
        return Ok(());
    }
    // SAFETY: the text is a constant of the library.
    let message = unsafe { CStr::from_ptr(sys::nvrtcGetErrorString(result)) };
    Err(Error::Call { call, message: message.to_string_lossy().into_owned() })
}

/// Major and minor. The library is open.
pub(super) fn version() -> Result<(u32, u32)> {
    let (mut major, mut minor) = (0, 0);
    // SAFETY: writes two numbers.
    check("nvrtcVersion", unsafe { sys::nvrtcVersion(&raw mut major, &raw mut minor) })?;
    Ok((major.unsigned_abs(), minor.unsigned_abs()))
}

/// The compute capabilities that the compiler knows. The library is open.
pub(super) fn supported() -> Result<Vec<u32>> {
    let mut count = 0;
    // SAFETY: writes one number.
    check("nvrtcGetNumSupportedArchs", unsafe { sys::nvrtcGetNumSupportedArchs(&raw mut count) })?;
    let mut known = vec![0; usize::try_from(count).unwrap_or(0)];
    // SAFETY: writes so many numbers.
    check("nvrtcGetSupportedArchs", unsafe { sys::nvrtcGetSupportedArchs(known.as_mut_ptr()) })?;
    Ok(known.into_iter().map(i32::unsigned_abs).collect())
}

/// A program that is destroyed when it is dropped.
struct Program(nvrtcProgram);

impl Drop for Program {
    fn drop(&mut self) {
        // SAFETY: it was created in `compile`.
        _ = unsafe { sys::nvrtcDestroyProgram(&raw mut self.0) };
    }
}

/// Machine code, or PTX with its zero, of a source. The library is open.
///
/// # Errors
/// It does not compile; the error holds what the compiler says.
pub(super) fn compile(source: &Source, target: Target) -> Result<Vec<u8>> {
    let bad = |message: String| Error::Compile { source_name: source.name, message };
    let text = CString::new(source.text).map_err(|error| bad(error.to_string()))?;
    let name = CString::new(source.name).map_err(|error| bad(error.to_string()))?;
    let mut program = Program(null_mut());
    // SAFETY: both texts end with a zero; there are no headers; writes one handle.
    check("nvrtcCreateProgram", unsafe {
        sys::nvrtcCreateProgram(&raw mut program.0, text.as_ptr(), name.as_ptr(), 0, null(), null())
    })?;
    // Products and sums are rounded one by one, as on the processor: IoUs that decide something must not differ in the last bit.
    let options = [target.option(), "--std=c++17".to_owned(), "--fmad=false".to_owned()]
        .map(|option| CString::new(option).expect("no zero"));
    let options = options.each_ref().map(|option| option.as_ptr());
    // SAFETY: three texts that end with zeros.
    let result = unsafe { sys::nvrtcCompileProgram(program.0, 3, options.as_ptr()) };
    if result == nvrtcResult::NVRTC_ERROR_COMPILATION {
        return Err(bad(log(&program)?));
    }
    check("nvrtcCompileProgram", result)?;
    match target {
        Target::Machine(_) => output(&program, sys::nvrtcGetCUBINSize, sys::nvrtcGetCUBIN),
        Target::Virtual(_) => output(&program, sys::nvrtcGetPTXSize, sys::nvrtcGetPTX),
    }
}

/// What the compiler says, without the lines that only say what is obvious.
fn log(program: &Program) -> Result<String> {
    let log = output(program, sys::nvrtcGetProgramLogSize, sys::nvrtcGetProgramLog)?;
    Ok(String::from_utf8_lossy(&log).trim_end_matches(['\0', '\n']).to_owned())
}

type Size = unsafe fn(nvrtcProgram, *mut usize) -> nvrtcResult;
type Content = unsafe fn(nvrtcProgram, *mut c_char) -> nvrtcResult;

fn output(program: &Program, size: Size, content: Content) -> Result<Vec<u8>> {
    let mut len = 0;
    // SAFETY: writes one number.
    check("nvrtcGet...Size", unsafe { size(program.0, &raw mut len) })?;
    let mut bytes = vec![0u8; len];
    // SAFETY: writes as many bytes as it said.
    check("nvrtcGet...", unsafe { content(program.0, bytes.as_mut_ptr().cast()) })?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::library::{Library, folders_of_tests};
    use crate::kernels::SOURCES;
    use std::time::Instant;

    /// NVRTC needs no GPU.
    fn is_here() -> bool {
        let found = Library::Nvrtc.open(&folders_of_tests(), 13);
        if let Err(error) = &found {
            println!("skipped: {error}");
        }
        found.is_ok()
    }

    #[test]
    fn all_kernels_compile_for_old_and_new_gpus() {
        if !is_here() {
            return;
        }
        println!("NVRTC {:?} for {:?}", version().expect("a version"), supported().expect("a list"));
        for source in SOURCES {
            let start = Instant::now();
            for capability in [75, 80, 90] {
                let code = compile(source, Target::Machine(capability))
                    .unwrap_or_else(|error| panic!("sm_{capability}: {error}"));
                assert!(code.starts_with(b"\x7fELF"), "{}, sm_{capability}: machine code", source.name);
            }
            println!("{}: {:.1} s for each", source.name, start.elapsed().as_secs_f64() / 3.0);
            let code = compile(source, Target::Virtual(75)).unwrap_or_else(|error| panic!("{error}"));
            assert!(code.ends_with(&[0]) && code.windows(7).any(|text| text == b".entry "), "{}: PTX", source.name);
        }
    }

    #[test]
    fn what_the_compiler_says_is_told() {
        static BROKEN: Source = Source { name: "broken.cu", text: "extern \"C\" __global__ void k() { nothing(); }" };
        if !is_here() {
            return;
        }
        let message = compile(&BROKEN, Target::Machine(80)).expect_err("nothing of this name").to_string();
        assert!(
            message.starts_with("broken.cu: broken.cu(1): error: identifier \"nothing\" is undefined"),
            "{message}"
        );
    }

    #[test]
    fn a_gpu_newer_than_the_compiler_gets_ptx() {
        let supported = [75, 80, 86, 89, 90];
        assert_eq!(Target::of(90, &supported).expect("known"), Target::Machine(90));
        assert_eq!(Target::of(87, &supported).expect("older ones are known"), Target::Virtual(86));
        assert_eq!(Target::of(120, &supported).expect("older ones are known"), Target::Virtual(90));
        let message = Target::of(70, &supported).expect_err("none is old enough").to_string();
        assert!(message.contains("compute capability 70, found [75, 80, 86, 89, 90]"), "{message}");
        assert_eq!(Target::Machine(75).option(), "--gpu-architecture=sm_75");
        assert_eq!(Target::Virtual(90).option(), "--gpu-architecture=compute_90");
    }
}
