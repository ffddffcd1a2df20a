//! From a trained detector and pictures to one whose layers run in 8 bits.

use super::engine::{WatchedEngine, Watcher, round_to_bytes};
use super::histogram::{Clipping, Histogram};
use super::values::Values;
use crate::detector::{Detector, batch_tensor};
use crate::error::{Error, Result};
use crate::model::Model;
use candle_core::Tensor;
use retinanet_data::Image;
use retinanet_ops::kernels::cpu::inference::Quantization;
use retinanet_ops::network::{
    ConvLayer, Engine, InferenceEngine, Parameters, QuantizationTable, QuantizedLayer, dequantize_weight,
    quantize_weight,
};
use std::collections::BTreeMap;
use std::ops::ControlFlow;

/// How a detector is quantised.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct QuantizeOptions {
    /// How much of each activation's range the 8 bits span.
    pub clipping: Clipping,
    /// The signal-to-noise ratio, in dB, that a layer's output must keep for the layer to run in 8 bits.
    pub min_sqnr: f64,
}

/// Layers whose output keeps at least this many dB run in 8 bits by default.
///
/// Of the blood cell model every layer keeps more. With ranges cut off harder than by default, so that layers keep 9 to 30 dB,
/// its AP stayed within .002 where those below 30 dB were kept in f32, and fell by .008 with a limit of 25 dB and .017 with 20.
const MIN_SQNR: f64 = 30.0;

/// Most pictures on which layers are compared with themselves in 8 bits; ratios settle after a few.
const MAX_COMPARED: usize = 32;

impl Default for QuantizeOptions {
    fn default() -> Self {
        Self { clipping: Clipping::default(), min_sqnr: MIN_SQNR }
    }
}

/// What the pictures are being looked at for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// The ranges of activations, on every picture.
    Ranges,
    /// What each layer loses, on some of them.
    Losses,
}

/// A quantised detector and what it was made of.
#[derive(Clone, Debug)]
pub struct Quantized {
    /// The detector; its weights are those that the 8-bit integers stand for.
    pub detector: Detector,
    /// One entry a layer, in the order of the network.
    pub layers: Vec<QuantizedLayerReport>,
    /// Pictures that ranges come from.
    pub images: usize,
}

/// What was found of one layer.
#[derive(Clone, Debug, PartialEq)]
pub struct QuantizedLayerReport {
    /// Its convolution's name.
    pub name: String,
    /// How its input is stored in 8 bits.
    pub input: Quantization,
    /// Power of its output about its mean over power of the difference that 8 bits of input and weight make to it, in dB.
    pub sqnr: f64,
    /// Whether it runs in 8 bits.
    pub is_int8: bool,
}

