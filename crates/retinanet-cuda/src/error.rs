//! What can go wrong on a device.

/// The result of work on a device.
pub type Result<T> = std::result::Result<T, Error>;

/// What can go wrong on a device.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A library that belongs to the driver or to CUDA is not there, or is too old.
    #[error("{library}: {what}; {advice}")]
    Library {
        /// Such as `libcuda.so.1`.
        library: String,
        /// What is wrong with it.
        what: String,
        /// What to do about it.
        advice: String,
    },
    /// There is no such device.
    #[error("device: expected a GPU of index below {found}, found index {index}")]
    NoDevice {
        /// That was asked for.
        index: usize,
        /// How many there are.
        found: usize,
    },
    /// The memory of the device is full.
    #[error("memory of the device: expected {bytes} bytes free, found {free}")]
    OutOfMemory {
        /// Asked for.
        bytes: usize,
        /// Left.
        free: usize,
    },
    /// A kernel does not compile.
    #[error("{source_name}: {message}")]
    Compile {
        /// The file.
        source_name: &'static str,
        /// What the compiler says.
        message: String,
    },
    /// A call failed.
    #[error("{call}: {message}")]
    Call {
        /// The function.
        call: &'static str,
        /// What the library says of its code.
        message: String,
    },
    /// A loss's hyper-parameters are out of their range.
    #[error(transparent)]
    Loss(#[from] retinanet_focal::LossError),
    /// The network cannot be planned, or run on images of this size.
    #[error(transparent)]
    Plan(#[from] retinanet_ops::network::plan::PlanError),
    /// The numbers given do not fit each other.
    #[error("{place}: expected {expected}, found {found}")]
    Mismatch {
        /// Where.
        place: String,
        /// What would fit.
        expected: String,
        /// What was given.
        found: String,
    },
}
