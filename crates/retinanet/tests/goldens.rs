//! Parity with torchvision: features, logits, deltas, anchors, detections, losses and gradients of three models.
//!
//! The reference was computed in f64 by torchvision 0.29.2 with weights and images that are pure functions of their names, so
//! no weight file is needed: `seed = FNV-1a(name)`, `z = splitmix64(seed, i)`, `u = (z >> 40) / 2^24`,
//! `value = f32(offset + scale (2 u - 1))` with offset and scale by the kind of parameter. `X_samples` holds every step-th
//! element of X flattened in torch's order, step = max(1, count / n).

use candle_core::{DType, Device, Tensor};
use retinanet::{
    Config, DetectionLoss, Detector, GroundTruth, InferenceOptions, Model, Network, Output, Targets, TrainingOptions,
    TrainingStep,
};
use retinanet_anchors::{BBox, Detection, ImageSize, Pyramid};
use retinanet_annotations::Class;
use retinanet_data::{Batch, BatchImage, FloatImage};
use retinanet_ops::network::InferenceEngine;
use retinanet_ops::network::plan::{Plan, PlanOptions, Recorder, Value as PlanValue};
use serde_json::Value;
use std::collections::BTreeMap;

fn fnv1a(text: &str) -> u64 {
    text.bytes().fold(0xCBF2_9CE4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3))
}

