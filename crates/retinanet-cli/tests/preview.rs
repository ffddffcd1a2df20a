//! `retinanet data preview`: the sheet, the table, and what cannot be shown.

mod run;

use retinanet_anchors::ImageSize;
use retinanet_data::decode_file;
use retinanet_draw::{encode_png, picture_from_rgb};
use run::{check, path};
use std::path::Path;

/// Five pictures of 40 x 30 with a bright square each, in YOLO's form, and a file that is none.
fn write_data(folder: &Path) {
    let (images, labels) = (folder.join("images/train"), folder.join("labels/train"));
    std::fs::create_dir_all(&images).expect("a folder");
    std::fs::create_dir_all(&labels).expect("a folder");
    let yaml = "path: .\ntrain: images/train\nnames:\n  0: bright square\n";
    std::fs::write(folder.join("data.yaml"), yaml).expect("a file");
    for number in 0..5 {
        let mut pixels = vec![20 * number + 40; 40 * 30 * 3];
        for row in 10..20 {
            pixels[(row * 40 + 8) * 3..(row * 40 + 28) * 3].fill(250);
        }
        let picture = picture_from_rgb(ImageSize::new(40, 30), pixels).expect("a picture");
        std::fs::write(images.join(format!("{number}.png")), encode_png(&picture).expect("a file")).expect("an image");
        std::fs::write(labels.join(format!("{number}.txt")), "0 0.45 0.5 0.5 0.3333333\n").expect("a label");
    }
}

#[test]
fn a_sheet_shows_what_training_will_see() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    write_data(folder.path());
    let sheet = folder.path().join("preview.png");
    let args = ["data", "preview", "--data", path(folder.path()), "--output", path(&sheet), "--count", "3"];
    let quarter =
        ["--set", "train.augmentation.quarter_turn=1", "--set", "train.augmentation.mosaic={ probability = 1.0 }"];
    let output = check(&[&args[..], &quarter].concat(), 0, "5 images");
    let printed = String::from_utf8_lossy(&output.stdout);
    assert_eq!(printed.matches("40x30").count() + printed.matches("30x40").count(), 6, "{printed}");
    assert!(printed.contains("(epoch 0, seed 0)"), "{printed}");
    // Two pairs in the first row and one in the second, cells of 480 x 360 at least.
    let size = decode_file(&sheet, &retinanet_data::DecodeLimits::default()).expect("a sheet").size;
    assert_eq!(size.width, 4 * (480 + 4) + 4);
    assert!((2 * (360 + 4) + 4..=2 * (480 + 4) + 4).contains(&size.height), "{size}");

    // The same draws give the same bytes, others do not.
    let bytes = || std::fs::read(&sheet).expect("a sheet");
    let first = bytes();
    check(&[&args[..], &quarter, &["--seed", "0"]].concat(), 0, "");
    assert!(bytes() == first);
    check(&[&args[..], &quarter, &["--epoch", "1"]].concat(), 0, "");
    assert!(bytes() != first);
}

#[test]
fn what_cannot_be_shown_is_said() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    write_data(folder.path());
    let sheet = folder.path().join("preview.png");
    let args = ["data", "preview", "--data", path(folder.path()), "--output", path(&sheet)];
    check(&[&args[..], &["--count", "0"]].concat(), 2, "--count: expected 1..=400, found 0");
    check(&[&args[..], &["--set", "train.augmentation.rotation.degree=3"]].concat(), 2, "degree");
    let range = "train.augmentation.rotation={ degrees = [5.0, -5.0] }";
    let expected = "augmentation.rotation.degrees: expected [least, most] within -180..=180, found [5.0, -5.0]";
    check(&[&args[..], &["--set", range]].concat(), 2, expected);
    check(&[&args[..], &["--preset", "papr_r50"]].concat(), 2, "paper_r50");
    check(&["data", "preview", "--data", "nowhere", "--output", path(&sheet)], 2, "nowhere");
    assert!(!sheet.exists());

    // A file that cannot be read is named, and the rest is shown.
    std::fs::write(folder.path().join("images/train/2.png"), "no image").expect("a file");
    let mosaic = ["--set", "train.augmentation.mosaic={ probability = 1.0 }"];
    check(&[&args[..], &mosaic].concat(), 1, "2.png");
    assert!(sheet.is_file());
}
