//! `retinanet detect` as scripts see it: forms of results, crops, lists, and runs that are interrupted.

mod run;
mod window;

use run::{check, path};
use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use window::bmp_with_window;

fn model() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../weights/blood_cells_r18.safetensors")
}

/// This many images of a window, and between the first two a file that is none.
fn write_images(folder: &Path, count: usize) {
    std::fs::create_dir_all(folder).expect("a folder");
    for number in 0..count {
        std::fs::write(folder.join(format!("{number:03}.bmp")), bmp_with_window()).expect("an image");
    }
    std::fs::write(folder.join("000b.bmp"), b"BM no image").expect("a file");
}

/// What every run here begins with: all detections, no pictures.
fn arguments<'a>(model: &'a Path, rest: &[&'a str]) -> Vec<&'a str> {
    let first = ["detect", "--model", path(model), "--score-threshold", "0", "--max-detections", "3", "--threads", "2"];
    [&first, rest].concat()
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).expect("a file of text")
}

#[test]
fn results_in_every_form_say_the_same() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (model, images) = (model(), folder.path().join("images"));
    write_images(&images, 3);
    let out = |name: &str| folder.path().join(name);
    let detect = |rest: &[&str], code| {
        let rest = [&["--no-pictures", path(&images)], rest].concat();
        check(&arguments(&model, &rest), code, "000b.bmp")
    };
    let json: Value = serde_json::from_slice(&detect(&["--json"], 1).stdout).expect("one JSON document");
    let entries = json["images"].as_array().expect("a list");
    assert_eq!((entries.len(), json["errors"].as_array().map(Vec::len)), (3, Some(1)));
    assert_eq!(entries[0]["detections"].as_array().map(Vec::len), Some(3));

    for name in ["out.json", "out.jsonl", "out.csv"] {
        let printed = detect(&["--results", path(&out(name)), "--batch", "2"], 1);
        let printed = String::from_utf8_lossy(&printed.stdout).into_owned();
        assert!(
            printed.contains("002.bmp (64x64): ") && printed.contains(&format!("results in {}", out(name).display())),
            "{printed}"
        );
        assert!(!out(&format!("{name}.partial")).exists());
    }
    let document: Value = serde_json::from_str(&read(&out("out.json"))).expect("one JSON document");
    assert_eq!(document, json);
    let lines: Vec<Value> =
        read(&out("out.jsonl")).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!([&lines[0], &lines[2], &lines[3]], [&entries[0], &entries[1], &entries[2]]);
    assert!(lines[1]["error"].as_str().is_some_and(|error| error.contains("000b.bmp")));
    assert_eq!(read(&out("out.csv")).lines().count(), 1 + 9);

    let coco = detect(&["--format", "coco"], 1);
    let records: Value = serde_json::from_slice(&coco.stdout).expect("a list");
    // The file that is no image has the place, and so the id, between the first two.
    let ids: Vec<i64> =
        records.as_array().expect("a list").iter().filter_map(|record| record["image_id"].as_i64()).collect();
    assert_eq!(ids, [1, 1, 1, 3, 3, 3, 4, 4, 4]);
    let ground_truth = out("gt.json");
    let gt_images: Vec<Value> =
        (0..3).map(|id| serde_json::json!({ "id": 70 + id, "file_name": format!("{id:03}.bmp") })).collect();
    let gt = serde_json::json!({ "images": gt_images, "annotations": [], "categories": [] });
    std::fs::write(&ground_truth, gt.to_string()).expect("a file");
    let coco = detect(&["--format", "coco", "--image-ids", path(&ground_truth)], 1);
    let records: Value = serde_json::from_slice(&coco.stdout).expect("a list");
    assert_eq!((&records[0]["image_id"], &records[8]["image_id"]), (&70.into(), &72.into()));

    detect(&["--format", "yolo", "--results", path(&out("yolo"))], 1);
    let label = read(&out("yolo").join("001.txt"));
    assert_eq!((label.lines().count(), label.split_whitespace().count()), (3, 3 * 6), "{label}");
    assert_eq!(read(&out("yolo").join("classes.txt")), "Platelets\nRBC\nWBC\n");
    assert!(!out("yolo").join("000b.txt").exists());

    let again = |rest: &[&str], part: &str| {
        let rest = [&["--no-pictures", path(&images)], rest].concat();
        check(&arguments(&model, &rest), 2, part);
    };
    again(&["--results", path(&out("out.csv"))], "--overwrite");
    again(&["--results", path(&out("unnamed"))], "--format");
    again(&["--format", "yolo"], "--results");
    again(&["--batch", "0"], "--batch");
    let csv = out("out.csv");
    let done = [path(&images), "--no-pictures", "--results", path(&csv), "--resume"];
    check(&arguments(&model, &done), 0, "complete already");
}

