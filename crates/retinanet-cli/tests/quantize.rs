//! `retinanet quantize` as scripts see it, from a tiny model to a model that detects.

#[path = "run/model.rs"]
mod model;
mod run;

use model::write_model;
use run::{check, path};
use std::path::Path;

/// Pictures of 64 x 64 pixels, uncompressed, and a file that is none.
fn write_images(folder: &Path) {
    std::fs::create_dir_all(folder).expect("a folder");
    for name in 0..3usize {
        let mut bmp = b"BM".to_vec();
        for field in [54 + 64 * 64 * 3, 0, 54, 40, 64, 64] {
            bmp.extend(u32::to_le_bytes(field));
        }
        bmp.extend([1, 0, 24, 0]);
        bmp.extend([0; 24]);
        bmp.extend((0..64 * 64 * 3).map(|i| (i * (name + 3) % 251) as u8));
        std::fs::write(folder.join(format!("{name}.bmp")), bmp).expect("an image");
    }
    std::fs::write(folder.join("broken.bmp"), b"BM no image").expect("a file");
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").file_name());
    let mut names: Vec<String> = entries.map(|name| name.to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn a_model_is_quantised_shown_and_run() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (model, images) = (folder.path().join("model.safetensors"), folder.path().join("images"));
    let (output, again) = (folder.path().join("int8.safetensors"), folder.path().join("again.safetensors"));
    write_model(&model);
    write_images(&images);

    let args =
        ["quantize", "--model", path(&model), "--images", path(&images), "--output", path(&output), "--threads", "2"];
    let json = check(&[&args[..], &["--json", "--min-sqnr", "-9"]].concat(), 1, "broken.bmp");
    let document: serde_json::Value = serde_json::from_slice(&json.stdout).expect("one JSON document");
    assert_eq!((&document["images"], &document["min_sqnr"]), (&3.into(), &(-9.0).into()));
    let layers = document["layers"].as_array().expect("a list");
    assert_eq!((layers.len(), &layers[0]["name"]), (34, &"backbone.body.conv1".into()));
    for layer in layers {
        assert!(layer["int8"] == true && layer["scale"].as_f64() > Some(0.0) && layer["sqnr"].as_f64() > Some(10.0));
        assert!([0, 128].contains(&layer["zero_point"].as_u64().expect("a number")), "{layer}");
    }
    assert_eq!(document["errors"].as_array().map(Vec::len), Some(1), "{document}");
    let (small, large) = (&document["output_bytes"], &document["model_bytes"]);
    assert!(small.as_f64().expect("a size") < 0.4 * large.as_f64().expect("a size"), "{small} of {large}");

    let clean = images.join("1.bmp");
    let detect = ["detect", "--model", path(&output), "--no-pictures", path(&clean)];
    check(&detect, 0, "");
    let info = check(&["info", path(&output)], 0, "");
    let info = String::from_utf8_lossy(&info.stdout).into_owned();
    assert!(info.contains("34 of 34 layers in 8 bits") && info.contains("backbone.body.conv1"), "{info}");
    let onnx = images.join("int8.onnx");
    check(&["export", "--model", path(&output), "--onnx", path(&onnx)], 0, "note: the model is quantised");
    check(
        &["quantize", "--model", path(&output), "--images", path(&clean), "--output", path(&again)],
        2,
        "quantised already",
    );

    // All layers lose something: none is left, and the table says so.
    let strict =
        ["quantize", "--model", path(&model), "--images", path(&clean), "--output", path(&output), "--limit", "1"];
    let table = check(&[&strict[..], &["--min-sqnr", "200"]].concat(), 0, "");
    let table = String::from_utf8_lossy(&table.stdout).into_owned();
    assert!(table.contains("0 of 34 layers in 8 bits") && table.contains("SQNR"), "{table}");
    assert_eq!(names(folder.path()), ["images", "int8.safetensors", "model.safetensors"]);
}

#[test]
fn what_cannot_be_quantised_is_said_and_writes_nothing() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (model, images) = (folder.path().join("model.safetensors"), folder.path().join("images"));
    write_model(&model);
    write_images(&images);
    let (empty, nowhere) = (folder.path().join("empty"), folder.path().join("nowhere"));
    std::fs::create_dir(&empty).expect("a folder");
    let output = folder.path().join("int8.safetensors");
    let model_bytes = std::fs::read(&model).expect("the model");

    let quantize = |model: &Path, rest: &[&str], stderr_part: &str| {
        check(&[&["quantize", "--model", path(model)], rest].concat(), 2, stderr_part);
    };
    let to = |output: &Path| {
        ["--images".to_owned(), path(&images).to_owned(), "--output".to_owned(), path(output).to_owned()]
    };
    let with = |output: &Path, more: &[&str], stderr_part: &str| {
        let to = to(output);
        quantize(&model, &[&to.each_ref().map(String::as_str)[..], more].concat(), stderr_part);
    };
    with(&model, &[], "it would replace the model");
    with(&empty, &[], "expected a file to write, found a folder");
    with(&nowhere.join("int8"), &[], "nowhere: expected a folder to write into");
    with(&output, &["--limit", "0"], "--limit: expected at least 1");
    with(&output, &["--min-sqnr", "nan"], "--min-sqnr");
    with(&output, &["--data", path(&images)], "--data");
    quantize(&nowhere, &["--images", path(&images), "--output", path(&output)], "nowhere");
    quantize(&model, &["--output", path(&output)], "--images");
    quantize(&model, &["--images", path(&empty), "--output", path(&output)], "found none");
    quantize(&model, &["--images", path(&images.join("broken.bmp")), "--output", path(&output)], "found 0 of 1");
    assert_eq!(names(folder.path()), ["empty", "images", "model.safetensors"]);
    assert_eq!(std::fs::read(&model).expect("the model"), model_bytes);
}
