//! There and back: what a format holds comes back, and what it does not hold is counted.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use retinanet_annotations::{
    AnnotatedImage, Annotation, AnnotationSet, Conversion, Converted, DataRequest, Details, Format, ImageSizeProbe,
    ImageTransfer, Loss, Outline,
};

/// A whole set with its details, split by split; one without a name where it is not divided.
pub(crate) fn read_all(path: &Path, probe: &ImageSizeProbe) -> BTreeMap<String, AnnotationSet> {
    let mut request = DataRequest::new([path]);
    request.details = true;
    let mut names = request.splits().unwrap();
    // Both together are no split of their own.
    names.retain(|name| name != "trainval");
    if names.is_empty() {
        names.push(String::new());
    }
    let read = |name: &String| request.read(Some(name.as_str()).filter(|name| !name.is_empty()), probe).unwrap();
    // Formats call it differently.
    let usual = |name: &String| if name == "validation" || name == "valid" { "val".to_owned() } else { name.clone() };
    names.iter().map(|name| (usual(name), read(name))).collect()
}

/// Converts with links to the images.
pub(crate) fn convert(from: &Path, format: Format, output: PathBuf, probe: &ImageSizeProbe) -> Converted {
    let mut conversion = Conversion::new(DataRequest::new([from]), format, output);
    conversion.images = ImageTransfer::Link;
    conversion.run(probe, &mut |_, _| ControlFlow::Continue(())).unwrap().expect("nobody interrupts")
}

/// `from` to `format`, read again, and to `back` and read again: each time the same but for what is counted.
#[track_caller]
pub(crate) fn check(from: &Path, format: Format, back: Format, folder: &Path, probe: &ImageSizeProbe) {
    let original = read_all(from, probe);
    let (there, again) = (folder.join("there"), folder.join("again"));
    let converted = convert(from, format, there.clone(), probe);
    let place = format!("{} to {format}", from.display());
    let read = read_all(&there, probe);
    compare(&place, format, &original, &read, &[&converted]);
    let converted_back = convert(&there, back, again.clone(), probe);
    compare(&format!("{place} to {back}"), back, &original, &read_all(&again, probe), &[&converted, &converted_back]);
}

/// The losses of conversions together.
struct Lost<'a>(&'a [&'a Converted]);

impl Lost<'_> {
    fn any(&self, losses: &[Loss]) -> bool {
        losses.iter().any(|&loss| self.0.iter().any(|converted| converted.losses.count(loss) > 0))
    }
}

#[track_caller]
fn compare(
    place: &str,
    format: Format,
    expected: &BTreeMap<String, AnnotationSet>,
    found: &BTreeMap<String, AnnotationSet>,
    converted: &[&Converted],
) {
    let lost = Lost(converted);
    assert_eq!(expected.len(), found.len(), "{place}: {:?}, {:?}", expected.keys(), found.keys());
    for (expected, found) in expected.values().zip(found.values()) {
        if !lost.any(&[Loss::CategoryIds, Loss::UnusedClasses]) {
            let mut ids: Vec<_> = found.classes.iter().map(|class| (class.category_id, &class.name)).collect();
            let mut expected: Vec<_> = expected.classes.iter().map(|class| (class.category_id, &class.name)).collect();
            ids.sort();
            expected.sort();
            assert_eq!(expected, ids, "{place}");
        }
        let by_name = |set: &AnnotationSet| -> BTreeMap<String, AnnotatedImage> {
            let name =
                |image: &AnnotatedImage| image.path.canonicalize().unwrap_or(image.path.clone()).display().to_string();
            set.images.iter().map(|image| (name(image), image.clone())).collect()
        };
        let (images, others) = (by_name(expected), by_name(found));
        assert_eq!(images.keys().collect::<Vec<_>>(), others.keys().collect::<Vec<_>>(), "{place}");
        for (name, image) in &images {
            let other = &others[name];
            let place = format!("{place}: {name}");
            if !lost.any(&[Loss::ImageIds]) {
                assert_eq!(image.id, other.id, "{place}");
            }
            if image.size.is_some() && other.size.is_some() {
                assert_eq!(image.size, other.size, "{place}");
            }
            let kept = |annotation: &&Annotation| {
                let [_, _, width, height] = annotation.xywh;
                let is_thin = lost.any(&[Loss::ThinBoxes]) && (width <= 1.0 || height <= 1.0);
                let is_out = lost.any(&[Loss::BoxesOutside]) && is_outside(annotation, image);
                !is_thin && !is_out && !(lost.any(&[Loss::BoxesWithoutExtent]) && (width <= 0.0 || height <= 0.0))
            };
            let kept: Vec<&Annotation> = image.annotations.iter().filter(kept).collect();
            assert_eq!(kept.len(), other.annotations.len(), "{place}");
            for (annotation, other_annotation) in kept.iter().zip(&other.annotations) {
                let name =
                    |set: &AnnotationSet, annotation: &Annotation| set.classes[annotation.class_idx].name.clone();
                assert_eq!(name(expected, annotation), name(found, other_annotation), "{place}");
                compare_annotation(&place, format, annotation, other_annotation, &lost);
            }
        }
    }
}

