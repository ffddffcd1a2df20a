//! Exported detectors with what they are to compute, for `cargo xtask onnx`: `onnx_parity FOLDER [NAME=MODEL]...`.
//!
//! A folder a detector: torchvision's two, with random weights, and the models given. In each are graphs that end in logits
//! and in detections, and a file for each batch with the input and our own output. The thresholds of the detectors are
//! lowered until some hundred pairs of an anchor and a class pass, whatever the weights.

use candle_core::{Device, Tensor};
use retinanet::weights::write;
use retinanet::{Config, Detector, InferenceOptions, Model, OnnxInput, OnnxOptions, Opset, Predictions, Result};
use retinanet_anchors::{Detection, ImageSize, Pyramid};
use std::collections::BTreeMap;
use std::path::Path;

/// Images, height and width; none of the heights is a multiple of the coarsest stride.
const BATCHES: [(usize, usize, usize); 4] = [(1, 416, 608), (3, 416, 608), (1, 256, 320), (3, 256, 320)];

/// How many pairs pass the threshold, of the first batch.
const PASSING: usize = 300;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (folder, models) = arguments.split_first().expect("onnx_parity FOLDER [NAME=MODEL]...");
    for preset in ["torchvision_r50_v1", "torchvision_r50_v2"] {
        write_case(&Path::new(folder).join(preset), random(preset)?)?;
    }
    for model in models {
        let (name, path) = model.split_once('=').expect("NAME=MODEL");
        write_case(&Path::new(folder).join(name), Detector::load(path)?)?;
    }
    Ok(())
}

/// COCO's 91 outputs, and last layers whose outputs spread as those of a trained model do: nearly alike in a new one of few
/// layers, they grow with every block that is added.
fn random(preset: &str) -> Result<Detector> {
    let config = Config::preset(preset)?;
    let class = |id: i64| retinanet_annotations::Class { category_id: id, name: id.to_string() };
    let model = Model::new(&config, 91, 1)?;
    let detector = Detector::new(config, (0..91).map(class).collect(), model);
    let pixels = noise(&[ImageSize::new(320, 256)], 256, 320)?;
    let predictions = detector.plan(&InferenceOptions::default())?.predict(&pixels)?;
    for (levels, layer, wanted) in [
        (&predictions.class_logits, "classification_head.cls_logits", 1.5),
        (&predictions.box_deltas, "regression_head.bbox_reg", 0.3),
    ] {
        let weight = detector.model.parameters.variable(&format!("head.{layer}.weight"))?;
        weight.set(&(weight.as_detached_tensor() * (wanted / deviation(levels)?))?)?;
    }
    Ok(detector)
}

fn deviation(levels: &Pyramid<Tensor>) -> Result<f64> {
    let values = joined(levels)?.flatten_all()?.to_vec1::<f32>()?;
    let mean = values.iter().copied().map(f64::from).sum::<f64>() / values.len() as f64;
    let variance = values.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / values.len() as f64;
    Ok(variance.sqrt())
}

fn write_case(folder: &Path, mut detector: Detector) -> Result<()> {
    std::fs::create_dir_all(folder).map_err(|source| retinanet::Error::Io { path: folder.to_owned(), source })?;
    let plan = detector.plan(&InferenceOptions::default())?;
    let mut is_first = true;
    for (images, height, width) in BATCHES {
        let sizes: Vec<ImageSize> = (0..images).map(|i| ImageSize::new(width - 11 * i, height - 7 * i)).collect();
        let pixels = noise(&sizes, height, width)?;
        let predictions = plan.predict(&pixels)?;
        if std::mem::take(&mut is_first) {
            detector.config.post_processing.score_threshold = threshold(&predictions)?;
        }
        let found = detections(&detector, &predictions, ImageSize::new(width, height), &sizes)?;
        let tensors = tensors(&detector, &pixels, &predictions, &sizes, &found)?;
        write(&folder.join(format!("{images}x{height}x{width}.safetensors")), &tensors, &BTreeMap::new())?;
    }
    let oldest = OnnxOptions::default();
    let with_nms = OnnxOptions { with_nms: true, ..oldest };
    for (name, options) in [
        ("raw", oldest),
        ("nms", with_nms),
        ("raw_21", OnnxOptions { opset: Opset::NEWEST, ..oldest }),
        ("nms_21", OnnxOptions { opset: Opset::NEWEST, ..with_nms }),
        ("raw_u8", OnnxOptions { input: OnnxInput::U8Nhwc, ..oldest }),
    ] {
        detector.export_onnx(folder.join(format!("{name}.onnx")), &options)?;
    }
    println!("{}", folder.display());
    Ok(())
}

