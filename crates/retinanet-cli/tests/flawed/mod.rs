//! A small data set on disk.

use std::path::Path;

/// Two images with one box each, one without, one file that is no image and one box with no area, in COCO's form.
pub(crate) fn write_data(folder: &Path) {
    std::fs::create_dir_all(folder.join("images")).expect("a folder");
    std::fs::create_dir_all(folder.join("annotations")).expect("a folder");
    let bmp = crate::window::bmp_with_window();
    for name in ["a.bmp", "b.bmp", "none.bmp"] {
        std::fs::write(folder.join("images").join(name), &bmp).expect("an image");
    }
    std::fs::write(folder.join("images/broken.bmp"), b"BM no image").expect("a file");
    let images = ["a.bmp", "b.bmp", "none.bmp", "broken.bmp"].iter().enumerate();
    let images: Vec<_> = images
        .map(|(id, name)| serde_json::json!({ "id": id, "file_name": name, "width": 64, "height": 64 }))
        .collect();
    let annotation = |id: u32, image_id: u32, bbox: [u32; 4]| serde_json::json!({ "id": id, "image_id": image_id, "category_id": 7, "bbox": bbox, "area": bbox[2] * bbox[3], "iscrowd": 0 });
    let annotations = [
        annotation(1, 0, [12, 10, 32, 30]),
        annotation(2, 1, [12, 10, 32, 30]),
        annotation(3, 1, [5, 5, 0, 9]),
        annotation(4, 3, [1, 1, 9, 9]),
    ];
    let document = serde_json::json!({ "images": images, "annotations": annotations, "categories": [{ "id": 7, "name": "window" }] });
    std::fs::write(folder.join("annotations/instances_train.json"), document.to_string()).expect("annotations");
}

/// What makes a network small enough for it.
pub(crate) const SMALL: [&str; 5] = [
    "backbone.width=8",
    "fpn.channels=16",
    "head.channels=16",
    "preprocessing.min_size=64",
    "preprocessing.max_size=64",
];
