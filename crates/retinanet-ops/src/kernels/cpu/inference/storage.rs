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
    /// Activations of 8 bits without sign, weights of 8 bits with sign and a scale for each output channel.
    Int8,
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

impl NumbersMut<'_> {
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
