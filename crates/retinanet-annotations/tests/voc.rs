//! Pascal VOC folders.

use std::fs;
use std::path::Path;

use retinanet_annotations::{AnnotationSet, Effect, ImageSizeProbe, read};
use tempfile::{TempDir, tempdir};

const NO_PROBE: &ImageSizeProbe = &|_| Err("not asked".to_owned());

fn write(root: &Path, name: &str, content: &str) {
    let path = root.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

fn xml(objects: &[(&str, [&str; 4])]) -> String {
    let mut text = "<annotation>\n<filename>stale.png</filename>\n\
        <size><width>100</width><height>50</height><depth>3</depth></size>\n"
        .to_owned();
    for (name, [x0, y0, x1, y1]) in objects {
        text += &format!(
            "<object><name>{name}</name><difficult>0</difficult><bndbox><xmin>{x0}</xmin><ymin>{y0}</ymin>\
             <xmax>{x1}</xmax><ymax>{y1}</ymax></bndbox></object>\n"
        );
    }
    text + "</annotation>"
}

/// Two images a split and one that no list names.
fn sample() -> TempDir {
    let folder = tempdir().unwrap();
    let root = folder.path().join("VOCdevkit/VOC 2007");
    write(&root, "Annotations/a 1.xml", &xml(&[("dog", ["1", "1", "100", "50"]), ("cat", ["10", "20", "30.5", "40"])]));
    write(&root, "Annotations/b.xml", &xml(&[]));
    write(&root, "Annotations/ü.xml", &xml(&[("dog", ["5", "5", "5", "9"]), ("dog", ["2", "x", "5", "9"])]));
    write(&root, "Annotations/other.xml", &xml(&[("ant", ["1", "1", "2", "2"])]));
    write(&root, "JPEGImages/a 1.JPG", "");
    write(&root, "JPEGImages/stale.png", "");
    write(&root, "ImageSets/Main/train.txt", "a 1\nb\n");
    write(&root, "ImageSets/Main/val.txt", "ü\r\n\r\n");
    write(&root, "ImageSets/Main/dog_test.txt", "b -1\nü  1\n");
    folder
}

fn names(set: &AnnotationSet) -> Vec<String> {
    set.images.iter().map(|image| image.path.file_stem().unwrap().to_str().unwrap().to_owned()).collect()
}

#[test]
fn corners_become_half_open() {
    let set = read(sample().path(), Some("train"), NO_PROBE).unwrap();
    assert!(set.problems.is_empty());
    let dog = &set.images[0].annotations[0];
    // The whole image of 100 x 50.
    assert_eq!((dog.xywh, dog.area), ([0.0, 0.0, 100.0, 50.0], 5000.0));
    assert_eq!(set.images[0].annotations[1].xywh, [9.0, 19.0, 21.5, 21.0]);
    assert_eq!(set.images[1].annotations, []);
    assert_eq!(set.images.iter().map(|image| image.id).collect::<Vec<_>>(), [1, 2]);
}

#[test]
fn classes_are_those_of_all_files_whatever_the_split() {
    for split in [Some("train"), Some("val"), Some("train+val"), Some("test"), None] {
        let set = read(sample().path(), split, NO_PROBE).unwrap();
        let classes: Vec<(i64, &str)> = set.classes.iter().map(|c| (c.category_id, c.name.as_str())).collect();
        assert_eq!(classes, [(0, "ant"), (1, "cat"), (2, "dog")], "{split:?}");
    }
}

#[test]
fn lists_choose_the_images() {
    let folder = sample();
    let read = |split| read(folder.path(), split, NO_PROBE).unwrap();
    assert_eq!(names(&read(Some("train"))), ["a 1", "stale"]);
    assert_eq!(read(Some("train+val")).images.len(), 3);
    assert_eq!(read(Some("test")).images.len(), 2);
    assert_eq!(read(None).images.len(), 4);
}

#[test]
fn the_image_is_the_one_with_the_name_of_the_xml_before_the_one_it_names() {
    let folder = sample();
    let set = read(folder.path(), Some("train"), NO_PROBE).unwrap();
    assert_eq!(set.images[0].file_name, "a 1.JPG");
    assert_eq!(set.images[1].file_name, "stale.png");
    assert!(set.images[0].path.is_file());
}

#[test]
fn bad_boxes_are_reported_with_their_line() {
    let set = read(sample().path(), Some("val"), NO_PROBE).unwrap();
    let problems: Vec<String> = set.problems.iter().map(ToString::to_string).collect();
    assert!(
        problems[0].ends_with("Annotations/ü.xml: line 4: box has non-positive width: expected > 0, found 0"),
        "{problems:?}"
    );
    assert!(problems[1].ends_with("ü.xml: line 5: ymin: expected a number, found \"x\""), "{problems:?}");
    assert_eq!((set.num_dropped_boxes(), set.images.len(), set.num_annotations()), (2, 1, 0));
}

#[test]
fn a_broken_file_costs_its_image_and_is_named() {
    let folder = sample();
    let root = folder.path().join("VOCdevkit/VOC 2007");
    write(&root, "Annotations/b.xml", "<annotation>\n<object>\n");
    write(&root, "ImageSets/Main/train.txt", "a 1\nb\nnowhere\na 1\n");
    let set = read(folder.path(), Some("train"), NO_PROBE).unwrap();
    assert_eq!(names(&set), ["a 1"]);
    let problems: Vec<String> = set.problems.iter().map(ToString::to_string).collect();
    assert!(problems[0].contains("b.xml: line 1: XML: "), "{problems:?}");
    assert!(problems[1].contains("train.txt: line 3: image: expected nowhere.xml in "), "{problems:?}");
    assert!(
        problems[2].ends_with("train.txt: line 4: image is listed again: expected each once, found \"a 1\" again"),
        "{problems:?}"
    );
    assert_eq!(set.problems.iter().filter(|problem| problem.effect == Effect::ImageDropped).count(), 2);
}

#[test]
fn a_set_of_broken_files_only_is_an_error() {
    let folder = tempdir().unwrap();
    write(folder.path(), "Annotations/a.xml", "<annotation>");
    let error = read(folder.path(), None, NO_PROBE).unwrap_err().to_string();
    assert!(error.contains("Annotations/a.xml: line 1, column "), "{error}");
}

#[test]
fn boxes_outside_of_the_size_stated_stay_as_sizes_are_often_wrong() {
    let folder = tempdir().unwrap();
    write(folder.path(), "annotations/a.xml", &xml(&[("dog", ["150", "10", "180", "20"])]));
    write(folder.path(), "images/a.png", "");
    let set = read(folder.path(), None, NO_PROBE).unwrap();
    assert_eq!((set.num_annotations(), set.problems.len()), (1, 1));
    assert!(
        set.problems.iter().next().unwrap().what.starts_with("box is outside the image: expected it within 100x50")
    );
    assert_eq!(set.images[0].path, folder.path().join("images/a.png"));
}

#[test]
fn without_lists_train_and_val_are_drawn_and_that_is_noted() {
    let folder = tempdir().unwrap();
    for idx in 0..10 {
        write(folder.path(), &format!("Annotations/{idx}.xml"), &xml(&[]));
        write(folder.path(), &format!("JPEGImages/{idx}.jpg"), "");
    }
    let all = read(folder.path(), None, NO_PROBE).unwrap();
    assert_eq!((all.images.len(), all.problems.len()), (10, 0));
    assert_eq!(read(folder.path(), Some("all"), NO_PROBE).unwrap(), all);
    let [train, val] = ["train", "val"].map(|split| read(folder.path(), Some(split), NO_PROBE).unwrap());
    assert_eq!((train.images.len(), val.images.len()), (8, 2));
    assert!(names(&val).iter().all(|name| !names(&train).contains(name)));
    let note = val.problems.iter().next().unwrap().to_string();
    assert!(
        note.ends_with("val: expected a split of this name, found none; 2 of 10 images are drawn for it by seed 0")
    );
}

#[test]
fn unknown_splits_list_the_known_ones() {
    let error = read(sample().path(), Some("night"), NO_PROBE).unwrap_err().to_string();
    assert!(error.ends_with(r#": split: expected one of dog_test, train, val, found "night""#), "{error}");
}

#[test]
fn folders_as_roboflow_exports_them() {
    let folder = tempdir().unwrap();
    for (split, class) in [("train", "b"), ("valid", "a")] {
        write(folder.path(), &format!("{split}/x.xml"), &xml(&[(class, ["1", "1", "2", "2"])]));
        write(folder.path(), &format!("{split}/x.jpg"), "");
    }
    let set = read(folder.path(), Some("val"), NO_PROBE).unwrap();
    assert_eq!(set.images[0].path, folder.path().join("valid/x.jpg"));
    assert_eq!((set.classes.len(), set.images.len(), set.images[0].annotations[0].class_idx), (2, 1, 0));
}
