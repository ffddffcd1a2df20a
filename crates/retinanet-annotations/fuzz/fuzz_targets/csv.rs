//! Any bytes as a table of boxes, and as the ids of classes.

#![no_main]

use libfuzzer_sys::fuzz_target;
use retinanet_annotations::Format;
use retinanet_annotations_fuzz::{folder, read_and_write, write};

fuzz_target!(|bytes: &[u8]| {
    let folder = folder();
    write(&folder, "plain/train.csv", bytes);
    read_and_write(&folder.join("plain/train.csv"), Format::Csv);
    write(&folder, "mapped/train.csv", b"a.jpg,1,2,3,4,dog\nb.jpg,,,,,\n");
    write(&folder, "mapped/classes.csv", bytes);
    read_and_write(&folder.join("mapped/train.csv"), Format::Csv);
});
