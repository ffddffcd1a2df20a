//! Flaws planted one by one into a set without any: each is found, and nothing else is.

mod planted;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use planted::{Annotated, Planted, cmyk_jpeg, turned_png};
use retinanet_anchors::AnchorConfig;
use retinanet_annotations::DataRequest;
use retinanet_data::Preprocessing;
use retinanet_data::check::{CheckInput, CheckOptions, CheckReport, FindingKind, FindingKind as Kind, Severity, check};

fn options() -> CheckOptions {
    CheckOptions {
        preprocessing: Preprocessing { min_size: 120, max_size: 160, ..Preprocessing::default() },
        anchors: AnchorConfig { sizes: vec![16.0, 32.0, 64.0, 128.0, 256.0], ..AnchorConfig::default() },
        // The shapes of the set without flaws fit the anchors only so well.
        foreground_iou: 0.3,
        ..CheckOptions::default()
    }
}

fn report_of(path: &Path) -> CheckReport {
    let input = CheckInput::read(&DataRequest::new([path]), None).expect("a readable set");
    check(&input, &options(), &|_| ControlFlow::Continue(())).expect("good options")
}

fn counts(report: &CheckReport) -> BTreeMap<FindingKind, usize> {
    report.findings.iter().map(|finding| (finding.kind, finding.count)).collect()
}

/// Plants a flaw into a set in COCO form, and compares what is found.
#[track_caller]
fn check_coco(plant: impl FnOnce(&mut Planted), expected: &[(Kind, usize)]) -> CheckReport {
    compare(Planted::write_coco, plant, expected)
}

#[track_caller]
fn check_yolo(plant: impl FnOnce(&mut Planted), expected: &[(Kind, usize)]) -> CheckReport {
    compare(Planted::write_yolo, plant, expected)
}

#[track_caller]
fn check_voc(plant: impl FnOnce(&mut Planted), expected: &[(Kind, usize)]) -> CheckReport {
    compare(Planted::write_voc, plant, expected)
}

#[track_caller]
fn compare(write: fn(&Planted), plant: impl FnOnce(&mut Planted), expected: &[(Kind, usize)]) -> CheckReport {
    let mut set = Planted::new();
    plant(&mut set);
    write(&set);
    set.finish();
    let report = report_of(set.folder());
    let expected: BTreeMap<Kind, usize> = expected.iter().copied().collect();
    assert_eq!(counts(&report), expected, "{:#?}", report.findings);
    for finding in &report.findings {
        assert!((1..=12).contains(&finding.examples.len()) && finding.examples.len() <= finding.count, "{finding:#?}");
    }
    report
}

#[test]
fn a_set_without_flaws_has_no_findings() {
    for write in [check_coco, check_yolo, check_voc] as [fn(fn(&mut Planted), &[(Kind, usize)]) -> CheckReport; 3] {
        let report = write(|_| {}, &[]);
        assert!(report.complete && !report.needs_a_person());
        let splits: Vec<_> =
            report.splits.iter().map(|split| (split.name.as_str(), split.images, split.readable_images)).collect();
        assert_eq!(splits, [("train", 30, 30), ("val", 15, 15)]);
        assert_eq!(report.classes.iter().map(|class| class.name.as_str()).collect::<Vec<_>>(), ["disc", "square"]);
        let boxes: usize = report.splits.iter().map(|split| split.boxes).sum();
        assert_eq!(report.classes.iter().map(|class| class.boxes).sum::<usize>(), boxes);
        assert_eq!(report.box_statistics.side.count(), boxes);
        assert_eq!(report.box_statistics.measured, boxes);
        assert_eq!(report.image_statistics.sizes[0].images, 45);
    }
}

#[test]
fn flaws_of_splits() {
    check_coco(|set| set.split_mut("val").clear(), &[(Kind::SplitEmpty, 1)]);
    check_voc(|set| set.split_mut("val").truncate(0), &[(Kind::SplitEmpty, 1), (Kind::ImageUnlisted, 15)]);
    let leak = |set: &mut Planted| {
        let image = set.split_mut("train")[3].clone();
        set.split_mut("val").push(image);
    };
    check_voc(leak, &[(Kind::SplitOverlap, 1)]);
    check_voc(|set| set.add_list("trainval", &["train", "val"]), &[(Kind::SplitDerived, 1)]);
    check_voc(|set| set.add_list("disc_train", &["train"]), &[(Kind::SplitDerived, 1)]);
    check_yolo(|set| set.yaml_suffix = "nc: 7\n".to_owned(), &[(Kind::SetDescription, 1)]);
}

