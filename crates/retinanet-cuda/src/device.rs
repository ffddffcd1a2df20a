//! Memory of a device, and work on it in one order.

use crate::bytes::bytes_of;
use crate::error::{Error, Result};
use half::{bf16, f16};
use retinanet_ops::kernels::ConvShape;
use std::any::Any;
use std::borrow::Cow;
use std::fmt::Debug;
use std::sync::Arc;

pub use retinanet_ops::Activation;

/// A place in a device's memory, as its kernels see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Address(pub u64);

/// How feature maps and packed weights are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Element {
    /// Single precision.
    F32,
    /// bfloat16; sums are f32.
    Bf16,
    /// Half precision; sums are f32.
    F16,
}

impl Element {
    /// Each of them.
    pub const ALL: [Self; 3] = [Self::F32, Self::Bf16, Self::F16];

    /// Bytes of a number.
    pub fn size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::Bf16 | Self::F16 => 2,
        }
    }

    /// As kernels and messages call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::F16 => "f16",
        }
    }

    /// Numbers as they are stored, each rounded to the nearest.
    pub fn narrow(self, numbers: &[f32]) -> Cow<'_, [u8]> {
        match self {
            Self::F32 => Cow::Borrowed(bytes_of(numbers)),
            Self::Bf16 => numbers.iter().flat_map(|&number| bf16::from_f32(number).to_ne_bytes()).collect(),
            Self::F16 => numbers.iter().flat_map(|&number| f16::from_f32(number).to_ne_bytes()).collect(),
        }
    }

    /// Numbers that are stored in so many bytes.
    pub fn widen(self, bytes: &[u8]) -> Vec<f32> {
        let halves = || bytes.as_chunks::<2>().0.iter();
        match self {
            Self::F32 => bytes.as_chunks::<4>().0.iter().map(|&bytes| f32::from_ne_bytes(bytes)).collect(),
            Self::Bf16 => halves().map(|&bytes| bf16::from_ne_bytes(bytes).to_f32()).collect(),
            Self::F16 => halves().map(|&bytes| f16::from_ne_bytes(bytes).to_f32()).collect(),
        }
    }
}

/// A file of kernels, in the part of CUDA C++ that a plain C++ compiler understands too.
#[derive(Debug)]
pub struct Source {
    /// The file's name, for messages.
    pub name: &'static str,
    /// What it holds, with all that it includes.
    pub text: &'static str,
}

/// An argument of a kernel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Argument {
    /// A pointer; 0 for none.
    Address(Address),
    /// `int`.
    I32(i32),
    /// `long long`.
    I64(i64),
    /// `float`.
    F32(f32),
}

/// A kernel on a grid of blocks.
#[derive(Clone, Copy, Debug)]
pub struct Launch<'a> {
    /// Where the kernel is written.
    pub source: &'static Source,
    /// Its name there, `extern "C"`.
    pub kernel: &'static str,
    /// Blocks along x, y, z.
    pub grid: [u32; 3],
    /// Threads of a block, along x.
    pub threads: u32,
    /// In the order of the kernel's parameters.
    pub arguments: &'a [Argument],
}

/// A convolution of channels-last maps with a weight `[O, kh, kw, I / groups]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Convolution {
    /// Sizes, stride, padding, groups.
    pub shape: ConvShape,
    /// Of maps, weight and residual; bias is f32, sums are f32.
    pub element: Element,
}

/// What of a convolution is computed.
#[derive(Clone, Copy, Debug)]
pub enum Pass {
    /// `y = activation(conv(x, weight) + bias + residual)`.
    Forward {
        /// `[N, H, W, I]`.
        x: Address,
        /// `[O, kh, kw, I / groups]`.
        weight: Address,
        /// `[O]` f32.
        bias: Option<Address>,
        /// As `y`.
        residual: Option<Address>,
        /// Applied last.
        activation: Activation,
        /// `[N, H', W', O]`, in memory that nothing else of the pass is in.
        y: Address,
    },
    /// The gradient of `x`.
    InputGradient {
        /// As in [`Self::Forward`].
        weight: Address,
        /// As `y`.
        y_gradient: Address,
        /// As `x`.
        x_gradient: Address,
        /// Whether it is added to what is there.
        accumulate: bool,
    },
    /// The gradient of the weight.
    WeightGradient {
        /// As in [`Self::Forward`].
        x: Address,
        /// As `y`.
        y_gradient: Address,
        /// As `weight`, in the element of the maps.
        weight_gradient: Address,
        /// Whether it is added to what is there.
        accumulate: bool,
    },
}

/// Work that was recorded once and can be done again with one call. A device finds its own by their type.
pub trait Recording: Any + Debug + Send + Sync {}

