//! Kernels that are compiled and loaded when they are first launched.

use super::cache::Cache;
use super::call::check;
use super::context::Context;
use super::nvrtc::{self, Target};
use crate::device::Source;
use crate::error::{Error, Result};
use cudarc::driver::sys::{self, CUfunction, CUmodule};
use std::collections::HashMap;
use std::ffi::CString;
use std::ptr::null_mut;
use std::sync::Arc;

/// Sources by their names, kernels by source and name.
#[derive(Debug)]
pub(super) struct Modules {
    context: Arc<Context>,
    target: Target,
    cache: Cache,
    modules: HashMap<&'static str, CUmodule>,
    functions: HashMap<(&'static str, &'static str), CUfunction>,
}

// SAFETY: handles of the driver, which may be used from any thread.
unsafe impl Send for Modules {}

impl Modules {
    pub(super) fn new(context: &Arc<Context>, target: Target, cache: Cache) -> Self {
        Self { context: Arc::clone(context), target, cache, modules: HashMap::new(), functions: HashMap::new() }
    }

    /// A kernel. The context is current.
    pub(super) fn function(&mut self, source: &'static Source, kernel: &'static str) -> Result<CUfunction> {
        if let Some(function) = self.functions.get(&(source.name, kernel)) {
            return Ok(*function);
        }
        let module = self.module(source)?;
        let missing = |message: String| Error::Compile { source_name: source.name, message };
        let name = CString::new(kernel).map_err(|error| missing(error.to_string()))?;
        let mut function = null_mut();
        // SAFETY: the module is loaded; writes one handle.
        let result = unsafe { sys::cuModuleGetFunction(&raw mut function, module, name.as_ptr()) };
        if result == sys::CUresult::CUDA_ERROR_NOT_FOUND {
            return Err(missing(format!("expected a kernel {kernel}, found none")));
        }
        check("cuModuleGetFunction", result)?;
        self.functions.insert((source.name, kernel), function);
        Ok(function)
    }

    fn module(&mut self, source: &'static Source) -> Result<CUmodule> {
        if let Some(module) = self.modules.get(source.name) {
            return Ok(*module);
        }
        // What is kept may have been damaged: it is made anew.
        let kept = self.cache.get(source, self.target).and_then(|code| load(&code).ok());
        let module = match kept {
            Some(module) => module,
            None => {
                let code = nvrtc::compile(source, self.target)?;
                let module = load(&code)?;
                self.cache.put(source, self.target, &code);
                module
            }
        };
        self.modules.insert(source.name, module);
        Ok(module)
    }
}

/// Machine code, or PTX, which ends with a zero. A context is current.
fn load(code: &[u8]) -> Result<CUmodule> {
    let mut module = null_mut();
    // SAFETY: the driver checks what it is given, which is as long as it says, or ends with a zero; writes one handle.
    check("cuModuleLoadData", unsafe { sys::cuModuleLoadData(&raw mut module, code.as_ptr().cast()) })?;
    Ok(module)
}

impl Drop for Modules {
    fn drop(&mut self) {
        if self.context.make_current().is_ok() {
            for module in self.modules.values() {
                // SAFETY: loaded in `module`, and its kernels have been launched for the last time.
                _ = unsafe { sys::cuModuleUnload(*module) };
            }
        }
    }
}