/// The i-th number in [0, 1) of a name.
fn uniform(seed: u64, i: u64) -> f64 {
    let mut z = seed.wrapping_add((i + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^= z >> 31;
    (z >> 40) as f64 / f64::from(1 << 24)
}

/// A model of the fixture.
struct Case {
    name: &'static str,
    is_basic: bool,
    class_gain: f64,
    num_classes: usize,
    preset: &'static str,
    assignments: &'static [&'static str],
    /// Largest relative error of a gradient in f32. A ReLU whose input rounds to the other side of 0 moves a gradient by
    /// about a thousandth, and norms over the batch pass it on to all layers below: torchvision itself in f32 is 1.8e-3
    /// (v1) and 2.6e-2 (v2) away from its f64.
    f32_gradients: f64,
}

const CASES: [Case; 3] = [
    Case {
        name: "r18_v1",
        is_basic: true,
        class_gain: 2.0,
        num_classes: 12,
        preset: "torchvision_r50_v1",
        // torchvision's own constructor freezes no stage; its frozen norms are all that is not trained.
        assignments: &[
            "backbone.depth=r18",
            "backbone.frozen_stages=0",
            "preprocessing.min_size=256",
            "preprocessing.max_size=320",
        ],
        f32_gradients: 2e-3,
    },
    Case {
        name: "r50_v1",
        is_basic: false,
        class_gain: 0.85,
        num_classes: 91,
        preset: "torchvision_r50_v1",
        assignments: &["backbone.frozen_stages=0", "preprocessing.min_size=320", "preprocessing.max_size=512"],
        f32_gradients: 2e-3,
    },
    Case {
        name: "r50_v2",
        is_basic: false,
        class_gain: 0.7,
        num_classes: 91,
        preset: "torchvision_r50_v2",
        assignments: &["backbone.frozen_stages=0", "preprocessing.min_size=320", "preprocessing.max_size=512"],
        f32_gradients: 1e-2,
    },
];

impl Case {
    fn config(&self) -> Config {
        let assignments: Vec<String> = self.assignments.iter().map(|&a| a.to_owned()).collect();
        Config::parse(Config::preset_text(self.preset).expect("a preset"), &assignments).expect("a configuration")
    }

    fn offset_and_scale(&self, name: &str, shape: &[usize]) -> (f64, f64) {
        let leaf = name.rsplit('.').next().unwrap_or(name);
        match (leaf, shape) {
            ("running_mean", _) => (0.0, 0.1),
            ("running_var", _) => (1.0, 0.5),
            (_, [_, channels, height, width]) => {
                let gain = if name.ends_with("cls_logits.weight") {
                    self.class_gain
                } else if name.ends_with("bbox_reg.weight") {
                    0.1
                } else if name.contains("_blocks.") && !name.contains("extra") {
                    0.2
                } else {
                    1.0
                };
                (0.0, gain * (6.0 / (channels * height * width) as f64).sqrt())
            }
            _ if name.ends_with("cls_logits.bias") => (-4.6, 0.1),
            ("weight", _) if name.contains(".bn3.") || (name.contains(".bn2.") && self.is_basic) => (0.3, 0.1),
            ("weight", _) => (1.0, 0.2),
            _ => (0.0, 0.1),
        }
    }

    fn tensors(&self) -> BTreeMap<String, Tensor> {
        let network = Network::new(&self.config(), self.num_classes).expect("a network");
        let tensor = |(name, shape): (String, Vec<usize>)| {
            let (offset, scale) = self.offset_and_scale(&name, &shape);
            let seed = fnv1a(&name);
            let count: usize = shape.iter().product();
            let mut values: Vec<f32> =
                (0..count as u64).map(|i| (offset + scale * (2.0 * uniform(seed, i) - 1.0)) as f32).collect();
            if name.ends_with("cls_logits.weight") {
                // Odd input channels are minus the even ones before them.
                let area = shape[2] * shape[3];
                for pair in values.chunks_exact_mut(2 * area) {
                    let (even, odd) = pair.split_at_mut(area);
                    odd.iter_mut().zip(even).for_each(|(odd, even)| *odd = -*even);
                }
            }
            (name, Tensor::from_vec(values, shape, &Device::Cpu).expect("a tensor"))
        };
        network.expected_shapes().into_iter().map(tensor).collect()
    }
}

/// Reference numbers of one case.
struct Golden {
    tensors: std::collections::HashMap<String, Tensor>,
    meta: Value,
}

impl Golden {
    fn read(name: &str) -> Self {
        let path = format!("{}/tests/goldens/{name}.safetensors", env!("CARGO_MANIFEST_DIR"));
        let bytes = std::fs::read(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
        let (_, metadata) = safetensors::SafeTensors::read_metadata(&bytes).expect("a header");
        let meta = &metadata.metadata().as_ref().expect("metadata")["meta"];
        Self {
            meta: serde_json::from_str(meta).expect("JSON"),
            tensors: candle_core::safetensors::load(&path, &Device::Cpu).expect("tensors"),
        }
    }

    fn floats(&self, key: &str) -> Vec<f32> {
        self.tensors[key].flatten_all().and_then(|t| t.to_vec1()).unwrap_or_else(|e| panic!("{key}: {e}"))
    }

    fn boxes(&self, key: &str) -> Vec<BBox> {
        self.floats(key).as_chunks::<4>().0.iter().map(|&corners| BBox::from(corners)).collect()
    }

    fn labels(&self, key: &str) -> Vec<usize> {
        let labels: Vec<i64> = self.tensors[key].to_vec1().expect("labels");
        labels.into_iter().map(|label| usize::try_from(label).expect("a class")).collect()
    }

    fn sizes(&self) -> Vec<ImageSize> {
        let sizes = self.meta["sizes"].as_array().expect("sizes");
        let number = |v: &Value| v.as_u64().expect("pixels") as usize;
        sizes.iter().map(|size| ImageSize::new(number(&size[1]), number(&size[0]))).collect()
    }
}

fn image(k: usize, size: ImageSize) -> FloatImage {
    let seed = fnv1a(&format!("image{k}"));
    let mut pixels = Vec::with_capacity(3 * size.width * size.height);
    for y in 0..size.height {
        for x in 0..size.width {
            for c in 0..3 {
                let i = ((c * size.height + y) * size.width + x) as u64;
                let (fx, fy, fc) = (x as f64, y as f64, c as f64);
                pixels.push(
                    (0.5 + 0.3 * (fx / 17.0 + fc).sin() * (fy / 23.0 - fc).cos() + 0.2 * (2.0 * uniform(seed, i) - 1.0))
                        as f32,
                );
            }
        }
    }
    FloatImage { size, pixels }
}

/// Norm of the difference over norm of the reference, on every step-th element of `values`.
fn relative_error(values: &[f32], reference: &[f32], n: usize) -> f64 {
    let found = values.iter().step_by((values.len() / n).max(1));
    assert_eq!(found.len(), reference.len(), "number of samples");
    let difference: f64 = found.zip(reference).map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2)).sum();
    let norm: f64 = reference.iter().map(|&b| f64::from(b).powi(2)).sum();
    (difference / norm).sqrt()
}

