//! `retinanet convert`: forms, types, what is refused; and torchvision's own answer where it is installed.

mod run;

use retinanet::{Config, Detector, InferenceOptions, Model};
use retinanet_anchors::ImageSize;
use retinanet_annotations::Class;
use retinanet_data::Image;
use run::{check, path};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A detector with new weights, whose scores are about .3 so that it detects.
fn detector(preset: &str, assignments: &[&str], num_classes: usize) -> Detector {
    let mut assignments: Vec<String> = assignments.iter().map(|&a| a.to_owned()).collect();
    assignments.push("head.prior_probability=0.3".to_owned());
    assignments.extend(["preprocessing.min_size=96", "preprocessing.max_size=128"].map(str::to_owned));
    let config = Config::parse(Config::preset_text(preset).expect("a preset"), &assignments).expect("a configuration");
    let classes = (0..num_classes).map(|id| Class { category_id: id as i64, name: format!("class {id}") }).collect();
    let model = Model::new(&config, num_classes, 7).expect("a model");
    Detector::new(config, classes, model)
}

fn picture() -> Image {
    let size = ImageSize::new(120, 90);
    let byte = |i: usize| (i / 3 % size.width * 2 + i / 3 / size.width * (1 + i % 3)) as u8;
    Image { size, pixels: (0..size.width * size.height * 3).map(byte).collect() }
}

#[test]
fn models_come_back_from_both_forms() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = |name: &str| folder.path().join(name);
    let source = file("source.safetensors");
    let thin = ["backbone.depth=r18", "fpn.channels=32", "head.channels=32"];
    let original = detector("torchvision_r50_v1", &thin, 3);
    original.save(&source).expect("a checkpoint");
    let detections = |detector: Detector| {
        let plan = detector.into_plan(&InferenceOptions::default()).expect("a plan");
        plan.detect(&picture()).expect("detections")
    };
    let expected = detections(original.clone());
    assert!(!expected.is_empty());

    for name in ["theirs.pth", "theirs.safetensors"] {
        let (output, back) = (file(name), file("back.safetensors"));
        let converted =
            check(&["convert", path(&source), "--to", "torchvision", "--output", path(&output)], 0, "3 classes");
        let python = String::from_utf8_lossy(&converted.stdout);
        assert!(python.contains("ResNet(BasicBlock") && python.contains("strict=True"), "{python}");
        // Preprocessing and classes are not in torchvision's file: they are put back in.
        let args =
            ["convert", path(&output), "--to", "ours", "--output", path(&back), "--set", "preprocessing.min_size=96"];
        check(&[&args[..], &["--set", "preprocessing.max_size=128"]].concat(), 0, "torchvision");
        assert_eq!(detections(Detector::load(&back).expect("a checkpoint")), expected);
        let info = check(&["info", path(&back)], 0, "");
        assert!(String::from_utf8_lossy(&info.stdout).contains("trained by torchvision"));
    }

    for (dtype, limit) in [("bf16", 2e-2), ("f16", 2e-3)] {
        let output = file(&format!("{dtype}.safetensors"));
        check(&["convert", path(&source), "--to", "ours", "--output", path(&output), "--dtype", dtype], 0, "");
        let sizes = [&source, &output].map(|path| std::fs::metadata(path).expect("a file").len());
        assert!(sizes[1] < sizes[0] * 51 / 100, "{dtype}: {sizes:?}");
        let found = detections(Detector::load(&output).expect("a checkpoint"));
        assert!(
            (found[0].score - expected[0].score).abs() < limit,
            "{dtype}: {} {}",
            found[0].score,
            expected[0].score
        );
    }
}

#[test]
fn what_cannot_be_converted_is_said() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = |name: &str| folder.path().join(name);
    let source = file("source.safetensors");
    let small = detector("small_r18", &["backbone.width=8", "fpn.channels=16", "head.channels=16"], 2);
    small.save(&source).expect("a checkpoint");
    let output = file("out.safetensors");
    let to = |form: &str, output: &Path, code: i32, words: &str| {
        check(&["convert", path(&source), "--to", form, "--output", path(output)], code, words);
    };
    to("torchvision", &output, 2, "torchvision cannot express this detector");
    to("torchvision", &output, 2, "anchors.rounding: expected torchvision, found exact");
    to("torchvision", &output, 2, "backbone.width: expected 64, found 8");
    to("ours", &file("out.pth"), 2, "extension: expected .safetensors, found \"pth\"");
    to("torchvision", &file("out.onnx"), 2, "extension: expected .safetensors or .pth, found \"onnx\"");
    to("ours", &source, 2, "it would replace the model");
    to("ours", &file("no/out.safetensors"), 2, "expected a folder");
    check(&["convert", "missing.pth", "--to", "ours", "--output", path(&output)], 2, "missing.pth");
    check(&["convert", path(&source), "--to", "caffe", "--output", path(&output)], 2, "torchvision");
    let set = ["convert", path(&source), "--to", "ours", "--output", path(&output), "--set"];
    check(&[&set[..], &["backbone.width=16"]].concat(), 2, "of another shape");
    check(&[&set[..], &["backbone.widht=16"]].concat(), 2, "widht");
    assert!(!output.exists(), "nothing is written where nothing can be");
    check(&[&set[..], &["post_processing.max_detections=7"]].concat(), 0, "");
    assert_eq!(Detector::load(&output).expect("a checkpoint").config.post_processing.max_detections, 7);
}

