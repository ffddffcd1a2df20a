//! `retinanet bench --mode data`, and the places where decoded images are kept.

mod run;

use run::{check, path};
use serde_json::{Value, json};
use std::path::Path;

const IMAGES: usize = 5;

/// Uncompressed BMPs of 80 x 40 in COCO's form, and a file that is no image.
fn write_data(folder: &Path) {
    std::fs::create_dir_all(folder.join("images")).expect("a folder");
    std::fs::create_dir_all(folder.join("annotations")).expect("a folder");
    let mut images = Vec::new();
    for number in 0..=IMAGES {
        let name = format!("{number}.bmp");
        let mut bmp = b"BM".to_vec();
        for field in [54 + 80 * 40 * 3, 0, 54, 40, 80, 40u32] {
            bmp.extend(field.to_le_bytes());
        }
        bmp.extend([1, 0, 24, 0]);
        bmp.extend([0; 24]);
        bmp.extend((0..80 * 40 * 3).map(|i| (i * (number + 3)) as u8));
        let content = if number == IMAGES { &b"BM no image"[..] } else { &bmp };
        std::fs::write(folder.join("images").join(&name), content).expect("a file");
        images.push(json!({ "id": number, "file_name": name, "width": 80, "height": 40 }));
    }
    let box_of = |id: usize| json!({ "id": id, "image_id": id, "category_id": 1, "bbox": [4, 4, 20, 20], "area": 400, "iscrowd": 0 });
    let annotations: Vec<Value> = (0..IMAGES).map(box_of).collect();
    let categories = [json!({ "id": 1, "name": "tile" })];
    let document = json!({ "images": images, "annotations": annotations, "categories": categories });
    std::fs::write(folder.join("annotations/instances_train.json"), document.to_string()).expect("annotations");
}

/// The epochs of the JSON document.
#[track_caller]
fn bench(data: &Path, extra: &[&str]) -> Vec<Value> {
    let arguments = ["bench", "--mode", "data", "--preset", "small_r18", "--json", "--data", path(data)];
    // One file is no image, which is a failure to report.
    let output = check(&[&arguments[..], extra].concat(), 1, "failed: ");
    let document: Value = serde_json::from_slice(&output.stdout).expect("one JSON document");
    assert_eq!((&document["images"], &document["failures"]), (&json!(IMAGES), &json!(1)), "{document}");
    let epochs = document["epochs"].as_array().expect("a list").clone();
    for epoch in &epochs {
        let number = |key: &str| epoch[key].as_f64().unwrap_or_else(|| panic!("{key}: {epoch}"));
        assert!((number("images_per_s") * number("seconds") / IMAGES as f64 - 1.0).abs() < 0.01, "{epoch}");
        assert!(number("prepare_ms_per_image") > 0.0 && number("decode_ms_per_image") > 0.0, "{epoch}");
    }
    epochs
}

#[track_caller]
fn check_hits(epochs: &[Value], hits: &[usize]) {
    let found: Vec<Value> = epochs.iter().map(|epoch| epoch["cache_hits"].clone()).collect();
    assert_eq!(found, hits.iter().map(|&hits| json!(hits)).collect::<Vec<_>>(), "{epochs:?}");
}

#[test]
fn images_are_decoded_once_where_they_are_kept() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    write_data(folder.path());
    let cache = folder.path().join("cache");
    let on_disk = ["--cache", "disk", "--cache-dir", path(&cache)];
    check_hits(&bench(folder.path(), &["--workers", "2", "--batch", "2"]), &[0, IMAGES]);
    check_hits(&bench(folder.path(), &["--cache", "none", "--epochs", "3"]), &[0, 0, 0]);
    // Two of five, of 9,600 bytes each.
    check_hits(&bench(folder.path(), &["--cache-limit", "20kB"]), &[0, 2]);
    check_hits(&bench(folder.path(), &on_disk), &[0, IMAGES]);
    // The next run finds them.
    let epochs = bench(folder.path(), &[&on_disk[..], &["--epochs", "1"]].concat());
    check_hits(&epochs, &[IMAGES]);
    assert!(epochs[0]["cache_bytes"].as_u64().is_some_and(|bytes| bytes > 9_600 * IMAGES as u64), "{epochs:?}");
    assert_eq!(epochs[0]["decoded_bytes"], json!(9_600 * IMAGES));
    // At a half, for 20 of 40 rows: other entries, of a quarter of the bytes.
    let reduced = ["--set", "preprocessing.reduced_decoding=true", "--set", "preprocessing.min_size=20"];
    let epochs = bench(folder.path(), &[&on_disk[..], &reduced].concat());
    check_hits(&epochs, &[0, IMAGES]);
    assert_eq!(epochs[1]["decoded_bytes"], json!(2_400 * IMAGES));
}

#[test]
fn a_table_for_people() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    write_data(folder.path());
    let output =
        check(&["bench", "--mode", "data", "--preset", "small_r18", "--data", path(folder.path())], 1, "failed: ");
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(text.contains("images/s") && text.contains("5 images, batch 1, "), "{text}");
    assert_eq!(text.lines().filter(|line| line.trim_start().starts_with(['1', '2'])).count(), 2, "{text}");
}

#[test]
fn what_does_not_go_together_says_why() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    write_data(folder.path());
    let data = path(folder.path());
    check(&["bench", "--mode", "data"], 2, "--data: expected a data set for --mode data");
    check(&["bench", "--data", data], 2, "--data: expected --mode data, found core");
    check(&["bench", "--workers", "2"], 2, "--workers: expected --mode data, found core");
    let start = ["bench", "--mode", "data", "--data", data];
    for (extra, expected) in [
        (["--epochs", "0"], "--epochs: expected at least 1, found 0"),
        (["--workers", "0"], "--workers: expected at least 1, found 0"),
        (["--cache-limit", "much"], "expected a size as 500MB or 2GiB, found \"much\""),
        (["--cache", "tape"], "memory"),
        (["--cache-dir", "x"], "--cache-dir: expected --cache disk"),
        (["--dtype", "bf16"], "--dtype: expected --mode core, detect or train, found data"),
    ] {
        check(&[&start[..], &extra].concat(), 2, expected);
    }
    let file = folder.path().join("images/0.bmp");
    let is_file = ["--cache", "disk", "--cache-dir", path(&file)];
    check(&[&start[..], &is_file].concat(), 2, "cannot be the cache");
}
