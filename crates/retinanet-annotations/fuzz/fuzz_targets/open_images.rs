//! Any bytes as a table of Open Images, as its labels and as its hierarchy.

#![no_main]

use libfuzzer_sys::fuzz_target;
use retinanet_annotations::{DataRequest, Format};
use retinanet_annotations_fuzz::{folder, read_and_write, write};

const TABLE: &[u8] = b"ImageID,LabelName,XMin,XMax,YMin,YMax\na,/m/1,.1,.2,.1,.2\n";

fuzz_target!(|bytes: &[u8]| {
    let folder = folder();
    write(&folder, "table/train.csv", bytes);
    read_and_write(&folder.join("table/train.csv"), Format::OpenImages);
    write(&folder, "labels/train.csv", TABLE);
    write(&folder, "labels/class-descriptions.csv", bytes);
    read_and_write(&folder.join("labels/train.csv"), Format::OpenImages);
    write(&folder, "kinds/train.csv", TABLE);
    write(&folder, "kinds/class-descriptions.csv", b"/m/1,dog\n/m/2,animal\n");
    write(&folder, "kinds/hierarchy.json", bytes);
    let mut request = DataRequest::new([folder.join("kinds")]);
    request.expand_hierarchy = true;
    let _ = request.read(None, &|_| Ok(retinanet_anchors::ImageSize::new(9, 9)));
});
