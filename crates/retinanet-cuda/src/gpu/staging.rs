//! The way of bytes between the host and the device: through pinned memory, in chunks.
//!
//! Bytes that come in travel on the copy stream into a buffer of the device while the compute stream still works on what was asked
//! for before; only the copy from there to where they belong, which takes next to no time, waits for its turn.

use super::call::check;
use super::context::Context;
use super::event::Event;
use super::memory::Block;
use crate::device::Fetch;
use crate::error::Result;
use cudarc::driver::sys::{self, CUdeviceptr};
use std::collections::VecDeque;
use std::ffi::c_void;
use std::ptr::null_mut;
use std::sync::Arc;

/// Long enough that the calls for a chunk cost nothing beside its way over the bus.
pub(super) const CHUNK: usize = 8 << 20;
/// Chunks under way at most: two batches of images of usual size.
const MAX_CHUNKS: usize = 16;
/// So few bytes the driver takes into the command itself, and returns at once.
pub(super) const SMALL: usize = 64 << 10;

/// Memory of the host that does not move.
#[derive(Debug)]
struct Pinned {
    context: Arc<Context>,
    memory: *mut c_void,
}

// SAFETY: plain memory with one owner.
unsafe impl Send for Pinned {}

impl Pinned {
    /// A chunk. The context is current.
    fn new(context: &Arc<Context>) -> Result<Self> {
        let mut memory = null_mut();
        // SAFETY: writes one address.
        check("cuMemHostAlloc", unsafe { sys::cuMemHostAlloc(&raw mut memory, CHUNK, 0) })?;
        // Bytes that nobody wrote are not to be read, not even these.
        // SAFETY: so many have just been allocated.
        unsafe { memory.write_bytes(0, CHUNK) };
        Ok(Self { context: Arc::clone(context), memory })
    }

    fn bytes(&self) -> &[u8] {
        // SAFETY: a chunk was allocated and filled, and nothing writes it while `self` is borrowed and no copy is under way.
        unsafe { std::slice::from_raw_parts(self.memory.cast(), CHUNK) }
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and borrowed by nobody else.
        unsafe { std::slice::from_raw_parts_mut(self.memory.cast(), CHUNK) }
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        if self.context.make_current().is_ok() {
            // SAFETY: allocated in `new`.
            _ = unsafe { sys::cuMemFreeHost(self.memory) };
        }
    }
}

/// A chunk on its way in: the host's side, the device's, and how far it has come.
#[derive(Debug)]
pub(super) struct Chunk {
    host: Pinned,
    device: Block,
    arrived: Event,
    taken: Event,
}

impl Chunk {
    fn new(context: &Arc<Context>) -> Result<Self> {
        let device = Block::new(context, CHUNK)?;
        let chunk =
            Self { host: Pinned::new(context)?, device, arrived: Event::new(context)?, taken: Event::new(context)? };
        // The memory is the compute stream's from here on; the copy stream must not write it before.
        chunk.taken.record(context.compute)?;
        chunk.taken.hold(context.copy)?;
        Ok(chunk)
    }

    /// Puts bytes of the caller's into it. Nothing is under way in it.
    pub(super) fn fill(&mut self, bytes: &[u8]) {
        self.host.bytes_mut()[..bytes.len()].copy_from_slice(bytes);
    }

    /// Sends its first bytes to where they belong. The context is current.
    ///
    /// # Safety
    /// So many bytes, at most a chunk, are allocated there.
    pub(super) unsafe fn send(&self, context: &Context, to: CUdeviceptr, bytes: usize) -> Result<()> {
        // SAFETY: both sides of the chunk are so long, and nothing else uses them until `taken` is reached.
        check("cuMemcpyHtoDAsync", unsafe {
            sys::cuMemcpyHtoDAsync_v2(self.device.address, self.host.memory, bytes, context.copy)
        })?;
        self.arrived.record(context.copy)?;
        self.arrived.hold(context.compute)?;
        // SAFETY: as above, and as the caller says.
        check("cuMemcpyDtoDAsync", unsafe {
            sys::cuMemcpyDtoDAsync_v2(to, self.device.address, bytes, context.compute)
        })?;
        self.taken.record(context.compute)
    }
}

