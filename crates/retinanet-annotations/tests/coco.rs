//! COCO files: what is kept, what is reported, what comes back after writing.

use std::fs;
use std::path::Path;

use retinanet_anchors::ImageSize;
use retinanet_annotations::{
    AnnotatedImage, Annotation, AnnotationError, AnnotationSet, Class, DetectionRecord, Effect, ImageSizeProbe, coco,
    read,
};
use tempfile::{TempDir, tempdir};

const NO_PROBE: &ImageSizeProbe = &|_| Err("not asked".to_owned());

fn parse(json: &str) -> Result<AnnotationSet, AnnotationError> {
    let folder = tempdir().unwrap();
    let path = folder.path().join("gt.json");
    fs::write(&path, json).unwrap();
    coco::read_ground_truth(&path)
}

/// Problems without the folder in front.
fn problems(set: &AnnotationSet) -> Vec<String> {
    let short = |text: String| text.split_once("gt.json: ").map_or(text.clone(), |(_, rest)| rest.to_owned());
    set.problems.iter().map(|problem| short(problem.to_string())).collect()
}

#[test]
fn sparse_categories_odd_ids_and_missing_keys_are_read() {
    let set = parse(
        r#"{"info": {"images": [1]}, "images": [
              {"id": 7, "file_name": "a b.JPG", "width": 640, "height": 480, "extra": [[1], {"a": null}]},
              {"id": "000000000009", "file_name": "ü.png"},
              {"id": "scan-1", "file_name": "c.png", "width": 0, "height": 5}],
            "categories": [{"id": 90, "name": "toothbrush"}, {"id": 1, "name": "person"}, {"id": 18, "name": 5}],
            "annotations": [
              {"id": 0, "image_id": 7, "category_id": 90, "bbox": [1.5, 2, 3, 4], "area": 7.25, "iscrowd": 1,
               "segmentation": {"counts": [1, 2], "size": [3, 4]}},
              {"image_id": 9, "category_id": 18, "bbox": ["1", 2, 3, 4]},
              {"id": 1, "image_id": "scan-1", "category_id": 1, "bbox": [0, 0, 1, 1], "area": 1, "iscrowd": false}]}"#,
    )
    .unwrap();
    assert_eq!(problems(&set), [""; 0]);
    let classes: Vec<(i64, &str)> = set.classes.iter().map(|c| (c.category_id, c.name.as_str())).collect();
    assert_eq!(classes, [(1, "person"), (18, "5"), (90, "toothbrush")]);
    let ids: Vec<i64> = set.images.iter().map(|image| image.id).collect();
    assert_eq!(ids, [7, 9, 10]);
    assert_eq!(set.images[0].size, Some(ImageSize::new(640, 480)));
    assert_eq!((set.images[1].size, set.images[2].size), (None, None));
    let crowd = Annotation { area: 7.25, is_crowd: true, ..Annotation::new(2, [1.5, 2.0, 3.0, 4.0]) };
    assert_eq!(set.images[0].annotations, [crowd]);
    // A missing area is 3 x 4.
    assert_eq!((set.images[1].annotations[0].class_idx, set.images[1].annotations[0].area), (1, 12.0));
    assert_eq!(set.images[2].annotations.len(), 1);
}