/// The most bytes that [`Device::fetch`] takes.
const MOST_FETCHED: usize = 64 << 10;

/// Bytes on their way from a device. A device finds its own by their type; dropped, they are not to arrive any more.
pub trait Fetch: Any + Debug + Send {}

/// Memory, and work on it in the order in which it is asked for. Work that only depends on the device's memory may still be
/// under way when a call returns; [`Device::read`] and [`Device::synchronize`] wait.
pub trait Device: Debug + Send + Sync {
    /// Name, compute capability, memory.
    fn description(&self) -> String;

    /// Reserves memory whose content is not defined; all addresses are multiples of 256.
    ///
    /// # Errors
    /// There is not so much free.
    fn allocate(&self, bytes: usize) -> Result<Address>;

    /// Gives memory back, when all work before has been done.
    ///
    /// # Safety
    /// It was allocated here with so many bytes, and nothing uses it from here on.
    unsafe fn release(&self, address: Address, bytes: usize);

    /// Copies bytes to the device.
    ///
    /// # Errors
    /// The copy fails.
    ///
    /// # Safety
    /// So many bytes are allocated there.
    unsafe fn write(&self, to: Address, bytes: &[u8]) -> Result<()>;

    /// Waits for all work before, and copies bytes from the device.
    ///
    /// # Errors
    /// Work before, or the copy, failed.
    ///
    /// # Safety
    /// So many bytes are allocated there.
    unsafe fn read(&self, from: Address, bytes: &mut [u8]) -> Result<()>;

    /// Asks for bytes of the device, as they are after all work before, and waits for nothing.
    ///
    /// # Errors
    /// There are more than 64 KiB, or the device has no memory to receive them.
    ///
    /// # Safety
    /// So many bytes are allocated there.
    unsafe fn fetch(&self, from: Address, bytes: usize) -> Result<Box<dyn Fetch>>;

    /// Waits for bytes that were asked for, and for no work after them.
    ///
    /// # Errors
    /// They are another device's, or work before or the copy failed.
    fn receive(&self, fetch: Box<dyn Fetch>) -> Result<Vec<u8>>;

    /// Copies within the device.
    ///
    /// # Errors
    /// The copy fails.
    ///
    /// # Safety
    /// So many bytes are allocated at both places, which do not overlap.
    unsafe fn copy(&self, from: Address, to: Address, bytes: usize) -> Result<()>;

    /// Fills with zero bytes.
    ///
    /// # Errors
    /// The call fails.
    ///
    /// # Safety
    /// So many bytes are allocated there.
    unsafe fn zero(&self, to: Address, bytes: usize) -> Result<()>;

    /// Runs a kernel.
    ///
    /// # Errors
    /// It does not compile, or cannot be launched.
    ///
    /// # Safety
    /// The arguments are those that the kernel declares, and their memory is as large as it says.
    unsafe fn launch(&self, launch: &Launch<'_>) -> Result<()>;

    /// Runs a convolution.
    ///
    /// # Errors
    /// No algorithm runs it, or there is no memory for the algorithm's workspace.
    ///
    /// # Safety
    /// The addresses hold what the pass says.
    unsafe fn convolve(&self, convolution: &Convolution, pass: &Pass) -> Result<()>;

    /// Waits for all work.
    ///
    /// # Errors
    /// Some of it failed.
    fn synchronize(&self) -> Result<()>;

    /// Runs `work`, whose launches, convolutions, copies within the device and fills are kept to be [replayed](Self::replay).
    /// It allocates nothing and reads nothing back. It takes effect once; the closure may be called once more, to be kept,
    /// when all that it needs has been compiled and chosen, and must then ask for the same.
    ///
    /// # Errors
    /// `work` fails, or the device cannot keep it.
    fn record(&self, work: &mut dyn FnMut() -> Result<()>) -> Result<Box<dyn Recording>>;

    /// Does recorded work again.
    ///
    /// # Errors
    /// The recording is another device's, or the call fails.
    ///
    /// # Safety
    /// The memory that the work uses is still allocated.
    unsafe fn replay(&self, recording: &dyn Recording) -> Result<()>;
}

/// Refuses more than [`Device::fetch`] takes.
pub(crate) fn check_fetch(bytes: usize) -> Result<()> {
    if bytes <= MOST_FETCHED {
        return Ok(());
    }
    let (expected, found) = (format!("at most {MOST_FETCHED} bytes"), bytes.to_string());
    Err(Error::Mismatch { place: "fetch".to_owned(), expected, found })
}

/// Memory that is given back when it is dropped.
#[derive(Debug)]
pub struct Memory {
    device: Arc<dyn Device>,
    address: Address,
    bytes: usize,
}

impl Memory {
    /// Reserves at least one byte.
    ///
    /// # Errors
    /// There is not so much free.
    pub fn new(device: &Arc<dyn Device>, bytes: usize) -> Result<Self> {
        let bytes = bytes.max(1);
        Ok(Self { address: device.allocate(bytes)?, device: Arc::clone(device), bytes })
    }