#[track_caller]
fn check(what: &str, values: &[f32], reference: &[f32], n: usize, limit: f64) {
    let error = relative_error(values, reference, n);
    println!("{what}: relative error {error:.2e}");
    assert!(error <= limit, "{what}: expected a relative error of at most {limit}, found {error:.3e}");
}

/// `[N, H, W, C]` flattened in torch's order.
fn nchw(tensor: &Tensor) -> Vec<f32> {
    tensor.permute((0, 3, 1, 2)).and_then(|t| t.flatten_all()?.to_vec1()).expect("four axes")
}

/// All levels `[N, R, C]` joined along R and flattened.
fn joined(levels: &Pyramid<Tensor>) -> Vec<f32> {
    Tensor::cat(levels.values(), 1).and_then(|t| t.flatten_all()?.to_vec1()).expect("levels of one batch")
}

fn batch_tensor(batch: &Batch) -> Tensor {
    let shape = (batch.images.len(), batch.padded.height, batch.padded.width, 3);
    Tensor::from_slice(&batch.pixels, shape, &Device::Cpu).expect("a batch")
}

fn check_inference(case: &Case, golden: &Golden, detector: &Detector, batch: &Batch) {
    let pixels = batch_tensor(batch);
    check("input", &nchw(&pixels), &golden.floats("input_samples"), 4096, 1e-6);

    let model = &detector.model;
    let features = model.network.features(&mut InferenceEngine::new(&model.parameters), &pixels).expect("features");
    let stages = features.stages.iter().skip(1).map(|(level, stage)| (format!("c{}", level.number()), stage));
    let levels = features.pyramid.iter().map(|(level, features)| (format!("p{}", level.number()), features));
    for (name, features) in stages.chain(levels) {
        check(
            &format!("{} {name}", case.name),
            &nchw(features),
            &golden.floats(&format!("{name}_samples")),
            2048,
            1e-4,
        );
    }

    let predictions = model.predict(&pixels).expect("predictions");
    check("class logits", &joined(&predictions.class_logits), &golden.floats("class_logits_samples"), 8192, 1e-4);
    check("box deltas", &joined(&predictions.box_deltas), &golden.floats("box_deltas_samples"), 4096, 1e-4);

    let anchors = model.network.anchors(batch.padded, &predictions.grids).expect("anchors").into_values().concat();
    assert_eq!(Some(anchors.len() as u64), golden.meta["num_anchors"].as_u64());
    assert_eq!(anchors[..27], golden.boxes("anchors_head")[..]);
    assert_eq!(anchors[anchors.len() - 27..], golden.boxes("anchors_tail")[..]);
    let left: Vec<f32> = anchors.iter().map(|anchor| anchor.x0).step_by((anchors.len() / 2048).max(1)).collect();
    assert_eq!(left, golden.floats("anchors_samples"));

    check_plan(case, golden, detector, batch, &pixels);
    let plan = detector.plan(&InferenceOptions::default()).expect("a plan");
    let detections = plan.detect_prepared(batch).expect("detections");
    for (k, found) in detections.iter().enumerate() {
        let (boxes, scores) =
            (golden.boxes(&format!("detections{k}_boxes")), golden.floats(&format!("detections{k}_scores")));
        let labels = golden.labels(&format!("detections{k}_labels"));
        assert_eq!(found.len(), boxes.len(), "{} image {k}: number of detections", case.name);
        let mut free = vec![true; found.len()];
        for ((bbox, score), label) in boxes.iter().zip(&scores).zip(&labels) {
            // A box that was clipped to nothing overlaps nothing, itself neither: its corners are compared.
            let is_close =
                |other: &BBox| other.to_array().iter().zip(bbox.to_array()).all(|(a, b)| (a - b).abs() < 0.01);
            let is_same = |d: &Detection| {
                let overlaps = if bbox.area() > 0.0 { d.bbox.iou(bbox) > 0.99 } else { is_close(&d.bbox) };
                d.label == *label && (d.score - score).abs() <= 2e-4 && overlaps
            };
            let twin = (0..found.len()).find(|&i| free[i] && is_same(&found[i]));
            let twin = twin.unwrap_or_else(|| {
                panic!("{} image {k}: {bbox:?} class {label} score {score} is not found", case.name)
            });
            free[twin] = false;
        }
    }
}