/// Makes a detector whose layers run in 8 bits, but for those that lose too much.
///
/// An activation's scale spans what it is on the pictures, cut off as the options say; layers that read one value share one
/// scale and stay or go together. A weight's scale spans each of its output channels. Then every layer's output is compared
/// with what it is for an input and a weight of 8 bits: sqnr = 10 log10(sum (y - mean y)^2 / sum (y - y8)^2).
///
/// `image` gives the picture of an index below `count`, or nothing where it cannot be read; it is asked for each one, and
/// then for some of them again. `on_image` is called after each; when it breaks, nothing is returned.
///
/// # Errors
/// The detector is quantised already, no picture can be used, or a weight or activation is not finite.
pub fn quantize(
    detector: &Detector,
    options: &QuantizeOptions,
    count: usize,
    image: &mut dyn FnMut(usize) -> Option<Image>,
    on_image: &mut dyn FnMut(Pass, usize) -> ControlFlow<()>,
) -> Result<Option<Quantized>> {
    if detector.quantization.is_some() {
        let message = "model: expected weights in floating point, found a model that is quantised already";
        return Err(Error::Data(message.to_owned()));
    }
    let values = Values::new(&detector.model.network)?;
    let mut ranges = Ranges::new(&values);
    let mut images = 0;
    for index in 0..count {
        if let Some(image) = image(index) {
            run(detector, &image, &detector.model.parameters, &mut ranges)?;
            images += 1;
        }
        if on_image(Pass::Ranges, index + 1).is_break() {
            return Ok(None);
        }
    }
    if images == 0 {
        return Err(Error::Data(format!(
            "calibration: expected at least 1 image, found 0 of {count} that can be used"
        )));
    }

    let (table, parameters) = full_table(detector, &values, &ranges, options.clipping)?;
    let mut losses = Losses { table: &table, parameters: &parameters, powers: BTreeMap::new() };
    let compared = count.min(MAX_COMPARED);
    for i in 0..compared {
        // Spread over the set: neighbours are often alike.
        if let Some(image) = image(i * count / compared) {
            run(detector, &image, &detector.model.parameters, &mut losses)?;
        }
        if on_image(Pass::Losses, i + 1).is_break() {
            return Ok(None);
        }
    }
    let powers = losses.powers;
    let sqnr = |layer: &str| powers.get(layer).map_or(f64::INFINITY, Powers::sqnr);
    // Layers that read one value stay or go together, so that it is stored once.
    let is_kept: Vec<bool> = (0..values.num_groups())
        .map(|group| values.group_layers(group).iter().any(|layer| sqnr(layer) < options.min_sqnr))
        .collect();
    let is_int8 = |layer: &str| values.group_of_layer(layer).is_some_and(|group| !is_kept[group]);

    let layers = detector.model.network.layers().filter_map(|layer| {
        let input = table.get(&layer.name)?.input;
        let (sqnr, is_int8) = (sqnr(&layer.name), is_int8(&layer.name));
        Some(QuantizedLayerReport { name: layer.name.clone(), input, sqnr, is_int8 })
    });
    let layers = layers.collect();
    let mut table = table;
    table.layers.retain(|layer, _| is_int8(layer));
    let parameters = detector.model.parameters.iter().map(|(name, original)| {
        let is_quantized = name.strip_suffix(".weight").is_some_and(|layer| table.get(layer).is_some());
        let tensor = if is_quantized { parameters.detached(name)? } else { original.as_detached_tensor() };
        Ok((name.to_owned(), tensor))
    });
    let parameters = Parameters::new(parameters.collect::<candle_core::Result<Vec<_>>>()?)?;
    let model = Model { network: detector.model.network.clone(), parameters };
    let detector = Detector { model, quantization: Some(table), ..detector.clone() };
    Ok(Some(Quantized { detector, layers, images }))
}

/// One picture through the network.
fn run<W: Watcher>(detector: &Detector, image: &Image, parameters: &Parameters, watcher: &mut W) -> Result<()> {
    let batch = detector.config.preprocessing.batch(&[image.view()])?;
    let mut engine = WatchedEngine::new(parameters, watcher);
    let images = engine.images(batch_tensor(&batch)?)?;
    detector.model.network.forward(&mut engine, &images)?;
    Ok(())
}

/// Scales for every layer, and the parameters with all convolutions' weights rounded by them.
fn full_table(
    detector: &Detector,
    values: &Values,
    ranges: &Ranges<'_>,
    clipping: Clipping,
) -> Result<(QuantizationTable, Parameters)> {
    let quantization = |histogram: &Histogram, zero_point: u8| Quantization {
        // Of both signs, one step less upward than downward: the smaller one counts.
        scale: histogram.scale(clipping, f32::from(u8::MAX - zero_point)),
        zero_point,
    };
    let mut tensors: BTreeMap<String, Tensor> = detector
        .model
        .parameters
        .iter()
        .map(|(name, variable)| (name.to_owned(), variable.as_detached_tensor()))
        .collect();
    let mut table = QuantizationTable::default();
    for layer in detector.model.network.layers() {
        let Some(group) = values.group_of_layer(&layer.name) else { continue };
        let input = quantization(&ranges.groups[group], values.zero_point(group));
        let output = ranges.shortcuts.get(&layer.name).zip(values.shortcut_zero_point(&layer.name));
        let output = output.map(|(histogram, zero_point)| quantization(histogram, zero_point));
        let name = format!("{}.weight", layer.name);
        let tensor = detector.model.parameters.detached(&name)?;
        let weight = tensor.flatten_all()?.to_vec1::<f32>()?;
        if let Some(found) = weight.iter().find(|weight| !weight.is_finite()) {
            return Err(Error::Data(format!("{name}: expected finite weights, found {found}")));
        }
        let quantized = quantize_weight(&weight, layer.out_channels);
        let weight = dequantize_weight(&quantized.values, &quantized.scale);
        tensors.insert(name, Tensor::from_vec(weight, tensor.dims(), tensor.device())?);
        let layer_scales = QuantizedLayer { input, output, weight_scale: quantized.scale };
        table.layers.insert(layer.name.clone(), layer_scales);
    }
    Ok((table, Parameters::new(tensors)?))
}