#[test]
fn crops_and_pictures_are_files_by_name() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (model, images, crops) = (model(), folder.path().join("images"), folder.path().join("crops"));
    write_images(&images, 2);
    let pattern = images.join("00[01].bmp");
    let pictures = folder.path().join("pictures");
    let rest = [path(&pattern), "--output", path(&pictures), "--crops", path(&crops)];
    check(&arguments(&model, &rest), 0, "");
    assert!(pictures.join("000.jpg").is_file() && pictures.join("001.jpg").is_file());
    let cut: Vec<PathBuf> = ["Platelets", "RBC", "WBC"]
        .iter()
        .filter_map(|class| std::fs::read_dir(crops.join(class)).ok())
        .flat_map(|entries| entries.map(|entry| entry.expect("an entry").path()))
        .collect();
    assert_eq!(cut.len(), 2 * 3, "{cut:?}");
    assert!(cut.iter().all(|path| std::fs::read(path).is_ok_and(|bytes| bytes.starts_with(&[0xff, 0xd8]))));
}

#[test]
fn lists_come_from_files_and_standard_input() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (model, images) = (model(), folder.path().join("images"));
    write_images(&images, 2);
    let (first, second) = (images.join("000.bmp"), images.join("001.bmp"));
    let list = folder.path().join("list.txt");
    std::fs::write(&list, format!("{}\r\n", path(&second))).expect("a list");
    let args = arguments(&model, &["--no-pictures", "--format", "jsonl", "-", "--list", path(&list)]);
    let mut child = Command::new(env!("CARGO_BIN_EXE_retinanet"))
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    let mut stdin = child.stdin.take().expect("a pipe");
    writeln!(stdin, "{}", path(&first)).expect("a reader");
    drop(stdin);
    let output = child.wait_with_output().expect("an end");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let paths: Vec<Value> =
        text.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON")["path"].clone()).collect();
    assert_eq!(paths, [path(&first), path(&second)]);
    check(&arguments(&model, &["--list", path(&folder.path().join("gone.txt"))]), 2, "gone.txt");
}

#[cfg(unix)]
#[test]
fn an_interrupted_run_goes_on_where_it_stopped() {
    const IMAGES: usize = 60;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (model, images) = (model(), folder.path().join("images"));
    write_images(&images, IMAGES);
    let (whole, resumed) = (folder.path().join("whole.json"), folder.path().join("resumed.json"));
    let args = |results| arguments(&model, &["--no-pictures", path(&images), "--results", results]);
    check(&args(path(&whole)), 1, "000b.bmp");

    let partial = folder.path().join("resumed.json.partial");
    for signal in ["-INT", "-KILL"] {
        let more: &[&str] = if partial.exists() { &["--resume"] } else { &[] };
        let mut child = Command::new(env!("CARGO_BIN_EXE_retinanet"))
            .args([&args(path(&resumed)), more].concat())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the binary runs");
        let stdout = child.stdout.take().expect("a pipe");
        let first = BufReader::new(stdout).lines().next().expect("a line an image").expect("text");
        assert!(first.contains("(64x64)"), "{first}");
        let killed = Command::new("kill").args([signal, &child.id().to_string()]).status().expect("kill runs");
        assert!(killed.success());
        child.wait().expect("an end");
        assert!(partial.is_file() && !resumed.exists(), "{signal}: the run ended before it could be interrupted");
    }
    check(&args(path(&resumed)), 2, "--resume");
    // A line that was torn when the process ended.
    let text = read(&partial);
    assert!((2..=IMAGES).contains(&text.lines().count()));
    std::fs::write(&partial, &text[..text.len() - 5]).expect("a file");
    let other = [&args(path(&resumed))[..], &["--resume", "--min-size", "200"]].concat();
    check(&other, 2, "settings of the interrupted run");
    check(&[&args(path(&resumed))[..], &["--resume"]].concat(), 1, "resumed: ");
    let [whole, resumed] = [whole, resumed].map(|path| serde_json::from_str::<Value>(&read(&path)).expect("JSON"));
    assert_eq!(whole, resumed);
}