#[test]
fn flaws_of_classes() {
    check_coco(|set| set.classes.push("star".to_owned()), &[(Kind::ClassUnused, 1)]);
    let rename = |set: &mut Planted| {
        set.classes.push("Disc ".to_owned());
        // Every second one, in both splits.
        set.each_box(|idx, annotated| {
            if annotated.class_idx == 0 && idx % 2 == 0 {
                annotated.class_idx = 2;
            }
        });
    };
    check_coco(rename, &[(Kind::ClassNamesAlike, 1)]);
    let rare = |set: &mut Planted| {
        set.classes.push("star".to_owned());
        for split in ["train", "val"] {
            set.split_mut(split)[0].boxes[0].class_idx = 2;
        }
    };
    check_coco(rare, &[(Kind::ClassRare, 1)]);
    let missing = |set: &mut Planted| {
        set.classes.push("star".to_owned());
        set.split_mut("train").iter_mut().take(12).for_each(|image| image.boxes[0].class_idx = 2);
    };
    let report = check_coco(missing, &[(Kind::ClassMissingInSplit, 1)]);
    assert!(report.findings[0].examples[0].what.contains("none of them in val"), "{:?}", report.findings);
    check_coco(|set| set.category_ids = vec![1, 5], &[(Kind::CategoryIdsSparse, 3)]);
}

#[test]
fn flaws_of_annotation_files() {
    check_coco(|set| set.extra_annotation(1, 99), &[(Kind::UnknownClass, 1)]);
    check_coco(|set| set.extra_annotation(9999, 1), &[(Kind::UnknownImage, 1)]);
    check_coco(|set| set.repeat_id = true, &[(Kind::DuplicateId, 1)]);
    let report = check_yolo(|set| set.append_label("train-4.txt", "7 .5 .5 .1 .1\n"), &[(Kind::UnknownClass, 1)]);
    let example = &report.findings[0].examples[0];
    assert!(
        example.line.is_some() && example.file.as_ref().is_some_and(|file| file.ends_with("labels/train/train-4.txt"))
    );
    assert!(example.image.as_ref().is_some_and(|file| file.ends_with("images/train/train-4.png")));
    check_yolo(|set| set.append_label("train-4.txt", "0 .5 .5\n"), &[(Kind::LabelMalformed, 1)]);
    check_yolo(|set| set.append_label("orphan.txt", "0 .5 .5 .1 .1\n"), &[(Kind::LabelWithoutImage, 1)]);
    let unlabelled = |set: &mut Planted| set.remove_after("labels/train/train-4.txt");
    check_yolo(unlabelled, &[(Kind::ImageWithoutLabelFile, 1), (Kind::ImageWithoutBoxes, 1)]);
    let torn = |set: &mut Planted| set.write_after("Annotations/train-4.xml", b"<annotation><object>");
    check_voc(torn, &[(Kind::LabelUnreadable, 1), (Kind::ImageUnlisted, 1)]);
    check_voc(
        |set| set.remove_after("Annotations/val-4.xml"),
        &[(Kind::ImageWithoutLabelFile, 1), (Kind::ImageUnlisted, 1)],
    );
    let twice = |set: &mut Planted| {
        let image = set.split_mut("train")[3].clone();
        set.split_mut("train").push(image);
    };
    check_voc(twice, &[(Kind::ImageListedTwice, 1)]);
}

