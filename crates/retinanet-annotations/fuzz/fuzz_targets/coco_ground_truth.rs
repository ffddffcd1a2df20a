//! Any bytes as a file of ground truth.

#![no_main]

use libfuzzer_sys::fuzz_target;
use retinanet_annotations::Format;
use retinanet_annotations_fuzz::{folder, read_and_write, write};

fuzz_target!(|bytes: &[u8]| {
    let folder = folder();
    write(&folder, "set/a.json", bytes);
    read_and_write(&folder.join("set/a.json"), Format::Coco);
});
