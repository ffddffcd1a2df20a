//! Folders of files: made here with everything that goes wrong, and the real sets.

use std::path::{Path, PathBuf};

use image::{ImageEncoder, RgbImage};
use retinanet_anchors::{BBox, ImageSize};
use retinanet_data::{Augmentation, Dataset, DecodeLimits, FileDataset, Loader, LoaderConfig, Preprocessing};

const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data");

fn png(path: &Path, width: u32, height: u32) {
    RgbImage::from_pixel(width, height, image::Rgb([10, 20, 30])).save(path).unwrap();
}

/// Stored 6 x 4, shown 4 x 6.
fn turned_png(path: &Path) {
    let mut bytes = Vec::new();
    let mut encoder = image::codecs::png::PngEncoder::new(&mut bytes);
    let exif = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0".to_vec();
    encoder.set_exif_metadata(exif).unwrap();
    encoder.write_image(&[9; 72], 6, 4, image::ExtendedColorType::Rgb8).unwrap();
    std::fs::write(path, bytes).unwrap();
}

/// COCO: 0 good, 1 without boxes, 2 unreadable, 3 a box of no area and one over the border, 4 a crowd, 5 turned, 6 missing.
fn odd_folder(folder: &Path) -> PathBuf {
    for name in ["0.png", "1.png", "3.png", "4.png"] {
        png(&folder.join(name), 40, 30);
    }
    std::fs::write(folder.join("2.png"), b"\x89PNG\r\n\x1a\n and then nothing").unwrap();
    turned_png(&folder.join("5.png"));
    let size = |n: usize| if n == 5 { (6, 4) } else { (40, 30) };
    let images: Vec<_> = (0..7)
        .map(|n| serde_json::json!({"id": n, "file_name": format!("{n}.png"), "width": size(n).0, "height": size(n).1}))
        .collect();
    let mut id = 0;
    let mut annotation = |image: usize, bbox: [f64; 4], crowd: usize| {
        id += 1;
        let segmentation = serde_json::json!({"counts": [0, 1200], "size": [30, 40]});
        serde_json::json!({"id": id, "image_id": image, "category_id": 18, "bbox": bbox, "area": bbox[2] * bbox[3],
            "iscrowd": crowd, "segmentation": segmentation})
    };
    let annotations = [
        annotation(0, [1.0, 2.0, 3.0, 4.0], 0),
        annotation(2, [1.0, 2.0, 3.0, 4.0], 0),
        annotation(3, [5.0, 5.0, 0.0, 9.0], 0),
        annotation(3, [30.0, -5.0, 20.0, 15.0], 0),
        annotation(4, [0.0, 0.0, 40.0, 30.0], 1),
        annotation(4, [0.0, 0.0, 8.0, 8.0], 0),
        annotation(5, [0.0, 0.0, 6.0, 4.0], 0),
    ];
    let json = serde_json::json!({"images": images, "annotations": annotations,
        "categories": [{"id": 18, "name": "dog"}]});
    let path = folder.join("instances.json");
    std::fs::write(&path, json.to_string()).unwrap();
    path
}

#[test]
fn what_is_wrong_is_reported_and_the_rest_is_data() {
    let folder = tempfile::tempdir().unwrap();
    let set = FileDataset::open(&odd_folder(folder.path()), None).unwrap();
    assert_eq!((set.len(), set.classes()[0].name.as_str()), (7, "dog"));
    let problems: Vec<String> = set.problems().iter().map(ToString::to_string).collect();
    let reported = |parts: [&str; 2]| {
        let count = problems.iter().filter(|p| parts.iter().all(|part| p.contains(part))).count();
        assert_eq!(count, 1, "{parts:?} in {problems:#?}");
    };
    reported(["2.png: ", "image data"]);
    reported(["5.png: size as displayed: ", "expected 6x4 as annotated, found 4x6"]);
    reported(["6.png: ", "No such file"]);
    reported(["annotation 3: ", "width"]);

    let boxes = |index: usize| set.sample(index).unwrap().boxes;
    assert_eq!(boxes(0), [BBox::new(1.0, 2.0, 4.0, 6.0)]);
    assert_eq!(boxes(1), []);
    // Cut at the border; the one without area is left out.
    assert_eq!(boxes(3), [BBox::new(30.0, 0.0, 40.0, 10.0)]);
    // A crowd is no training box.
    assert_eq!(boxes(4), [BBox::new(0.0, 0.0, 8.0, 8.0)]);
    // Boxes are in the displayed frame.
    assert_eq!(boxes(5), [BBox::new(0.0, 0.0, 4.0, 4.0)]);
    assert_eq!(set.sample(5).unwrap().image.size, ImageSize::new(4, 6));
    for index in [2, 6] {
        let error = set.sample(index).unwrap_err();
        assert_eq!(error.index, index);
        assert!(error.to_string().contains(&format!("{index}.png: ")), "{error}");
    }
    assert!(set.sample(7).unwrap_err().to_string().contains("expected below 7, found 7"));
}