#[test]
fn images_without_annotations_are_data() {
    let set = parse(r#"{"images": [{"id": 0, "file_name": "a"}], "categories": null}"#).unwrap();
    assert_eq!((set.images.len(), set.num_annotations(), set.problems.len()), (1, 0, 0));
}

#[test]
fn a_wrong_value_costs_its_box_only_and_is_told() {
    let set = parse(
        r#"{"images": [{"id": 1, "file_name": "a", "width": 10, "height": 10}, {"id": 1, "file_name": "b"}, {"file_name": "c"},
                       {"id": 2}],
            "categories": [{"id": 1, "name": "x"}, {"id": 1, "name": "y"}, {"name": "z"}],
            "annotations": [
              {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 0, 1], "area": 0},
              {"id": 2, "image_id": 1, "category_id": 1, "bbox": [20, 1, 1, 1]},
              {"id": 3, "image_id": 5, "category_id": 1, "bbox": [1, 1, 1, 1]},
              {"id": 4, "image_id": 1, "category_id": 2, "bbox": [1, 1, 1, 1]},
              {"id": 5, "image_id": 1, "category_id": 1, "bbox": [1, 1, 1]},
              {"id": 6, "image_id": 1, "category_id": 1, "bbox": []},
              {"id": 7, "image_id": 1, "category_id": 1, "bbox": [1, 1, null, 1]},
              {"id": 8, "image_id": 1, "category_id": 1},
              {"id": 8, "image_id": 1, "category_id": 1, "bbox": [5, 5, 8, 8]}]}"#,
    )
    .unwrap();
    assert_eq!(
        problems(&set),
        [
            "category 1: id is used again, the first is kept: expected ids that differ, found the same",
            "category left out: expected an id, found nothing",
            "image 1: id is used again, the first is kept: expected ids that differ, found the same",
            "images[2]: id: expected a whole number or text, found nothing",
            "image 2: file_name: expected text, found nothing",
            "annotation 1: box has non-positive width: expected > 0, found 0 (kept for scoring)",
            "annotation 2: box is outside the image: expected it within 10x10, \
             found left 20, top 1, width 1, height 1 (kept for scoring)",
            "annotation 3: image_id: expected the id of an image, found 5",
            "annotation 4: category_id: expected the id of a category, found 2",
            "annotation 5: bbox: expected four numbers, found 3",
            "annotation 6: bbox: expected four numbers, found 0",
            "annotation 7: bbox: expected four numbers, found nothing among them",
            "annotation 8: bbox: expected four numbers, found nothing",
            "annotations[8]: id is used again: expected ids that differ, found 8 again",
        ]
    );
    assert_eq!(set.images.len(), 2);
    assert_eq!(set.num_annotations(), 3);
    assert_eq!(set.num_dropped_boxes(), 6);
    // Scoring keeps what training leaves out.
    let trainable = set.images[0].annotations.iter().filter(|annotation| annotation.has_extent()).count();
    assert_eq!(trainable, 2);
    assert_eq!(set.problems.iter().filter(|p| p.effect == Effect::ImageDropped).count(), 2);
}

#[track_caller]
fn check_error(json: &str, expected: &str) {
    let error = parse(json).unwrap_err().to_string();
    assert!(error.contains(expected), "{error}");
}

#[test]
fn what_is_no_ground_truth_is_an_error_with_its_place() {
    check_error("{\"images\": [\n{]}", "gt.json: line 2, column 2: ");
    check_error("", "gt.json: line 1, column 0: EOF while parsing a value");
    check_error(
        "[]",
        "gt.json: ground truth: expected an object with images, annotations and categories, found a list",
    );
    check_error("{}", "gt.json: images: expected a list, found nothing");
    check_error("{\"images\": 3}", "gt.json: line 1, column 12: invalid type: integer `3`, expected a sequence");
    check_error("{\"images\": [{\"id\": 1e999}]}", "number out of range");
    check_error("{\"images\": [{\"id\": NaN}]}", "gt.json: line 1, column 20: ");
}

#[test]
fn missing_files_and_folders_are_named() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("none.json");
    let expected = format!("{}: expected a file or folder, found nothing", path.display());
    assert_eq!(coco::read_ground_truth(&path).unwrap_err().to_string(), expected);
    assert_eq!(coco::read_detections(&path).unwrap_err().to_string(), expected);
    let kind = coco::read_detections(folder.path()).unwrap_err().to_string();
    assert!(kind.ends_with(": kind: expected a file, found something else"), "{kind}");
}

fn sample() -> AnnotationSet {
    let xywh = [0.1, 1e-7, 12345.678901234567, 0.3];
    let annotation = Annotation { area: 1.0 / 3.0, is_crowd: true, ..Annotation::new(1, xywh) };
    AnnotationSet {
        classes: vec![Class { category_id: 3, name: "č\"a".into() }, Class { category_id: 70, name: "b".into() }],
        images: vec![
            AnnotatedImage {
                id: -5,
                path: "a b.jpg".into(),
                file_name: "a b.jpg".into(),
                size: Some(ImageSize::new(3, 4)),
                annotations: vec![
                    annotation.clone(),
                    Annotation { class_idx: 0, is_crowd: false, is_difficult: true, ..annotation },
                ],
                details: None,
            },
            AnnotatedImage { id: 8, path: "ü.jpg".into(), file_name: "ü.jpg".into(), ..AnnotatedImage::default() },
        ],
        ..AnnotationSet::default()
    }
}