/// The same numbers from a plan: stages, levels, logits and deltas.
fn check_plan(case: &Case, golden: &Golden, detector: &Detector, batch: &Batch, pixels: &Tensor) {
    let model = &detector.model;
    let (mut recorder, input) = Recorder::new(3);
    let features = model.network.features(&mut recorder, &input).expect("features");
    let stages = features.stages.iter().skip(1).map(|(level, &value)| (format!("c{}", level.number()), value));
    let levels = features.pyramid.iter().map(|(level, &value)| (format!("p{}", level.number()), value));
    let (names, values): (Vec<String>, Vec<PlanValue>) = stages.chain(levels).unzip();
    let plan = Plan::new(&recorder, &values, &[], &model.parameters, &PlanOptions::default()).expect("a plan");
    let mut session = plan.session();
    let ImageSize { width, height } = batch.padded;
    session.resize(&vec![(height, width); batch.images.len()]).expect("a layout");
    for (image_idx, pixels) in batch.pixels.chunks_exact(height * width * 3).enumerate() {
        session.input_mut(image_idx).copy_from_slice(pixels);
    }
    session.run_first();
    for (output_idx, name) in names.iter().enumerate() {
        let mut values = Vec::new();
        for image_idx in 0..batch.images.len() {
            let Output { height, width, values: numbers } = session.first_output(output_idx, image_idx);
            let shape = (1, height, width, numbers.len() / (height * width));
            values.extend(nchw(&Tensor::from_slice(numbers, shape, &Device::Cpu).expect("a feature map")));
        }
        check(&format!("{} plan {name}", case.name), &values, &golden.floats(&format!("{name}_samples")), 2048, 1e-4);
    }

    let plan = detector.plan(&InferenceOptions::default()).expect("a plan");
    let predictions = plan.predict(pixels).expect("predictions");
    for (what, levels, n) in
        [("class_logits", &predictions.class_logits, 8192), ("box_deltas", &predictions.box_deltas, 4096)]
    {
        check(
            &format!("{} plan {what}", case.name),
            &joined(levels),
            &golden.floats(&format!("{what}_samples")),
            n,
            1e-4,
        );
    }
}

/// The batch as the reference made it, in f64: normalised, resized bilinearly with half-pixel centres, padded with zeros.
fn input_f64(config: &Config, images: &[FloatImage], batch: &Batch) -> Tensor {
    let ImageSize { width, height } = batch.padded;
    let mut pixels = vec![0.0; images.len() * width * height * 3];
    for (k, (image, info)) in images.iter().zip(&batch.images).enumerate() {
        let axis = |target: usize, from: usize, to: usize| {
            let center = ((target as f64 + 0.5) * (from as f64 / to as f64) - 0.5).max(0.0);
            let low = center as usize;
            (low, (low + 1).min(from - 1), center - low as f64)
        };
        let source = |x: usize, y: usize, c: usize| {
            let value = f64::from(image.pixels[(y * image.size.width + x) * 3 + c]);
            // torchvision holds mean and deviation in the image's dtype.
            (value - [0.485, 0.456, 0.406][c]) / [0.229, 0.224, 0.225][c]
        };
        for y in 0..info.resized.height {
            let (y0, y1, fy) = axis(y, image.size.height, info.resized.height);
            for x in 0..info.resized.width {
                let (x0, x1, fx) = axis(x, image.size.width, info.resized.width);
                for c in 0..3 {
                    let top = source(x0, y0, c) * (1.0 - fx) + source(x1, y0, c) * fx;
                    let bottom = source(x0, y1, c) * (1.0 - fx) + source(x1, y1, c) * fx;
                    pixels[((k * height + y) * width + x) * 3 + c] = top * (1.0 - fy) + bottom * fy;
                }
            }
        }
    }
    assert_eq!(config.preprocessing.mean, [0.485, 0.456, 0.406]);
    Tensor::from_vec(pixels, (images.len(), height, width, 3), &Device::Cpu).expect("a batch")
}

