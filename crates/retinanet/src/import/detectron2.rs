//! Detectron2's weights, and Caffe2's ImageNet networks that it starts from.
//!
//! Source: Detectron2, `config/defaults.py`, `configs/Base-RetinaNet.yaml`, `modeling/anchor_generator.py`,
//! `modeling/backbone/resnet.py`, `layers/batch_norm.py`.

use super::conventions::{AnchorOrder, ColorOrder, Conventions};
use super::{Foundation, Imported, Toolkit, has_folded_norms};
use crate::error::Result;
use crate::weights::WeightsError;
use crate::weights::names::Naming;
use candle_core::{Device, Tensor};
use retinanet_anchors::{AnchorConfig, BBox};
use retinanet_backbone::P6Source;
use std::collections::BTreeMap;

/// ImageNet's mean and standard deviation of pixels in 0..=255, blue, green and red.
const MEAN: [f64; 3] = [103.530, 116.280, 123.675];
const STD: [f64; 3] = [57.375, 57.120, 58.395];

/// What a model keeps beside its weights in older files.
const MEAN_BUFFER: &str = "pixel_mean";
const STD_BUFFER: &str = "pixel_std";
const ANCHOR_BUFFERS: &str = "anchor_generator.cell_anchors.";

pub(super) fn import(mut tensors: BTreeMap<String, Tensor>) -> Result<Imported> {
    // As a detector's frozen norms without statistics are read there.
    complete_norms(&mut tensors, 1.0)?;
    let conventions = conventions(&mut tensors)?;
    conventions.detector(tensors)
}

pub(super) fn foundation(mut tensors: BTreeMap<String, Tensor>, naming: Naming) -> Result<Foundation> {
    // A scale and a shift with nothing else is what Caffe2's norms are; 1 - epsilon makes ours just that.
    let variance = if naming == Naming::Caffe2 { 1.0 - 1e-5 } else { 1.0 };
    complete_norms(&mut tensors, variance)?;
    let conventions = conventions(&mut tensors)?;
    conventions.foundation(tensors)
}

/// Gives norms the statistics of nothing where all of them have scale and shift alone. Where some have statistics, those of the
/// others are missing.
fn complete_norms(tensors: &mut BTreeMap<String, Tensor>, variance: f32) -> Result<()> {
    if tensors.keys().any(|name| name.ends_with(".running_mean") || name.ends_with(".running_var")) {
        return Ok(());
    }
    let is_norm =
        |name: &str| name.starts_with("backbone.body.") && (name.contains(".bn") || name.contains(".downsample.1."));
    let scales: Vec<(String, usize)> = tensors
        .iter()
        .filter_map(|(name, tensor)| Some((name.strip_suffix(".weight")?, tensor)))
        .filter(|(norm, _)| is_norm(&format!("{norm}.")))
        .map(|(norm, tensor)| (norm.to_owned(), tensor.elem_count()))
        .collect();
    // Group norms have no statistics either, and cannot be told from these; Detectron2's default decides.
    for (norm, channels) in scales {
        for (leaf, value) in [("running_mean", 0.0), ("running_var", variance)] {
            tensors.insert(format!("{norm}.{leaf}"), Tensor::full(value, channels, &Device::Cpu)?);
        }
    }
    Ok(())
}

