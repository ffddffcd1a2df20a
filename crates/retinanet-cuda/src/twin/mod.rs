//! The kernels on the processor.

mod compiler;
mod convolution;
mod work;

use crate::device::{Address, Convolution, Device, Fetch, Launch, Pass, Recording, check_fetch};
use crate::error::{Error, Result};
use compiler::Libraries;
use retinanet_ops::kernels::cpu::training::Workspace;
use std::alloc::Layout;
use std::any::Any;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::ThreadId;
use work::Work;

/// Kernels and engines on the processor, for tests: the same `.cu` files through the machine's C++ compiler, one block after
/// another, and the convolutions of `retinanet-ops`. Slow; what it says of arithmetic holds on a GPU, what it says of races
/// between blocks does not, as it has none.
///
/// New memory is filled with bytes that are no number in any storage, so that reading what was never written is seen.
///
/// ```
/// use retinanet_cuda::{Device, Memory, Twin};
/// use std::sync::Arc;
///
/// # fn main() -> Result<(), retinanet_cuda::Error> {
/// let device: Arc<dyn Device> = Arc::new(Twin::new()?);
/// let memory = Memory::of(&device, &[1, 2, 3])?;
/// let mut bytes = [0; 3];
/// memory.span().read(&mut bytes)?;
/// assert_eq!(bytes, [1, 2, 3]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Twin {
    libraries: Libraries,
    /// What threads are recording at the moment.
    recorders: Mutex<HashMap<ThreadId, Vec<Work>>>,
    workspace: Mutex<Workspace>,
    /// Whose recordings and fetched bytes are whose.
    identity: Arc<()>,
}

#[derive(Debug)]
struct Kept {
    work: Vec<Work>,
    identity: Arc<()>,
}

impl Recording for Kept {}

#[derive(Debug)]
struct Fetched {
    bytes: Vec<u8>,
    identity: Arc<()>,
}

impl Fetch for Fetched {}

impl Twin {
    /// A device of its own. Each file of kernels is compiled when it is used for the first time.
    ///
    /// # Errors
    /// There is no C++ compiler called `c++`, or no folder for what it makes.
    pub fn new() -> Result<Self> {
        Ok(Self {
            libraries: Libraries::new()?,
            recorders: Mutex::default(),
            workspace: Mutex::default(),
            identity: Arc::new(()),
        })
    }

    fn recorders(&self) -> MutexGuard<'_, HashMap<ThreadId, Vec<Work>>> {
        self.recorders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn refuse_in_recording(&self, what: &str) -> Result<()> {
        if self.recorders().contains_key(&std::thread::current().id()) {
            return Err(mismatch("recording", "launches, convolutions, copies within the device and fills", what));
        }
        Ok(())
    }

    /// Does work, and keeps it where this thread is recording.
    ///
    /// # Safety
    /// As for the work itself.
    unsafe fn run(&self, work: Work) -> Result<()> {
        // SAFETY: the caller's.
        unsafe { work.run(&self.libraries, &self.workspace)? };
        if let Some(recorder) = self.recorders().get_mut(&std::thread::current().id()) {
            recorder.push(work);
        }
        Ok(())
    }
}

fn mismatch(place: &str, expected: &str, found: &str) -> Error {
    Error::Mismatch { place: place.to_owned(), expected: expected.to_owned(), found: found.to_owned() }
}

/// As the GPU has it.
const ALIGNMENT: usize = 256;
/// A NaN in f64, f32 and bf16.
const NO_NUMBER: u8 = 0xff;

fn layout(bytes: usize) -> Option<Layout> {
    Layout::from_size_align(bytes.max(1), ALIGNMENT).ok()
}

impl Device for Twin {
    fn description(&self) -> String {
        "twin: the kernels on the processor".to_owned()
    }

    fn allocate(&self, bytes: usize) -> Result<Address> {
        self.refuse_in_recording("an allocation")?;
        // SAFETY: the size is not 0.
        let memory = layout(bytes).map_or(std::ptr::null_mut(), |layout| unsafe { std::alloc::alloc(layout) });
        if memory.is_null() {
            return Err(Error::OutOfMemory { bytes, free: 0 });
        }
        // SAFETY: it was just allocated with so many bytes.
        unsafe { memory.write_bytes(NO_NUMBER, bytes) };
        Ok(Address(memory as u64))
    }

