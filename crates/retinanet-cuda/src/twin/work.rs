//! What the twin is asked for.

use super::compiler::Libraries;
use super::convolution::convolve;
use crate::device::{Address, Argument, Convolution, Pass, Source};
use crate::error::Result;
use retinanet_ops::kernels::cpu::training::Workspace;
use std::sync::{Mutex, TryLockError};

/// One piece of it.
#[derive(Debug)]
pub(super) enum Work {
    Copy { from: Address, to: Address, bytes: usize },
    Zero { to: Address, bytes: usize },
    Launch { source: &'static Source, kernel: &'static str, grid: [u32; 3], threads: u32, arguments: Vec<Argument> },
    Convolve(Convolution, Pass),
}

impl Work {
    /// Does it.
    ///
    /// # Safety
    /// The memory that it is about is there, as large as it says.
    pub(super) unsafe fn run(&self, libraries: &Libraries, workspace: &Mutex<Workspace>) -> Result<()> {
        // SAFETY: the caller vouches for all memory.
        unsafe {
            match self {
                &Self::Copy { from, to, bytes } => {
                    pointer::<u8>(to).copy_from_nonoverlapping(pointer(from), bytes);
                    Ok(())
                }
                &Self::Zero { to, bytes } => {
                    pointer::<u8>(to).write_bytes(0, bytes);
                    Ok(())
                }
                Self::Launch { source, kernel, grid, threads, arguments } => {
                    libraries.launch(source, kernel, *grid, *threads, arguments)
                }
                Self::Convolve(convolution, pass) => {
                    // Waiting for it could wait for this very thread: while it is waiting for the tasks of a convolution, it
                    // may have been given a task that asks for another.
                    match workspace.try_lock() {
                        Ok(mut workspace) => convolve(convolution, pass, &mut workspace),
                        Err(TryLockError::Poisoned(workspace)) => {
                            convolve(convolution, pass, &mut workspace.into_inner());
                        }
                        Err(TryLockError::WouldBlock) => convolve(convolution, pass, &mut Workspace::default()),
                    }
                    Ok(())
                }
            }
        }
    }
}

/// The twin's addresses are the processor's.
pub(super) fn pointer<T>(address: Address) -> *mut T {
    std::ptr::with_exposed_provenance_mut(address.0 as usize)
}
