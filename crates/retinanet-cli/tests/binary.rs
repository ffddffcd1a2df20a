//! The binary as scripts see it: exit codes, standard output, standard error.

mod flawed;
mod run;
mod window;

use flawed::{SMALL, write_data};
use run::{check, path};
use std::process::Command;

#[test]
fn what_cannot_run_says_what_to_do() {
    check(&["detect", "a.jpg"], 2, "--model");
    check(&["detect", "--model", "missing.safetensors", "a.jpg"], 2, "missing.safetensors");
    check(&["detect", "--model", ".", "a.jpg"], 2, "last.safetensors");
    check(&["train", "--data", "nowhere", "--output", "unused"], 2, "nowhere");
    check(&["train", "--data", ".", "--preset", "papr_r50", "--output", "unused"], 2, "paper_r50");
    check(&["train", "--data", ".", "--set", "train.epoch=3", "--output", "unused"], 2, "epoch");
    check(&["detect", "--device", "tpu", "--model", "m", "a.jpg"], 2, "cpu, cuda, or cuda:N");
    check(&["detect", "--device", "cuda:x", "--model", "m", "a.jpg"], 2, "cuda:1");
    check(&["detect", "--tf32", "--model", "m", "a.jpg"], 2, "--device");
    check(&["losses", "--device", "cuda", "--model", "m", "--data", "d"], 2, "expected cpu for losses, found cuda:0");
    check(
        &["bench", "--mode", "data", "--data", "d", "--device", "cuda:1"],
        2,
        "expected cpu for --mode data, found cuda:1",
    );
    check(&["score", "--ground-truth", "gt.json", "--detections", "dt.json"], 2, "gt.json");
    check(&["eval", "--model", "m", "--data", "d", "--threads", "0"], 2, "--threads");
    check(&["info", "missing.safetensors"], 2, "missing.safetensors");
}

/// Without a GPU, each command that could use one says what is missing and does nothing else.
#[test]
fn without_a_gpu_what_is_missing_is_named() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let output = path(folder.path()).to_owned() + "/run";
    let commands: [&[&str]; 5] = [
        &["detect", "--model", "m", "a.jpg"],
        &["eval", "--model", "m", "--data", "d"],
        &["train", "--data", "d", "--output", &output],
        &["bench", "--preset", "small_r18"],
        &["demo", "--output", &output],
    ];
    for command in commands {
        let args = [command, &["--device", "cuda"]].concat();
        let result = Command::new(env!("CARGO_BIN_EXE_retinanet")).args(&args).output().expect("the binary runs");
        let stderr = String::from_utf8_lossy(&result.stderr);
        if cfg!(not(feature = "cuda")) {
            let expected =
                "error: --device cuda:0: this program was built without CUDA: build it with --features cuda\n";
            assert_eq!(stderr, expected, "{args:?}");
        } else if stderr.starts_with("error: --device cuda:0: libcuda.so.1: ") {
            assert!(stderr.contains("install NVIDIA's driver") || stderr.contains("nvidia-smi"), "{stderr}");
        } else {
            // There is a driver: the next that is missing is a library, or the model.
            println!("skipped: {}: {stderr}", args.join(" "));
            continue;
        }
        assert_eq!(result.status.code(), Some(2), "{args:?}: {stderr}");
        assert!(!folder.path().join("run").exists(), "{args:?}");
    }
}

/// Nothing of CUDA is linked: the program starts where there is none.
#[cfg(all(target_os = "linux", feature = "cuda"))]
#[test]
fn nothing_of_cuda_is_linked() {
    let output = Command::new("ldd").arg(env!("CARGO_BIN_EXE_retinanet")).output();
    let Ok(output) = output else { return println!("skipped: no ldd") };
    let libraries = String::from_utf8_lossy(&output.stdout);
    for library in ["libcuda", "libcudart", "libnvrtc", "libcudnn", "libcublas"] {
        assert!(!libraries.contains(library), "{libraries}");
    }
    check(&["info"], 0, "");
}