#[test]
fn an_epoch_over_an_odd_folder_goes_through() {
    let folder = tempfile::tempdir().unwrap();
    let set = FileDataset::open(&odd_folder(folder.path()), None).unwrap();
    let config = LoaderConfig { batch: 2, workers: 2, ..LoaderConfig::default() };
    let preprocessing = Preprocessing { min_size: 32, max_size: 64, ..Preprocessing::default() };
    let loader = Loader::new(std::sync::Arc::new(set), preprocessing, Augmentation::default(), config).unwrap();
    let mut epoch = loader.epoch(0);
    let loaded: Vec<_> = epoch.by_ref().collect();
    let used: Vec<usize> = loaded.iter().flat_map(|b| &b.batch.images).map(|image| image.index).collect();
    assert_eq!(used, [0, 1, 3, 4, 5]);
    let mut failed: Vec<usize> = loaded.iter().flat_map(|b| &b.failures).map(|failure| failure.index).collect();
    failed.extend(epoch.take_failures().iter().map(|failure| failure.index));
    assert_eq!(failed, [2, 6]);
    assert_eq!(loaded[0].batch.padded, ImageSize::new(64, 32));
    assert!(loaded[0].batch.images[1].boxes.is_empty());
}

#[test]
fn limits_of_a_set() {
    let folder = tempfile::tempdir().unwrap();
    let set = FileDataset::open(&odd_folder(folder.path()), None).unwrap();
    let set = set.with_limits(DecodeLimits { max_pixels: 1199, ..DecodeLimits::default() });
    let error = set.sample(0).unwrap_err().to_string();
    assert!(error.ends_with("0.png: pixels: expected at most 1199, found 1200 (40x30)"), "{error}");
}

#[test]
fn yolo_boxes_are_relative_to_the_displayed_size() {
    let folder = tempfile::tempdir().unwrap();
    for part in ["images", "labels"] {
        std::fs::create_dir(folder.path().join(part)).unwrap();
    }
    turned_png(&folder.path().join("images/a.png"));
    std::fs::write(folder.path().join("labels/a.txt"), "0 0.5 0.5 0.5 0.5\n").unwrap();
    std::fs::write(folder.path().join("data.yaml"), "train: images\nnames: [x]\n").unwrap();
    let set = FileDataset::open(folder.path(), Some("train")).unwrap();
    assert_eq!(set.sample(0).unwrap().boxes, [BBox::new(1.0, 1.5, 3.0, 4.5)]);
    assert!(set.problems().is_empty());
}

#[track_caller]
fn open_real(path: &str, split: Option<&str>) -> Option<FileDataset> {
    let path = Path::new(DATA).join(path);
    if !path.exists() {
        println!("skipped: {} is not there", path.display());
        return None;
    }
    let set = FileDataset::open(&path, split).unwrap();
    for index in [0, set.len() / 2, set.len() - 1] {
        let sample = set.sample(index).unwrap();
        assert_eq!(Some(sample.image.size), set.annotations().images[index].size);
    }
    let per_problem = |p: &_| println!("{p}");
    set.problems().iter().take(5).for_each(per_problem);
    Some(set)
}

#[test]
fn pascal_voc_opens() {
    if let Some(set) = open_real("bccd/BCCD", Some("train+val")) {
        assert_eq!((set.len(), set.classes().len()), (292, 3));
    }
}

#[test]
fn yolo_opens() {
    if let Some(set) = open_real("aquarium/dataset", Some("val")) {
        assert_eq!((set.len(), set.classes().len()), (127, 7));
    }
}

#[test]
fn coco_opens() {
    let folder = Path::new(DATA).join("coco128x2/annotations");
    let Ok(files) = std::fs::read_dir(&folder) else {
        println!("skipped: {} is not there", folder.display());
        return;
    };
    for file in files {
        let name = file.unwrap().file_name().into_string().unwrap();
        let set = open_real(&format!("coco128x2/annotations/{name}"), None).unwrap();
        assert_eq!(set.len(), 100, "{name}");
        assert!(set.problems().is_empty(), "{name}");
    }
}
