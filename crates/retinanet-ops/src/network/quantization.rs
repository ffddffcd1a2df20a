//! Which layers of a network multiply 8-bit integers, and the scales of their numbers.

use crate::kernels::cpu::inference::Quantization;
use std::collections::BTreeMap;

/// The largest magnitude of a weight of 8 bits: -128 is left out, so that every weight has its negative.
pub const MAX_WEIGHT: i8 = 127;

/// The layers that run in 8 bits, by the name of their convolution; all others keep a higher precision.
///
/// Layers that read one value read it as it is stored, once: either all of them are here, with the same `input`, or none.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct QuantizationTable {
    /// By [`ConvLayer::name`](super::ConvLayer::name).
    pub layers: BTreeMap<String, QuantizedLayer>,
}

/// The scales of one layer.
#[derive(Clone, Debug, PartialEq)]
pub struct QuantizedLayer {
    /// How the input is stored, on every level where the layer serves several.
    pub input: Quantization,
    /// How the output is stored where no convolution reads it and it is only added: a block's shortcut.
    ///
    /// Without it such an output keeps a higher precision. An output that convolutions read is stored as these say.
    pub output: Option<Quantization>,
    /// `[Cout]`: of one step of the weight without its norm, max|w| / 127; positive.
    pub weight_scale: Vec<f32>,
}

impl QuantizationTable {
    /// The scales of this layer, if it runs in 8 bits.
    pub fn get(&self, layer: &str) -> Option<&QuantizedLayer> {
        self.layers.get(layer)
    }
}

impl Quantization {
    /// The byte nearest to a number, ties to even; what lies outside of the range becomes its end, NaN the zero point.
    pub fn quantize(self, value: f32) -> u8 {
        let value = if value.is_nan() { 0.0 } else { value };
        ((value * (1.0 / self.scale)).round_ties_even() + f32::from(self.zero_point)).clamp(0.0, 255.0) as u8
    }

    /// The number that a byte stands for.
    pub fn dequantize(self, byte: u8) -> f32 {
        (f32::from(byte) - f32::from(self.zero_point)) * self.scale
    }
}

/// A weight as integers with one scale for each output channel.
#[derive(Clone, Debug, PartialEq)]
pub struct QuantizedWeight {
    /// In the order of the weight, from -127 to 127.
    pub values: Vec<i8>,
    /// `[Cout]`, positive.
    pub scale: Vec<f32>,
}

/// A weight with its output channels outermost as 8-bit integers: `w = scale[c] * integer`.
///
/// `scale[c] = max|w[c]| / 127`, and 1 for a channel of zeros
///
/// The largest weight of a channel becomes 127 exactly, so that quantising [`dequantize_weight`]'s result, or any positive
/// or negative multiple of a channel such as a folded norm makes, finds the same integers (or their negatives).
///
/// # Shapes
/// - `weight`: `[Cout, ...]`
///
/// # Numerics
/// Channels whose step would be smaller than the smallest normal number count as zeros.
///
/// # Panics
/// The channels do not divide the weight, or a weight is not finite.
pub fn quantize_weight(weight: &[f32], out_channels: usize) -> QuantizedWeight {
    assert!(out_channels > 0 && weight.len().is_multiple_of(out_channels), "quantisation: weight: whole channels");
    assert!(weight.iter().all(|w| w.is_finite()), "quantisation: weight: finite numbers");
    let channel_len = weight.len() / out_channels;
    let mut values = Vec::with_capacity(weight.len());
    let mut scale = Vec::with_capacity(out_channels);
    for channel_idx in 0..out_channels {
        let channel = &weight[channel_idx * channel_len..][..channel_len];
        let largest = channel.iter().fold(0.0f32, |largest, w| largest.max(w.abs()));
        let step = largest / f32::from(MAX_WEIGHT);
        if step < f32::MIN_POSITIVE {
            values.extend(std::iter::repeat_n(0, channel_len));
            scale.push(1.0);
        } else {
            // The quotient is 127 (1 + e) at most, which rounds to 127.
            values.extend(channel.iter().map(|w| (w / step).round_ties_even() as i8));
            scale.push(step);
        }
    }
    QuantizedWeight { values, scale }
}

/// The weight that these integers stand for: `scale[c] * integer`.
///
/// # Panics
/// The number of scales does not divide the integers.
pub fn dequantize_weight(values: &[i8], scale: &[f32]) -> Vec<f32> {
    assert!(!scale.is_empty() && values.len().is_multiple_of(scale.len()), "quantisation: weight: whole channels");
    let channel_len = values.len() / scale.len();
    values.iter().enumerate().map(|(i, &value)| f32::from(value) * scale[i / channel_len]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_stand_for_multiples_of_the_scale() {
        let signed = Quantization { scale: 0.5, zero_point: 128 };
        assert_eq!(
            [0.0, 0.75, 1.25, -1.0, 1e9, -1e9, f32::NAN].map(|x| signed.quantize(x)),
            [128, 130, 130, 126, 255, 0, 128]
        );
        assert_eq!([0, 128, 255].map(|byte| signed.dequantize(byte)), [-64.0, 0.0, 63.5]);
        let positive = Quantization { scale: 0.5, zero_point: 0 };
        assert_eq!([0.0, 0.5, -3.0, 127.5, 128.0].map(|x| positive.quantize(x)), [0, 1, 0, 255, 255]);
        for quantization in [signed, positive] {
            assert!((0..=255).all(|byte| quantization.quantize(quantization.dequantize(byte)) == byte));
        }
    }

    #[test]
    fn a_weight_by_hand() {
        let found = quantize_weight(&[1.27, -0.634, 0.0, 0.0, 0.0, 0.0, -254.0, 3.0, 5.0], 3);
        assert_eq!(found.values, [127, -63, 0, 0, 0, 0, -127, 2, 2]);
        assert_eq!(found.scale, [1.27 / 127.0, 1.0, 2.0]);
        assert_eq!(dequantize_weight(&found.values[6..], &found.scale[2..]), [-254.0, 4.0, 4.0]);
        let tiny = quantize_weight(&[1e-40, f32::MIN_POSITIVE, 0.0], 1);
        assert_eq!((tiny.values, tiny.scale), (vec![0; 3], vec![1.0]));
    }

    #[test]
    fn integers_are_recovered_from_every_scale_and_folded_norm() {
        // Scales over many binades and mantissas; each channel holds every integer.
        let values: Vec<i8> = (-127..=127).collect();
        let mut state = 1u32;
        for _ in 0..20_000 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let scale = f32::from_bits((state >> 9) | ((60 + (state & 0x7F)) << 23));
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let norm = f32::from_bits((state >> 9) | ((110 + (state & 0xF)) << 23));
            let weight = dequantize_weight(&values, &[scale]);
            assert_eq!(quantize_weight(&weight, 1).values, values, "{scale}");
            let folded: Vec<f32> = weight.iter().map(|w| w * -norm).collect();
            let negatives: Vec<i8> = values.iter().map(|value| -value).collect();
            assert_eq!(quantize_weight(&folded, 1).values, negatives, "{scale} {norm}");
        }
    }
}