/// A chunk on its way out.
#[derive(Debug)]
pub(super) struct Landing {
    host: Pinned,
    landed: Event,
}

impl Landing {
    fn new(context: &Arc<Context>) -> Result<Self> {
        Ok(Self { host: Pinned::new(context)?, landed: Event::new(context)? })
    }

    /// Fetches bytes, at most a chunk, after all work before. The context is current.
    ///
    /// # Safety
    /// So many bytes are allocated there.
    pub(super) unsafe fn fetch(&self, context: &Context, from: CUdeviceptr, bytes: usize) -> Result<()> {
        // SAFETY: as the caller says; the host's side is so long, and nothing reads it until `landed` is reached.
        check("cuMemcpyDtoHAsync", unsafe {
            sys::cuMemcpyDtoHAsync_v2(self.host.memory, from, bytes, context.compute)
        })?;
        self.landed.record(context.compute)
    }

    /// What was fetched, when it is there.
    pub(super) fn wait(&self) -> Result<&[u8]> {
        self.landed.wait()?;
        Ok(self.host.bytes())
    }
}

/// Bytes that were asked for, and whose chunk is lent until they are received.
#[derive(Debug)]
pub(super) struct Underway {
    landing: Option<Landing>,
    bytes: usize,
}

impl Underway {
    /// Of a landing in which so many bytes are under way.
    pub(super) fn new(landing: Landing, bytes: usize) -> Self {
        Self { landing: Some(landing), bytes }
    }

    /// The landing, if it is of this context, and how many bytes are to come.
    pub(super) fn take(mut self, context: &Arc<Context>) -> Option<(Landing, usize)> {
        let is_here = self.landing.as_ref().is_some_and(|landing| Arc::ptr_eq(&landing.host.context, context));
        if is_here { self.landing.take().map(|landing| (landing, self.bytes)) } else { None }
    }
}

impl Fetch for Underway {}

impl Drop for Underway {
    fn drop(&mut self) {
        // The memory is not to be given back while it is written.
        if let Some(landing) = &self.landing
            && landing.host.context.make_current().is_ok()
        {
            _ = landing.wait();
        }
    }
}

/// Chunks that are used again.
#[derive(Debug, Default)]
pub(super) struct Staging {
    /// In the order in which they were sent.
    sent: VecDeque<Chunk>,
    made: usize,
    idle: Vec<Landing>,
}

impl Staging {
    /// A chunk with nothing under way: the oldest if it has arrived, else a new one while there are few, else the oldest.
    pub(super) fn chunk(&mut self, context: &Arc<Context>) -> Result<Chunk> {
        let is_free = match self.sent.front() {
            Some(oldest) => self.made >= MAX_CHUNKS || oldest.taken.is_reached()?,
            None => false,
        };
        if is_free && let Some(oldest) = self.sent.pop_front() {
            oldest.taken.wait()?;
            return Ok(oldest);
        }
        let chunk = Chunk::new(context)?;
        self.made += 1;
        Ok(chunk)
    }

    /// Takes back a chunk that was sent.
    pub(super) fn sent(&mut self, chunk: Chunk) {
        self.sent.push_back(chunk);
    }

    /// A place to read into.
    pub(super) fn landing(&mut self, context: &Arc<Context>) -> Result<Landing> {
        self.idle.pop().map_or_else(|| Landing::new(context), Ok)
    }

    /// Takes back a place with nothing under way.
    pub(super) fn landed(&mut self, landing: Landing) {
        self.idle.push(landing);
    }
}

/// Copies few bytes in, through the command itself. The context is current.
///
/// # Safety
/// So many bytes are allocated there.
pub(super) unsafe fn send_small(context: &Context, to: CUdeviceptr, bytes: &[u8]) -> Result<()> {
    // SAFETY: as the caller says; memory that is not pinned has been read when the call returns.
    check("cuMemcpyHtoDAsync", unsafe {
        sys::cuMemcpyHtoDAsync_v2(to, bytes.as_ptr().cast(), bytes.len(), context.compute)
    })
}
