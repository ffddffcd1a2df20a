//! `retinanet bench`, of a network so small that a run takes milliseconds.

mod run;

use run::{check, path};
use serde_json::Value;

/// A network of a few thousand weights on images of 64 x 96 pixels.
const TINY: [&str; 14] = [
    "--preset",
    "small_r18",
    "--set",
    "backbone.width=8",
    "--set",
    "fpn.channels=16",
    "--set",
    "head.channels=16",
    "--num-classes",
    "3",
    "--size",
    "64x96",
    "--repeat",
    "2",
];

#[track_caller]
fn bench(extra: &[&str], code: i32) -> Value {
    let output = check(&[&["bench"], &TINY[..], &["--json"], extra].concat(), code, "");
    serde_json::from_slice(&output.stdout).expect("one JSON document")
}

#[track_caller]
fn check_times(document: &Value, stages: &[&str]) {
    let number = |key: &str| document[key].as_f64().unwrap_or_else(|| panic!("{key}: {document}"));
    let (min, median) = (number("min_ms"), number("median_ms"));
    assert!(0.0 < min && min <= median, "{document}");
    let images = document["images"].as_f64().unwrap_or_else(|| number("batch"));
    assert!((number("images_per_s") * median / 1e3 / images - 1.0).abs() < 0.01, "{document}");
    #[cfg(target_os = "linux")]
    assert!(number("peak_rss_mib") > 1.0, "{document}");
    let found = document["stages"].as_object().expect("an object");
    assert_eq!(found.len(), stages.len(), "{document}");
    for stage in stages {
        assert!(found[*stage].as_f64().is_some_and(|time| time >= 0.0 && time <= 10.0 * median), "{stage}: {document}");
    }
}

#[test]
fn every_mode_reports_times_stages_and_what_was_run() {
    let core = bench(&["--threads", "1", "--batch", "2"], 0);
    check_times(&core, &["backbone", "fpn", "class_head", "box_head"]);
    for (key, expected) in [
        ("mode", Value::from("core")),
        ("model", "small_r18".into()),
        ("num_classes", 3.into()),
        ("height", 64.into()),
        ("width", 96.into()),
        ("batch", 2.into()),
        ("dtype", "f32".into()),
        ("threads", 1.into()),
        ("repeat", 2.into()),
    ] {
        assert_eq!(core[key], expected, "{key}: {core}");
    }
    let stages = ["preprocess", "backbone", "fpn", "class_head", "box_head", "post_process"];
    check_times(&bench(&["--mode", "detect"], 0), &stages);
    for dtype in ["f32", "bf16"] {
        let train = bench(&["--mode", "train", "--dtype", dtype, "--isa", "portable"], 0);
        check_times(&train, &["forward", "targets", "loss", "backward", "optimizer"]);
        assert_eq!(train["dtype"], dtype);
        let recompute = ["--mode", "train", "--dtype", dtype, "--isa", "portable", "--set", "train.recompute_stages=4"];
        let recomputed = bench(&recompute, 0)["activations_mib"].as_f64();
        assert!(recomputed < train["activations_mib"].as_f64(), "{recomputed:?} MiB where less is kept");
    }
    let text = check(&[&["bench"], &TINY[..]].concat(), 0, "");
    let text = String::from_utf8_lossy(&text.stdout);
    assert!(text.contains("core small_r18") && text.contains("fastest run") && text.contains("64x96"), "{text}");
}

#[test]
fn the_class_bias_is_moved_until_so_many_locations_pass() {
    for candidates in [5, 40] {
        let found = bench(&["--mode", "detect", "--batch", "2", "--candidates", &candidates.to_string()], 0);
        let locations = found["locations_per_image"].as_f64().expect("a number");
        assert!((locations - f64::from(candidates)).abs() <= 1.0, "{found}");
        assert!(found["detections_per_image"].as_f64().expect("a number") > 0.0, "{found}");
        let share = found["box_tower_share"].as_f64().expect("a number");
        assert!(0.0 < share && share <= 1.0, "{found}");
        assert_eq!(found["dense_min_ms"], Value::Null);
    }
}

#[test]
fn sparse_and_dense_find_the_same_and_are_timed_in_turn() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let [sparse, dense] = ["sparse.safetensors", "dense.safetensors"].map(|name| folder.path().join(name));
    let options = ["--mode", "detect", "--candidates", "3", "--size", "128x128"];
    let options = [&TINY[..10], &TINY[12..], &options[..]].concat();
    let run = |extra: &[&str]| {
        let output = check(&[&["bench", "--json"], &options[..], extra].concat(), 0, "");
        serde_json::from_slice::<Value>(&output.stdout).expect("one JSON document")
    };
    let beside = run(&["--beside-dense", "--dump", path(&sparse)]);
    assert!(beside["dense_min_ms"].as_f64().is_some_and(|time| time > 0.0), "{beside}");
    assert!(beside["box_tower_share"].as_f64().is_some_and(|share| share < 1.0), "{beside}");
    assert_eq!(run(&["--dense", "--dump", path(&dense)])["box_tower_share"], 1.0);
    assert_eq!(std::fs::read(sparse).expect("a file"), std::fs::read(dense).expect("a file"));
}

