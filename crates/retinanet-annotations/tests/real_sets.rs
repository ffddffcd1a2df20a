//! Real data sets with their quirks, where they lie beside the workspace.

mod round_trip;

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use retinanet_anchors::ImageSize;
use retinanet_annotations::{AnnotatedImage, AnnotationSet, DataRequest, Effect, Format, ImageSizeProbe, read};

const NO_PROBE: &ImageSizeProbe = &|_| Err("not asked".to_owned());

/// The folder or file, or a printed line and none.
fn shared(name: &str) -> Option<PathBuf> {
    let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data")).join(name);
    let found = path.exists();
    if !found {
        println!("skipped: no {}", path.display());
    }
    found.then_some(path)
}

/// The size in a JPEG's frame header.
fn jpeg_size(path: &Path) -> Result<ImageSize, String> {
    let size = || -> std::io::Result<Option<ImageSize>> {
        let mut file = File::open(path)?;
        let mut bytes = [0; 9];
        file.seek(SeekFrom::Start(2))?;
        loop {
            file.read_exact(&mut bytes[..4])?;
            let (marker, length) = (bytes[1], u16::from_be_bytes([bytes[2], bytes[3]]));
            if bytes[0] != 0xff || length < 2 {
                return Ok(None);
            }
            if (0xc0..=0xc2).contains(&marker) {
                file.read_exact(&mut bytes[..5])?;
                let side = |at: usize| usize::from(u16::from_be_bytes([bytes[at], bytes[at + 1]]));
                return Ok(Some(ImageSize::new(side(3), side(1))));
            }
            file.seek(SeekFrom::Current(i64::from(length) - 2))?;
        }
    };
    size().map_err(|error| error.to_string())?.ok_or_else(|| "no frame header".to_owned())
}

fn all_there(set: &AnnotationSet) -> bool {
    set.images.iter().all(|image| image.path.is_file())
}

#[test]
fn bccd() {
    let Some(path) = shared("bccd") else { return };
    let mut boxes = 0;
    let mut dropped = Vec::new();
    for (split, images) in [("train", 205), ("val", 87), ("test", 72)] {
        let set = read(&path, Some(split), NO_PROBE).unwrap();
        assert_eq!(set.images.len(), images, "{split}");
        assert!(all_there(&set));
        assert!(set.images.iter().all(|image| image.size == Some(ImageSize::new(640, 480))));
        let names: Vec<&str> = set.classes.iter().map(|class| class.name.as_str()).collect();
        assert_eq!(names, ["Platelets", "RBC", "WBC"]);
        boxes += set.num_annotations();
        dropped.extend(set.problems.iter().filter(|problem| problem.effect == Effect::BoxDropped).cloned());
    }
    assert_eq!(boxes, 4888 - 2);
    let mut stems: Vec<_> = dropped.iter().map(|problem| problem.path.file_stem().unwrap().to_str().unwrap()).collect();
    stems.sort_unstable();
    assert_eq!(stems, ["BloodImage_00338", "BloodImage_00343"]);
    assert_eq!(read(&path, Some("train+val"), NO_PROBE).unwrap().images.len(), 292);
    assert_eq!(read(&path, None, NO_PROBE).unwrap().images.len(), 364);
}

#[test]
fn aquarium() {
    let Some(path) = shared("aquarium") else { return };
    let mut boxes = 0;
    for (split, images, dropped) in [("train", 448, 0), ("val", 127, 0), ("test", 63, 2)] {
        let set = read(&path, Some(split), &jpeg_size).unwrap();
        assert_eq!((set.images.len(), set.num_dropped_boxes()), (images, dropped), "{split}");
        assert_eq!(set.classes.len(), 7);
        assert!(set.problems.iter().any(|problem| problem.effect == Effect::Noted));
        boxes += set.num_annotations();
    }
    assert_eq!(boxes, 4817 - 2);
}

#[test]
fn coco_json() {
    let Some(path) = shared("coco128x2") else { return };
    for split in ["train", "val"] {
        let set = read(&path, Some(split), NO_PROBE).unwrap();
        assert_eq!((set.classes.len(), set.images.len()), (80, 100), "{split}");
        assert_eq!((set.classes[0].category_id, set.classes[79].category_id), (1, 90));
        assert!(all_there(&set));
        for AnnotatedImage { path, size, .. } in set.images.iter().take(10) {
            assert_eq!(jpeg_size(path).ok(), *size);
        }
    }
}

#[test]
fn coco_as_yolo() {
    let Some(path) = shared("coco128x2") else { return };
    let path = path.join("object_detection/config.yaml");
    let mut boxes = 0;
    for (split, unpaired) in [("train", 4), ("val", 0)] {
        let set = read(&path, Some(split), &jpeg_size).unwrap();
        assert_eq!((set.classes.len(), set.images.len()), (80, 128), "{split}");
        boxes += set.num_annotations();
        // Some images have no label file, as many label files no image.
        let found_nothing = set.problems.iter().filter(|p| p.what.ends_with("found nothing")).count();
        assert_eq!(found_nothing, unpaired, "{split}: {:?}", set.problems);
    }
    assert!(boxes > 1800, "{boxes}");
}

#[test]
fn bccd_as_a_table() {
    let Some(path) = shared("bccd/test.csv") else { return };
    let set = read(&path, None, NO_PROBE).unwrap();
    let names: Vec<&str> = set.classes.iter().map(|class| class.name.as_str()).collect();
    assert_eq!((set.images.len(), names), (364, vec!["Platelets", "RBC", "WBC"]));
    assert!(all_there(&set));
    // The same boxes as in the XML files, whose corners count from 1 and include the last pixel.
    let xml = read(&shared("bccd").unwrap(), None, NO_PROBE).unwrap();
    assert_eq!((set.num_annotations(), set.num_dropped_boxes()), (xml.num_annotations(), xml.num_dropped_boxes()));
    let image =
        |set: &AnnotationSet| set.images.iter().find(|i| i.file_name == "BloodImage_00000.jpg").unwrap().clone();
    let [x, y, width, height] = image(&xml).annotations[0].xywh;
    assert_eq!(image(&set).annotations[0].xywh, [x + 1.0, y + 1.0, width - 1.0, height - 1.0]);
}

#[test]
fn several_sets_are_one() {
    let (Some(bccd), Some(aquarium)) = (shared("bccd"), shared("aquarium")) else { return };
    let request = DataRequest::new([&bccd, &aquarium, &bccd]);
    let set = request.read(Some("val"), &jpeg_size).unwrap();
    assert_eq!((set.classes.len(), set.images.len()), (10, 87 + 127 + 87));
    let found_again = set.problems.kinds().iter().find(|kind| kind.kind == "file is in two sets").unwrap();
    assert_eq!(found_again.count, 87);
    let mut ids: Vec<i64> = set.images.iter().map(|image| image.id).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), set.images.len());
}

#[test]
fn every_set_goes_into_every_format_and_back() {
    let sets = [
        ("bccd", Format::Voc),
        ("bccd/test.csv", Format::Csv),
        ("aquarium", Format::Yolo),
        ("coco128x2", Format::Coco),
        ("coco128x2/object_detection/config.yaml", Format::Yolo),
    ];
    for (name, format) in sets {
        let Some(path) = shared(name) else { continue };
        for to in Format::ALL {
            let folder = tempfile::tempdir().unwrap();
            round_trip::check(&path, to, format, folder.path(), &jpeg_size);
        }
    }
}
