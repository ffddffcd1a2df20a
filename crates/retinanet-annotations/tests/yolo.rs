//! YOLO folders.

use std::fs;
use std::path::Path;

use retinanet_anchors::ImageSize;
use retinanet_annotations::{AnnotationSet, Effect, read};
use tempfile::{TempDir, tempdir};

fn write(root: &Path, name: &str, content: &str) {
    let path = root.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

/// Every file that holds anything is an image of 100 x 200.
fn probe(path: &Path) -> Result<ImageSize, String> {
    match fs::read(path) {
        Ok(bytes) if !bytes.is_empty() => Ok(ImageSize::new(100, 200)),
        Ok(_) => Err("an empty file".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

fn set(folder: &TempDir, split: Option<&str>) -> AnnotationSet {
    read(folder.path(), split, &probe).unwrap()
}

/// Problems without the folder.
fn problems(folder: &TempDir, set: &AnnotationSet) -> Vec<String> {
    let root = format!("{}/", folder.path().display());
    set.problems.iter().map(|problem| problem.to_string().replace(&root, "")).collect()
}

fn images(folder: &TempDir, set: &AnnotationSet) -> Vec<String> {
    set.images
        .iter()
        .map(|image| image.path.strip_prefix(folder.path()).unwrap().to_str().unwrap().to_owned())
        .collect()
}

#[test]
fn images_and_labels_side_by_side() {
    let folder = tempdir().unwrap();
    write(folder.path(), "data.yaml", "path: .\ntrain: images/train\nval: images/val\nnames: {0: a, 3: d}\n");
    write(folder.path(), "images/train/ä 1.JPG", "x");
    write(folder.path(), "images/train/sub/2.png", "x");
    write(folder.path(), "images/val/3.jpg", "x");
    write(folder.path(), "labels/train/ä 1.txt", "3 0.5 0.5 0.5 0.5\n0 .5 .5 1 1");
    write(folder.path(), "labels/train/sub/2.txt", "");
    write(folder.path(), "labels/val/3.txt", "0 .5 .5 0 1\n1 .5 .5 1 1\n");
    let train = set(&folder, Some("train"));
    assert_eq!(problems(&folder, &train), [""; 0]);
    assert_eq!(images(&folder, &train), ["images/train/sub/2.png", "images/train/ä 1.JPG"]);
    assert_eq!(train.images[1].annotations[0].xywh, [25.0, 50.0, 50.0, 100.0]);
    assert_eq!(train.images[1].annotations[0].class_idx, 1);
    assert_eq!(train.classes[1].category_id, 3);
    assert_eq!(train.images[0].size, Some(ImageSize::new(100, 200)));
    let val = set(&folder, Some("valid"));
    assert_eq!(
        problems(&folder, &val),
        [
            "labels/val/3.txt: line 1: box has non-positive width: expected > 0, found 0",
            "labels/val/3.txt: line 2: class: expected one of 2 numbers, found \"1\"",
        ]
    );
    assert_eq!((val.images.len(), val.num_dropped_boxes()), (1, 2));
    let both = set(&folder, Some("val+train"));
    assert_eq!(both.images.iter().map(|image| image.id).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(both.images[0].file_name, "3.jpg");
    // The YAML file itself says the same.
    assert_eq!(read(&folder.path().join("data.yaml"), Some("train"), &probe).unwrap(), train);
}

#[test]
fn folders_that_do_not_resolve_are_looked_for_nearby() {
    let folder = tempdir().unwrap();
    write(folder.path(), "set/data.yaml", "train: ../train/images\nval: ../valid/images\nnc: 1\nnames: ['a']\n");
    for split in ["train", "valid", "test"] {
        write(folder.path(), &format!("set/{split}/images/1.jpg"), "x");
        write(folder.path(), &format!("set/{split}/labels/1.txt"), "0 .5 .5 1 1");
    }
    let train = set(&folder, Some("train"));
    let notes = problems(&folder, &train);
    assert_eq!(
        notes,
        [
            "set/data.yaml: train: expected set/../train/images, found set/train/images",
            "set/data.yaml: val: expected set/../valid/images, found set/valid/images",
            "set/data.yaml: test: expected a line for set/test/images, found none",
        ]
    );
    assert!(train.problems.iter().all(|problem| problem.effect == Effect::Noted));
    for split in ["train", "val", "valid", "test"] {
        assert_eq!(set(&folder, Some(split)).num_annotations(), 1, "{split}");
    }
    let error = read(folder.path(), Some("night"), &probe).unwrap_err().to_string();
    assert!(error.ends_with(r#"data.yaml: split: expected one of train, val, test, found "night""#), "{error}");
}

#[test]
fn a_folder_that_is_nowhere_is_an_error_for_who_asks_for_it() {
    let folder = tempdir().unwrap();
    write(folder.path(), "data.yaml", "path: /data/set\ntrain: images/train\ntest: images/night\nnames: ['a']\n");
    write(folder.path(), "images/train/1.jpg", "x");
    write(folder.path(), "labels/train/1.txt", "0 .5 .5 1 1");
    assert_eq!(set(&folder, Some("train")).num_annotations(), 1);
    let error = read(folder.path(), Some("test"), &probe).unwrap_err().to_string();
    assert!(error.ends_with("data.yaml: test: expected a folder that is there, found \"images/night\""), "{error}");
}

#[test]
fn missing_labels_missing_images_and_unreadable_files_are_told_apart() {
    let folder = tempdir().unwrap();
    for name in ["1.jpg", "2.jpg", "4.jpg"] {
        write(folder.path(), &format!("images/{name}"), "x");
    }
    write(folder.path(), "images/5.jpg", "");
    write(folder.path(), "images/notes.md", "x");
    write(folder.path(), "labels/1.txt", "0 .5 .5 1 1");
    write(folder.path(), "labels/3.txt", "4 .5 .5 1 1");
    write(folder.path(), "labels/5.txt", "4 .5 .5 1 1");
    fs::write(folder.path().join("labels/4.txt"), b"0 .5 \xff .5 1").unwrap();
    let set = set(&folder, None);
    assert_eq!(images(&folder, &set), ["images/1.jpg", "images/2.jpg"]);
    assert_eq!(
        problems(&folder, &set),
        [
            "images/2.jpg: labels: expected labels/2.txt, found nothing",
            "images/4.jpg: labels cannot be read: labels/4.txt: line 1, column 0: text: expected UTF-8, found other bytes",
            "images/5.jpg: image size: expected a readable image, found an empty file",
            "labels/3.txt: image: expected one of this name, found nothing",
        ]
    );
    // Without names, the numbers in use are the classes.
    let names: Vec<&str> = set.classes.iter().map(|class| class.name.as_str()).collect();
    assert_eq!(names, ["0", "4"]);
}

#[test]
fn lists_of_images_and_lists_of_folders() {
    let folder = tempdir().unwrap();
    write(folder.path(), "data.yaml", "train: [images/a, images/b]\nval: val.txt\nnames: [x]\n");
    for name in ["a/1", "b/2", "c/3"] {
        write(folder.path(), &format!("images/{name}.jpg"), "x");
        write(folder.path(), &format!("labels/{name}.txt"), "0 .5 .5 1 1");
    }
    write(folder.path(), "val.txt", "./images/c/3.jpg\n\nimages/a/1.jpg\nimages/a/gone.jpg\n");
    assert_eq!(images(&folder, &set(&folder, Some("train"))), ["images/a/1.jpg", "images/b/2.jpg"]);
    let val = set(&folder, Some("val"));
    assert_eq!(val.images.iter().map(|image| image.file_name.as_str()).collect::<Vec<_>>(), ["3.jpg", "1.jpg"]);
    assert_eq!(val.num_annotations(), 2);
    let problems = problems(&folder, &val);
    assert!(
        problems[0].starts_with("images/a/gone.jpg: image size: expected a readable image, found "),
        "{problems:?}"
    );
}

#[test]
fn names_without_a_yaml_come_from_a_list() {
    let folder = tempdir().unwrap();
    write(folder.path(), "train/images/1.jpg", "x");
    write(folder.path(), "train/labels/1.txt", "1 .5 .5 1 1");
    write(folder.path(), "classes.txt", "cat\ndog\n");
    let set = set(&folder, Some("train"));
    assert_eq!(set.classes[set.images[0].annotations[0].class_idx].name, "dog");
}

#[test]
fn images_without_any_folder_of_labels_are_an_error() {
    let folder = tempdir().unwrap();
    write(folder.path(), "data.yaml", "train: images\nnames: [x]\n");
    write(folder.path(), "images/1.jpg", "x");
    let error = read(folder.path(), Some("train"), &probe).unwrap_err().to_string();
    assert!(error.ends_with("images: labels: expected a folder labels in place of images, found nothing"), "{error}");
}