#[test]
fn random_weights_are_quantised_and_the_layers_are_named() {
    let found = bench(&["--dtype", "int8", "--isa", "portable"], 0);
    assert_eq!((&found["dtype"], &found["isa"]), (&"int8".into(), &"portable".into()));
    let layers = found["layers"].as_object().expect("an object");
    let others = found["not_int8"].as_array().expect("a list");
    let others_counted: u64 = ["f32", "bf16"].iter().filter_map(|name| layers.get(*name)?.as_u64()).sum();
    assert!(layers["int8"].as_u64().is_some_and(|count| count > 10), "{found}");
    assert_eq!(others.len() as u64, others_counted, "{found}");
}

#[test]
fn a_model_is_timed_on_images_and_its_answers_are_written() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let model = concat!(env!("CARGO_MANIFEST_DIR"), "/../../weights/blood_cells_r18.safetensors");
    let dump = folder.path().join("core.safetensors");
    let args = ["bench", "--model", model, "--size", "32x64", "--repeat", "1", "--json"];
    let output = check(&[&args[..], &["--dump", path(&dump)]].concat(), 0, "");
    let document: Value = serde_json::from_slice(&output.stdout).expect("one JSON document");
    assert_eq!(document["model"], model);
    assert_eq!(document["num_classes"], 3);
    let shapes = shapes(&dump);
    assert_eq!(shapes.len(), 11, "{shapes:?}");
    assert_eq!(shapes["images"], serde_json::json!([1, 32, 64, 3]));
    // 4 x 8 locations of 9 anchors.
    assert_eq!(shapes["class_logits.p3"], serde_json::json!([1, 288, 3]));
    assert_eq!(shapes["box_deltas.p3"], serde_json::json!([1, 288, 4]));
    assert_eq!(shapes["box_deltas.p7"], serde_json::json!([1, 9, 4]));

    let (picture, text) = (folder.path().join("picture.bmp"), folder.path().join("text.png"));
    std::fs::write(&picture, bitmap()).expect("a picture");
    std::fs::write(&text, "no picture").expect("a file");
    let dump = folder.path().join("detect.safetensors");
    let args = ["bench", "--mode", "detect", "--model", model, "--repeat", "1", "--json"];
    let rest = ["--dump", path(&dump), "--images", path(&picture), path(&text), "missing.png"];
    let output = check(&[&args[..], &rest].concat(), 1, "missing.png");
    let document: Value = serde_json::from_slice(&output.stdout).expect("one JSON document");
    assert_eq!(document["images"], 1);
    let shapes = self::shapes(&dump);
    assert_eq!(shapes.len(), 3, "{shapes:?}");
    assert_eq!(shapes["boxes.0"][0], shapes["scores.0"][0]);
    assert_eq!(shapes["boxes.0"][0], shapes["labels.0"][0]);
}

/// An uncompressed BMP of 4 x 2 pixels: a file header, an info header, rows of blue, green and red.
fn bitmap() -> Vec<u8> {
    let mut bytes = b"BM".to_vec();
    for number in [54 + 24u32, 0, 54, 40, 4, 2] {
        bytes.extend(number.to_le_bytes());
    }
    bytes.extend([1, 0, 24, 0]);
    bytes.extend([0; 24]);
    bytes.extend((0..24).map(|i| i * 10));
    bytes
}

/// The shape of each tensor of a safetensors file: eight bytes of length, then a JSON header.
fn shapes(path: &std::path::Path) -> serde_json::Map<String, Value> {
    let bytes = std::fs::read(path).expect("a file");
    let (length, rest) = bytes.split_first_chunk::<8>().expect("a length");
    let length = usize::try_from(u64::from_le_bytes(*length)).expect("a length");
    let header: serde_json::Map<String, Value> = serde_json::from_slice(&rest[..length]).expect("a header");
    let tensors = header.into_iter().filter(|(name, _)| name != "__metadata__");
    tensors.map(|(name, tensor)| (name, tensor["shape"].clone())).collect()
}

#[test]
fn what_cannot_be_timed_says_why() {
    check(&["bench", "--repeat", "0"], 2, "--repeat: expected at least 1, found 0");
    check(&["bench", "--batch", "0"], 2, "--batch: expected at least 1, found 0");
    check(&["bench", "--size", "800"], 2, "800x1344");
    check(&["bench", "--preset", "small_r81"], 2, "small_r18");
    check(&["bench", "--model", "missing.safetensors"], 2, "missing.safetensors");
    check(&["bench", "--candidates", "5"], 2, "--candidates: expected --mode detect, found core");
    check(&["bench", "--mode", "train", "--dump", "x"], 2, "--dump: expected --mode core or detect, found train");
    check(
        &["bench", "--mode", "train", "--dtype", "int8"],
        2,
        "--dtype int8: expected --mode core or detect, found train",
    );
    check(
        &["bench", "--mode", "data", "--dtype", "bf16"],
        2,
        "--dtype: expected --mode core, detect or train, found data",
    );
    check(&["bench", "--dense"], 2, "--dense: expected --mode detect, found core");
    check(&["bench", "--mode", "detect", "--images", "missing.jpg"], 2, "--images: expected at least 1 image");
    #[cfg(target_arch = "x86_64")]
    check(&["bench", "--isa", "neon"], 2, "--isa: expected a set of this processor");
    let too_many = [&["bench"], &TINY[..], &["--mode", "detect", "--candidates", "100000"]].concat();
    check(&too_many, 2, "--candidates: expected 1 to");
}
