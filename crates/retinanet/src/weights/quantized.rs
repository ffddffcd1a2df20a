//! Layers stored as 8-bit integers: `X.weight` of I8, `X.weight_scale` of f32, and the scales of their inputs as text.

use super::element::tensor;
use super::error::{Fault, WeightsError, shown};
use candle_core::Tensor;
use retinanet_ops::kernels::cpu::inference::Quantization;
use retinanet_ops::network::{MAX_WEIGHT, QuantizationTable, QuantizedLayer, dequantize_weight};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The entry of the text dictionary that holds the scales of inputs.
pub(super) const METADATA_KEY: &str = "quantization";

/// The zero points that the kernels know: of values behind a ReLU, and of those with both signs.
const ZERO_POINTS: [u8; 2] = [0, 128];

/// A tensor of 8-bit integers.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Integers {
    pub(super) shape: Vec<usize>,
    pub(super) values: Vec<i8>,
}

/// The text, as JSON.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    layers: BTreeMap<String, LayerText>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct LayerText {
    input: ScaleText,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    output: Option<ScaleText>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ScaleText {
    scale: f32,
    zero_point: u8,
}

fn weight_name(layer: &str) -> String {
    format!("{layer}.weight")
}

fn scale_name(layer: &str) -> String {
    format!("{layer}.weight_scale")
}

/// Replaces integers and scales by the weights that they stand for, and returns the table that says so.
pub(super) fn restore(
    tensors: &mut BTreeMap<String, Tensor>,
    mut integers: BTreeMap<String, Integers>,
    text: &str,
) -> Result<QuantizationTable, Fault> {
    let entry = format!("metadata {METADATA_KEY}");
    let text: Text = serde_json::from_str(text)
        .map_err(|error| Fault::malformed(entry.as_str(), "JSON of scales by layer", error.to_string()))?;
    let mut table = QuantizationTable::default();
    for (layer, scales) in text.layers {
        let at = |what: &str| format!("{entry}: layer {}: {what}", shown(&layer));
        let input = scales.input.checked(|| at("input"))?;
        let output = scales.output.map(|output| output.checked(|| at("output"))).transpose()?;
        let name = weight_name(&layer);
        let integers = integers.remove(&name).ok_or_else(|| {
            let found = tensors.get(&name).map_or_else(|| "none".to_owned(), |t| format!("f32 of {:?}", t.dims()));
            Fault::malformed(format!("tensor {}", shown(&name)), "8-bit integers, as its layer is quantised", found)
        })?;
        let weight_scale = weight_scale(tensors, &layer, &integers)?;
        let weight = dequantize_weight(&integers.values, &weight_scale);
        tensors.insert(name.clone(), tensor(&name, weight, &integers.shape)?);
        table.layers.insert(layer, QuantizedLayer { input, output, weight_scale });
    }
    match integers.keys().find(|name| name.ends_with(".weight")) {
        Some(name) => Err(Fault::malformed(
            format!("tensor {}", shown(name)),
            format!("floating point, as its layer is not listed in {entry}"),
            "8-bit integers",
        )),
        None => Ok(table),
    }
}

