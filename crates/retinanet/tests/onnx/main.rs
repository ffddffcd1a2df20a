//! Exported graphs, run by a plain interpreter, beside the detector that they were made of.

mod interpreter;
mod operators;

use candle_core::{Device, Tensor as CandleTensor};
use interpreter::{Kind, Tensor, run};
use retinanet::{Config, Detector, Model, OnnxInput, OnnxOptions, Opset, Predictions};
use retinanet_anchors::{BBox, Detection, ImageSize};
use retinanet_annotations::Class;
use retinanet_data::{ImageView, Pixels};
use retinanet_onnx::proto::ModelProto;
use std::collections::{BTreeMap, BTreeSet};

/// Numbers in [-1, 1) of a name.
fn noise(name: &str, count: usize) -> Vec<f32> {
    let mut state = name.bytes().fold(1u32, |state, byte| state.wrapping_mul(31).wrapping_add(u32::from(byte)));
    let next = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..count).map(next).collect()
}

/// A narrow detector whose norms have seen something and whose scores and boxes differ from place to place.
fn detector(preset: &str, assignments: &[&str]) -> Detector {
    let small = [
        "backbone.width=8",
        "fpn.channels=12",
        "head.channels=12",
        "head.depth=1",
        "anchors.octave_scales=[1.0, 1.3]",
        "post_processing.pre_nms_top_k=60",
        "post_processing.max_detections=25",
        "post_processing.score_threshold=0.3",
    ];
    let assignments: Vec<String> = small.iter().chain(assignments).map(|&a| a.to_owned()).collect();
    let config = Config::parse(Config::preset_text(preset).expect("a preset"), &assignments).expect("ranges");
    let classes: Vec<Class> = (0..3).map(|id| Class { category_id: 10 * id, name: format!("class {id}") }).collect();
    let model = Model::new(&config, 3, 7).expect("a model");
    for (name, variable) in model.parameters.iter() {
        let values = noise(name, variable.elem_count());
        let old = variable.flatten_all().and_then(|t| t.to_vec1::<f32>()).expect("f32");
        let is_last = name.contains("cls_logits") || name.contains("bbox_reg");
        let new = old.iter().zip(values).map(|(&old, noise)| match name.rsplit('.').next() {
            Some("weight") if is_last => 40.0 * old,
            Some("weight") if variable.dims().len() == 4 => old,
            Some("bias") if name.contains("cls_logits") => noise - 0.5,
            Some("running_var" | "weight") => 1.0 + 0.5 * noise,
            _ => 0.2 * noise,
        });
        let new = CandleTensor::from_vec(new.collect(), variable.dims(), &Device::Cpu).expect("as many");
        variable.set(&new).expect("the same shape");
    }
    Detector::new(config, classes, model)
}

/// Two images of 160 x 96 pixels, channels last: the coarsest levels have 3 x 2 and 2 x 1 cells, which are odd.
const CANVAS: ImageSize = ImageSize::new(160, 96);
const SIZES: [ImageSize; 2] = [ImageSize::new(160, 90), ImageSize::new(131, 96)];

fn images() -> CandleTensor {
    let shape = (2, CANVAS.height, CANVAS.width, 3);
    CandleTensor::from_vec(noise("images", 2 * 96 * 160 * 3), shape, &Device::Cpu).expect("as many")
}

fn channels_first(images: &CandleTensor) -> Tensor {
    let images = images.permute((0, 3, 1, 2)).expect("four axes");
    let values = images.flatten_all().and_then(|t| t.to_vec1::<f32>()).expect("f32");
    Tensor::new(Kind::F32, images.dims(), values.into_iter().map(f64::from).collect())
}

fn sizes() -> Tensor {
    Tensor::new(Kind::I64, &[2, 2], SIZES.iter().flat_map(|size| [size.height as f64, size.width as f64]).collect())
}

/// All levels of a pyramid of predictions, image by image.
fn joined(levels: &[CandleTensor]) -> Vec<f32> {
    let all = CandleTensor::cat(levels, 1).and_then(|all| all.flatten_all()?.to_vec1::<f32>());
    all.expect("levels of one type")
}

#[track_caller]
fn check_near(what: &str, found: &Tensor, expected: &[f32], tolerance: f64) {
    assert_eq!(found.values.len(), expected.len(), "{what}");
    let largest = expected.iter().fold(1.0f64, |largest, &v| largest.max(f64::from(v.abs())));
    for (place, (&found, &expected)) in found.values.iter().zip(expected).enumerate() {
        let expected = f64::from(expected);
        assert!((found - expected).abs() <= tolerance * largest, "{what}[{place}]: expected {expected}, found {found}");
    }
}