/// What the file says of itself, and Detectron2's defaults for the rest.
fn conventions(tensors: &mut BTreeMap<String, Tensor>) -> Result<Conventions> {
    let mut notes = Vec::new();
    let is_folded = has_folded_norms(tensors)?;
    let is_grouped = tensors
        .get("backbone.body.layer1.0.conv2.weight")
        .is_some_and(|weight| weight.dims().first().zip(weight.dims().get(1)).is_some_and(|(out, group)| out > group));
    check_anchors(tensors)?;
    let buffers = (take_channels(tensors, MEAN_BUFFER)?, take_channels(tensors, STD_BUFFER)?);
    // The released ResNets are MSRA's, with the deviation in the stem and the stride in the 1x1; the ResNeXts came with the
    // deviation apart and the stride in the 3x3, and networks with statistics of their own are torchvision's or trained anew.
    let (color_order, mean, std) = match buffers {
        (Some(mean), Some(std)) => {
            let order = if mean[0] > mean[2] { ColorOrder::Rgb } else { ColorOrder::Bgr };
            (order, mean, std)
        }
        _ if is_folded => (ColorOrder::Bgr, MEAN, if is_grouped { STD } else { [1.0; 3] }),
        _ => {
            let mut rgb = (MEAN, STD);
            rgb.0.reverse();
            rgb.1.reverse();
            notes.push(
                "the norms have statistics of their own: pictures are assumed in red, green and blue with ImageNet's mean and \
                 deviation, as with torchvision's networks"
                    .to_owned(),
            );
            (ColorOrder::Rgb, rgb.0, rgb.1)
        }
    };
    let stride_in_1x1 = is_folded && !is_grouped;
    let place = if stride_in_1x1 { "first 1x1" } else { "3x3" };
    notes.push(format!(
        "the stride of a bottleneck is assumed in its {place}, as in the networks Detectron2 starts from"
    ));
    Ok(Conventions {
        toolkit: Toolkit::Detectron2,
        color_order,
        mean,
        std,
        stride_in_1x1,
        relu_before_p7: true,
        p6_source: P6Source::C5,
        anchor_order: AnchorOrder::ByScale,
        min_size: 800,
        max_size: 1333,
        notes,
    })
}

/// Takes a tensor of three numbers out.
fn take_channels(tensors: &mut BTreeMap<String, Tensor>, name: &str) -> Result<Option<[f64; 3]>> {
    let Some(tensor) = tensors.remove(name) else { return Ok(None) };
    let values: Vec<f32> = tensor.flatten_all()?.to_vec1()?;
    let channels: [f32; 3] = values.try_into().map_err(|values: Vec<f32>| WeightsError::Layout {
        what: name.to_owned(),
        expected: "3 numbers".to_owned(),
        found: values.len().to_string(),
    })?;
    // The file has the decimal number's f32, which is not the f64's own.
    Ok(Some(channels.map(|value| value.to_string().parse().unwrap_or(f64::from(value)))))
}

/// Takes the anchors out of the file, and compares them with those that the detector will have.
fn check_anchors(tensors: &mut BTreeMap<String, Tensor>) -> Result<()> {
    let names: Vec<String> = tensors.keys().filter(|name| name.starts_with(ANCHOR_BUFFERS)).cloned().collect();
    let AnchorConfig { sizes, octave_scales, aspect_ratios, .. } = AnchorConfig::default();
    for name in names {
        let Some(tensor) = tensors.remove(&name) else { continue };
        let corners: Vec<f32> = tensor.flatten_all()?.to_vec1()?;
        let found: Vec<BBox> = corners.as_chunks::<4>().0.iter().map(|&corners| BBox::from(corners)).collect();
        let level = name.strip_prefix(ANCHOR_BUFFERS).and_then(|index| index.parse::<usize>().ok());
        let size = level.and_then(|level| sizes.get(level)).copied().unwrap_or(0.0);
        let shapes = octave_scales.iter().flat_map(|scale| aspect_ratios.iter().map(move |ratio| (scale, ratio)));
        let expected: Vec<BBox> = shapes
            .map(|(scale, ratio)| {
                let side = f64::from(size) * scale;
                let (width, height) = ((side / ratio.sqrt()) as f32, (side * ratio.sqrt()) as f32);
                BBox::new(-width / 2.0, -height / 2.0, width / 2.0, height / 2.0)
            })
            .collect();
        let is_close =
            |(a, b): (&BBox, &BBox)| a.to_array().iter().zip(b.to_array()).all(|(a, b)| (a - b).abs() <= 1e-4 * size);
        if found.len() != expected.len() || !found.iter().zip(&expected).all(is_close) {
            let first = found
                .first()
                .map_or("none".to_owned(), |bbox| format!("{} that begin with {:?}", found.len(), bbox.to_array()));
            let wanted = format!("9 anchors of {size} pixels, three scales of three aspect ratios");
            return Err(WeightsError::Layout { what: name, expected: wanted, found: first }.into());
        }
    }
    Ok(())
}
