//! Memory from the driver's pool, in the order of the compute stream.

use super::call::check;
use super::context::Context;
use crate::error::{Error, Result};
use cudarc::driver::sys::{self, CUdeviceptr, CUmemPool_attribute, CUmemoryPool, CUresult};
use std::ptr::null_mut;
use std::sync::Arc;

/// Keeps what was given back instead of returning it to the system at the next synchronisation, so that a step that frees and
/// reserves again costs no call of the system.
pub(super) fn keep_freed_memory(context: &Context) -> Result<()> {
    let mut threshold = u64::MAX;
    let attribute = CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
    // SAFETY: the attribute is a `cuuint64_t`, which is only read.
    check("cuMemPoolSetAttribute", unsafe {
        sys::cuMemPoolSetAttribute(pool(context)?, attribute, (&raw mut threshold).cast())
    })
}

fn pool(context: &Context) -> Result<CUmemoryPool> {
    let mut pool = null_mut();
    // SAFETY: writes one handle.
    check("cuDeviceGetDefaultMemPool", unsafe { sys::cuDeviceGetDefaultMemPool(&raw mut pool, context.device()) })?;
    Ok(pool)
}

/// Reserves memory for work that is asked for from here on; its address is a multiple of 256. The context is current, and nothing
/// is captured.
pub(super) fn allocate(context: &Context, bytes: usize) -> Result<CUdeviceptr> {
    context.free_returned();
    let mut address = 0;
    let mut attempt = || {
        // SAFETY: the stream lives in the current context; writes one address.
        unsafe { sys::cuMemAllocAsync(&raw mut address, bytes, context.compute) }
    };
    let mut result = attempt();
    if result == CUresult::CUDA_ERROR_OUT_OF_MEMORY {
        // What the pool keeps may lie in pieces that are all too small.
        // SAFETY: stream and pool live in the current context.
        unsafe {
            check("cuStreamSynchronize", sys::cuStreamSynchronize(context.compute))?;
            check("cuMemPoolTrimTo", sys::cuMemPoolTrimTo(pool(context)?, 0))?;
        }
        result = attempt();
    }
    if result == CUresult::CUDA_ERROR_OUT_OF_MEMORY {
        let (mut free, mut total) = (0, 0);
        // SAFETY: writes two numbers.
        check("cuMemGetInfo", unsafe { sys::cuMemGetInfo_v2(&raw mut free, &raw mut total) })?;
        return Err(Error::OutOfMemory { bytes, free });
    }
    check("cuMemAllocAsync", result)?;
    Ok(address)
}

/// Memory that is given back when nobody holds it any more.
#[derive(Debug)]
pub(super) struct Block {
    context: Arc<Context>,
    pub(super) address: CUdeviceptr,
    pub(super) bytes: usize,
}

impl Block {
    pub(super) fn new(context: &Arc<Context>, bytes: usize) -> Result<Self> {
        Ok(Self { context: Arc::clone(context), address: allocate(context, bytes)?, bytes })
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        // SAFETY: allocated in `new`; work that uses it was asked for while somebody held it.
        unsafe { self.context.give_back(self.address) }
    }
}
