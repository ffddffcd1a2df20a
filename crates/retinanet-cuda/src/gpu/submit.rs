//! Work in the order of the compute stream: [`Device`] of a GPU.

use super::call::check;
use super::event::Event;
use super::graph::{Capture, Graph};
use super::staging::{self, CHUNK, SMALL, Underway};
use super::state::State;
use super::{Gpu, memory};
use crate::device::{Address, Argument, Convolution, Device, Fetch, Launch, Pass, Recording, check_fetch};
use crate::error::{Error, Result};
use cudarc::driver::sys;
use std::any::Any;
use std::ffi::c_void;

impl Device for Gpu {
    fn description(&self) -> String {
        format!("{}, {}", self.context.properties.description(), self.versions)
    }

    fn allocate(&self, bytes: usize) -> Result<Address> {
        let state = self.order.enter(&self.context)?;
        state.check_not_capturing("allocation")?;
        memory::allocate(&self.context, bytes).map(Address)
    }

    unsafe fn release(&self, address: Address, _: usize) {
        // SAFETY: as the caller says.
        unsafe { self.context.give_back(address.0) }
    }

    unsafe fn write(&self, to: Address, bytes: &[u8]) -> Result<()> {
        if bytes.len() <= SMALL {
            let state = self.order.enter(&self.context)?;
            state.check_not_capturing("write")?;
            // SAFETY: as the caller says.
            return unsafe { staging::send_small(&self.context, to.0, bytes) };
        }
        for (part_idx, part) in bytes.chunks(CHUNK).enumerate() {
            let mut chunk = {
                let mut state = self.order.enter(&self.context)?;
                state.check_not_capturing("write")?;
                state.staging.chunk(&self.context)?
            };
            // Others go on while the bytes are copied.
            chunk.fill(part);
            let mut state = self.order.enter(&self.context)?;
            state.check_not_capturing("write")?;
            let to = to.0 + (part_idx * CHUNK) as u64;
            // SAFETY: as the caller says.
            unsafe { chunk.send(&self.context, to, part.len())? };
            state.staging.sent(chunk);
        }
        Ok(())
    }

    unsafe fn read(&self, from: Address, bytes: &mut [u8]) -> Result<()> {
        if bytes.is_empty() {
            return self.synchronize();
        }
        for (part_idx, part) in bytes.chunks_mut(CHUNK).enumerate() {
            let landing = {
                let mut state = self.order.enter(&self.context)?;
                state.check_not_capturing("read")?;
                let landing = state.staging.landing(&self.context)?;
                let from = from.0 + (part_idx * CHUNK) as u64;
                // SAFETY: as the caller says.
                unsafe { landing.fetch(&self.context, from, part.len())? };
                landing
            };
            // Others go on while it is waited for.
            part.copy_from_slice(&landing.wait()?[..part.len()]);
            self.order.enter(&self.context)?.staging.landed(landing);
        }
        Ok(())
    }

    unsafe fn fetch(&self, from: Address, bytes: usize) -> Result<Box<dyn Fetch>> {
        check_fetch(bytes)?;
        let mut state = self.order.enter(&self.context)?;
        state.check_not_capturing("fetch")?;
        let landing = state.staging.landing(&self.context)?;
        // SAFETY: as the caller says.
        unsafe { landing.fetch(&self.context, from.0, bytes)? };
        Ok(Box::new(Underway::new(landing, bytes)))
    }

    fn receive(&self, fetch: Box<dyn Fetch>) -> Result<Vec<u8>> {
        let fetch: Box<dyn Any> = fetch;
        let Some((landing, bytes)) = fetch.downcast::<Underway>().ok().and_then(|it| it.take(&self.context)) else {
            let (expected, found) = ("bytes of this GPU".to_owned(), "another device's".to_owned());
            return Err(Error::Mismatch { place: "fetch".to_owned(), expected, found });
        };
        self.context.make_current()?;
        let received = landing.wait()?[..bytes].to_vec();
        self.order.enter(&self.context)?.staging.landed(landing);
        Ok(received)
    }

    unsafe fn copy(&self, from: Address, to: Address, bytes: usize) -> Result<()> {
        let _state = self.order.enter(&self.context)?;
        // SAFETY: as the caller says.
        check("cuMemcpyDtoDAsync", unsafe { sys::cuMemcpyDtoDAsync_v2(to.0, from.0, bytes, self.context.compute) })
    }

