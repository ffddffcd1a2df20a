//! `retinanet data check` as scripts see it.

mod run;

use run::{check, path};
use std::path::Path;

const SIDE: u32 = 64;

/// An uncompressed picture with a bright square, on ground that differs from seed to seed.
fn bmp(seed: u32) -> Vec<u8> {
    let mut bytes = b"BM".to_vec();
    let size = 54 + SIDE * SIDE * 3;
    [size, 0, 54, 40, SIDE].iter().for_each(|number: &u32| bytes.extend(number.to_le_bytes()));
    bytes.extend((-(SIDE as i32)).to_le_bytes());
    bytes.extend([1, 0, 24, 0]);
    bytes.extend([0; 24]);
    for y in 0..SIDE {
        for x in 0..SIDE {
            let is_square = (12..44).contains(&x) && (10..40).contains(&y);
            let wave =
                (f64::from(x) * f64::from(seed + 1) * 0.11 + f64::from(y) * f64::from(seed * seed + 3) * 0.07).sin();
            let ground = (90.0 + 60.0 * wave) as u8;
            bytes.extend(if is_square { [250, 240, 230] } else { [ground, ground / 2, 40] });
        }
    }
    bytes
}

/// Twelve images to train on and four to validate on, in COCO's form; `leaked` of them are the same in both.
fn write_data(folder: &Path, class: &str, leaked: u32) {
    for part in ["images", "annotations"] {
        std::fs::create_dir_all(folder.join(part)).expect("a folder");
    }
    for (split, count) in [("train", 12), ("val", 10)] {
        let images: Vec<_> = (0..count)
            .map(|n| {
                let seed = if split == "train" || n < leaked { n } else { 100 + n };
                let name = format!("{split}-{n}.bmp");
                std::fs::write(folder.join("images").join(&name), bmp(seed)).expect("an image");
                serde_json::json!({ "id": n, "file_name": name, "width": SIDE, "height": SIDE })
            })
            .collect();
        let annotations: Vec<_> = (0..count)
            .map(|n| serde_json::json!({ "id": n, "image_id": n, "category_id": 1, "bbox": [12, 10, 32, 30], "area": 960, "iscrowd": 0 }))
            .collect();
        let categories = serde_json::json!([{ "id": 1, "name": class }]);
        let document = serde_json::json!({ "images": images, "annotations": annotations, "categories": categories });
        std::fs::write(folder.join(format!("annotations/instances_{split}.json")), document.to_string())
            .expect("a file");
    }
}

#[test]
fn a_leak_is_found_in_all_three_forms() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("set");
    let class = "<script>\"square\"&";
    write_data(&data, class, 2);

    let output = check(&["data", "check", path(&data)], 1, "");
    let text = String::from_utf8(output.stdout).expect("text");
    for part in ["train", "val", "error [duplicate-image-across-splits]", "images/val-0.bmp", "1 error, 0 warnings"] {
        assert!(text.contains(part), "{part:?} in {text}");
    }

    let pages = folder.path().join("pages");
    let report = folder.path().join("page.html");
    let args = ["data", "check", path(&data), "--json", "--report", path(&report), "--output", path(&pages)];
    let output = check(&args, 1, "page.html");
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).expect("one JSON document");
    assert_eq!((&document["version"], &document["complete"]), (&1.into(), &true.into()));
    let leak = &document["findings"][0];
    assert_eq!((&leak["kind"], &leak["severity"]), (&"duplicate-image-across-splits".into(), &"error".into()));
    assert_eq!((&leak["count"], leak["examples"].as_array().map(Vec::len)), (&2.into(), Some(2)));
    assert_eq!(document["classes"][0]["name"], class);

    let html = std::fs::read_to_string(&report).expect("a page");
    assert!(html.contains("&lt;script&gt;") && !html.contains("<script"), "the class name is escaped");
    assert!(html.matches("src=\"data:image/jpeg;base64,").count() >= 2, "pictures lie in the page");
    assert_eq!(std::fs::read_to_string(pages.join("report.html")).expect("a page"), html);
    let saved: serde_json::Value =
        serde_json::from_slice(&std::fs::read(pages.join("report.json")).expect("a file")).expect("JSON");
    assert_eq!(saved, document);
    let sheet = std::fs::read(pages.join("duplicate-image-across-splits.png")).expect("a contact sheet");
    assert_eq!(&sheet[1..4], b"PNG");
}

#[test]
fn what_has_nothing_to_mend_ends_with_0() {
    let folder = tempfile::tempdir().expect("a folder");
    write_data(folder.path(), "square", 0);
    let output = check(&["data", "check", path(folder.path()), "--threads", "2"], 0, "");
    assert!(String::from_utf8_lossy(&output.stdout).contains("nothing to mend"));
    let images = folder.path().join("images");
    let output = check(&["data", "check", path(&images)], 0, "");
    assert!(String::from_utf8_lossy(&output.stdout).contains("no-annotations"));
    // Two sets are looked at together: the same images in both are a leak.
    let copy = folder.path().join("copy");
    write_data(&copy, "square", 0);
    let output = check(&["data", "check", path(folder.path()), path(&copy), "--split", "val", "--json"], 1, "");
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).expect("one JSON document");
    assert_eq!((&document["splits"][1]["name"], &document["findings"][0]["count"]), (&"copy/val".into(), &10.into()));
}

#[test]
fn the_preset_says_how_large_boxes_are() {
    let folder = tempfile::tempdir().expect("a folder");
    write_data(folder.path(), "square", 0);
    let args = ["data", "check", path(folder.path()), "--json", "--set", "preprocessing.min_size=8"];
    let output = check(&args, 1, "");
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).expect("one JSON document");
    let tiny = document["findings"].as_array().expect("a list").iter().find(|finding| finding["kind"] == "box-tiny");
    let tiny = tiny.expect("boxes of 4 pixels");
    assert_eq!((&tiny["severity"], &tiny["count"]), (&"warning".into(), &22.into()));
    assert_eq!(document["settings"]["min_size"], 8);
}

#[test]
fn what_cannot_run_says_why() {
    check(&["data", "check"], 2, "PATH");
    check(&["data", "check", "nowhere"], 2, "nowhere");
    check(&["data", "check", "nowhere", "--preset", "papr_r50"], 2, "paper_r50");
    check(&["data", "check", "nowhere", "--report", "no/folder/page.html"], 2, "no/folder");
    check(&["data", "check", "nowhere", "--report", "."], 2, "expected a file");
    check(&["data", "check", "nowhere", "--examples", "0"], 2, "--examples");
    check(&["data", "check", "nowhere", "--threads", "0"], 2, "--threads");
    let folder = tempfile::tempdir().expect("a folder");
    write_data(folder.path(), "square", 0);
    check(&["data", "check", path(folder.path()), "--split", "test"], 2, "one of train, val");
}