/// The Python that has torchvision, if there is one: that of `cargo xtask bench --peers`.
fn python() -> Option<PathBuf> {
    let home = std::env::var_os("HOME")?;
    let python = Path::new(&home).join(".cache/peers/venv/bin/python");
    let has_torchvision = Command::new(&python).args(["-c", "import torchvision, safetensors"]).output();
    has_torchvision.is_ok_and(|output| output.status.success()).then_some(python)
}

/// Loads with the printed program and strictly, through the factory too where there is one, and prints the detections.
const PROGRAM: &str = r#"
import json, sys, torch
from torchvision.models import detection
factory, pixels = sys.argv[1], sys.argv[2]
width, height = 120, 90
image = torch.frombuffer(bytearray(open(pixels, "rb").read()), dtype=torch.uint8)
image = image.reshape(height, width, 3).permute(2, 0, 1) / 255
models = [model]
if factory != "none":
    made = getattr(detection, factory)(weights=None, weights_backbone=None, num_classes=5, min_size=96, max_size=128,
                                       score_thresh=0.05)
    made.load_state_dict(state, strict=True)
    models.append(made.eval())
with torch.no_grad():
    print(json.dumps([{k: v.tolist() for k, v in m([image])[0].items()} for m in models]))
"#;

#[test]
fn torchvision_takes_what_is_written_and_finds_the_same() {
    let Some(python) = python() else {
        println!("skipped: no Python with torchvision in ~/.cache/peers/venv");
        return;
    };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = |name: &str| folder.path().join(name);
    std::fs::write(file("pixels"), picture().pixels).expect("a file");
    let cases = [
        ("torchvision_r50_v1", "theirs.pth", "retinanet_resnet50_fpn", &[][..]),
        ("torchvision_r50_v2", "theirs.safetensors", "retinanet_resnet50_fpn_v2", &[][..]),
        (
            "torchvision_r50_v1",
            "other.safetensors",
            "none",
            &[
                "backbone.depth=r18",
                "fpn.finest=P2",
                "anchors.sizes=[16.0, 32.0, 64.0, 128.0, 256.0, 512.0]",
                "fpn.channels=64",
                "head.channels=64",
                "fpn.p6_source=c5",
            ][..],
        ),
    ];
    for (preset, name, factory, assignments) in cases {
        let (source, output) = (file("source.safetensors"), file(name));
        let ours = detector(preset, assignments, 5);
        ours.save(&source).expect("a checkpoint");
        let converted = check(&["convert", path(&source), "--to", "torchvision", "--output", path(&output)], 0, "");
        let program = format!("{}{PROGRAM}", String::from_utf8_lossy(&converted.stdout));
        std::fs::write(file("program.py"), &program).expect("a file");
        let mut command = Command::new(&python);
        let command =
            command.arg(file("program.py")).args([factory, path(&file("pixels"))]).env("OMP_NUM_THREADS", "1");
        let answer = command.output().expect("Python runs");
        assert!(answer.status.success(), "{name}: {}\n{program}", String::from_utf8_lossy(&answer.stderr));
        let answer: serde_json::Value = serde_json::from_slice(&answer.stdout).expect("one JSON document");
        let plan = ours.into_plan(&InferenceOptions::default()).expect("a plan");
        let expected = plan.detect(&picture()).expect("detections");
        for found in answer.as_array().expect("a list") {
            let scores: Vec<f64> = serde_json::from_value(found["scores"].clone()).expect("scores");
            assert!(scores.len() > 10 && scores.len() == expected.len(), "{name}: {} {}", scores.len(), expected.len());
            // Random weights score much alike, so that ranks may change places: the scores are compared in order.
            for (score, detection) in scores.iter().zip(&expected) {
                assert!((score - f64::from(detection.score)).abs() < 1e-4, "{name}: {score} {}", detection.score);
            }
        }
    }
}
