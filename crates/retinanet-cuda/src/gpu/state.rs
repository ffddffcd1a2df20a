//! What a GPU's callers share, and whose turn it is.

use super::context::Context;
use super::cudnn::Cudnn;
use super::memory::Block;
use super::modules::Modules;
use super::staging::Staging;
use crate::error::{Error, Result};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};

/// What is made on demand and kept.
#[derive(Debug)]
pub(super) struct State {
    pub(super) modules: Modules,
    /// Made when the first convolution is asked for.
    pub(super) cudnn: Option<Cudnn>,
    /// The largest that a convolution wanted so far.
    pub(super) workspace: Option<Arc<Block>>,
    pub(super) staging: Staging,
    /// Whether work is kept instead of done.
    pub(super) is_capturing: bool,
    /// The thread that records, which alone may ask for work.
    recorder: Option<ThreadId>,
}

impl State {
    pub(super) fn new(modules: Modules) -> Self {
        Self { modules, cudnn: None, workspace: None, staging: Staging::default(), is_capturing: false, recorder: None }
    }

    /// # Errors
    /// Work is being recorded, and this is nothing that can be.
    pub(super) fn check_not_capturing(&self, what: &str) -> Result<()> {
        if !self.is_capturing {
            return Ok(());
        }
        let expected = "launches, convolutions, copies within the device and fills alone".to_owned();
        Err(Error::Mismatch { place: "recording".to_owned(), expected, found: what.to_owned() })
    }
}

/// The state, for one thread at a time; while work is recorded, for the recording one alone.
#[derive(Debug)]
pub(super) struct Order {
    state: Mutex<State>,
    ended: Condvar,
}

impl Order {
    pub(super) fn new(state: State) -> Self {
        Self { state: Mutex::new(state), ended: Condvar::new() }
    }

    /// Waits for this thread's turn, and makes the context current.
    pub(super) fn enter(&self, context: &Context) -> Result<MutexGuard<'_, State>> {
        let state = self.wait();
        context.make_current()?;
        Ok(state)
    }

    fn wait(&self) -> MutexGuard<'_, State> {
        let me = thread::current().id();
        // A thread that panicked left handles, which are whole at any time.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        while state.recorder.is_some_and(|recorder| recorder != me) {
            state = self.ended.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state
    }

    /// Makes this thread the only one that may ask for work, until the claim is dropped.
    ///
    /// # Errors
    /// It already is.
    pub(super) fn claim(&self) -> Result<Claim<'_>> {
        let mut state = self.wait();
        if state.recorder.is_some() {
            let (expected, found) = ("one at a time".to_owned(), "one within another".to_owned());
            return Err(Error::Mismatch { place: "recording".to_owned(), expected, found });
        }
        state.recorder = Some(thread::current().id());
        Ok(Claim { order: self })
    }
}

/// See [`Order::claim`].
pub(super) struct Claim<'a> {
    order: &'a Order,
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        let mut state = self.order.wait();
        state.is_capturing = false;
        state.recorder = None;
        drop(state);
        self.order.ended.notify_all();
    }
}
