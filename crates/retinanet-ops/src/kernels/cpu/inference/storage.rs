//! How the numbers of a feature map are stored, and slices of such numbers.

use half::bf16;

/// The numbers that a layer multiplies; sums are f32 or, of int8, i32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// Single precision.
    #[default]
    F32,
    /// bfloat16: 8 bits of mantissa, the range of f32.
    Bf16,
    /// Half precision: 10 bits of mantissa, numbers up to 65504. For GPUs; a processor has f32 in its place.
    F16,
    /// Activations of 8 bits without sign, weights of 8 bits with sign and a scale for each output channel.
    Int8,
}

impl Precision {
    /// As configurations and command lines have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::F16 => "f16",
            Self::Int8 => "int8",
        }
    }
}

/// How 8 bits stand for a real number: `real = (byte - zero_point) * scale`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quantization {
    /// Of one step; positive.
    pub scale: f32,
    /// The byte that stands for 0: 0 behind a ReLU, 128 where numbers have both signs.
    pub zero_point: u8,
}

/// How the numbers of a feature map are stored.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Storage {
    /// Four bytes.
    F32,
    /// Two bytes.
    Bf16,
    /// One byte.
    U8(Quantization),
}

impl Storage {
    /// Bytes of one number.
    pub fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::Bf16 => 2,
            Self::U8(_) => 1,
        }
    }

    /// Numbers from one pixel to the next: the channels, rounded up to a whole word of four bytes.
    ///
    /// What pads a pixel is multiplied by zero weights; it is finite, else unspecified.
    pub fn pixel_len(self, channels: usize) -> usize {
        channels.next_multiple_of(4 / self.bytes())
    }

    /// The precision that multiplies numbers stored like this.
    pub fn precision(self) -> Precision {
        match self {
            Self::F32 => Precision::F32,
            Self::Bf16 => Precision::Bf16,
            Self::U8(_) => Precision::Int8,
        }
    }
}

/// Stored numbers.
#[derive(Clone, Copy, Debug)]
pub enum Numbers<'a> {
    /// Of [`Storage::F32`].
    F32(&'a [f32]),
    /// Of [`Storage::Bf16`].
    Bf16(&'a [bf16]),
    /// Of [`Storage::U8`].
    U8(&'a [u8]),
}

/// Stored numbers to be written.
#[derive(Debug)]
pub enum NumbersMut<'a> {
    /// Of [`Storage::F32`].
    F32(&'a mut [f32]),
    /// Of [`Storage::Bf16`].
    Bf16(&'a mut [bf16]),
    /// Of [`Storage::U8`].
    U8(&'a mut [u8]),
}

impl Numbers<'_> {
    /// How many.
    pub fn len(&self) -> usize {
        match self {
            Self::F32(numbers) => numbers.len(),
            Self::Bf16(numbers) => numbers.len(),
            Self::U8(numbers) => numbers.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Numbers<'_> {
    pub(in super::super) fn storage_matches(&self, storage: Storage) -> bool {
        matches!(
            (self, storage),
            (Self::F32(_), Storage::F32) | (Self::Bf16(_), Storage::Bf16) | (Self::U8(_), Storage::U8(_))
        )
    }

    /// The first byte.
    pub(in super::super) fn pointer(&self) -> *const u8 {
        match self {
            Self::F32(numbers) => numbers.as_ptr().cast(),
            Self::Bf16(numbers) => numbers.as_ptr().cast(),
            Self::U8(numbers) => numbers.as_ptr(),
        }
    }
}

impl NumbersMut<'_> {
    pub(in super::super) fn storage_matches(&self, storage: Storage) -> bool {
        matches!(
            (self, storage),
            (Self::F32(_), Storage::F32) | (Self::Bf16(_), Storage::Bf16) | (Self::U8(_), Storage::U8(_))
        )
    }

    /// The first byte, to be written by several tasks that share this reference, each to places of its own.
    pub(in super::super) fn shared_pointer(&self) -> *mut u8 {
        /// The slice's own pointer, as good for writing as the slice itself.
        fn first<T>(slice: &&mut [T]) -> *mut u8 {
            let slice: *const &mut [T] = slice;
            // SAFETY: a reference and a raw pointer to a slice are laid out alike.
            unsafe { slice.cast::<*mut [T]>().read() }.cast()
        }
        match self {
            Self::F32(numbers) => first(numbers),
            Self::Bf16(numbers) => first(numbers),
            Self::U8(numbers) => first(numbers),
        }
    }

    /// How many.
    pub fn len(&self) -> usize {
        match self {
            Self::F32(numbers) => numbers.len(),
            Self::Bf16(numbers) => numbers.len(),
            Self::U8(numbers) => numbers.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