/// Logits, deltas and anchors beside the detector's own.
#[track_caller]
fn check_raw(detector: &Detector, options: &OnnxOptions) -> ModelProto {
    let model = detector.to_onnx(options).expect("a graph");
    check_form(&model);
    let found = run(&model, vec![("images", channels_first(&images()))]);
    let expected = detector.model.predict(&images()).expect("predictions");
    check_near("class_logits", &found["class_logits"], &joined(expected.class_logits.values()), 2e-5);
    check_near("box_deltas", &found["box_deltas"], &joined(expected.box_deltas.values()), 2e-5);
    let anchors = detector.model.network.anchors(CANVAS, &expected.grids).expect("anchors").into_values().concat();
    check_near("anchors", &found["anchors"], &anchors.iter().flat_map(BBox::to_array).collect::<Vec<_>>(), 1e-6);
    assert_eq!(found["class_logits"].shape, [2, anchors.len(), 3]);
    model
}

/// What every reader relies on: names that are given once and before they are used, and nothing that is not used.
#[track_caller]
fn check_form(model: &ModelProto) {
    let graph = model.graph.as_ref().expect("a graph");
    let mut known = BTreeSet::new();
    let given = graph.initializer.iter().map(|tensor| &tensor.name).chain(graph.input.iter().map(|input| &input.name));
    given.for_each(|name| assert!(known.insert(name.as_str()), "{name} twice"));
    let mut nodes = BTreeSet::new();
    let mut used: BTreeSet<&str> = graph.output.iter().map(|output| output.name.as_str()).collect();
    for node in &graph.node {
        assert!(nodes.insert(node.name.as_str()), "node {} twice", node.name);
        for input in node.input.iter().filter(|input| !input.is_empty()) {
            assert!(known.contains(input.as_str()), "{} reads {input} before it is there", node.name);
            used.insert(input);
        }
        node.output.iter().for_each(|output| assert!(known.insert(output), "{output} twice"));
    }
    // Of the choice of the best, the values or the places may be all that is asked for.
    let unused: Vec<&&str> = known.iter().filter(|name| !used.contains(**name)).collect();
    assert!(unused.is_empty(), "nothing reads {unused:?}");
    assert_eq!((model.producer_name.as_str(), model.opset_import.len()), ("retinanet", 1));
}

fn count(model: &ModelProto, operator: &str) -> usize {
    model.graph.iter().flat_map(|graph| &graph.node).filter(|node| node.op_type == operator).count()
}

fn opset(version: i64) -> OnnxOptions {
    OnnxOptions { opset: Opset::new(version).expect("a version"), ..OnnxOptions::default() }
}

#[test]
fn basic_blocks_and_declared_strides() {
    let model = check_raw(&detector("small_r18", &[]), &OnnxOptions::default());
    // 20 of the backbone, 8 of the pyramid, 4 of the head on each of 5 levels; their parameters are there once.
    assert_eq!((count(&model, "Conv"), count(&model, "Transpose"), count(&model, "BatchNormalization")), (48, 10, 0));
    let graph = model.graph.expect("a graph");
    assert_eq!(graph.initializer.iter().filter(|tensor| tensor.name.starts_with("head.")).count(), 8);
}

#[test]
fn grouped_bottlenecks_and_torchvisions_anchors() {
    let grouped = ["backbone.groups=4", "backbone.width_per_group=16", "anchors.offset=0.5"];
    check_raw(&detector("torchvision_r50_v1", &grouped), &opset(18));
    check_raw(&detector("torchvision_r50_v1", &["backbone.stride_in_1x1=true", "fpn.p6_source=c5"]), &opset(20));
}

#[test]
fn group_norms_of_both_kinds() {
    let assignments =
        ["backbone.depth=r18", "head.group_norm=3", "backbone.norm={ group = { groups = 2, epsilon = 1e-3 } }"];
    let detector = detector("torchvision_r50_v2", &assignments);
    let model = check_raw(&detector, &opset(17));
    assert_eq!((count(&model, "InstanceNormalization"), count(&model, "GroupNormalization")), (30, 0));
    let model = check_raw(&detector, &opset(21));
    assert_eq!((count(&model, "InstanceNormalization"), count(&model, "GroupNormalization")), (0, 30));
}

#[test]
fn other_levels_and_no_subnet_layers() {
    let assignments = [
        "fpn.finest=P2",
        "fpn.coarsest=P5",
        "anchors.sizes=[8.0, 16.0, 32.0, 64.0]",
        "head.depth=0",
        "anchors.stride=from_grid",
        "anchors.rounding=torchvision",
    ];
    check_raw(&detector("small_r18", &assignments), &OnnxOptions::default());
}

