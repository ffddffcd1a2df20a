//! Places in a stream that can be waited for.

use super::call::check;
use super::context::Context;
use crate::error::Result;
use cudarc::driver::sys::{self, CUevent, CUresult, CUstream};
use std::ptr::null_mut;
use std::sync::Arc;

/// A place in a stream; before it is recorded, one that has been reached.
#[derive(Debug)]
pub(super) struct Event {
    context: Arc<Context>,
    event: CUevent,
}

// SAFETY: a handle of the driver, which may be used from any thread.
unsafe impl Send for Event {}
// SAFETY: as above.
unsafe impl Sync for Event {}

impl Event {
    /// The context is current.
    pub(super) fn new(context: &Arc<Context>) -> Result<Self> {
        let mut event = null_mut();
        let flags = sys::CUevent_flags_enum::CU_EVENT_DISABLE_TIMING as u32;
        // SAFETY: a context is current; writes one handle.
        check("cuEventCreate", unsafe { sys::cuEventCreate(&raw mut event, flags) })?;
        Ok(Self { context: Arc::clone(context), event })
    }

    /// Puts it after all that the stream has been asked for.
    pub(super) fn record(&self, stream: CUstream) -> Result<()> {
        // SAFETY: both live in one context.
        check("cuEventRecord", unsafe { sys::cuEventRecord(self.event, stream) })
    }

    /// Lets a stream go on only when it has been reached.
    pub(super) fn hold(&self, stream: CUstream) -> Result<()> {
        // SAFETY: both live in one context.
        check("cuStreamWaitEvent", unsafe { sys::cuStreamWaitEvent(stream, self.event, 0) })
    }

    /// Whether it has been reached.
    pub(super) fn is_reached(&self) -> Result<bool> {
        // SAFETY: it lives.
        match unsafe { sys::cuEventQuery(self.event) } {
            CUresult::CUDA_ERROR_NOT_READY => Ok(false),
            result => check("cuEventQuery", result).map(|()| true),
        }
    }

    /// Waits until it is reached, and says if work before it failed.
    pub(super) fn wait(&self) -> Result<()> {
        // SAFETY: it lives.
        check("cuEventSynchronize", unsafe { sys::cuEventSynchronize(self.event) })
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        if self.context.make_current().is_ok() {
            // SAFETY: made in `new`; the driver lets pending work that knows it end.
            _ = unsafe { sys::cuEventDestroy_v2(self.event) };
        }
    }
}
