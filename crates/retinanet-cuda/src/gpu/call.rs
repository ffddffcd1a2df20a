//! What the driver's functions return, as errors.

use crate::error::{Error, Result};
use cudarc::driver::sys::{CUresult, cuGetErrorString};
use std::ffi::CStr;

/// An error that names the function, unless it succeeded.
pub(super) fn check(call: &'static str, result: CUresult) -> Result<()> {
    if result == CUresult::CUDA_SUCCESS { Ok(()) } else { Err(Error::Call { call, message: message(result) }) }
}

fn message(result: CUresult) -> String {
    let mut text = std::ptr::null();
    // SAFETY: the driver is open where there is a result of it; the text that it gives is a constant of it.
    unsafe {
        match cuGetErrorString(result, &raw mut text) {
            CUresult::CUDA_SUCCESS if !text.is_null() => CStr::from_ptr(text).to_string_lossy().into_owned(),
            _ => format!("{result:?}"),
        }
    }
}
