//! What the fuzz targets share: a set around the bytes is read, and what was read is written and read again.

use std::fs;
use std::path::{Path, PathBuf};

use retinanet_anchors::ImageSize;
use retinanet_annotations::{DataRequest, Format, Loss};

/// A folder of this process, in memory where the system has such a place.
pub fn folder() -> PathBuf {
    let memory = Path::new("/dev/shm");
    let base = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    let folder = base.join(format!("retinanet-fuzz-{}", std::process::id()));
    if folder.is_dir() {
        fs::remove_dir_all(&folder).expect("the last set can be removed");
    }
    fs::create_dir_all(&folder).expect("a folder");
    folder
}

/// Writes a file with the folders above it.
pub fn write(folder: &Path, name: &str, bytes: &[u8]) {
    let path = folder.join(name);
    fs::create_dir_all(path.parent().expect("names have folders")).expect("a folder");
    fs::write(path, bytes).expect("a file");
}

/// Reads the set at a path, writes it in its format and in COCO's, and reads that again.
///
/// # Panics
/// A box is no box, or one is lost that was not counted.
pub fn read_and_write(path: &Path, format: Format) {
    let size = |_: &Path| -> Result<ImageSize, String> { Ok(ImageSize::new(100, 200)) };
    let mut request = DataRequest::new([path]);
    request.details = true;
    let Ok(set) = request.read(None, &size) else { return };
    for annotation in set.images.iter().flat_map(|image| &image.annotations) {
        assert!(annotation.class_idx < set.classes.len());
        assert!(annotation.xywh.iter().all(|value| value.is_finite()));
    }
    let boxes = set.num_annotations();
    for format in [format, Format::Coco] {
        let output = path.with_file_name("written").join(if format == Format::Coco { "coco" } else { "same" });
        if output.is_dir() {
            fs::remove_dir_all(&output).expect("the last output can be removed");
        }
        fs::create_dir_all(&output).expect("a folder");
        let losses = match format.write(&output, vec![("train".to_owned(), set.clone())], &size) {
            Ok(losses) => losses,
            // An area of its own may be infinite, which no JSON holds.
            Err(error) => {
                assert!(error.to_string().contains("finite"), "{error}");
                continue;
            }
        };
        // YOLO only knows of images that are there.
        if format == Format::Yolo {
            continue;
        }
        let lost: usize = [Loss::BoxesWithoutExtent, Loss::ThinBoxes, Loss::BoxesOutside]
            .iter()
            .map(|&loss| losses.count(loss))
            .sum();
        let read = DataRequest::new([&output]).read(Some("train"), &size);
        match read {
            Ok(read) => assert_eq!(read.num_annotations() + lost, boxes, "{format}: {:?}", read.problems),
            Err(error) => assert!(boxes == lost || set.images.is_empty(), "{format}: {error}"),
        }
    }
}
