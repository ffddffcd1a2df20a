//! Stored numbers as single precision and back, for the passes that are bound by memory.

use super::{Numbers, NumbersMut, Quantization, Storage};
use half::bf16;

/// Reads and writes one kind of stored number.
pub(in super::super) trait Codec: Copy + Send + Sync {
    /// What is stored.
    type Stored: Copy + Send + Sync;

    /// As single precision, exactly.
    fn decode(self, stored: Self::Stored) -> f32;

    /// The nearest number that can be stored, ties to even.
    fn encode(self, value: f32) -> Self::Stored;
}

/// Of [`Storage::F32`].
#[derive(Clone, Copy)]
pub(super) struct Single;

/// Of [`Storage::Bf16`].
#[derive(Clone, Copy)]
pub(in super::super) struct Brain;

/// Of [`Storage::U8`].
#[derive(Clone, Copy)]
pub(super) struct Byte {
    scale: f32,
    inverse: f32,
    zero_point: f32,
}

impl From<Quantization> for Byte {
    fn from(quantization: Quantization) -> Self {
        let Quantization { scale, zero_point } = quantization;
        Self { scale, inverse: 1.0 / scale, zero_point: f32::from(zero_point) }
    }
}

impl Codec for Single {
    type Stored = f32;

    #[inline(always)]
    fn decode(self, stored: f32) -> f32 {
        stored
    }

    #[inline(always)]
    fn encode(self, value: f32) -> f32 {
        value
    }
}

impl Codec for Brain {
    type Stored = bf16;

    #[inline(always)]
    fn decode(self, stored: bf16) -> f32 {
        f32::from_bits(u32::from(stored.to_bits()) << 16)
    }

    #[inline(always)]
    fn encode(self, value: f32) -> bf16 {
        // Half of the last place, and one less where that place is even: in integers, so that it is vectorised.
        let bits = value.to_bits();
        let rounded = bits.wrapping_add(0x7FFF + (bits >> 16 & 1)) >> 16;
        let nan = bits >> 16 | 0x40;
        bf16::from_bits(if value.is_nan() { nan } else { rounded } as u16)
    }
}

impl Codec for Byte {
    type Stored = u8;

    #[inline(always)]
    fn decode(self, stored: u8) -> f32 {
        (f32::from(stored) - self.zero_point) * self.scale
    }

    #[inline(always)]
    fn encode(self, value: f32) -> u8 {
        // NaN becomes 0 in the cast.
        ((value * self.inverse).round_ties_even() + self.zero_point).clamp(0.0, 255.0) as i32 as u8
    }
}

/// A stored feature map that is read: `[H, W, C]` with [`Storage::pixel_len`] numbers a pixel.
#[derive(Clone, Copy, Debug)]
pub struct Map<'a> {
    /// How.
    pub storage: Storage,
    /// The numbers.
    pub numbers: Numbers<'a>,
}

/// A stored feature map that is written.
#[derive(Debug)]
pub struct MapMut<'a> {
    /// How.
    pub storage: Storage,
    /// The numbers.
    pub numbers: NumbersMut<'a>,
}

/// Runs `$body` with the codec and the slice of a [`Map`] or [`MapMut`], once compiled for each kind.
macro_rules! with_codec {
    ($numbers:ident, $map:expr, |$codec:ident, $slice:ident| $body:expr) => {{
        use $crate::kernels::cpu::inference::{Storage, codec};
        let map = $map;
        match (map.storage, map.numbers) {
            (Storage::F32, $numbers::F32($slice)) => {
                let $codec = codec::Single;
                $body
            }
            (Storage::Bf16, $numbers::Bf16($slice)) => {
                let $codec = codec::Brain;
                $body
            }
            (Storage::U8(quantization), $numbers::U8($slice)) => {
                let $codec = codec::Byte::from(quantization);
                $body
            }
            (storage, _) => panic!("feature map: numbers that are not of its storage, {storage:?}"),
        }
    }};
}
pub(super) use with_codec;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bf16_rounds_as_the_half_crate_does() {
        for bits in (0..=u32::MAX).step_by(65_521).chain([0x3F80_8000, 0x3F81_8000, 0x7F80_0000, 0xFF80_0001]) {
            let value = f32::from_bits(bits);
            let (found, expected) = (Brain.encode(value), bf16::from_f32(value));
            assert!(found == expected || (value.is_nan() && found.is_nan()), "{bits:#x}");
            assert!(Brain.decode(found).to_bits() == expected.to_f32().to_bits() || value.is_nan());
        }
    }

    #[test]
    fn bytes_come_back_and_ties_go_to_even() {
        for zero_point in [0, 128] {
            let byte = Byte::from(Quantization { scale: 0.37, zero_point });
            assert!((0..=255).all(|stored| byte.encode(byte.decode(stored)) == stored));
        }
        let byte = Byte::from(Quantization { scale: 2.0, zero_point: 128 });
        let found = [3.0, 5.0, -1e9, 1e9, f32::NAN].map(|value| byte.encode(value));
        assert_eq!(found, [130, 130, 0, 255, 0]);
    }
}