/// Takes the scales of a layer's weight from among the tensors, and checks them and the integers.
fn weight_scale(tensors: &mut BTreeMap<String, Tensor>, layer: &str, integers: &Integers) -> Result<Vec<f32>, Fault> {
    let (weight, scale) = (weight_name(layer), scale_name(layer));
    let at = |name: &str| format!("tensor {}", shown(name));
    let out_channels = match *integers.shape {
        [out_channels, ..] if !integers.values.is_empty() => out_channels,
        _ => {
            return Err(Fault::malformed(
                at(&weight),
                "[Cout, Cin, kh, kw], none of them 0",
                format!("{:?}", integers.shape),
            ));
        }
    };
    let found = tensors.remove(&scale);
    let dims = found.as_ref().map_or_else(|| "none".to_owned(), |found| format!("{:?}", found.dims()));
    let found = found
        .filter(|found| found.dims() == [out_channels])
        .ok_or_else(|| Fault::malformed(at(&scale), format!("[{out_channels}], one scale an output channel"), dims))?;
    let scales = found.to_vec1::<f32>().map_err(|source| Fault::Tensor { name: scale.clone(), source })?;
    for (channel, &step) in scales.iter().enumerate() {
        if !is_scale(step) || !(step * f32::from(MAX_WEIGHT)).is_finite() {
            let found = format!("{step} in channel {channel}");
            return Err(Fault::malformed(at(&scale), "finite numbers above 0", found));
        }
    }
    let channel_len = integers.values.len() / out_channels;
    for (channel, values) in integers.values.chunks_exact(channel_len).enumerate() {
        let largest = values.iter().map(|value| value.unsigned_abs()).max().unwrap_or(0);
        // What quantises weights makes the largest of each channel 127; the kernels, which choose their own step by the same
        // rule, find the file's integers again only so.
        if largest != 0 && largest != MAX_WEIGHT.unsigned_abs() {
            let found = format!("{largest} in channel {channel}");
            return Err(Fault::malformed(
                at(&weight),
                "a largest magnitude of 127 in each output channel, or 0",
                found,
            ));
        }
    }
    Ok(scales)
}

/// Normal numbers, so that no inverse is infinite.
fn is_scale(step: f32) -> bool {
    step.is_normal() && step > 0.0 && (1.0 / step).is_normal()
}

impl ScaleText {
    fn checked(self, at: impl Fn() -> String) -> Result<Quantization, Fault> {
        let Self { scale, zero_point } = self;
        if !is_scale(scale) {
            return Err(Fault::malformed(format!("{}: scale", at()), "a finite number above 0", scale.to_string()));
        }
        if !ZERO_POINTS.contains(&zero_point) {
            return Err(Fault::malformed(format!("{}: zero point", at()), "0 or 128", zero_point.to_string()));
        }
        Ok(Quantization { scale, zero_point })
    }
}

/// The text of the table's scales of inputs.
pub(super) fn text(table: &QuantizationTable) -> String {
    let scale = |q: &Quantization| ScaleText { scale: q.scale, zero_point: q.zero_point };
    let layers = table.layers.iter().map(|(name, layer)| {
        (name.clone(), LayerText { input: scale(&layer.input), output: layer.output.as_ref().map(scale) })
    });
    serde_json::to_string(&Text { layers: layers.collect() }).expect("numbers and strings have a form in JSON")
}

/// The integers that a layer's weight stands for, by name, and the name of its scales.
///
/// # Errors
/// The weight is not there, or is no multiple of its scales: it has changed since it was quantised.
pub(super) fn integers(
    tensors: &BTreeMap<String, Tensor>,
    layer: &str,
    scale: &[f32],
) -> Result<(String, Integers, String), WeightsError> {
    let name = weight_name(layer);
    let failed = |expected: String, found: String| WeightsError::Layout { what: name.clone(), expected, found };
    let tensor =
        tensors.get(&name).ok_or_else(|| failed("the weight of a quantised layer".to_owned(), "none".to_owned()))?;
    let out_channels = tensor.dims().first().copied().unwrap_or(0);
    if scale.len() != out_channels || tensor.elem_count() == 0 {
        return Err(failed(format!("{} output channels, one a scale", scale.len()), format!("{:?}", tensor.dims())));
    }
    let weight = tensor
        .flatten_all()
        .and_then(|flat| flat.to_vec1::<f32>())
        .map_err(|source| WeightsError::Tensor { name: name.clone(), source })?;
    let channel_len = weight.len() / out_channels;
    let nearest = weight.iter().enumerate().map(|(i, w)| (w / scale[i / channel_len]).round_ties_even() as i8);
    let values: Vec<i8> = nearest.collect();
    let again = dequantize_weight(&values, scale);
    // Compared as numbers: a weight of -0 is 0 of the integers.
    if let Some(i) = (0..weight.len()).find(|&i| weight[i] != again[i]) {
        let expected = format!("multiples of its scale, {} for channel {}", scale[i / channel_len], i / channel_len);
        return Err(failed(expected, weight[i].to_string()));
    }
    Ok((name.clone(), Integers { shape: tensor.dims().to_vec(), values }, scale_name(layer)))
}
