//! Any bytes as a file of detections.

#![no_main]

use libfuzzer_sys::fuzz_target;
use retinanet_annotations::coco::{read_detections, write_detections};
use retinanet_annotations_fuzz::{folder, write};

fuzz_target!(|bytes: &[u8]| {
    let folder = folder();
    write(&folder, "a.json", bytes);
    let path = folder.join("a.json");
    if let Ok(detections) = read_detections(&path) {
        write_detections(&path, &detections).expect("what was read is finite");
        assert_eq!(read_detections(&path).expect("what was written is read"), detections);
    }
});
