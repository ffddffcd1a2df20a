//! MMDetection's weights.
//!
//! Its two styles have the same names and shapes. The configuration that a checkpoint carries tells them apart, and the norms
//! do where there is none: Caffe's have no statistics.
//!
//! Source: MMDetection, `configs/_base_/models/retinanet_r50_fpn.py`, `configs/retinanet/`, `models/necks/fpn.py`,
//! `models/task_modules/prior_generators/anchor_generator.py`.

mod settings;

use super::conventions::{AnchorOrder, ColorOrder, Conventions};
use super::{Foundation, Imported, Toolkit, coco, has_folded_norms};
use crate::error::Result;
use crate::weights::WeightsError;
use candle_core::Tensor;
use retinanet_backbone::P6Source;
use settings::Settings;
use std::collections::BTreeMap;

/// ImageNet's mean and standard deviation of pixels in 0..=255, red, green and blue.
const MEAN: [f64; 3] = [123.675, 116.28, 103.53];
const STD: [f64; 3] = [58.395, 57.12, 57.375];

/// Entries of the checkpoint that hold the configuration as Python, and the names of the classes: of MMDetection 3, and of 2.
const CONFIG: [&str; 2] = ["meta.cfg", "meta.config"];
const CLASSES: [&str; 3] = ["meta.dataset_meta.classes", "meta.dataset_meta.CLASSES", "meta.CLASSES"];

pub(super) fn import(tensors: BTreeMap<String, Tensor>, metadata: &BTreeMap<String, String>) -> Result<Imported> {
    let settings = settings(metadata);
    let mut imported = conventions(&tensors, settings.as_ref())?.detector(tensors)?;
    let num_classes = imported.classes.len();
    let names = CLASSES.iter().find_map(|key| metadata.get(*key));
    let names: Option<Vec<String>> = names.and_then(|text| serde_json::from_str(text).ok());
    let names = names.filter(|names| names.len() == num_classes);
    imported.classes = coco::contiguous(num_classes, names.as_deref());
    if let Some(settings) = &settings {
        settings.set(&mut imported.config);
    }
    Ok(imported)
}

pub(super) fn foundation(tensors: BTreeMap<String, Tensor>, metadata: &BTreeMap<String, String>) -> Result<Foundation> {
    conventions(&tensors, settings(metadata).as_ref())?.foundation(tensors)
}

fn settings(metadata: &BTreeMap<String, String>) -> Option<Settings> {
    CONFIG.iter().find_map(|key| metadata.get(*key)).map(|text| Settings::read(text))
}

/// What the configuration says, and the released ones' numbers for the rest.
fn conventions(tensors: &BTreeMap<String, Tensor>, settings: Option<&Settings>) -> Result<Conventions> {
    let is_folded = has_folded_norms(tensors)?;
    let mut notes = Vec::new();
    if settings.is_none() {
        let style = if is_folded { "caffe" } else { "pytorch" };
        notes
            .push(format!("the file has no configuration; its norms are those of the {style} style, which is assumed"));
    }
    let empty = Settings::default();
    let settings = settings.unwrap_or(&empty);
    if let Some(unknown) = settings.unsupported() {
        return Err(unknown.into());
    }
    let is_caffe = settings.is_caffe.unwrap_or(is_folded);
    let (mut color_order, mut mean, mut std) = (ColorOrder::Rgb, MEAN, STD);
    if is_caffe {
        mean.reverse();
        (color_order, std) = (ColorOrder::Bgr, [1.0; 3]);
    }
    if let (Some(read_mean), Some(read_std)) = (settings.mean, settings.std) {
        (mean, std) = (read_mean, read_std);
    }
    match settings.is_rgb {
        Some(true) => color_order = ColorOrder::Rgb,
        Some(false) => color_order = ColorOrder::Bgr,
        None => {}
    }
    if std.iter().any(|&std| std <= 0.0) {
        let (what, expected) = ("configuration: std".to_owned(), "numbers above 0".to_owned());
        return Err(WeightsError::Layout { what, expected, found: format!("{std:?}") }.into());
    }
    Ok(Conventions {
        toolkit: Toolkit::Mmdetection,
        color_order,
        mean,
        std,
        stride_in_1x1: is_caffe,
        relu_before_p7: settings.relu_before_extra_convs.unwrap_or(false),
        p6_source: match settings.extra_convs.as_deref() {
            Some("on_output") => P6Source::P5,
            _ => P6Source::C5,
        },
        anchor_order: AnchorOrder::ByRatio,
        min_size: settings.scale.map_or(800, |scale| scale.0),
        max_size: settings.scale.map_or(1333, |scale| scale.1),
        notes,
    })
}