/// The detections of a graph, image by image, and what stands behind the last of them.
fn detections(found: &BTreeMap<String, Tensor>) -> Vec<Vec<Detection>> {
    let [boxes, scores, labels, counts] = ["boxes", "scores", "labels", "num_detections"].map(|name| &found[name]);
    let rows = scores.shape[1];
    assert_eq!((&boxes.shape, &labels.shape, counts.shape.len()), (&vec![2, rows, 4], &vec![2, rows], 1));
    let detection = |row: usize| {
        let [x0, y0, x1, y1] = [0, 1, 2, 3].map(|k| boxes.values[4 * row + k] as f32);
        let (label, score) = (labels.values[row] as usize, scores.values[row] as f32);
        Detection { bbox: BBox::new(x0, y0, x1, y1), label, score }
    };
    let image = |image: usize| {
        let (first, count) = (image * rows, counts.values[image] as usize);
        for row in first + count..first + rows {
            let coordinates = &boxes.values[4 * row..][..4];
            assert_eq!((labels.values[row], scores.values[row], coordinates), (-1.0, 0.0, &[0.0; 4][..]));
        }
        (first..first + count).map(detection).collect()
    };
    (0..2).map(image).collect()
}

/// Detections beside those of the same predictions; how many there are.
#[track_caller]
fn check_detections(detector: &Detector, predictions: &Predictions, found: &BTreeMap<String, Tensor>) -> Vec<usize> {
    let network = &detector.model.network;
    let anchors = network.level_anchors(CANVAS, &predictions.grids).expect("anchors");
    let Config { post_processing, box_coder, .. } = &detector.config;
    let expected = post_processing.detections(predictions, &anchors, box_coder, &SIZES).expect("detections");
    let found = detections(found);
    for (found, expected) in found.iter().zip(&expected) {
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(expected) {
            let corners = found.bbox.to_array().into_iter().zip(expected.bbox.to_array());
            let is_near = corners.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max) < 1e-3;
            let is_same = found.label == expected.label && (found.score - expected.score).abs() < 1e-5;
            assert!(is_near && is_same, "expected {expected:?}, found {found:?}");
        }
    }
    expected.iter().map(Vec::len).collect()
}

const WITH_NMS: OnnxOptions = OnnxOptions { opset: Opset::OLDEST, input: OnnxInput::F32Nchw, with_nms: true };

#[test]
fn detections_are_those_of_the_post_processing() {
    let counts = |assignments: &[&str]| {
        let detector = detector("small_r18", assignments);
        let model = detector.to_onnx(&WITH_NMS).expect("a graph");
        check_form(&model);
        let found = run(&model, vec![("images", channels_first(&images())), ("image_sizes", sizes())]);
        check_detections(&detector, &detector.model.predict(&images()).expect("predictions"), &found)
    };
    assert_eq!(counts(&[]), [25, 25]);
    // More rows than detections, and more than candidates.
    let rows = "post_processing.max_detections=400";
    let some = counts(&[rows]);
    assert!(some.iter().all(|&count| (30..300).contains(&count)), "{some:?}");
    let fewer = counts(&[rows, "post_processing.nms_iou_threshold=0.1"]);
    assert!(fewer.iter().zip(&some).all(|(fewer, some)| fewer < some), "{fewer:?} {some:?}");
    counts(&[rows, "box_coder.weights=[10.0, 10.0, 5.0, 5.0]", "box_coder.clamp=0.1"]);
    assert_eq!(counts(&["post_processing.score_threshold=0.9999999"]), [0, 0]);
}