    /// Memory with these bytes in it.
    ///
    /// # Errors
    /// There is not so much free, or the copy fails.
    pub fn of(device: &Arc<dyn Device>, bytes: &[u8]) -> Result<Self> {
        let memory = Self::new(device, bytes.len())?;
        memory.span().write(bytes)?;
        Ok(memory)
    }

    /// All of it.
    pub fn span(&self) -> Span<'_> {
        Span { device: &self.device, address: self.address, bytes: self.bytes }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: it was allocated in `new`, and whoever borrowed it is gone.
        unsafe { self.device.release(self.address, self.bytes) }
    }
}

/// Bytes on their way from a device that is known.
#[derive(Debug)]
pub struct Fetching {
    device: Arc<dyn Device>,
    fetch: Box<dyn Fetch>,
}

impl Fetching {
    /// Waits for them, and for no work after them.
    ///
    /// # Errors
    /// Work before or the copy failed.
    pub fn wait(self) -> Result<Vec<u8>> {
        self.device.receive(self.fetch)
    }
}

/// Borrowed memory of a device. As with the device itself, order is all that keeps readers and writers apart.
#[derive(Clone, Copy, Debug)]
pub struct Span<'a> {
    device: &'a Arc<dyn Device>,
    address: Address,
    bytes: usize,
}

impl<'a> Span<'a> {
    /// Whose memory it is.
    pub fn device(&self) -> &'a Arc<dyn Device> {
        self.device
    }

    /// Where it begins.
    pub fn address(&self) -> Address {
        self.address
    }

    /// How long it is.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Part of it.
    ///
    /// # Panics
    /// It is not inside.
    pub fn part(&self, first: usize, bytes: usize) -> Self {
        assert!(
            first.checked_add(bytes).is_some_and(|end| end <= self.bytes),
            "span: part {first}+{bytes} of {}",
            self.bytes
        );
        Self { device: self.device, address: Address(self.address.0 + first as u64), bytes }
    }

    /// Copies bytes in.
    ///
    /// # Errors
    /// There are more than fit, or the copy fails.
    pub fn write(&self, bytes: &[u8]) -> Result<()> {
        self.check("write to a span", bytes.len())?;
        // SAFETY: so many bytes are borrowed.
        unsafe { self.device.write(self.address, bytes) }
    }

    /// Copies bytes out, after all work before.
    ///
    /// # Errors
    /// There are fewer, or work before or the copy failed.
    pub fn read(&self, bytes: &mut [u8]) -> Result<()> {
        self.check("read from a span", bytes.len())?;
        // SAFETY: so many bytes are borrowed.
        unsafe { self.device.read(self.address, bytes) }
    }

    /// Asks for all of it, as it is after all work before, and waits for nothing.
    ///
    /// # Errors
    /// It is longer than 64 KiB, or the device fails.
    pub fn fetch(&self) -> Result<Fetching> {
        // SAFETY: so many bytes are borrowed.
        let fetch = unsafe { self.device.fetch(self.address, self.bytes)? };
        Ok(Fetching { device: Arc::clone(self.device), fetch })
    }

    /// Copies all of it to the beginning of another, which it does not overlap.
    ///
    /// # Errors
    /// The other is shorter or overlaps, or the copy fails.
    pub fn copy_to(&self, to: Span<'_>) -> Result<()> {
        to.check("copy to a span", self.bytes)?;
        let (from, end) = (self.address.0, to.address.0 + self.bytes as u64);
        if from < end && to.address.0 < from + self.bytes as u64 {
            let (place, expected) = ("copy to a span".to_owned(), "another place".to_owned());
            return Err(Error::Mismatch { place, expected, found: "one that overlaps".to_owned() });
        }
        // SAFETY: so many bytes are borrowed at both places, which lie apart.
        unsafe { self.device.copy(self.address, to.address, self.bytes) }
    }

    /// Fills it with zeros.
    ///
    /// # Errors
    /// The call fails.
    pub fn zero(&self) -> Result<()> {
        // SAFETY: so many bytes are borrowed.
        unsafe { self.device.zero(self.address, self.bytes) }
    }

    fn check(&self, place: &str, bytes: usize) -> Result<()> {
        if bytes <= self.bytes {
            return Ok(());
        }
        let (expected, found) = (format!("at most {} bytes", self.bytes), bytes.to_string());
        Err(Error::Mismatch { place: place.to_owned(), expected, found })
    }
}
