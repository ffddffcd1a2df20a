//! Parity with Detectron2 and MMDetection, from a file with their names to boxes in the pixels of the picture.
//!
//! The references (`goldens/make_toolkits.py`) follow their conventions in f64 with parameters that are functions of their
//! names; the metadata of a golden lists them.

use candle_core::{Device, Tensor};
use retinanet::weights;
use retinanet::{Config, Detector, InferenceOptions, InitialWeights, Model, Predictions, Toolkit, start};
use retinanet_anchors::{BBox, ImageSize, Pyramid};
use retinanet_data::Image;
use retinanet_ops::network::InferenceEngine;
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

/// The i-th output of splitmix64 for a name.
fn splitmix(name: &str, i: u64) -> u64 {
    let seed = name
        .bytes()
        .fold(0xCBF2_9CE4_8422_2325, |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3));
    let mut z = seed.wrapping_add((i + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

fn picture(k: usize, size: ImageSize) -> Image {
    let name = format!("picture{k}");
    let byte = |i: usize| {
        let (x, y, c) = (i / 3 % size.width, i / 3 / size.width, i % 3);
        ((x * (c + 1) + y * (3 - c)) % 192) as u8 + (splitmix(&name, i as u64) >> 58) as u8
    };
    Image { size, pixels: (0..size.width * size.height * 3).map(byte).collect() }
}

/// Reference numbers, and the parameters that they were computed with.
struct Golden {
    tensors: HashMap<String, Tensor>,
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

    fn number(&self, key: &str) -> usize {
        self.meta[key].as_u64().expect("a number") as usize
    }

    /// The toolkit's state dict.
    fn parameters(&self) -> BTreeMap<String, Tensor> {
        let parameters = self.meta["parameters"].as_array().expect("parameters").iter().map(|parameter| {
            let name = parameter[0].as_str().expect("a name");
            let shape: Vec<usize> = serde_json::from_value(parameter[1].clone()).expect("a shape");
            let (offset, scale) = (parameter[2].as_f64().expect("a number"), parameter[3].as_f64().expect("a number"));
            let uniform = |i: u64| (splitmix(name, i) >> 40) as f64 / f64::from(1 << 24);
            let count: usize = shape.iter().product();
            let value = |i: u64| (offset + scale * (2.0 * uniform(i) - 1.0)) as f32;
            let mut values: Vec<f32> = (0..count as u64).map(value).collect();
            if parameter[4].as_bool().expect("whether it is mirrored") {
                let area = shape[2] * shape[3];
                for pair in values.chunks_exact_mut(2 * area) {
                    let (even, odd) = pair.split_at_mut(area);
                    odd.iter_mut().zip(even).for_each(|(odd, even)| *odd = -*even);
                }
            }
            (name.to_owned(), Tensor::from_vec(values, shape, &Device::Cpu).expect("a tensor"))
        });
        parameters.collect()
    }

    fn pictures(&self) -> Vec<Image> {
        let sizes: Vec<[usize; 2]> = serde_json::from_value(self.meta["sizes"].clone()).expect("sizes");
        sizes.into_iter().enumerate().map(|(k, [width, height])| picture(k, ImageSize::new(width, height))).collect()
    }
}

/// Norm of the difference over norm of the reference, on every step-th element of `values`, as the script samples.
#[track_caller]
fn check(what: &str, values: &[f32], reference: &[f32], n: usize) {
    let found: Vec<f32> = values.iter().copied().step_by((values.len() / n).max(1)).collect();
    assert_eq!(found.len(), reference.len(), "{what}: number of samples");
    let difference: f64 = found.iter().zip(reference).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum();
    let norm: f64 = reference.iter().map(|b| f64::from(*b).powi(2)).sum();
    let error = (difference / norm).sqrt();
    println!("{what}: relative error {error:.1e}");
    assert!(error <= 1e-4, "{what}: expected a relative error of at most 1e-4, found {error:.3e}");
}

/// All levels `[1, R, C]` joined and flattened.
fn joined(levels: &Pyramid<Tensor>) -> Vec<f32> {
    Tensor::cat(levels.values(), 1).and_then(|t| t.flatten_all()?.to_vec1()).expect("levels of one picture")
}

fn check_detector(name: &str, golden: &Golden, detector: &Detector) {
    let model = &detector.model;
    let plan = detector.plan(&InferenceOptions::default()).expect("a plan");
    for (k, picture) in golden.pictures().iter().enumerate() {
        let batch = detector.config.preprocessing.batch(&[picture.view()]).expect("a batch");
        let shape = (1, batch.padded.height, batch.padded.width, 3);
        let pixels = Tensor::from_slice(&batch.pixels, shape, &Device::Cpu).expect("pixels");
        let features = model.network.features(&mut InferenceEngine::new(&model.parameters), &pixels).expect("features");
        for (level, features) in features.pyramid.iter() {
            let values: Vec<f32> =
                features.permute((0, 3, 1, 2)).and_then(|t| t.flatten_all()?.to_vec1()).expect("a map");
            let key = format!("{k}.p{}", level.number());
            check(&format!("{name} {key}"), &values, &golden.floats(&key), 256);
        }
        let predictions = model.predict(&pixels).expect("predictions");
        let check_predictions = |what: &str, Predictions { class_logits, box_deltas, .. }: &Predictions| {
            for (key, levels, n) in [("class_logits", class_logits, 1024), ("box_deltas", box_deltas, 512)] {
                let key = format!("{k}.{key}");
                check(&format!("{name} {what} {key}"), &joined(levels), &golden.floats(&key), n);
            }
        };
        check_predictions("model", &predictions);
        check_predictions("plan", &plan.predict(&pixels).expect("predictions"));

        let anchors = model.network.anchors(batch.padded, &predictions.grids).expect("anchors").into_values().concat();
        let corners: Vec<f32> = anchors.iter().flat_map(BBox::to_array).collect();
        check(&format!("{name} anchors"), &corners, &golden.floats(&format!("{k}.anchors")), 512);

        let found = plan.detect(picture).expect("detections");
        let (corners, scores) = (golden.floats(&format!("{k}.boxes")), golden.floats(&format!("{k}.scores")));
        let labels: Vec<i64> = golden.tensors[&format!("{k}.labels")].to_vec1().expect("labels");
        assert_eq!(found.len(), scores.len(), "{name} picture {k}: number of detections");
        assert!(found.len() >= 10, "{name} picture {k}: {} detections show little", found.len());
        let mut free = vec![true; found.len()];
        for ((corners, score), label) in corners.as_chunks::<4>().0.iter().zip(&scores).zip(&labels) {
            let bbox = BBox::from(*corners);
            let is_same = |i: &usize| {
                let other = &found[*i];
                let is_close = (other.score - score).abs() <= 1e-5 && other.bbox.iou(&bbox) >= 0.999;
                free[*i] && is_close && other.label as i64 == *label
            };
            let twin = (0..found.len()).find(is_same);
            let twin = twin.unwrap_or_else(|| panic!("{name} picture {k}: {bbox:?} {label} {score} is not found"));
            free[twin] = false;
        }
    }
}

fn detector(path: &Path, golden: &Golden) -> Detector {
    let mut detector = Detector::load(path).expect("a toolkit's names");
    let preprocessing = &mut detector.config.preprocessing;
    (preprocessing.min_size, preprocessing.max_size) = (golden.number("min_size"), golden.number("max_size"));
    detector
}

/// A file of these tensors with the toolkit's names is recognised and gives the toolkit's numbers, and so does a checkpoint of
/// ours that is made of it.
#[track_caller]
fn check_case(name: &str, toolkit: Toolkit, config: impl Fn(&mut Config)) {
    let golden = Golden::read(name);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("theirs.pth");
    weights::write_torch(&path, &golden.parameters()).expect("a file");
    let theirs = detector(&path, &golden);
    assert_eq!((theirs.origin.toolkit, theirs.classes.len()), (toolkit, golden.number("num_classes")));
    let mut expected = theirs.config.clone();
    config(&mut expected);
    assert_eq!(theirs.config, expected);
    check_detector(name, &golden, &theirs);

    let path = folder.path().join("ours.safetensors");
    theirs.save(&path).expect("a checkpoint");
    let ours = Detector::load(&path).expect("a checkpoint");
    assert_eq!((&ours.config, &ours.classes, &ours.origin), (&theirs.config, &theirs.classes, &theirs.origin));
    let picture = &golden.pictures()[0];
    let detections = |detector: &Detector| {
        detector.plan(&InferenceOptions::default()).and_then(|plan| plan.detect(picture)).expect("detections")
    };
    assert_eq!(detections(&ours), detections(&theirs));
}

#[test]
fn detectron2_with_msras_resnet() {
    check_case("detectron2_r50", Toolkit::Detectron2, |config| {
        config.backbone.stride_in_1x1 = true;
        config.fpn.relu_before_p7 = true;
        config.preprocessing.std = [1.0 / 255.0; 3];
        config.preprocessing.mean = [0.485, 0.456, 0.406];
    });
}

#[test]
fn detectron2_with_a_resnext() {
    check_case("detectron2_x50", Toolkit::Detectron2, |config| {
        config.backbone.stride_in_1x1 = false;
        (config.backbone.groups, config.backbone.width_per_group) = (4, 16);
        config.preprocessing.std = [0.229, 0.224, 0.225];
    });
}

#[test]
fn mmdetection_in_pytorchs_style() {
    check_case("mmdetection_r50", Toolkit::Mmdetection, |config| {
        config.backbone.stride_in_1x1 = false;
        config.fpn.relu_before_p7 = false;
        config.preprocessing.mean = [0.485, 0.456, 0.406];
        config.preprocessing.std = [0.229, 0.224, 0.225];
    });
}

#[test]
fn mmdetection_in_caffes_style() {
    check_case("mmdetection_r50_caffe", Toolkit::Mmdetection, |config| {
        config.backbone.stride_in_1x1 = true;
        config.preprocessing.std = [1.0 / 255.0; 3];
    });
}

#[test]
fn mmdetection_with_a_resnext() {
    check_case("mmdetection_x50", Toolkit::Mmdetection, |config| config.backbone.groups = 4);
}

/// The class logits of the first picture, prepared as the configuration says.
fn class_logits(config: &Config, model: &Model, picture: &Image) -> Vec<f32> {
    let batch = config.preprocessing.batch(&[picture.view()]).expect("a batch");
    let shape = (1, batch.padded.height, batch.padded.width, 3);
    let pixels = Tensor::from_slice(&batch.pixels, shape, &Device::Cpu).expect("pixels");
    joined(&model.predict(&pixels).expect("predictions").class_logits)
}

#[test]
fn a_training_goes_on_where_a_toolkit_ended() {
    let golden = Golden::read("detectron2_r50");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("model_final.pth");
    weights::write_torch(&path, &golden.parameters()).expect("a file");
    let theirs = detector(&path, &golden);
    let picture = &golden.pictures()[0];
    let expected = class_logits(&theirs.config, &theirs.model, picture);

    // ImageNet's deviation, which all presets have, in place of 1 / 255: the stem takes the difference.
    let mut config = theirs.config.clone();
    config.preprocessing.std = [0.229, 0.224, 0.225];
    let weights = InitialWeights::Detector(path.clone());
    let started = start(&config, &theirs.classes, &weights).expect("a model");
    // The file names no classes, which is said; of all else there is nothing to say.
    assert!(started.notes.len() == 2 && started.notes[1].contains("names no classes"), "{:?}", started.notes);
    check("fine-tuned", &class_logits(&config, &started.model, picture), &expected, expected.len());

    // From a checkpoint of ours that was made of theirs, the same.
    let ours = folder.path().join("ours.safetensors");
    theirs.save(&ours).expect("a checkpoint");
    let started = start(&config, &theirs.classes, &InitialWeights::Detector(ours)).expect("a model");
    check("fine-tuned again", &class_logits(&config, &started.model, picture), &expected, expected.len());

    config.backbone.stride_in_1x1 = false;
    let notes = start(&config, &theirs.classes, &weights).expect("a model").notes;
    let note = "weights: Detectron2 trained them with backbone.stride_in_1x1=true; the configuration has false";
    assert!(notes.iter().any(|found| found == note), "{notes:?}");
    config.preprocessing.mean = [0.5; 3];
    let error = start(&config, &theirs.classes, &weights).expect_err("another mean").to_string();
    assert!(error.contains("preprocessing.mean: expected [0.485, 0.456, 0.406]"), "{error}");
}

/// Detectron2's name of a backbone's parameter to Caffe2's.
fn caffe2_name(name: &str) -> Option<String> {
    let parts: Vec<&str> = name.strip_prefix("backbone.bottom_up.")?.split('.').collect();
    let leaf = |leaf: &str| if leaf == "weight" { "s" } else { "b" };
    let branch = |conv: &str| match conv {
        "conv1" => "branch2a",
        "conv2" => "branch2b",
        "conv3" => "branch2c",
        _ => "branch1",
    };
    Some(match parts[..] {
        [.., "running_mean" | "running_var"] => return None,
        ["stem", "conv1", _] => "conv1_w".to_owned(),
        ["stem", "conv1", "norm", l] => format!("res_conv1_bn_{}", leaf(l)),
        [stage, block, conv, _] => format!("{stage}_{block}_{}_w", branch(conv)),
        [stage, block, conv, "norm", l] => format!("{stage}_{block}_{}_bn_{}", branch(conv), leaf(l)),
        _ => return None,
    })
}

#[test]
fn a_training_starts_from_caffe2s_imagenet_network() {
    let golden = Golden::read("detectron2_r50");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let parameters = golden.parameters();
    let mut caffe2: BTreeMap<String, Tensor> =
        parameters.iter().filter_map(|(name, tensor)| Some((caffe2_name(name)?, tensor.clone()))).collect();
    caffe2
        .insert("fc1000_w".to_owned(), Tensor::zeros((5, 256), candle_core::DType::F32, &Device::Cpu).expect("zeros"));
    let (whole, path) = (folder.path().join("whole.pth"), folder.path().join("R-50.pth"));
    weights::write_torch(&whole, &parameters).expect("a file");
    weights::write_torch(&path, &caffe2).expect("a file");
    let theirs = detector(&whole, &golden);

    let started = start(&theirs.config, &theirs.classes, &InitialWeights::Backbone(path)).expect("a model");
    let batch = theirs.config.preprocessing.batch(&[golden.pictures()[0].view()]).expect("a batch");
    let shape = (1, batch.padded.height, batch.padded.width, 3);
    let pixels = Tensor::from_slice(&batch.pixels, shape, &Device::Cpu).expect("pixels");
    let c5 = |model: &Model| -> Vec<f32> {
        let features = model.network.features(&mut InferenceEngine::new(&model.parameters), &pixels).expect("features");
        features.stages.values()[3].flatten_all().and_then(|t| t.to_vec1()).expect("a map")
    };
    let expected = c5(&theirs.model);
    check("c5", &c5(&started.model), &expected, expected.len());
}

#[test]
fn what_older_files_of_detectron2_say_is_used() {
    let golden = Golden::read("detectron2_r50");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("model.pth");
    let load = |extra: &[(&str, Vec<f32>, Vec<usize>)]| {
        let mut parameters = golden.parameters();
        for (name, values, shape) in extra {
            let tensor = Tensor::from_vec(values.clone(), shape.clone(), &Device::Cpu).expect("a tensor");
            parameters.insert((*name).to_owned(), tensor);
        }
        weights::write_torch(&path, &parameters).expect("a file");
        Detector::load(&path)
    };
    let plain = load(&[]).expect("a detector");
    let mean = ("pixel_mean", vec![103.53, 116.28, 123.675], vec![3, 1, 1]);
    let std = |value| ("pixel_std", vec![value; 3], vec![3, 1, 1]);
    let cell = |size: f32| {
        let scales = [0, 1, 2].map(|i| 2f32.powf(i as f32 / 3.0) * size);
        let boxes = scales.iter().flat_map(|side| {
            [0.5f32, 1.0, 2.0].into_iter().flat_map(move |ratio| {
                let (w, h) = (side / ratio.sqrt() / 2.0, side * ratio.sqrt() / 2.0);
                [-w, -h, w, h]
            })
        });
        boxes.collect::<Vec<f32>>()
    };
    let anchors = |size| ("anchor_generator.cell_anchors.1", cell(size), vec![9, 4]);
    let same = load(&[mean.clone(), std(1.0), anchors(64.0)]).expect("a detector");
    assert_eq!((&same.config, &same.origin), (&plain.config, &plain.origin));
    let other = load(&[mean.clone(), std(57.0)]).expect("a detector");
    assert_eq!(other.config.preprocessing.std, [57.0 / 255.0; 3]);
    let red_first = load(&[("pixel_mean", vec![123.675, 116.28, 103.53], vec![3]), std(1.0)]).expect("a detector");
    assert_eq!(red_first.config.preprocessing.mean, plain.config.preprocessing.mean);
    let stem = |detector: &Detector| -> Vec<f32> {
        let stem = detector.model.parameters.detached("backbone.body.conv1.weight").expect("a stem");
        stem.flatten_all().and_then(|t| t.to_vec1()).expect("values")
    };
    let (flipped, as_they_are) = (stem(&plain), stem(&red_first));
    // Three channels of 7 x 7 an output.
    assert_eq!((&flipped[..49], &flipped[49..98]), (&as_they_are[98..147], &as_they_are[49..98]));

    let error = load(&[anchors(32.0)]).expect_err("anchors of another size").to_string();
    assert!(error.contains("anchor_generator.cell_anchors.1: expected 9 anchors of 64 pixels"), "{error}");
    // Norms without statistics are Caffe's, all of them or none.
    let mut parameters = golden.parameters();
    parameters.remove("backbone.bottom_up.res2.0.conv1.norm.running_var");
    weights::write_torch(&path, &parameters).expect("a file");
    let error = Detector::load(&path).expect_err("a tensor too few").to_string();
    assert!(error.contains("1 missing") && error.contains("backbone.body.layer1.0.bn1.running_var"), "{error}");
    parameters.retain(|name, _| !name.contains(".running_"));
    weights::write_torch(&path, &parameters).expect("a file");
    assert_eq!(Detector::load(&path).expect("a detector").config, plain.config);
    let error = load(&[("roi_heads.mask.weight", vec![0.0], vec![1])]).expect_err("a tensor too many").to_string();
    assert!(error.contains("1 unexpected") && error.contains("roi_heads.mask.weight"), "{error}");
}
