//! Any bytes as a label file, and as `data.yaml`.

#![no_main]

use libfuzzer_sys::fuzz_target;
use retinanet_annotations::Format;
use retinanet_annotations_fuzz::{folder, read_and_write, write};

fuzz_target!(|bytes: &[u8]| {
    let folder = folder();
    write(&folder, "labels/images/a.jpg", b"");
    write(&folder, "labels/labels/a.txt", bytes);
    write(&folder, "labels/data.yaml", b"names: [a, b, c]\ntrain: images\n");
    read_and_write(&folder.join("labels/data.yaml"), Format::Yolo);
    write(&folder, "yaml/images/a.jpg", b"");
    write(&folder, "yaml/labels/a.txt", b"0 .5 .5 .2 .2\n1 .1 .1 .5 .1 .3 .3\n");
    write(&folder, "yaml/data.yaml", bytes);
    read_and_write(&folder.join("yaml/data.yaml"), Format::Yolo);
});