/// Images `[N, H, W, 3]` of blurred noise, zeros beyond their sizes.
fn noise(sizes: &[ImageSize], height: usize, width: usize) -> Result<Tensor> {
    let mut state = 1u32;
    let mut values = vec![0.0f32; sizes.len() * height * width * 3];
    for (image, size) in sizes.iter().enumerate() {
        for (row, column) in (0..size.height).flat_map(|row| (0..size.width).map(move |column| (row, column))) {
            for channel in 0..3 {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let wave = ((row as f32 / 23.0).sin() + (column as f32 / 31.0 + channel as f32).cos()) * 0.7;
                let grain = (state >> 8) as f32 / (1 << 23) as f32 - 1.0;
                values[((image * height + row) * width + column) * 3 + channel] = wave + grain;
            }
        }
    }
    Ok(Tensor::from_vec(values, (sizes.len(), height, width, 3), &Device::Cpu)?)
}

/// The score that so many pairs of an anchor and a class are above.
fn threshold(predictions: &Predictions) -> Result<f32> {
    let mut logits = joined(&predictions.class_logits)?.flatten_all()?.to_vec1::<f32>()?;
    logits.sort_unstable_by(f32::total_cmp);
    // Between two, so that rounding decides about neither.
    let place = logits.len() - PASSING;
    let logit = 0.5 * (logits[place - 1] + logits[place]);
    Ok(1.0 / (1.0 + (-logit).exp()))
}

fn joined(levels: &Pyramid<Tensor>) -> Result<Tensor> {
    Ok(Tensor::cat(levels.values(), 1)?)
}

fn detections(
    detector: &Detector,
    predictions: &Predictions,
    padded: ImageSize,
    sizes: &[ImageSize],
) -> Result<Vec<Vec<Detection>>> {
    let anchors = detector.model.network.level_anchors(padded, &predictions.grids)?;
    let Config { post_processing, box_coder, .. } = &detector.config;
    Ok(post_processing.detections(predictions, &anchors, box_coder, sizes)?)
}

fn tensors(
    detector: &Detector,
    pixels: &Tensor,
    predictions: &Predictions,
    sizes: &[ImageSize],
    found: &[Vec<Detection>],
) -> Result<BTreeMap<String, Tensor>> {
    let (_, height, width, _) = pixels.dims4()?;
    let anchors = detector.model.network.anchors(ImageSize::new(width, height), &predictions.grids)?;
    let rows = |values: Vec<f32>, columns: usize| {
        Tensor::from_vec(values.clone(), (values.len() / columns, columns), &Device::Cpu)
    };
    let anchors = anchors.values().iter().flatten().flat_map(|anchor| anchor.to_array()).collect();
    let lengths = sizes.iter().flat_map(|size| [size.height as f32, size.width as f32]).collect();
    // Image, label, score, corners.
    let row = |image: usize, found: &Detection| {
        let head = [image as f32, found.label as f32, found.score];
        head.into_iter().chain(found.bbox.to_array()).collect::<Vec<_>>()
    };
    let found =
        found.iter().enumerate().flat_map(|(image, found)| found.iter().flat_map(move |found| row(image, found)));
    let entries = [
        ("images", pixels.permute((0, 3, 1, 2))?.contiguous()?),
        ("image_sizes", rows(lengths, 2)?),
        ("class_logits", joined(&predictions.class_logits)?),
        ("box_deltas", joined(&predictions.box_deltas)?),
        ("anchors", rows(anchors, 4)?),
        ("detections", rows(found.collect(), 7)?),
    ];
    Ok(BTreeMap::from(entries.map(|(name, tensor)| (name.to_owned(), tensor))))
}
