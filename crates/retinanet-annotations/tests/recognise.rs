//! What is told of a path that is no data set, and writing that fails.

use std::fs;
use std::io;

use retinanet_annotations::{ImageSizeProbe, read, write_atomically};
use tempfile::tempdir;

const NO_PROBE: &ImageSizeProbe = &|_| Err("not asked".to_owned());

#[test]
fn what_is_no_data_set_says_what_was_looked_for() {
    let folder = tempdir().unwrap();
    let message = |path: &std::path::Path| read(path, None, NO_PROBE).unwrap_err().to_string();
    let missing = folder.path().join("missing");
    assert_eq!(message(&missing), format!("{}: expected a file or folder, found nothing", missing.display()));
    let empty = message(folder.path());
    assert!(empty.contains(": annotation format: expected COCO (annotations/*.json"), "{empty}");
    assert!(empty.ends_with("found an empty folder"), "{empty}");
    fs::write(folder.path().join("a.txt"), "").unwrap();
    fs::create_dir(folder.path().join("images")).unwrap();
    assert!(message(folder.path()).ends_with("found a.txt, images"));
    let other = message(&folder.path().join("a.txt"));
    assert!(
        other.ends_with("expected a folder, a .json file (COCO), a .yaml file (YOLO) or a .csv file (CSV, Open Images), found another file"),
        "{other}"
    );
}

#[test]
fn two_sets_side_by_side_are_not_chosen_between() {
    let folder = tempdir().unwrap();
    for name in ["one", "two"] {
        fs::create_dir_all(folder.path().join(name).join("annotations")).unwrap();
        fs::write(folder.path().join(name).join("annotations/train.json"), "{\"images\": []}").unwrap();
    }
    let error = read(folder.path(), None, NO_PROBE).unwrap_err().to_string();
    assert!(error.contains("expected one data set, found ") && error.ends_with("two"), "{error}");
}

#[test]
fn a_write_that_fails_leaves_nothing_behind() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("file");
    let error = write_atomically(&path, |file| {
        file.write_all(&[0; 100_000])?;
        Err(io::Error::other("full"))
    });
    assert_eq!(error.unwrap_err().to_string(), "full");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    let panic = std::panic::catch_unwind(|| write_atomically(&path, |_| panic!("in the middle")));
    assert!(panic.is_err());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    write_atomically(&path, |file| file.write_all(b"1")).unwrap();
    write_atomically(&path, |file| file.write_all(b"2")).unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"2");
    assert!(write_atomically(&folder.path().join("no/file"), |_| Ok(())).is_err());
    assert!(write_atomically(std::path::Path::new("/"), |_| Ok(())).is_err());
}