    unsafe fn zero(&self, to: Address, bytes: usize) -> Result<()> {
        let _state = self.order.enter(&self.context)?;
        // SAFETY: as the caller says.
        check("cuMemsetD8Async", unsafe { sys::cuMemsetD8Async(to.0, 0, bytes, self.context.compute) })
    }

    unsafe fn launch(&self, launch: &Launch<'_>) -> Result<()> {
        let mut state = self.order.enter(&self.context)?;
        // SAFETY: as the caller says.
        unsafe { self.launch_in(&mut state, launch) }
    }

    unsafe fn convolve(&self, convolution: &Convolution, pass: &Pass) -> Result<()> {
        // SAFETY: as the caller says.
        unsafe { self.run_convolution(convolution, pass) }
    }

    fn synchronize(&self) -> Result<()> {
        let done = {
            let state = self.order.enter(&self.context)?;
            state.check_not_capturing("synchronisation")?;
            let done = Event::new(&self.context)?;
            done.record(self.context.compute)?;
            done
        };
        done.wait()
    }

    fn record(&self, work: &mut dyn FnMut() -> Result<()>) -> Result<Box<dyn Recording>> {
        // Declared first, it ends last.
        let _claim = self.order.claim()?;
        // For real: what is compiled, chosen and reserved when it is first wanted cannot be while work is captured.
        work()?;
        let capture = {
            let mut state = self.order.enter(&self.context)?;
            let capture = Capture::begin(&self.context)?;
            state.is_capturing = true;
            capture
        };
        let done = work();
        let mut state = self.order.enter(&self.context)?;
        state.is_capturing = false;
        let graph = capture.finish(state.workspace.clone());
        done?;
        Ok(Box::new(graph?))
    }

    unsafe fn replay(&self, recording: &dyn Recording) -> Result<()> {
        let recording: &dyn Any = recording;
        let graph = recording.downcast_ref::<Graph>().filter(|graph| graph.is_of(&self.context));
        let Some(graph) = graph else {
            let (expected, found) = ("one of this GPU".to_owned(), "another device's".to_owned());
            return Err(Error::Mismatch { place: "recording".to_owned(), expected, found });
        };
        let state = self.order.enter(&self.context)?;
        state.check_not_capturing("replay")?;
        // SAFETY: as the caller says.
        unsafe { graph.launch() }
    }
}

impl Gpu {
    /// Asks for a launch. The state is this thread's.
    ///
    /// # Safety
    /// As for [`Device::launch`].
    pub(super) unsafe fn launch_in(&self, state: &mut State, launch: &Launch<'_>) -> Result<()> {
        if launch.grid.contains(&0) {
            return Ok(());
        }
        let function = state.modules.function(launch.source, launch.kernel)?;
        let mut values: Vec<u64> = launch.arguments.iter().map(bits).collect();
        let mut pointers: Vec<*mut c_void> = values.iter_mut().map(|value| std::ptr::from_mut(value).cast()).collect();
        let [x, y, z] = launch.grid;
        // SAFETY: each pointer is to a value of the size of the kernel's parameter, as the caller says; they are copied.
        check("cuLaunchKernel", unsafe {
            sys::cuLaunchKernel(
                function,
                x,
                y,
                z,
                launch.threads,
                1,
                1,
                0,
                self.context.compute,
                pointers.as_mut_ptr(),
                std::ptr::null_mut(),
            )
        })
        .map_err(|error| match error {
            Error::Call { call, message } => {
                let place = format!("{}, grid {:?}, {} threads", launch.kernel, launch.grid, launch.threads);
                Error::Call { call, message: format!("{place}: {message}") }
            }
            other => other,
        })
    }
}

/// An argument as a kernel's parameter lies in memory, its first bytes first.
fn bits(argument: &Argument) -> u64 {
    match *argument {
        Argument::Address(Address(address)) => address,
        Argument::I32(value) => u64::from(value.cast_unsigned()),
        Argument::I64(value) => value.cast_unsigned(),
        Argument::F32(value) => u64::from(value.to_bits()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_lie_as_parameters_do() {
        let first = |argument: Argument| bits(&argument).to_ne_bytes();
        assert_eq!(first(Argument::I32(-2))[..4], (-2i32).to_ne_bytes());
        assert_eq!(first(Argument::F32(1.5))[..4], 1.5f32.to_ne_bytes());
        assert_eq!(first(Argument::I64(-3)), (-3i64).to_ne_bytes());
        assert_eq!(first(Argument::Address(Address(7))), 7u64.to_ne_bytes());
    }
}