#[test]
fn flaws_of_image_files() {
    check_coco(|set| set.remove_after("images/train-4.png"), &[(Kind::ImageMissing, 1)]);
    check_yolo(|set| set.write_after("images/train/train-4.png", b"no image"), &[(Kind::ImageUnreadable, 1)]);
    let report = check_coco(
        |set| set.write_after("images/train-4.png", b"\x89PNG\r\n\x1a\nrubbish"),
        &[(Kind::ImageUnreadable, 1)],
    );
    assert_eq!((report.findings[0].severity, report.splits[0].readable_images), (Severity::Error, 29));
    check_coco(|set| set.save_jpeg("train-4", false), &[]);
    check_coco(|set| set.save_jpeg("train-4", true), &[(Kind::ImageTruncated, 1)]);
    check_coco(|set| set.split_mut("train")[4].stated = (320, 240), &[(Kind::ImageSizeMismatch, 1)]);
    // Stored as 160 x 120 and shown as 120 x 160.
    let turned = |stated: (usize, usize)| {
        move |set: &mut Planted| {
            let image = &mut set.split_mut("train")[4];
            image.stated = stated;
            image.boxes = vec![Annotated { class_idx: 0, xywh: [20.0, 20.0, 30.0, 30.0] }];
            let file = turned_png(&image.pixels);
            set.write_after("images/train-4.png", &file);
        }
    };
    check_coco(turned((120, 160)), &[(Kind::ExifOrientation, 1)]);
    check_coco(turned((160, 120)), &[(Kind::ExifOrientation, 1), (Kind::ExifOrientationIgnored, 1)]);
    check_coco(|set| set.recolour("train-4", |[_, g, _]| [g, g, g]), &[(Kind::ImageGrayscale, 1)]);
    check_coco(|set| set.save_deep("train-4"), &[(Kind::ImageDeep, 1)]);
    let cmyk = |set: &mut Planted| {
        set.split_mut("train")[4].stated = (8, 8);
        set.split_mut("train")[4].boxes.clear();
        set.write_after("images/train-4.png", &cmyk_jpeg());
    };
    check_coco(cmyk, &[(Kind::ImageCmyk, 1), (Kind::ImageGrayscale, 1), (Kind::ImageWithoutBoxes, 1)]);
    check_coco(|set| set.split_mut("train")[4].boxes.clear(), &[(Kind::ImageWithoutBoxes, 1)]);
    let stray = |set: &mut Planted| {
        let file = set.split_mut("train")[4].png();
        set.write_after("images/stray.png", &file);
    };
    check_coco(stray, &[(Kind::ImageUnlisted, 1)]);
}

#[test]
fn images_that_repeat_others() {
    let copy = |from: (&'static str, usize), to: (&'static str, usize), change: fn([u8; 3]) -> [u8; 3]| {
        move |set: &mut Planted| {
            let source = set.split_mut(from.0)[from.1].clone();
            let target = &mut set.split_mut(to.0)[to.1];
            target.pixels = source.pixels.iter().map(|pixel| change(*pixel)).collect();
        }
    };
    let same = |pixel| pixel;
    let darker = |pixel: [u8; 3]| pixel.map(|value| value - value / 8);
    check_coco(copy(("train", 2), ("train", 9), same), &[(Kind::DuplicateImage, 1)]);
    let report = check_coco(copy(("train", 2), ("val", 9), same), &[(Kind::DuplicateAcrossSplits, 1)]);
    let example = &report.findings[0].examples[0];
    assert!(example.image.as_ref().is_some_and(|path| path.ends_with("val-9.png")));
    assert!(example.other_image.as_ref().is_some_and(|path| path.ends_with("train-2.png")));
    check_coco(copy(("train", 2), ("train", 9), darker), &[(Kind::NearDuplicateImage, 1)]);
    check_coco(copy(("train", 2), ("val", 9), darker), &[(Kind::NearDuplicateAcrossSplits, 1)]);
    let three = |set: &mut Planted| {
        copy(("train", 2), ("train", 9), same)(set);
        copy(("train", 2), ("train", 11), same)(set);
    };
    check_coco(three, &[(Kind::DuplicateImage, 2)]);
}

#[test]
fn flaws_of_boxes() {
    let add = |xywh: [f64; 4]| {
        move |set: &mut Planted| set.split_mut("train")[4].boxes.push(Annotated { class_idx: 0, xywh })
    };
    check_coco(add([20.0, 20.0, 0.0, 9.0]), &[(Kind::BoxWithoutArea, 1)]);
    check_yolo(add([20.0, 20.0, 0.0, 9.0]), &[(Kind::BoxWithoutArea, 1)]);
    check_coco(add([500.0, 20.0, 20.0, 20.0]), &[(Kind::BoxOutside, 1)]);
    check_yolo(add([500.0, 20.0, 20.0, 20.0]), &[(Kind::BoxOutside, 1)]);
    let unstated = |set: &mut Planted| {
        set.split_mut("train")[4].stated = (0, 0);
        add([500.0, 20.0, 20.0, 20.0])(set);
    };
    check_coco(unstated, &[(Kind::BoxOutside, 1)]);
    check_coco(add([150.0, 20.0, 24.0, 24.0]), &[(Kind::BoxPartlyOutside, 1)]);
    // Less than a pixel is rounding.
    check_coco(add([136.5, 20.0, 24.0, 24.0]), &[]);
    check_coco(add([20.0, 20.0, 5.0, 5.0]), &[(Kind::BoxTiny, 1), (Kind::BoxUnmatched, 1)]);
    check_coco(add([2.0, 50.0, 150.0, 9.0]), &[(Kind::BoxUnmatched, 1)]);
    let again = |shift: f64, class_idx: fn(usize) -> usize| {
        move |set: &mut Planted| {
            let boxes = &mut set.split_mut("train")[4].boxes;
            let Annotated { class_idx: class, xywh: [x, y, width, height] } = boxes[0].clone();
            boxes.push(Annotated { class_idx: class_idx(class), xywh: [x + shift, y, width, height] });
        }
    };
    check_coco(again(0.0, |class| class), &[(Kind::BoxDuplicate, 1)]);
    check_coco(again(1.0, |class| class), &[(Kind::BoxDuplicate, 1)]);
    let report = check_coco(again(0.0, |class| 1 - class), &[(Kind::BoxClassConflict, 1)]);
    assert_eq!(report.findings[0].examples[0].boxes.len(), 2);
    check_coco(again(9.0, |class| class), &[]);
    // Many of them are a warning.
    let many = |set: &mut Planted| set.each_box(|_, annotated| annotated.xywh[2..].fill(5.0));
    let mut set = Planted::new();
    many(&mut set);
    set.write_coco();
    let report = report_of(set.folder());
    let tiny = report.findings.iter().find(|finding| finding.kind == Kind::BoxTiny).expect("tiny boxes");
    assert_eq!(tiny.severity, Severity::Warning);
}

