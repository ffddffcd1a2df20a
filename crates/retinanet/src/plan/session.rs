//! Where a run takes place.

#[cfg(feature = "cuda")]
use super::device::DeviceSession;
use super::report::RunReport;
use crate::error::Result;
use retinanet_ops::network::plan::{self, Output};

/// The memory of a run of the network: on the processor, or on a device with a copy of what comes in and out.
#[derive(Debug)]
pub(super) enum Session {
    Cpu(plan::Session),
    #[cfg(feature = "cuda")]
    Device(DeviceSession),
}

/// Calls the method of the same name.
macro_rules! of_session {
    ($session:expr, $inner:ident => $body:expr) => {
        match $session {
            Session::Cpu($inner) => $body,
            #[cfg(feature = "cuda")]
            Session::Device($inner) => $body,
        }
    };
}

impl Session {
    /// Prepares for images of these sizes, rows and columns of each.
    pub(super) fn resize(&mut self, sizes: &[(usize, usize)]) -> Result<()> {
        of_session!(self, session => Ok(session.resize(sizes)?))
    }

    /// The pixels of an image, to be written before each run.
    pub(super) fn input_mut(&mut self, image: usize) -> &mut [f32] {
        of_session!(self, session => session.input_mut(image))
    }

    /// Computes the class logits; a device computes all.
    pub(super) fn run_first(&mut self) -> Result<()> {
        match self {
            Self::Cpu(session) => session.run_first(),
            #[cfg(feature = "cuda")]
            Self::Device(session) => session.run()?,
        }
        Ok(())
    }

    /// Computes the box deltas; after [`Self::run_first`].
    pub(super) fn run_rest(&mut self) {
        match self {
            Self::Cpu(session) => session.run_rest(),
            #[cfg(feature = "cuda")]
            Self::Device(_) => {}
        }
    }

    /// Class logits of a level.
    pub(super) fn first_output(&self, level: usize, image: usize) -> Output<'_> {
        of_session!(self, session => session.first_output(level, image))
    }

    /// Box deltas of a level.
    pub(super) fn rest_output(&self, level: usize, image: usize) -> Output<'_> {
        of_session!(self, session => session.rest_output(level, image))
    }

    /// Puts the times of the network into a report.
    pub(super) fn report(&self, report: &mut RunReport) {
        match self {
            Self::Cpu(session) => report.add_network(session),
            #[cfg(feature = "cuda")]
            Self::Device(session) => report.backbone = session.time(),
        }
    }
}