fn is_outside(annotation: &Annotation, image: &AnnotatedImage) -> bool {
    let [x, y, width, height] = annotation.xywh;
    image
        .size
        .is_some_and(|size| x >= size.width as f64 || y >= size.height as f64 || x + width <= 0.0 || y + height <= 0.0)
}

#[track_caller]
fn compare_annotation(place: &str, format: Format, expected: &Annotation, found: &Annotation, lost: &Lost) {
    let [x, y, width, height] = expected.xywh;
    let scales = [width.max(1.0), height.max(1.0), width, height];
    let is_relative = lost.0.len() > 1 || matches!(format, Format::Yolo | Format::OpenImages);
    let is_exact = !is_relative && [x, y, width, height].iter().all(|value| value.fract() == 0.0);
    for ((a, b), scale) in expected.xywh.iter().zip(found.xywh).zip(scales) {
        let is_near = if is_exact { *a == b } else { (a - b).abs() <= 1e-6 * scale.abs() };
        assert!(is_near, "{place}: {:?}, {:?}", expected.xywh, found.xywh);
    }
    if !lost.any(&[Loss::Areas]) {
        assert!((expected.area - found.area).abs() <= 1e-6 * expected.area.abs(), "{place}: {expected:?}, {found:?}");
    }
    if !lost.any(&[Loss::CrowdFlags]) {
        assert_eq!(expected.is_crowd, found.is_crowd, "{place}");
    }
    if !lost.any(&[Loss::DifficultFlags]) {
        assert_eq!(expected.is_difficult, found.is_difficult, "{place}");
    }
    let none = Details::default();
    let [mut expected, mut found] =
        [expected, found].map(|annotation| annotation.details.as_deref().unwrap_or(&none).clone());
    // Where something is lost of some boxes, it may be lost of this one.
    for details in [&mut expected, &mut found] {
        let mut forget = |losses: &[Loss], forget: &mut dyn FnMut(&mut Details)| {
            if lost.any(losses) {
                forget(details);
            }
        };
        forget(&[Loss::TruncatedFlags], &mut |details| details.is_truncated = None);
        forget(&[Loss::OccludedFlags], &mut |details| details.is_occluded = None);
        forget(&[Loss::OtherFlags], &mut |details| (details.is_depiction, details.is_inside) = (None, None));
        forget(&[Loss::Poses], &mut |details| details.pose = None);
        forget(&[Loss::Sources], &mut |details| (details.source, details.confidence) = (None, None));
        forget(&[Loss::Polygons, Loss::Masks], &mut |details| details.outline = None);
        forget(&[Loss::Fields], &mut |details| details.fields.clear());
        // Formats without ids get new ones when they are written as COCO.
        details.id = None;
    }
    match (&expected.outline, &found.outline) {
        (Some(Outline::Polygons(a)), Some(Outline::Polygons(b))) => {
            let flat =
                |polygons: &Vec<Vec<[f64; 2]>>| -> Vec<f64> { polygons.iter().flatten().flatten().copied().collect() };
            let (a, b) = (flat(a), flat(b));
            assert_eq!(a.len(), b.len(), "{place}");
            assert!(a.iter().zip(&b).all(|(a, b)| (a - b).abs() <= 1e-6 * a.abs().max(1.0)), "{place}: {a:?}, {b:?}");
        }
        (a, b) => assert_eq!(a, b, "{place}"),
    }
    (expected.outline, found.outline) = (None, None);
    assert_eq!(expected, found, "{place}");
}