#[test]
fn images_with_too_few_boxes() {
    let plant = |set: &mut Planted| {
        for (idx, image) in set.all_images().enumerate() {
            // Ten to thirteen small discs in a grid, but one image has a single one.
            let count = if idx == 7 { 1 } else { 10 + idx % 4 };
            let place = |n: usize| [10.0 + 30.0 * (n % 5) as f64, 10.0 + 30.0 * (n / 5) as f64, 20.0, 20.0];
            image.boxes = (0..count).map(|n| Annotated { class_idx: 0, xywh: place(n) }).collect();
            image.boxes.push(Annotated { class_idx: 1, xywh: [60.0, 95.0, 24.0, 24.0] });
        }
    };
    let report = check_coco(plant, &[(Kind::ImageFewBoxes, 1)]);
    let example = &report.findings[0].examples[0];
    assert!(example.what.contains("1 boxes of disc, where 11 are usual"), "{example:?}");
    assert!(example.image.as_ref().is_some_and(|path| path.ends_with("train-7.png")));
}

#[test]
fn a_folder_of_images_is_told_as_such() {
    let set = Planted::new();
    for image in set.images() {
        std::fs::write(set.folder().join(format!("{}.png", image.name)), image.png()).expect("a file");
    }
    let report = report_of(set.folder());
    assert_eq!(counts(&report), BTreeMap::from([(Kind::NoAnnotations, 45)]));
    assert!(!report.needs_a_person() && report.classes.is_empty());
    // With something that looks like annotations it is a set that cannot be read.
    std::fs::write(set.folder().join("labels.json"), "[]").expect("a file");
    assert!(CheckInput::read(&DataRequest::new([set.folder()]), None).is_err());
}

#[test]
fn chosen_splits_alone_are_checked() {
    let set = Planted::new();
    set.write_coco();
    let input = CheckInput::read(&DataRequest::new([set.folder()]), Some("val")).expect("a readable set");
    let report = check(&input, &options(), &|_| ControlFlow::Continue(())).expect("good options");
    assert_eq!(report.splits.len(), 1);
    // The images of the other split are not in any of these, and that is no flaw.
    assert_eq!(counts(&report), BTreeMap::new());
    let unknown = CheckInput::read(&DataRequest::new([set.folder()]), Some("test"))
        .map(|_| ())
        .expect_err("no such split")
        .to_string();
    assert!(unknown.contains("train") && unknown.contains("test"), "{unknown}");
}

#[test]
fn several_sets_and_chosen_classes() {
    let [mut first, second] = [Planted::new(), Planted::new()];
    first.classes = vec!["ball".to_owned(), "square".to_owned()];
    first.write_coco();
    second.write_yolo();
    let mut request = DataRequest::new([first.folder(), second.folder()]);
    request.classes.rename.push(("ball".to_owned(), "disc".to_owned()));
    request.classes.include.push("disc".to_owned());
    let input = CheckInput::read(&request, None).expect("readable sets");
    let report = check(&input, &options(), &|_| ControlFlow::Continue(())).expect("good options");
    assert_eq!(report.classes.iter().map(|class| class.name.as_str()).collect::<Vec<_>>(), ["disc"]);
    assert_eq!(report.splits.len(), 4);
    let boxes: Vec<usize> = report.splits.iter().map(|split| split.boxes).collect();
    assert_eq!(boxes[..2], boxes[2..]);
    // Every image of the second set is one of the first, too.
    assert_eq!(counts(&report)[&Kind::DuplicateAcrossSplits], 45);
    request.classes.include.push("dsc".to_owned());
    let unknown = CheckInput::read(&request, None).map(|_| ()).expect_err("no such class").to_string();
    assert!(unknown.contains("dsc") && unknown.contains("disc"), "{unknown}");
}

