//! Files of kernels as libraries of the machine's C++ compiler.

use crate::device::{Argument, Source};
use crate::error::{Error, Result};
use libloading::Library;
use std::collections::HashMap;
use std::ffi::{CStr, CString, c_char};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use tempfile::TempDir;

/// CUDA's words for a C++ compiler.
const PRELUDE: &str = include_str!("../../kernels/host.h");

/// What the prelude makes of a kernel; returns what is wrong, or null.
type Entry =
    unsafe extern "C" fn(grid: *const u32, threads: u32, kinds: *const c_char, arguments: *const u64) -> *const c_char;

/// The libraries that were compiled so far, by the name of their source.
#[derive(Debug)]
pub(super) struct Libraries {
    // Before the folder that they lie in, as they are dropped in this order.
    loaded: Mutex<HashMap<&'static str, Library>>,
    folder: TempDir,
}

fn missing(what: String) -> Error {
    let advice = "install a C++ compiler under this name: the twin compiles the kernels with it".to_owned();
    Error::Library { library: COMPILER.to_owned(), what, advice }
}

const COMPILER: &str = "c++";

impl Libraries {
    pub(super) fn new() -> Result<Self> {
        match Command::new(COMPILER).arg("--version").output() {
            Ok(output) if output.status.success() => {}
            Ok(output) => return Err(missing(format!("asked for its version, it ended with {}", output.status))),
            Err(error) => return Err(missing(error.to_string())),
        }
        let folder = tempfile::tempdir().map_err(|error| missing(format!("no folder for its results: {error}")))?;
        Ok(Self { loaded: Mutex::default(), folder })
    }

    /// Runs a kernel.
    ///
    /// # Safety
    /// The memory of the arguments is as large as the kernel says.
    pub(super) unsafe fn launch(
        &self,
        source: &'static Source,
        kernel: &'static str,
        grid: [u32; 3],
        threads: u32,
        arguments: &[Argument],
    ) -> Result<()> {
        let entry = self.entry(source, kernel)?;
        let kinds: Vec<u8> = arguments.iter().map(kind).collect();
        let kinds = CString::new(kinds).map_err(|_| missing("an argument has no kind".to_owned()))?;
        let words: Vec<u64> = arguments.iter().map(word).collect();
        // SAFETY: the entry has compared the number and kinds of arguments with the kernel's parameters before it calls it;
        // the caller vouches for their memory. What it returns is null or a text of the library, which stays loaded.
        let problem = unsafe {
            let problem = entry(grid.as_ptr(), threads, kinds.as_ptr(), words.as_ptr());
            (!problem.is_null()).then(|| CStr::from_ptr(problem).to_string_lossy().into_owned())
        };
        match problem {
            Some(message) => Err(Error::Call { call: kernel, message }),
            None => Ok(()),
        }
    }

    fn entry(&self, source: &'static Source, kernel: &'static str) -> Result<Entry> {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if !loaded.contains_key(source.name) {
            loaded.insert(source.name, self.compile(source)?);
        }
        let symbol = format!("twin_{kernel}");
        // SAFETY: every symbol of this name is made by the prelude with this type; the library is never unloaded before `self`
        // is dropped.
        let entry = unsafe { loaded[source.name].get::<Entry>(symbol.as_bytes()) };
        entry.map(|entry| *entry).map_err(|error| Error::Call { call: kernel, message: error.to_string() })
    }

    fn compile(&self, source: &'static Source) -> Result<Library> {
        let failed = |message: String| Error::Compile { source_name: source.name, message };
        let (text, library) =
            (self.folder.path().join(source.name), self.folder.path().join(format!("{}.so", source.name)));
        let parts = [("host.h", PRELUDE), (source.name, source.text)];
        let whole: String = parts.iter().map(|(name, part)| format!("#line 1 \"{name}\"\n{part}\n")).collect();
        std::fs::write(&text, whole).map_err(|error| failed(error.to_string()))?;
        let mut command = Command::new(COMPILER);
        // Products and sums are rounded one by one, as on a GPU; fibers leave their stacks by longjmp, which fortified
        // functions take for an overflow.
        command.args(["-std=c++17", "-O2", "-ffp-contract=off", "-U_FORTIFY_SOURCE", "-fPIC", "-shared"]);
        command.args(["-fvisibility=hidden", "-Wno-unknown-pragmas", "-x", "c++"]);
        let output = command.arg(&text).arg("-o").arg(&library).output().map_err(|error| failed(error.to_string()))?;
        if !output.status.success() {
            return Err(failed(String::from_utf8_lossy(&output.stderr).into_owned()));
        }
        // SAFETY: the library was made of the text above, which runs nothing when it is loaded.
        unsafe { Library::new(&library) }.map_err(|error| failed(error.to_string()))
    }
}

/// The letter that the prelude knows an argument's type by.
fn kind(argument: &Argument) -> u8 {
    match argument {
        Argument::Address(_) => b'p',
        Argument::I32(_) => b'i',
        Argument::I64(_) => b'l',
        Argument::F32(_) => b'f',
    }
}

/// Its bytes, the first ones first.
fn word(argument: &Argument) -> u64 {
    let mut bytes = [0; 8];
    match argument {
        Argument::Address(address) => bytes = address.0.to_ne_bytes(),
        Argument::I32(value) => bytes[..4].copy_from_slice(&value.to_ne_bytes()),
        Argument::I64(value) => bytes = value.to_ne_bytes(),
        Argument::F32(value) => bytes[..4].copy_from_slice(&value.to_ne_bytes()),
    }
    u64::from_ne_bytes(bytes)
}