fn check_training(
    case: &Case,
    golden: &Golden,
    config: &Config,
    model: &Model,
    pixels: &Tensor,
    batch: &Batch,
    limit: f64,
) {
    // f32 as training runs it, f64 by candle's graph.
    let mut session = (pixels.dtype() == DType::F32)
        .then(|| TrainingStep::new(&model.network, &TrainingOptions::default()).expect("a training step"));
    let predictions = match &mut session {
        Some(step) => step.forward(model, &batch.pixels, batch.images.len(), batch.padded).expect("predictions"),
        None => model.predict_for_training(pixels).expect("predictions").0,
    };
    let objects = |(k, image): (usize, &BatchImage)| {
        let (x, y) = image.scale();
        let boxes = golden.boxes(&format!("targets{k}_boxes")).iter().map(|bbox| bbox.scale(x, y)).collect();
        GroundTruth { boxes, classes: golden.labels(&format!("targets{k}_labels")) }
    };
    let ground_truth: Vec<GroundTruth> = batch.images.iter().enumerate().map(objects).collect();
    let anchors = model.network.anchors(batch.padded, &predictions.grids).expect("anchors");
    let targets =
        Targets::new(&config.matcher, &anchors, model.network.anchors_per_location(), &ground_truth).expect("targets");
    let mut loss = DetectionLoss::new(config.loss.clone(), config.box_coder);
    let losses = loss.forward(&predictions, &targets, &anchors, 0).expect("losses");
    for (name, loss) in [("loss_classification", &losses.class), ("loss_box_regression", &losses.r#box)] {
        let value = loss.to_dtype(DType::F32).and_then(|loss| loss.to_scalar::<f32>()).expect("a scalar");
        check(name, &[value], &golden.floats(name), 1, 1e-4);
    }

    let by_candle = session.is_none().then(|| losses.total.backward().expect("gradients"));
    if let Some(step) = &mut session {
        step.backward(model, predictions, losses).expect("gradients");
    }
    let gradient_of = |name: &str| match (&session, &by_candle) {
        (Some(step), _) => step.gradients().get(name).map(<[f32]>::to_vec),
        (None, Some(gradients)) => {
            let gradient = gradients.get(model.parameters.variable(name).expect("torchvision's name"))?;
            Some(gradient.to_dtype(DType::F32).and_then(|g| g.flatten_all()?.to_vec1::<f32>()).expect("values"))
        }
        (None, None) => None,
    };
    let norms = golden.meta["grad_norms"].as_object().expect("norms");
    assert!(norms.len() > 50, "{}: {} gradients", case.name, norms.len());
    let mut failures = Vec::new();
    let mut worst = 0.0f64;
    for (name, norm) in norms {
        let gradient = gradient_of(name).unwrap_or_else(|| panic!("{name}: no gradient"));
        let found = gradient.iter().map(|&g| f64::from(g).powi(2)).sum::<f64>().sqrt();
        let norm_error = (found / norm.as_f64().expect("a number") - 1.0).abs();
        let samples = golden.tensors.get(&format!("grad.{name}")).map(|_| golden.floats(&format!("grad.{name}")));
        let sample_error = samples.map_or(0.0, |samples| relative_error(&gradient, &samples, 256));
        worst = worst.max(norm_error).max(sample_error);
        if !(norm_error <= limit && sample_error <= limit) {
            failures.push(format!("{name}: norm {norm_error:.2e}, samples {sample_error:.2e}"));
        }
    }
    println!("{} gradients in {:?}: worst relative error {worst:.1e}", case.name, pixels.dtype());
    assert!(failures.is_empty(), "{}: relative errors of gradients above {limit}:\n{}", case.name, failures.join("\n"));
}

#[track_caller]
fn check_case(case: &Case) {
    let golden = Golden::read(case.name);
    let config = case.config();
    let images: Vec<FloatImage> = golden.sizes().into_iter().enumerate().map(|(k, size)| image(k, size)).collect();
    let batch = config.preprocessing.batch(&images.iter().map(FloatImage::view).collect::<Vec<_>>()).expect("a batch");
    let tensors = case.tensors();
    let doubles = tensors.iter().map(|(name, tensor)| Ok((name.clone(), tensor.to_dtype(DType::F64)?)));
    let doubles = doubles.collect::<candle_core::Result<_>>().expect("tensors in f64");
    let model = Model::with_tensors(&config, case.num_classes, tensors).expect("all tensors by torchvision's names");
    let classes = (0..case.num_classes as i64).map(|id| Class { category_id: id, name: id.to_string() }).collect();
    let detector = Detector::new(config.clone(), classes, model);
    check_inference(case, &golden, &detector, &batch);

    let pixels = batch_tensor(&batch);
    check_training(case, &golden, &config, &detector.model, &pixels, &batch, case.f32_gradients);
    // The same code in f64, where the reference's own rounding to f32 is all that is left.
    let model = Model::with_tensors(&config, case.num_classes, doubles).expect("all tensors by torchvision's names");
    check_training(case, &golden, &config, &model, &input_f64(&config, &images, &batch), &batch, 1e-5);
}

#[test]
fn resnet18_v1() {
    check_case(&CASES[0]);
}

#[test]
fn resnet50_v1() {
    check_case(&CASES[1]);
}

#[test]
fn resnet50_v2() {
    check_case(&CASES[2]);
}

/// Today's names to those of the released v1 file.
fn released_name(name: &str) -> String {
    for subnet in ["classification_head", "regression_head"] {
        for layer in 0..4 {
            let today = format!("head.{subnet}.conv.{layer}.0.");
            if let Some(leaf) = name.strip_prefix(&today) {
                return format!("head.{subnet}.conv.{}.{leaf}", 2 * layer);
            }
        }
    }
    for block in 0..3 {
        for kind in ["inner_blocks", "layer_blocks"] {
            if let Some(leaf) = name.strip_prefix(&format!("backbone.fpn.{kind}.{block}.0.")) {
                return format!("backbone.fpn.{kind}.{block}.{leaf}");
            }
        }
    }
    name.to_owned()
}

#[test]
fn a_file_with_either_version_of_the_names_gives_torchvisions_boxes() {
    let case = &CASES[0];
    let golden = Golden::read(case.name);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let images: Vec<FloatImage> = golden.sizes().into_iter().enumerate().map(|(k, size)| image(k, size)).collect();
    for (file, rename) in [("today", (|name| name.to_owned()) as fn(&str) -> String), ("released", released_name)] {
        let mut tensors: BTreeMap<String, Tensor> =
            case.tensors().into_iter().map(|(name, tensor)| (rename(&name), tensor)).collect();
        assert_eq!(tensors.contains_key("head.regression_head.conv.6.bias"), file == "released");
        tensors.insert(
            "backbone.body.bn1.num_batches_tracked".to_owned(),
            Tensor::new(&[7f32], &Device::Cpu).expect("a count"),
        );
        let path = folder.path().join(file);
        retinanet::weights::write(&path, &tensors, &BTreeMap::new()).expect("a file");
        let mut detector = Detector::load(&path).expect("torchvision's names");
        assert_eq!((detector.classes.len(), detector.classes[11].category_id), (12, 11));
        (detector.config.preprocessing.min_size, detector.config.preprocessing.max_size) = (256, 320);
        let batch = detector
            .config
            .preprocessing
            .batch(&images.iter().map(FloatImage::view).collect::<Vec<_>>())
            .expect("a batch");
        check_inference(case, &golden, &detector, &batch);
    }
}
