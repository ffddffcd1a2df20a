//! `retinanet export` as scripts see it.

#[path = "run/model.rs"]
mod model;
mod run;

use model::write_model;
use run::{check, path};
use std::path::Path;

/// What is printed, and the files that are there afterwards.
#[track_caller]
fn export(folder: &Path, rest: &[&str]) -> String {
    let (model, onnx) = (folder.join("model.safetensors"), folder.join("model.onnx"));
    let output = check(&[&["export", "--model", path(&model), "--onnx", path(&onnx)], rest].concat(), 0, "");
    assert_eq!(std::fs::read_dir(folder).expect("the folder").count(), 2);
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn a_model_is_written_and_how_to_run_it_is_said() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    write_model(&folder.path().join("model.safetensors"));
    let text = export(folder.path(), &[]);
    for part in
        ["class_logits", "[batch, anchors, 1]", "opset 17", "multiples of 32", "ort.InferenceSession", "/ [0.229"]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains("image_sizes"), "{text}");
    // A second time it replaces the first.
    let text = export(folder.path(), &["--with-nms", "--input", "u8-nhwc", "--opset", "21"]);
    for part in ["[batch, height, width, 3]", "image_sizes", "num_detections", "[batch, 100, 4]", "opset 21"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let json = export(folder.path(), &["--with-nms", "--json"]);
    let document: serde_json::Value = serde_json::from_str(&json).expect("one JSON document");
    let bytes = std::fs::metadata(folder.path().join("model.onnx")).expect("the file").len();
    assert_eq!((&document["bytes"], &document["opset"]), (&bytes.into(), &17.into()));
    assert_eq!(document["outputs"][0]["shape"], serde_json::json!(["batch", "100", "4"]));
    assert_eq!(document["inputs"][1]["element"], "i64");
}

#[test]
fn what_cannot_be_exported_is_said_and_writes_nothing() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (model, onnx) = (folder.path().join("model.safetensors"), folder.path().join("model.onnx"));
    write_model(&model);
    let before = std::fs::read(&model).expect("the model");
    let export = |model: &Path, onnx: &Path, rest: &[&str], stderr_part: &str| {
        check(&[&["export", "--model", path(model), "--onnx", path(onnx)], rest].concat(), 2, stderr_part);
    };
    export(&model, &onnx, &["--opset", "16"], "opset: expected 17 to 21, found 16");
    export(&model, &onnx, &["--input", "f16"], "--input");
    export(&model, &model, &[], "it would replace the model; give another --onnx");
    export(&model, folder.path(), &[], "expected a file to write, found a folder");
    export(&model, &folder.path().join("nowhere/model.onnx"), &[], "expected a folder to write into");
    export(&folder.path().join("nothing"), &onnx, &[], "nothing");
    check(&["export", "--model", path(&model)], 2, "--onnx");
    assert_eq!(std::fs::read_dir(folder.path()).expect("the folder").count(), 1);
    assert_eq!(std::fs::read(&model).expect("the model"), before);
}
