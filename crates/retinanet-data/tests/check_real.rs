//! The real sets beside the workspace: every quirk that their description lists is in the report.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use retinanet_anchors::AnchorConfig;
use retinanet_annotations::DataRequest;
use retinanet_data::Preprocessing;
use retinanet_data::check::{CheckInput, CheckOptions, CheckReport, Finding, FindingKind, check};

/// The report, or a printed line and none where the set is not there.
fn report(name: &str) -> Option<CheckReport> {
    let path: PathBuf = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data")).join(name);
    if !path.exists() {
        println!("skipped: no {}", path.display());
        return None;
    }
    let input = CheckInput::read(&DataRequest::new([path]), None).expect("a readable set");
    let options = CheckOptions {
        preprocessing: Preprocessing { min_size: 240, max_size: 320, ..Preprocessing::default() },
        anchors: AnchorConfig { sizes: vec![16.0, 32.0, 64.0, 128.0, 256.0], ..AnchorConfig::default() },
        max_examples: 400,
        ..CheckOptions::default()
    };
    let report = check(&input, &options, &|_| ControlFlow::Continue(())).expect("good options");
    for Finding { kind, severity, count, what, examples, .. } in &report.findings {
        println!("{}: {kind}: {count} {what}", severity.name());
        examples.iter().take(4).for_each(|example| println!("    {example:?}"));
    }
    assert!(report.complete);
    Some(report)
}

fn finding(report: &CheckReport, kind: FindingKind) -> &Finding {
    report.findings.iter().find(|finding| finding.kind == kind).unwrap_or_else(|| panic!("no {kind}"))
}

fn count(report: &CheckReport, kind: FindingKind) -> usize {
    report.findings.iter().find(|finding| finding.kind == kind).map_or(0, |finding| finding.count)
}

/// Whether an example of the kind has all of these in its text and file names.
#[track_caller]
fn told(report: &CheckReport, kind: FindingKind, parts: &[&str]) {
    let examples = &finding(report, kind).examples;
    let texts: Vec<String> = examples.iter().map(|example| format!("{example:?}")).collect();
    assert!(texts.iter().any(|text| parts.iter().all(|part| text.contains(part))), "{kind}: {parts:?} in {texts:#?}");
}

#[test]
fn bccd() {
    let Some(report) = report("bccd") else { return };
    let splits: Vec<(&str, usize)> = report.splits.iter().map(|split| (split.name.as_str(), split.images)).collect();
    assert_eq!(splits, [("test", 72), ("train", 205), ("val", 87)]);
    assert_eq!(report.splits.iter().map(|split| split.boxes).sum::<usize>(), 4888 - 2);
    assert_eq!(count(&report, FindingKind::SplitDerived), 1);
    assert_eq!(count(&report, FindingKind::BoxWithoutArea), 2);
    told(&report, FindingKind::BoxWithoutArea, &["BloodImage_00338"]);
    told(&report, FindingKind::BoxWithoutArea, &["BloodImage_00343"]);
    assert_eq!(count(&report, FindingKind::BoxDuplicate), 8);
    for number in ["00013", "00020", "00100", "00104", "00251", "00284", "00331", "00403"] {
        told(&report, FindingKind::BoxDuplicate, &[number, "RBC"]);
    }
    let few = finding(&report, FindingKind::ImageFewBoxes);
    let red_cells = few.examples.iter().filter(|example| example.what.contains("RBC"));
    assert_eq!(red_cells.count(), 20, "{:#?}", few.examples);
}

#[test]
fn aquarium() {
    let Some(report) = report("aquarium") else { return };
    let splits: Vec<(&str, usize)> = report.splits.iter().map(|split| (split.name.as_str(), split.images)).collect();
    assert_eq!(splits, [("train", 448), ("val", 127), ("test", 63)]);
    told(&report, FindingKind::SetDescription, &["data.yaml", "train: expected", "../train/images"]);
    told(&report, FindingKind::SetDescription, &["data.yaml", "test: expected a line"]);
    assert_eq!(count(&report, FindingKind::BoxWithoutArea), 2);
    assert_eq!(count(&report, FindingKind::ImageWithoutBoxes), 1);
    let aspects = &report.image_statistics.aspect_ratio;
    let (portrait, landscape): (Vec<_>, Vec<_>) =
        aspects.bins.iter().filter(|bin| bin.count() > 0).partition(|bin| bin.from < 0.95);
    assert!(!portrait.is_empty() && !landscape.is_empty());
}

#[test]
fn coco_as_json() {
    let Some(report) = report("coco128x2") else { return };
    assert_eq!(report.splits.iter().map(|split| split.images).collect::<Vec<_>>(), [100, 100]);
    assert_eq!(report.classes.len(), 80);
    // Ids 1 to 90 for 80 classes.
    assert_eq!(count(&report, FindingKind::CategoryIdsSparse), 10);
    // 128 images a split, of which 100 are annotated.
    assert_eq!(count(&report, FindingKind::ImageUnlisted), 56);
    assert!(report.splits.iter().any(|split| split.crowd_boxes > 0));
    assert!(count(&report, FindingKind::ClassUnused) + count(&report, FindingKind::ClassRare) > 0);
}

#[test]
fn coco_as_yolo() {
    let Some(report) = report("coco128x2/object_detection/config.yaml") else { return };
    assert_eq!(report.splits.iter().map(|split| split.images).collect::<Vec<_>>(), [128, 128]);
    assert_eq!(count(&report, FindingKind::ImageWithoutLabelFile), 2);
    assert_eq!(count(&report, FindingKind::LabelWithoutImage), 2);
    let gray = finding(&report, FindingKind::ImageGrayscale);
    let stored: Vec<_> = gray.examples.iter().filter(|example| example.what.contains("stored in gray")).collect();
    for split in ["train", "val"] {
        assert!(stored.iter().any(|example| example.split.as_deref() == Some(split)), "{split}: {stored:#?}");
    }
}

#[test]
fn odd_files() {
    let Some(report) = report("robust") else { return };
    assert_eq!(report.splits[0].name, "images");
    assert_eq!(count(&report, FindingKind::NoAnnotations), report.images);
    // Eight orientations of two scenes, of which the first is upright.
    assert!(count(&report, FindingKind::ExifOrientation) >= 14);
    told(&report, FindingKind::ExifOrientation, &["Landscape_6.jpg", "orientation 6"]);
    told(&report, FindingKind::ImageUnreadable, &["pngsuite/x"]);
    told(&report, FindingKind::ImageUnreadable, &["image-bad", "Bad_"]);
    told(&report, FindingKind::ImageUnreadable, &["decompression_bomb"]);
    told(&report, FindingKind::ImageCmyk, &["cmyk"]);
    told(&report, FindingKind::ImageDeep, &["16 bits"]);
    told(&report, FindingKind::ImageTruncated, &["jpg"]);
    assert!(count(&report, FindingKind::ImageWithoutBoxes) == 0, "no annotations are no flaw of each image");
}

#[test]
fn photos() {
    let Some(report) = report("photos") else { return };
    assert_eq!((report.images, count(&report, FindingKind::NoAnnotations)), (9, 9));
    assert!(!report.needs_a_person());
}
