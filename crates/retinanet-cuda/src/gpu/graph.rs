//! Recorded work, as a CUDA graph.

use super::call::check;
use super::context::Context;
use super::memory::Block;
use crate::device::Recording;
use crate::error::Result;
use cudarc::driver::sys::{self, CUgraph, CUgraphExec, CUstreamCaptureMode};
use std::ptr::null_mut;
use std::sync::Arc;

/// Work on the compute stream that is kept instead of being done, until it is [finished](Self::finish) or dropped.
pub(super) struct Capture<'a> {
    context: &'a Arc<Context>,
    is_open: bool,
}

impl<'a> Capture<'a> {
    /// The context is current.
    pub(super) fn begin(context: &'a Arc<Context>) -> Result<Self> {
        // Other threads may go on with what has nothing to do with this stream.
        let mode = CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        // SAFETY: the stream lives.
        check("cuStreamBeginCapture", unsafe { sys::cuStreamBeginCapture_v2(context.compute, mode) })?;
        Ok(Self { context, is_open: true })
    }

    /// What was captured, to be launched. `workspace` is what convolutions in it use.
    pub(super) fn finish(mut self, workspace: Option<Arc<Block>>) -> Result<Graph> {
        let graph = self.end()?;
        let mut executable = null_mut();
        // SAFETY: a whole graph; writes one handle.
        let result = unsafe { sys::cuGraphInstantiateWithFlags(&raw mut executable, graph, 0) };
        // SAFETY: what was instantiated does not need it.
        _ = unsafe { sys::cuGraphDestroy(graph) };
        check("cuGraphInstantiate", result)?;
        Ok(Graph { context: Arc::clone(self.context), executable, _workspace: workspace })
    }

    fn end(&mut self) -> Result<CUgraph> {
        self.is_open = false;
        let mut graph = null_mut();
        // SAFETY: this thread began to capture the stream; writes one handle.
        check("cuStreamEndCapture", unsafe { sys::cuStreamEndCapture(self.context.compute, &raw mut graph) })?;
        Ok(graph)
    }
}

impl Drop for Capture<'_> {
    fn drop(&mut self) {
        if !self.is_open {
            return;
        }
        if let Ok(graph) = self.end() {
            // SAFETY: nobody else has it.
            _ = unsafe { sys::cuGraphDestroy(graph) };
        }
    }
}

/// Recorded work.
#[derive(Debug)]
pub(super) struct Graph {
    context: Arc<Context>,
    executable: CUgraphExec,
    /// As long as its convolutions may run, so long they have their workspace.
    _workspace: Option<Arc<Block>>,
}

// SAFETY: a handle of the driver, which may be used from any thread, by one at a time: it is launched under the device's lock.
unsafe impl Send for Graph {}
// SAFETY: as above.
unsafe impl Sync for Graph {}

impl Recording for Graph {}

impl Graph {
    /// Whether it was recorded there.
    pub(super) fn is_of(&self, context: &Arc<Context>) -> bool {
        Arc::ptr_eq(&self.context, context)
    }

    /// Does the work again. The context is current.
    ///
    /// # Safety
    /// The memory that it uses is still allocated.
    pub(super) unsafe fn launch(&self) -> Result<()> {
        // SAFETY: as the caller says.
        check("cuGraphLaunch", unsafe { sys::cuGraphLaunch(self.executable, self.context.compute) })
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        if self.context.make_current().is_ok() {
            // SAFETY: instantiated in `finish`; a launch that is still under way ends first.
            _ = unsafe { sys::cuGraphExecDestroy(self.executable) };
        }
    }
}
