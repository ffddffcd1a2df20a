//! `retinanet data` and the selection of data, as scripts see them.

mod run;

use run::{check, path};
use std::path::Path;

/// Ten pictures of 8 x 8 pixels in one COCO file that is no split, with a car on each and a truck on every other.
fn write_data(folder: &Path) {
    std::fs::create_dir_all(folder.join("images")).expect("a folder");
    let mut bmp = b"BM".to_vec();
    for field in [54 + 8 * 8 * 3, 0, 54, 40, 8, 8_u32] {
        bmp.extend(field.to_le_bytes());
    }
    bmp.extend([1, 0, 24, 0]);
    bmp.extend([0; 24]);
    bmp.extend([90; 8 * 8 * 3]);
    let (mut images, mut annotations) = (Vec::new(), Vec::new());
    for id in 1..=10 {
        let name = format!("{id}.bmp");
        std::fs::write(folder.join("images").join(&name), &bmp).expect("an image");
        images.push(serde_json::json!({ "id": id, "file_name": name, "width": 8, "height": 8 }));
        for (category_id, is_there) in [(3, true), (8, id % 2 == 0)] {
            if is_there {
                let number = annotations.len() + 1;
                annotations.push(serde_json::json!({ "id": number, "image_id": id, "category_id": category_id,
                    "bbox": [1, 1, 4, 5], "area": 20, "iscrowd": 0, "segmentation": [[1, 1, 5, 1, 3, 6]] }));
            }
        }
    }
    let categories = serde_json::json!([{ "id": 3, "name": "car" }, { "id": 8, "name": "truck" }]);
    let document = serde_json::json!({ "images": images, "annotations": annotations, "categories": categories });
    std::fs::write(folder.join("boxes.json"), document.to_string()).expect("annotations");
}

#[test]
fn sets_are_converted_and_what_is_lost_is_told() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (source, output) = (folder.path().join("source"), folder.path().join("out"));
    write_data(&source);
    let convert = ["data", "convert", path(&source), "--to", "voc", "--output", path(&output)];
    let printed = check(&convert, 0, "");
    let printed = String::from_utf8_lossy(&printed.stdout).into_owned();
    for line in ["all: 10 images, 15 boxes", "not in Pascal VOC: polygons: 15", "not in Pascal VOC: category ids: 2"] {
        assert!(printed.contains(line), "{line}: {printed}");
    }
    assert!(output.join("JPEGImages/7.bmp").is_file() && output.join("Annotations/7.xml").is_file());
    check(&convert, 2, "expected a folder that is new or empty");

    let more = ["--overwrite", "--val-fraction", "0.2", "--rename-class", "truck=car", "--link-images", "--json"];
    let json = check(&[&convert[..], &more].concat(), 0, "drawn for it by seed 0");
    let document: serde_json::Value = serde_json::from_slice(&json.stdout).expect("one JSON document");
    let splits: Vec<_> =
        document["splits"].as_array().expect("a list").iter().map(|s| (&s["name"], &s["images"])).collect();
    assert_eq!(splits, [(&"train".into(), &8.into()), (&"val".into(), &2.into())], "{document}");
    assert_eq!(document["losses"]["polygons"], 15, "{document}");
    assert!(output.join("JPEGImages/7.bmp").is_symlink());

    std::fs::remove_file(source.join("images/3.bmp")).expect("the image");
    let yolo = folder.path().join("yolo");
    check(&["data", "convert", path(&source), "--to", "yolo", "--output", path(&yolo)], 1, "3.bmp");
}

#[test]
fn what_cannot_be_selected_says_what_there_is() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let source = folder.path().join("source");
    write_data(&source);
    let train = |more: &[&str], expected: &str| {
        let output = folder.path().join("run");
        check(&[&["train", "--data", path(&source), "--output", path(&output)], more].concat(), 2, expected);
    };
    train(&["--include-class", "cra"], "did you mean \"car\"?");
    train(&["--exclude-class", "car", "--exclude-class", "truck"], "to be left, found none");
    train(&["--rename-class", "car"], "--rename-class: expected OLD=NEW, found \"car\"");
    train(&["--split", "night"], "expected train or val, which are drawn");
    train(&["--val-fraction", "1.5"], "val fraction: expected more than 0 and less than 1, found 1.5");
    let images = source.join("images");
    train(&["--data", path(&images)], "annotation format: expected COCO");
    // A set to train on without one to validate on says how to get one.
    std::fs::rename(source.join("boxes.json"), source.join("train.json")).expect("a file");
    train(&["--val-split", "val"], "--val-fraction .2 draws one out of train");
}