#[test]
fn a_set_that_is_not_divided_is_one_split_or_drawn() {
    let mut set = Planted::new();
    let images: Vec<_> = set.split_mut("val").drain(..).collect();
    set.split_mut("train").extend(images);
    set.write_coco();
    let folder = set.folder().join("annotations");
    std::fs::remove_file(folder.join("instances_val.json")).expect("a file");
    std::fs::rename(folder.join("instances_train.json"), folder.join("boxes.json")).expect("a file");
    let mut request = DataRequest::new([set.folder()]);
    let names = |request: &DataRequest| {
        let input = CheckInput::read(request, None).expect("a readable set");
        let report = check(&input, &options(), &|_| ControlFlow::Continue(())).expect("good options");
        (report.splits.iter().map(|split| split.name.clone()).collect::<Vec<_>>(), counts(&report))
    };
    assert_eq!(names(&request), (vec!["all".to_owned()], BTreeMap::new()));
    request.division.val_fraction = Some(0.3);
    let drawn = BTreeMap::from([(Kind::SplitDrawn, 2)]);
    assert_eq!(names(&request), (vec!["train".to_owned(), "val".to_owned()], drawn));
}

#[test]
fn an_interrupted_check_says_so() {
    let set = Planted::new();
    set.write_coco();
    let input = CheckInput::read(&DataRequest::new([set.folder()]), None).expect("a readable set");
    let most = AtomicUsize::new(0);
    let stop = |done: usize| {
        most.fetch_max(done, Ordering::Relaxed);
        if done >= 5 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let report = check(&input, &options(), &stop).expect("good options");
    assert!(!report.complete && report.needs_a_person());
    assert_eq!((report.images, report.images_checked), (45, most.into_inner()));
    assert!((5..45).contains(&report.images_checked));
}

#[test]
fn the_report_is_the_same_on_any_number_of_threads() {
    let mut set = Planted::new();
    let source = set.split_mut("train")[2].pixels.clone();
    set.split_mut("val").iter_mut().take(6).for_each(|image| image.pixels = source.clone());
    set.each_box(|idx, annotated| annotated.xywh[2] = if idx % 3 == 0 { 6.0 } else { annotated.xywh[2] });
    set.write_coco();
    let input = CheckInput::read(&DataRequest::new([set.folder()]), None).expect("a readable set");
    let report = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
        let report = pool.install(|| check(&input, &options(), &|_| ControlFlow::Continue(()))).expect("good options");
        serde_json::to_string(&report).expect("a document")
    };
    let one = report(1);
    assert!(one.contains("duplicate-image-across-splits"));
    assert!([2, 5].iter().all(|threads| report(*threads) == one));
}

#[test]
fn the_document_has_the_documented_fields() {
    let mut set = Planted::new();
    set.split_mut("train")[4].boxes.push(Annotated { class_idx: 0, xywh: [20.0, 20.0, 5.0, 5.0] });
    set.write_coco();
    let document = serde_json::to_value(report_of(set.folder())).expect("a document");
    let keys =
        |value: &serde_json::Value| value.as_object().expect("an object").keys().cloned().collect::<Vec<_>>().join(" ");
    assert_eq!(document["version"], 1);
    assert_eq!(
        keys(&document),
        "box_statistics classes complete findings image_statistics images images_checked settings splits version"
    );
    let tiny = document["findings"].as_array().expect("a list").iter().find(|finding| finding["kind"] == "box-tiny");
    let tiny = tiny.expect("the box that was added");
    assert_eq!(keys(tiny), "advice count examples kind severity what");
    assert_eq!(keys(&tiny["examples"][0]), "boxes file image split what");
    assert_eq!((&tiny["severity"], &tiny["count"]), (&"note".into(), &1.into()));
    assert_eq!(tiny["examples"][0]["boxes"][0]["xywh"], serde_json::json!([20.0, 20.0, 5.0, 5.0]));
    assert_eq!(keys(&document["box_statistics"]["side"]["bins"][0]), "counts from to");
}