#[test]
fn written_ground_truth_reads_back_to_the_last_bit() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("gt.json");
    coco::write_ground_truth(&path, &sample()).unwrap();
    let mut back = coco::read_ground_truth(&path).unwrap();
    assert_eq!(back.images[0].path, folder.path().join("a b.jpg"));
    for image in &mut back.images {
        image.path = image.file_name.clone().into();
    }
    assert_eq!(back, sample());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is left behind");
}

#[test]
fn what_json_cannot_hold_is_refused_and_the_old_file_stays() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("gt.json");
    fs::write(&path, "old").unwrap();
    let mut set = sample();
    set.images[0].annotations[0].area = f64::NAN;
    let error = coco::write_ground_truth(&path, &set).unwrap_err().to_string();
    assert!(error.ends_with("image -5: box and area: expected finite numbers, found NaN"), "{error}");
    set.images[0].annotations[0] = Annotation { class_idx: 2, ..sample().images[0].annotations[0].clone() };
    let error = coco::write_ground_truth(&path, &set).unwrap_err().to_string();
    assert!(error.ends_with("image -5: class index: expected less than 2, found 2"), "{error}");
    let bad = DetectionRecord { image_id: 1, category_id: 1, xywh: [0.0; 4], score: f64::INFINITY };
    assert!(coco::write_detections(&path, &[bad]).is_err());
    assert_eq!(fs::read_to_string(&path).unwrap(), "old");
}

#[test]
fn detections_are_a_list_or_an_object_with_one() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("dt.json");
    let record = DetectionRecord { image_id: 3, category_id: 0, xywh: [0.1, 0.2, 0.3, 0.4], score: 0.7 };
    for json in [
        r#"[{"image_id": 3, "category_id": 0, "bbox": [0.1, 0.2, 0.3, 0.4], "score": 0.7, "segmentation": {"counts": "x"}}]"#,
        r#"{"info": {}, "annotations": [{"image_id": "3", "category_id": 0.0, "bbox": [0.1, 0.2, 0.3, 0.4], "score": 0.7}]}"#,
    ] {
        fs::write(&path, json).unwrap();
        assert_eq!(coco::read_detections(&path).unwrap(), [record]);
    }
    fs::write(&path, "[]").unwrap();
    assert_eq!(coco::read_detections(&path).unwrap(), []);
}

