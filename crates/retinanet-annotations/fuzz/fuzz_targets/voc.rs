//! Any bytes as an XML file, and as a list of names.

#![no_main]

use libfuzzer_sys::fuzz_target;
use retinanet_annotations::Format;
use retinanet_annotations_fuzz::{folder, read_and_write, write};

fuzz_target!(|bytes: &[u8]| {
    let folder = folder();
    write(&folder, "set/Annotations/a.xml", bytes);
    write(&folder, "set/Annotations/b.xml", b"<annotation/>");
    write(&folder, "set/ImageSets/Main/train.txt", bytes);
    read_and_write(&folder.join("set"), Format::Voc);
});
