//! Readers get arbitrary and damaged files: an answer or an error, never a panic.

use std::fs;

use proptest::prelude::*;
use retinanet_anchors::ImageSize;
use retinanet_annotations::{coco, read};
use tempfile::tempdir;

const GROUND_TRUTH: &str = r#"{"images": [{"id": 1, "file_name": "a.jpg", "width": 4, "height": 4}, {"id": "b"}],
    "categories": [{"id": 3, "name": "x"}], "annotations": [{"id": 0, "image_id": 1, "category_id": 3,
    "bbox": [0.5, 1, 2e0, 3], "area": 6, "iscrowd": 0, "segmentation": [[1, 2, 3]]}]}"#;

const DETECTIONS: &str = r#"[{"image_id": 1, "category_id": 3, "bbox": [0.5, 1, 2e0, 3], "score": 0.5}]"#;

const XML: &str = "<annotation><filename>a.jpg</filename><size><width>4</width><height>4</height></size><object>\
    <name>x</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></object></annotation>";

const YAML: &str = "path: ..\ntrain: images\nval: [images, val.txt]\nnc: 2\nnames:\n  0: a\n  1: 'b'\n";

const LABELS: &str = "0 0.5 0.5 0.25 0.25\n1 .1 .1 .2 .2 .3 .1\n";

/// Replaces, removes or inserts bytes at a few places, or cuts the end.
fn damaged(original: &'static str) -> impl Strategy<Value = Vec<u8>> {
    let edit = (any::<prop::sample::Index>(), prop::sample::select(vec![0_u8, 1, 2, 3]), edit_text());
    prop::collection::vec(edit, 1..6).prop_map(move |edits| {
        let mut bytes = original.as_bytes().to_vec();
        for (at, kind, text) in edits {
            if bytes.is_empty() {
                break;
            }
            let at = at.index(bytes.len());
            match kind {
                0 => bytes.truncate(at),
                1 => drop(bytes.remove(at)),
                2 => drop(bytes.splice(at..at, text)),
                _ => drop(bytes.splice(at..=at, text)),
            }
        }
        bytes
    })
}

fn edit_text() -> impl Strategy<Value = Vec<u8>> {
    let pieces = [
        "{",
        "}",
        "[",
        "]",
        "\"",
        ":",
        ",",
        "-",
        "0",
        "1e308",
        "-1e308",
        "1e999",
        "9223372036854775807",
        "-9223372036854775808",
        "18446744073709551615",
        "null",
        "NaN",
        "inf",
        "true",
        "\\u0000",
        "é",
        "\u{feff}",
        "<",
        ">",
        "</object>",
        "&a;",
        "&#0;",
        "*a",
        "&a",
        "\n",
        " ",
        "\t",
        "../",
        "!!x",
        "|",
    ];
    let known = prop::sample::select(pieces.to_vec()).prop_map(|piece| piece.as_bytes().to_vec());
    prop_oneof![4 => known, 1 => prop::collection::vec(any::<u8>(), 0..4)]
}

fn any_of(originals: [&'static str; 5]) -> impl Strategy<Value = Vec<u8>> {
    let mut options: Vec<_> = originals.into_iter().map(|text| damaged(text).boxed()).collect();
    options.push(prop::collection::vec(any::<u8>(), 0..200).boxed());
    prop::strategy::Union::new(options)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn json_is_read_or_refused(bytes in any_of([GROUND_TRUTH, GROUND_TRUTH, GROUND_TRUTH, DETECTIONS, DETECTIONS])) {
        let folder = tempdir().unwrap();
        let path = folder.path().join("a.json");
        fs::write(&path, bytes).unwrap();
        if let Ok(set) = coco::read_ground_truth(&path) {
            for annotation in set.images.iter().flat_map(|image| &image.annotations) {
                prop_assert!(annotation.class_idx < set.classes.len());
                prop_assert!(annotation.xywh.iter().all(|value| value.is_finite()));
            }
            // What was read can be written, unless an area of finite sides is not finite.
            if let Err(error) = coco::write_ground_truth(&path, &set) {
                prop_assert!(error.to_string().contains("expected finite numbers"), "{error}");
            }
        }
        let _ = coco::read_detections(&path);
    }

    #[test]
    fn xml_yaml_and_labels_are_read_or_refused(
        xml in any_of([XML; 5]),
        yaml in any_of([YAML; 5]),
        labels in any_of([LABELS; 5]),
    ) {
        let folder = tempdir().unwrap();
        let root = folder.path();
        for name in ["voc/Annotations", "yolo/images", "yolo/labels"] {
            fs::create_dir_all(root.join(name)).unwrap();
        }
        fs::write(root.join("voc/Annotations/a.xml"), xml).unwrap();
        fs::write(root.join("yolo/images/a.jpg"), "").unwrap();
        fs::write(root.join("yolo/labels/a.txt"), labels).unwrap();
        fs::write(root.join("yolo/data.yaml"), yaml).unwrap();
        let size = ImageSize::new(1 << 40, 1);
        for path in ["voc", "yolo", "yolo/data.yaml"] {
            if let Ok(set) = read(&root.join(path), Some("train"), &|_| Ok(size)) {
                for annotation in set.images.iter().flat_map(|image| &image.annotations) {
                    prop_assert!(annotation.class_idx < set.classes.len());
                    prop_assert!(annotation.xywh.iter().all(|value| value.is_finite()));
                    prop_assert!(annotation.xywh[2] > 0.0 && annotation.xywh[3] > 0.0);
                }
            }
        }
    }
}

#[test]
fn deep_json_is_no_stack_overflow() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("a.json");
    for depth in [100, 10_000, 300_000] {
        for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
            let nested = format!("{}0{}", open.repeat(depth), close.repeat(depth));
            for text in [nested.clone(), format!("{{\"x\":{nested},\"images\":[{{\"id\":{nested}}}]}}")] {
                fs::write(&path, text).unwrap();
                let _ = coco::read_ground_truth(&path);
                let _ = coco::read_detections(&path);
            }
        }
    }
}

#[cfg(unix)]
#[test]
fn a_pipe_is_refused_without_waiting_for_it() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("pipe.json");
    assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        sender.send((coco::read_ground_truth(&path), coco::read_detections(&path))).expect("the test waits");
    });
    let (ground_truth, detections) =
        receiver.recv_timeout(std::time::Duration::from_secs(20)).expect("it does not wait");
    for message in [ground_truth.unwrap_err().to_string(), detections.unwrap_err().to_string()] {
        assert!(message.contains("pipe.json: kind: expected a file"), "{message}");
    }
}