/// Counts the magnitudes of what convolutions read, and of shortcuts.
struct Ranges<'a> {
    values: &'a Values,
    groups: Vec<Histogram>,
    /// By the layer that makes them.
    shortcuts: BTreeMap<String, Histogram>,
}

impl<'a> Ranges<'a> {
    fn new(values: &'a Values) -> Self {
        Self { values, groups: vec![Histogram::default(); values.num_groups()], shortcuts: BTreeMap::new() }
    }
}

impl Watcher for Ranges<'_> {
    fn value(&mut self, value_idx: usize, tensor: Tensor) -> candle_core::Result<Tensor> {
        let histogram = match (self.values.group_of_value(value_idx), self.values.shortcut(value_idx)) {
            (Some(group), _) => &mut self.groups[group],
            (None, Some(layer)) => self.shortcuts.entry(layer.to_owned()).or_default(),
            (None, None) => return Ok(tensor),
        };
        if !histogram.add(&tensor.flatten_all()?.to_vec1::<f32>()?) {
            candle_core::bail!("calibration: activation {value_idx}: expected finite numbers, found others");
        }
        Ok(tensor)
    }
}

/// Compares every convolution's output with that of 8-bit inputs and weights.
struct Losses<'a> {
    table: &'a QuantizationTable,
    parameters: &'a Parameters,
    powers: BTreeMap<String, Powers>,
}

/// Sums over an output.
#[derive(Default)]
struct Powers {
    count: f64,
    sum: f64,
    square: f64,
    noise: f64,
}

impl Powers {
    fn sqnr(&self) -> f64 {
        // About the mean, as a bias that all outputs share (of class logits, the prior) is kept whole and says nothing.
        let signal = (self.square - self.sum * self.sum / self.count).max(0.0);
        if self.noise == 0.0 { f64::INFINITY } else { 10.0 * (signal / self.noise).log10() }
    }
}

impl Watcher for Losses<'_> {
    fn value(&mut self, _: usize, tensor: Tensor) -> candle_core::Result<Tensor> {
        Ok(tensor)
    }

    fn conv(
        &mut self,
        layer: &ConvLayer,
        x: &Tensor,
        residual: Option<&Tensor>,
        y: &Tensor,
    ) -> candle_core::Result<()> {
        let Some(scales) = self.table.get(&layer.name) else { return Ok(()) };
        let rounded = round_to_bytes(x, scales.input)?;
        let found = InferenceEngine::new(self.parameters).conv(layer, &rounded, residual.as_ref().copied())?;
        let (expected, found) = (y.flatten_all()?.to_vec1::<f32>()?, found.flatten_all()?.to_vec1::<f32>()?);
        let powers = self.powers.entry(layer.name.clone()).or_default();
        for (expected, found) in expected.into_iter().zip(found) {
            let (expected, found) = (f64::from(expected), f64::from(found));
            powers.count += 1.0;
            powers.sum += expected;
            powers.square += expected * expected;
            powers.noise += (expected - found).powi(2);
        }
        Ok(())
    }
}