    unsafe fn release(&self, address: Address, bytes: usize) {
        if let Some(layout) = layout(bytes) {
            // SAFETY: the caller vouches that it was allocated above with so many bytes, which is this layout.
            unsafe { std::alloc::dealloc(work::pointer(address), layout) }
        }
    }

    unsafe fn write(&self, to: Address, bytes: &[u8]) -> Result<()> {
        self.refuse_in_recording("a copy to the device")?;
        // SAFETY: the caller vouches for the memory, which the bytes of another slice are not.
        unsafe { work::pointer::<u8>(to).copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
        Ok(())
    }

    unsafe fn read(&self, from: Address, bytes: &mut [u8]) -> Result<()> {
        self.refuse_in_recording("a copy from the device")?;
        // SAFETY: as for `write`.
        unsafe { bytes.as_mut_ptr().copy_from_nonoverlapping(work::pointer(from), bytes.len()) };
        Ok(())
    }

    unsafe fn fetch(&self, from: Address, bytes: usize) -> Result<Box<dyn Fetch>> {
        check_fetch(bytes)?;
        let mut fetched = vec![0; bytes];
        // SAFETY: the caller's.
        unsafe { self.read(from, &mut fetched)? };
        Ok(Box::new(Fetched { bytes: fetched, identity: Arc::clone(&self.identity) }))
    }

    fn receive(&self, fetch: Box<dyn Fetch>) -> Result<Vec<u8>> {
        let fetch: Box<dyn Any> = fetch;
        let fetched = fetch.downcast::<Fetched>().ok().filter(|it| Arc::ptr_eq(&it.identity, &self.identity));
        fetched.map(|it| it.bytes).ok_or_else(|| mismatch("fetch", "bytes of this device", "another device's"))
    }

    unsafe fn copy(&self, from: Address, to: Address, bytes: usize) -> Result<()> {
        // SAFETY: the caller's.
        unsafe { self.run(Work::Copy { from, to, bytes }) }
    }

    unsafe fn zero(&self, to: Address, bytes: usize) -> Result<()> {
        // SAFETY: the caller's.
        unsafe { self.run(Work::Zero { to, bytes }) }
    }

    unsafe fn launch(&self, launch: &Launch<'_>) -> Result<()> {
        let &Launch { source, kernel, grid, threads, arguments } = launch;
        // SAFETY: the caller's.
        unsafe { self.run(Work::Launch { source, kernel, grid, threads, arguments: arguments.to_vec() }) }
    }

    unsafe fn convolve(&self, convolution: &Convolution, pass: &Pass) -> Result<()> {
        // SAFETY: the caller's.
        unsafe { self.run(Work::Convolve(*convolution, *pass)) }
    }

    fn synchronize(&self) -> Result<()> {
        self.refuse_in_recording("a wait")
    }

    fn record(&self, work: &mut dyn FnMut() -> Result<()>) -> Result<Box<dyn Recording>> {
        self.refuse_in_recording("a recording")?;
        let thread = std::thread::current().id();
        self.recorders().insert(thread, Vec::new());
        let result = work();
        let work = self.recorders().remove(&thread).unwrap_or_default();
        result.map(|()| Box::new(Kept { work, identity: Arc::clone(&self.identity) }) as Box<dyn Recording>)
    }

    unsafe fn replay(&self, recording: &dyn Recording) -> Result<()> {
        self.refuse_in_recording("a replay")?;
        let kept = (recording as &dyn Any).downcast_ref::<Kept>();
        let Some(kept) = kept.filter(|kept| Arc::ptr_eq(&kept.identity, &self.identity)) else {
            return Err(mismatch("replay", "a recording of this device", "another device's"));
        };
        // SAFETY: the work was vouched for when it was recorded, and its memory is by the caller.
        kept.work.iter().try_for_each(|work| unsafe { work.run(&self.libraries, &self.workspace) })
    }
}
