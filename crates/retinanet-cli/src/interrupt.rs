//! Ctrl-C as a flag that long work looks at.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// Set by the first Ctrl-C or termination signal; the second one ends the process at once.
#[derive(Clone, Debug)]
pub(crate) struct Interrupt {
    count: Arc<AtomicUsize>,
    message: Arc<Mutex<&'static str>>,
}

impl Interrupt {
    /// Listens from now on; `message` is printed at the first signal.
    pub(crate) fn listen(message: &'static str) -> anyhow::Result<Self> {
        let interrupt = Self { count: Arc::default(), message: Arc::new(Mutex::new(message)) };
        let Self { count, message } = interrupt.clone();
        ctrlc::set_handler(move || {
            if count.fetch_add(1, Ordering::SeqCst) > 0 {
                std::process::exit(130);
            }
            if let Ok(message) = message.lock() {
                eprintln!("\n{message}");
            }
        })?;
        Ok(interrupt)
    }

    /// One that is never set: Ctrl-C ends the process at once.
    pub(crate) fn ignored() -> Self {
        Self { count: Arc::default(), message: Arc::default() }
    }

    /// What is printed from now on, as other work has begun.
    pub(crate) fn announce(&self, message: &'static str) {
        if let Ok(mut current) = self.message.lock() {
            *current = message;
        }
    }

    pub(crate) fn is_set(&self) -> bool {
        self.count.load(Ordering::SeqCst) > 0
    }

    pub(crate) fn flow(&self) -> ControlFlow<()> {
        if self.is_set() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}