#[test]
fn bytes_are_normalised_and_what_lies_beyond_the_images_is_padding() {
    let detector = detector("small_r18", &["preprocessing.min_size=90", "preprocessing.max_size=400"]);
    // As high or wide as they are to be, so that nothing is resized.
    let sizes = [ImageSize::new(150, 90), ImageSize::new(90, 90)];
    let pixels = |size: &ImageSize| -> Vec<u8> {
        noise("pixels", size.width * size.height * 3).iter().map(|v| (v * 127.0 + 128.0) as u8).collect()
    };
    let pixels = sizes.each_ref().map(pixels);
    let views = [0, 1].map(|i| ImageView { size: sizes[i], pixels: Pixels::Bytes(&pixels[i]) });
    let batch = detector.config.preprocessing.batch(&views).expect("a batch");
    assert_eq!(batch.padded, CANVAS);
    let shape = (2, CANVAS.height, CANVAS.width, 3);
    let prepared = CandleTensor::from_slice(&batch.pixels, shape, &Device::Cpu).expect("as many");
    let expected = detector.model.predict(&prepared).expect("predictions");

    let mut canvas = vec![77.0; 2 * CANVAS.height * CANVAS.width * 3];
    for (image, (size, pixels)) in sizes.iter().zip(&pixels).enumerate() {
        for (row, pixels) in pixels.chunks(size.width * 3).enumerate() {
            let start = (image * CANVAS.height + row) * CANVAS.width * 3;
            canvas[start..][..pixels.len()].iter_mut().zip(pixels).for_each(|(to, &from)| *to = f64::from(from));
        }
    }
    let canvas = Tensor::new(Kind::U8, &[2, CANVAS.height, CANVAS.width, 3], canvas);
    let lengths = sizes.iter().flat_map(|size| [size.height as f64, size.width as f64]).collect();
    let inputs = vec![("images", canvas), ("image_sizes", Tensor::new(Kind::I64, &[2, 2], lengths))];
    let model = detector.to_onnx(&OnnxOptions { input: OnnxInput::U8Nhwc, ..OnnxOptions::default() }).expect("a graph");
    check_form(&model);
    let found = run(&model, inputs.clone());
    check_near("class_logits", &found["class_logits"], &joined(expected.class_logits.values()), 2e-5);
    check_near("box_deltas", &found["box_deltas"], &joined(expected.box_deltas.values()), 2e-5);

    let with_nms = OnnxOptions { input: OnnxInput::U8Nhwc, ..WITH_NMS };
    let found = detections(&run(&detector.to_onnx(&with_nms).expect("a graph"), inputs));
    for (found, size) in found.iter().zip(&sizes) {
        assert!(!found.is_empty() && found.iter().all(|found| found.bbox == found.bbox.clip(*size)));
    }
}

#[test]
fn a_file_says_what_is_in_it() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("model.onnx");
    let detector = detector("small_r18", &[]);
    let file = detector.export_onnx(&path, &WITH_NMS).expect("a file");
    let bytes = std::fs::read(&path).expect("the file");
    let model = retinanet_onnx::decode(&bytes).expect("a model");
    assert_eq!(model, detector.to_onnx(&WITH_NMS).expect("a graph"));
    let nodes = model.graph.as_ref().map(|graph| graph.node.len());
    assert_eq!((file.bytes, Some(file.nodes)), (bytes.len(), nodes));
    let shapes = |values: &[retinanet::OnnxValue]| {
        let text = |value: &retinanet::OnnxValue| format!("{} {} {}", value.name, value.element, value.shape.join(","));
        values.iter().map(text).collect::<Vec<_>>()
    };
    assert_eq!(shapes(&file.inputs), ["images f32 batch,3,height,width", "image_sizes i64 batch,2"]);
    let expected = ["boxes f32 batch,25,4", "scores f32 batch,25", "labels i64 batch,25", "num_detections i64 batch"];
    assert_eq!(shapes(&file.outputs), expected);

    let metadata: BTreeMap<_, _> = model.metadata_props.into_iter().map(|entry| (entry.key, entry.value)).collect();
    let classes: Vec<Class> = serde_json::from_str(&metadata["classes"]).expect("classes");
    assert_eq!(classes, detector.classes);
    assert_eq!(Config::parse(&metadata["config"], &[]).expect("a configuration"), detector.config);
    let preprocessing: serde_json::Value = serde_json::from_str(&metadata["preprocessing"]).expect("JSON");
    assert_eq!((&preprocessing["pad_to"], &metadata["input"]), (&32.into(), &"f32-nchw".to_owned()));
}

#[test]
fn what_cannot_be_written_is_said_and_leaves_nothing() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let check = |detector: &Detector, path: &str, expected: &str| {
        let error = detector.export_onnx(folder.path().join(path), &WITH_NMS).expect_err(expected).to_string();
        assert!(error.contains(expected), "{error}");
        assert_eq!(std::fs::read_dir(folder.path()).expect("the folder").count(), 0);
    };
    check(&detector("small_r18", &[]), "nowhere/model.onnx", "nowhere/model.onnx: ");
    let none = detector("small_r18", &["post_processing.max_detections=0"]);
    check(&none, "model.onnx", "post_processing.max_detections: expected at least 1, with detections, found 0");
    let none = detector("small_r18", &["post_processing.pre_nms_top_k=0"]);
    check(&none, "model.onnx", "post_processing.pre_nms_top_k: expected at least 1, with detections, found 0");
    for version in [16, 22] {
        let error = Opset::new(version).expect_err("a version").to_string();
        assert_eq!(error, format!("onnx: opset: expected 17 to 21, found {version}"));
    }
}