#[test]
fn a_folder_with_flaws_trains_scores_and_detects() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    write_data(folder.path());
    let (data, run) = (folder.path().to_owned(), folder.path().join("run"));
    let mut args =
        vec!["train", "--data", path(&data), "--output", path(&run), "--epochs", "2", "--batch", "2", "--threads", "2"];
    SMALL.iter().for_each(|assignment| args.extend(["--set", assignment]));
    let output = check(&args, 1, "broken.bmp");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("1 with no boxes"), "{stderr}");
    assert!(stderr.to_lowercase().contains("width"), "the box with no area is named: {stderr}");
    for name in
        ["config.toml", "run.json", "metrics.jsonl", "last.safetensors", "curves.png", "detections.png", "report.html"]
    {
        assert!(run.join(name).is_file(), "{name}");
    }

    let model = run.join("last.safetensors");
    let eval =
        check(&["eval", "--model", path(&model), "--data", path(&data), "--split", "train", "--json"], 1, "broken.bmp");
    let document: serde_json::Value = serde_json::from_slice(&eval.stdout).expect("one JSON document");
    for key in ["AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl"] {
        assert!(document[key].is_number(), "{key}: {document}");
    }

    let (images, pictures) = (data.join("images"), folder.path().join("pictures"));
    let detect = [
        "detect",
        "--model",
        path(&model),
        "--json",
        "--score-threshold",
        "0",
        "--output",
        path(&pictures),
        path(&images),
        "missing.jpg",
    ];
    let detect = check(&detect, 1, "missing.jpg");
    let document: serde_json::Value = serde_json::from_slice(&detect.stdout).expect("one JSON document");
    assert_eq!(document["model"], path(&model));
    let found = document["images"].as_array().expect("a list");
    assert_eq!(found.len(), 3);
    assert_eq!((&found[0]["width"], &found[0]["height"]), (&64.into(), &64.into()));
    let detection = &found[0]["detections"][0];
    assert_eq!((&detection["category_id"], &detection["name"]), (&7.into(), &"window".into()));
    assert!(detection["box"].as_array().is_some_and(|corners| corners.len() == 4) && detection["score"].is_number());
    let errors = document["errors"].as_array().expect("a list");
    assert_eq!(errors.len(), 2);
    assert!(errors.iter().any(|e| e["path"].as_str().is_some_and(|p| p.ends_with("broken.bmp"))));
    assert_eq!(std::fs::read_dir(&pictures).expect("pictures").count(), 3);

    let clean = images.join("a.bmp");
    let detect = check(&["detect", "--model", path(&model), "--no-pictures", path(&clean)], 0, "");
    let printed = String::from_utf8_lossy(&detect.stdout);
    assert!(printed.contains("a.bmp (64x64)") && printed.contains("\n1 image in "), "{printed}");
    check(&["info", path(&model)], 0, "");

    // No model of a training is quantised; bf16 either runs or says what it needs.
    let with_dtype = |dtype| ["detect", "--model", path(&model), "--no-pictures", "--dtype", dtype, path(&clean)];
    check(&with_dtype("int8"), 2, "precision int8: expected a quantised model");
    let has_bf16 = retinanet::Isa::detect().has_bf16_products();
    check(&with_dtype("bf16"), if has_bf16 { 0 } else { 2 }, if has_bf16 { "" } else { "AVX512-BF16" });
    check(&with_dtype("f64"), 2, "bf16");
}

#[test]
fn score_prints_the_twelve_numbers() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (ground_truth, detections) = (folder.path().join("gt.json"), folder.path().join("dt.json"));
    let document = serde_json::json!({
        "images": [{ "id": 1, "file_name": "a.jpg", "width": 200, "height": 200 }],
        "annotations": [{ "id": 1, "image_id": 1, "category_id": 3, "bbox": [10, 10, 100, 100], "area": 10000, "iscrowd": 0 }],
        "categories": [{ "id": 3, "name": "window" }]
    });
    std::fs::write(&ground_truth, document.to_string()).expect("ground truth");
    // IoU 100 x 80 / 100 x 100 = .8: found at the seven thresholds from .50 to .80.
    let document = serde_json::json!([{ "image_id": 1, "category_id": 3, "bbox": [10, 10, 100, 80], "score": 0.5 }]);
    std::fs::write(&detections, document.to_string()).expect("detections");
    let args = ["score", "--ground-truth", path(&ground_truth), "--detections", path(&detections)];
    let json = check(&[&args[..], &["--json"]].concat(), 0, "");
    let found: serde_json::Value = serde_json::from_slice(&json.stdout).expect("one JSON document");
    assert!((found["AP"].as_f64().expect("a number") - 0.7).abs() < 1e-12, "{found}");
    assert!((found["AP50"].as_f64().expect("a number") - 1.0).abs() < 1e-12, "{found}");
    assert_eq!(found["APs"], -1.0);
    let table = check(&args, 0, "");
    assert!(String::from_utf8_lossy(&table.stdout).contains("AP     0.700"));
}