#[test]
fn a_wrong_detection_stops_the_reading() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("dt.json");
    for (json, expected) in [
        (r#"[{"category_id": 1}]"#, "dt.json: detections[0]: image_id: expected a whole number, found nothing"),
        (r#"[{"image_id": "x1"}]"#, "dt.json: detections[0]: image_id: expected a whole number, found \"x1\""),
        (r#"[{"image_id": 1, "category_id": 1, "bbox": 3}]"#, "bbox: expected four numbers, found the number 3"),
        (r#"[{"image_id": 1, "category_id": 1, "bbox": [1,2,3,4,5]}]"#, "bbox: expected four numbers, found 5"),
        (r#"[{"image_id": 1, "category_id": 1, "bbox": [1,2,3,4]}]"#, "score: expected a number, found nothing"),
        ("{}", "expected a list, or an object with a list under \"annotations\", found an object without it"),
        ("[3]", "dt.json: line 1, column 2: invalid type: integer `3`"),
        ("3", "dt.json: line 1, column 1: invalid type: integer `3`, expected a list of detections"),
    ] {
        fs::write(&path, json).unwrap();
        let error = coco::read_detections(&path).unwrap_err().to_string();
        assert!(error.contains(expected), "{json}: {error}");
    }
}

fn write(root: &Path, name: &str, content: &str) {
    let path = root.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

fn one_image(file_name: &str) -> String {
    format!(
        r#"{{"images": [{{"id": 0, "file_name": "{file_name}"}}], "categories": [{{"id": 2, "name": "x"}}],
            "annotations": [{{"image_id": 0, "category_id": 2, "bbox": [1, 2, 3, 4]}}]}}"#
    )
}

/// Reads a split and gives the paths of its images below the root.
fn paths(folder: &TempDir, split: Option<&str>) -> Vec<String> {
    let set = read(folder.path(), split, NO_PROBE).unwrap();
    assert!(set.problems.is_empty());
    let below = |image: &AnnotatedImage| image.path.strip_prefix(folder.path()).unwrap().to_str().unwrap().to_owned();
    set.images.iter().map(below).collect()
}

#[test]
fn the_folder_of_coco_itself() {
    let folder = tempdir().unwrap();
    for (name, image) in [("train2017", "a.jpg"), ("val2017", "b.JPG")] {
        write(folder.path(), &format!("annotations/instances_{name}.json"), &one_image(image));
        write(folder.path(), &format!("annotations/captions_{name}.json"), &one_image(image));
        write(folder.path(), &format!("images/{name}/{image}"), "");
    }
    write(folder.path(), "annotations/results.json", "[]");
    assert_eq!(paths(&folder, Some("train")), ["images/train2017/a.jpg"]);
    assert_eq!(paths(&folder, Some("valid")), ["images/val2017/b.JPG"]);
    assert_eq!(paths(&folder, Some("val2017+train")), ["images/val2017/b.JPG", "images/train2017/a.jpg"]);
    assert_eq!(paths(&folder, None), ["images/train2017/a.jpg", "images/val2017/b.JPG"]);
    // Both files count their images from 0; together each has its own id.
    let both = read(folder.path(), Some("train+val"), NO_PROBE).unwrap();
    assert_eq!(both.images.iter().map(|image| image.id).collect::<Vec<_>>(), [0, 1]);
    let error = read(folder.path(), Some("test"), NO_PROBE).unwrap_err().to_string();
    assert!(error.ends_with(r#": split: expected one of train2017, val2017, found "test""#), "{error}");
}

#[test]
fn folders_as_roboflow_exports_them() {
    let folder = tempdir().unwrap();
    for name in ["train", "valid", "test"] {
        write(folder.path(), &format!("set/{name}/_annotations.coco.json"), &one_image("a b.jpg"));
        write(folder.path(), &format!("set/{name}/a b.jpg"), "");
    }
    assert_eq!(paths(&folder, Some("val")), ["set/valid/a b.jpg"]);
    assert_eq!(retinanet_annotations::splits(folder.path()).unwrap(), ["test", "train", "valid"]);
    let one = read(&folder.path().join("set/test"), None, NO_PROBE).unwrap();
    assert_eq!(one.images[0].path, folder.path().join("set/test/a b.jpg"));
}

#[test]
fn a_single_file_is_one_split() {
    let folder = tempdir().unwrap();
    write(folder.path(), "annotations/instances_val2017.json", &one_image("x\\\\y\\\\a.png"));
    write(folder.path(), "val2017/a.png", "");
    let path = folder.path().join("annotations/instances_val2017.json");
    for split in [None, Some("val"), Some("val2017")] {
        let set = read(&path, split, NO_PROBE).unwrap();
        assert_eq!(set.images[0].path, folder.path().join("val2017/a.png"));
    }
    let error = read(&path, Some("train"), NO_PROBE).unwrap_err().to_string();
    assert!(error.ends_with(r#": split: expected val2017, found "train""#), "{error}");
}

#[test]
fn splits_that_name_a_category_differently_are_not_joined() {
    let folder = tempdir().unwrap();
    write(folder.path(), "train.json", &one_image("a.jpg"));
    write(folder.path(), "val.json", &one_image("a.jpg").replace("\"x\"", "\"y\""));
    let error = read(folder.path(), Some("train+val"), NO_PROBE).unwrap_err().to_string();
    assert_eq!(error, r#"category 2: name: expected "x" in every split, found "y""#);
}

#[test]
fn classes_that_only_one_split_has_are_joined_by_category_id() {
    let set = |ids: &[i64], class_idx: usize| AnnotationSet {
        classes: ids.iter().map(|&category_id| Class { category_id, name: format!("c{category_id}") }).collect(),
        images: vec![AnnotatedImage {
            annotations: vec![Annotation { class_idx, ..sample().images[0].annotations[0].clone() }],
            ..sample().images[1].clone()
        }],
        ..AnnotationSet::default()
    };
    let mut joined = set(&[2, 9], 1);
    joined.append(set(&[1, 2, 5], 2)).unwrap();
    let ids: Vec<i64> = joined.classes.iter().map(|class| class.category_id).collect();
    assert_eq!(ids, [1, 2, 5, 9]);
    let named = |idx: usize| joined.classes[joined.images[idx].annotations[0].class_idx].category_id;
    assert_eq!((named(0), named(1)), (9, 5));
    assert_eq!((joined.images[0].id, joined.images[1].id), (8, 9));
}
