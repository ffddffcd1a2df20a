//! A case worked by hand, the edges, and what holds for all detections.

use proptest::prelude::*;
use retinanet_annotations::{AnnotatedImage, Annotation, AnnotationSet, Class, DetectionRecord};
use retinanet_eval::{EvalError, coco};

fn annotation(class_idx: usize, xywh: [f64; 4]) -> Annotation {
    Annotation::new(class_idx, xywh)
}

fn set(category_ids: &[i64], images: Vec<(i64, Vec<Annotation>)>) -> AnnotationSet {
    let image = |(id, annotations)| AnnotatedImage {
        id,
        path: format!("{id}.jpg").into(),
        file_name: format!("{id}.jpg"),
        size: None,
        annotations,
        details: None,
    };
    AnnotationSet {
        classes: category_ids
            .iter()
            .map(|&category_id| Class { category_id, name: format!("c{category_id}") })
            .collect(),
        images: images.into_iter().map(image).collect(),
        ..AnnotationSet::default()
    }
}

fn detection(image_id: i64, category_id: i64, xywh: [f64; 4], score: f64) -> DetectionRecord {
    DetectionRecord { image_id, category_id, xywh, score }
}

/// Two images. Class 5 has two objects of 20 x 20 (small), class 9 one of 100 x 100 (large), class 11 none.
///
/// Class 5: its detections by score are .9 a miss, .8 the first object exactly, .7 the second with IoU 320 / 400 = .8.
/// - IoU .5 ... .75 (.8 as well, met exactly): wrong, found, found; precisions 0, 1/2, 2/3, all raised to 2/3 by what
///   comes after. AP = 2/3 for seven thresholds.
/// - IoU .85 ... .95: wrong, found, wrong; recall 1/2 with precision 1/2 at 51 of 101 recalls. AP = 51/202 for three.
/// - Recall: with the best only (image 1: the miss; image 2: the second object) 1/2 for seven thresholds, 0 for three;
///   with 10 or 100: 1 for seven, 1/2 for three.
///
/// Class 9: one detection with IoU 6000 / 10000 = .6: AP and recall 1 for .5, .55, .6, and 0 for seven.
#[test]
fn a_case_worked_by_hand() {
    let ground_truth = set(
        &[5, 9, 11],
        vec![
            (1, vec![annotation(0, [10.0, 10.0, 20.0, 20.0])]),
            (2, vec![annotation(0, [50.0, 50.0, 20.0, 20.0]), annotation(1, [100.0, 100.0, 100.0, 100.0])]),
        ],
    );
    let detections = [
        detection(2, 9, [100.0, 100.0, 100.0, 60.0], 0.3),
        detection(1, 5, [200.0, 200.0, 20.0, 20.0], 0.9),
        detection(2, 5, [50.0, 50.0, 20.0, 16.0], 0.7),
        detection(1, 5, [10.0, 10.0, 20.0, 20.0], 0.8),
        detection(1, 77, [0.0, 0.0, 1.0, 1.0], 1.0),
        // Of another class than the object: class 11 has nothing to find, so that it does not count at all.
        detection(1, 11, [10.0, 10.0, 20.0, 20.0], 1.0),
    ];
    let metrics = coco::evaluate(&ground_truth, &detections).unwrap();
    let ap5 = (7.0 * 2.0 / 3.0 + 3.0 * 51.0 / 202.0) / 10.0;
    let (ap9, ar9) = (0.3, 0.3);
    let (ar1, ar100) = ((7.0 * 0.5) / 10.0, (7.0 * 1.0 + 3.0 * 0.5) / 10.0);
    let expected = [
        ("AP", (ap5 + ap9) / 2.0),
        ("AP50", (2.0 / 3.0 + 1.0) / 2.0),
        ("AP75", (2.0 / 3.0) / 2.0),
        ("APs", ap5),
        ("APm", -1.0),
        ("APl", ap9),
        ("AR1", (ar1 + ar9) / 2.0),
        ("AR10", (ar100 + ar9) / 2.0),
        ("AR100", (ar100 + ar9) / 2.0),
        ("ARs", ar100),
        ("ARm", -1.0),
        ("ARl", ar9),
    ];
    for ((name, found), (expected_name, expected)) in metrics.summary.entries().into_iter().zip(expected) {
        assert_eq!(name, expected_name);
        assert!((found - expected).abs() < 1e-12, "{name}: expected {expected}, found {found}");
    }
    let counts: Vec<usize> = metrics.per_class.iter().map(|class| class.num_ground_truth).collect();
    assert_eq!(counts, [2, 1, 0]);
    assert!((metrics.per_class[0].ap - ap5).abs() < 1e-12 && (metrics.per_class[1].ar100 - ar9).abs() < 1e-12);
    assert_eq!((metrics.per_class[2].ap, metrics.per_class[2].ap50, metrics.per_class[2].ar100), (-1.0, -1.0, -1.0));
}

#[test]
fn nothing_to_find_and_nothing_found() {
    let nothing = coco::evaluate(&set(&[1], vec![(1, vec![])]), &[detection(1, 1, [0.0, 0.0, 9.0, 9.0], 0.5)]).unwrap();
    assert!(nothing.summary.entries().iter().all(|&(_, value)| value == -1.0));
    assert_eq!(coco::evaluate(&AnnotationSet::default(), &[]).unwrap().summary.ap, -1.0);
    let missed = coco::evaluate(&set(&[1], vec![(1, vec![annotation(0, [0.0, 0.0, 9.0, 9.0])])]), &[]).unwrap();
    assert_eq!((missed.summary.ap, missed.summary.ar100, missed.summary.ap_large), (0.0, 0.0, -1.0));
}

#[test]
fn an_object_without_extent_is_never_found() {
    let empty = set(&[1], vec![(1, vec![annotation(0, [5.0, 5.0, 0.0, 9.0]), annotation(0, [0.0, 0.0, 9.0, 9.0])])]);
    let found = [detection(1, 1, [5.0, 5.0, 0.0, 9.0], 0.9), detection(1, 1, [0.0, 0.0, 9.0, 9.0], 0.95)];
    let metrics = coco::evaluate(&empty, &found).unwrap();
    assert!((metrics.summary.ar100 - 0.5).abs() < 1e-12);
    assert!((metrics.summary.ap - 51.0 / 101.0).abs() < 1e-12);
}

#[track_caller]
fn check_error(ground_truth: &AnnotationSet, detections: &[DetectionRecord], expected: &str) {
    let error: EvalError = coco::evaluate(ground_truth, detections).unwrap_err();
    assert_eq!(error.to_string(), expected);
}

#[test]
fn what_cannot_be_scored_is_named() {
    let good = || annotation(0, [0.0, 0.0, 9.0, 9.0]);
    let plain = set(&[1], vec![(1, vec![good()])]);
    let bbox = [0.0, 0.0, 9.0, 9.0];
    check_error(
        &plain,
        &[detection(1, 1, bbox, 0.5), detection(7, 1, bbox, 0.5)],
        "detection 1: image id: expected one of the 1 of the ground truth, found 7",
    );
    check_error(&plain, &[detection(1, 1, bbox, f64::NAN)], "detection 0: score: expected finite numbers, found NaN");
    check_error(
        &plain,
        &[detection(1, 1, [0.0, f64::INFINITY, 1.0, 1.0], 0.5)],
        "detection 0: box: expected finite numbers, found 0, inf, 1, 1",
    );
    let with = |annotation| set(&[1], vec![(3, vec![good(), annotation])]);
    check_error(
        &with(Annotation { area: f64::NAN, ..good() }),
        &[],
        "image 3: annotation 1: area: expected finite numbers, found NaN",
    );
    let too_large = [0.0, 0.0, 1e200, 1e200];
    assert!(matches!(
        coco::evaluate(&with(Annotation { xywh: too_large, ..good() }), &[]),
        Err(EvalError::NotFinite { what: "box", .. })
    ));
    check_error(
        &with(Annotation { class_idx: 1, ..good() }),
        &[],
        "image 3: annotation 1: class index: expected less than 1, found 1",
    );
    check_error(
        &set(&[1], vec![(3, vec![]), (3, vec![])]),
        &[],
        "ground truth: image: expected ids that differ, found 3 twice",
    );
    check_error(&set(&[4, 4], vec![]), &[], "ground truth: category: expected ids that differ, found 4 twice");
}

#[test]
fn a_large_set_takes_little_time() {
    // As many boxes as BCCD's 364 images have, 100 detections each.
    let images = (0..364)
        .map(|id| (id, (0..13).map(|k| annotation(k % 3, [k as f64 * 40.0, 10.0, 90.0, 80.0])).collect()))
        .collect();
    let ground_truth = set(&[0, 1, 2], images);
    let detections: Vec<DetectionRecord> = (0..36_400)
        .map(|k| {
            let at = f64::from(k % 97) * 5.0;
            detection(i64::from(k / 100), i64::from(k % 3), [at, 10.0, 90.0, 80.0], f64::from(k * 7919 % 1009))
        })
        .collect();
    let start = std::time::Instant::now();
    let metrics = coco::evaluate(&ground_truth, &detections).unwrap();
    let seconds = start.elapsed().as_secs_f64();
    println!("{} detections in {:.1} ms", detections.len(), seconds * 1e3);
    assert!(metrics.summary.ap > 0.0);
    assert!(seconds < 5.0, "{seconds} s");
}

fn boxes() -> impl Strategy<Value = [f64; 4]> {
    [0.0..200.0, 0.0..200.0, 1.0..150.0, 1.0..150.0_f64]
}

fn annotations() -> impl Strategy<Value = Vec<Annotation>> {
    let one = (0..3_usize, boxes(), prop::bool::weighted(0.1))
        .prop_map(|(class_idx, xywh, is_crowd)| Annotation { is_crowd, ..annotation(class_idx, xywh) });
    prop::collection::vec(one, 0..8)
}

fn sets() -> impl Strategy<Value = AnnotationSet> {
    prop::collection::vec(annotations(), 1..6).prop_map(|images| set(&[3, 7, 8], (10..).zip(images).collect()))
}

/// Detections near the objects and elsewhere, with scores that differ.
fn scored() -> impl Strategy<Value = (AnnotationSet, Vec<DetectionRecord>)> {
    let noise = prop::collection::vec((any::<prop::sample::Index>(), 0..3_usize, boxes(), -6.0..6.0_f64), 0..30);
    (sets(), noise).prop_map(|(set, noise)| {
        let mut detections = Vec::new();
        for (at, class_idx, xywh, shift) in noise {
            let image = &set.images[at.index(set.images.len())];
            let score = 1.0 - detections.len() as f64 * 0.01;
            let near = image.annotations.get(class_idx);
            let [x, y, width, height] = near.map_or(xywh, |object| object.xywh);
            let class_idx = near.map_or(class_idx, |object| object.class_idx);
            let category_id = set.classes[class_idx].category_id;
            detections.push(detection(image.id, category_id, [x + shift, y, width, height], score));
        }
        (set, detections)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn perfect_detections_score_1(set in sets()) {
        let mut detections = Vec::new();
        for image in &set.images {
            for object in image.annotations.iter().filter(|object| !object.is_crowd) {
                detections.push(detection(image.id, set.classes[object.class_idx].category_id, object.xywh, 0.5));
            }
        }
        let summary = coco::evaluate(&set, &detections).unwrap().summary;
        for (name, value) in summary.entries().into_iter().filter(|(name, _)| !["AR1", "AR10"].contains(name)) {
            prop_assert!(value == -1.0 || (value - 1.0).abs() < 1e-12, "{} = {}", name, value);
        }
    }

    #[test]
    fn neither_the_order_of_images_nor_that_of_detections_matters((set, detections) in scored(), turn in 0..10_usize) {
        let mut other = set.clone();
        let middle = turn % other.images.len();
        other.images.rotate_left(middle);
        let mut turned = detections.clone();
        turned.reverse();
        prop_assert_eq!(coco::evaluate(&set, &detections).unwrap(), coco::evaluate(&other, &turned).unwrap());
    }

    #[test]
    fn numbers_are_within_their_range_and_ordered((set, detections) in scored()) {
        let summary = coco::evaluate(&set, &detections).unwrap().summary;
        for (name, value) in summary.entries() {
            prop_assert!(value == -1.0 || (0.0..=1.0 + 1e-12).contains(&value), "{} = {}", name, value);
        }
        prop_assert!(summary.ap50 >= summary.ap75 - 1e-12 && summary.ap50 >= summary.ap - 1e-12);
        prop_assert!(summary.ar1 <= summary.ar10 + 1e-12 && summary.ar10 <= summary.ar100 + 1e-12);
    }

    #[test]
    fn a_false_positive_below_all_others_never_helps((set, mut detections) in scored(), class_idx in 0..3_usize) {
        let before = coco::evaluate(&set, &detections).unwrap().summary;
        let category_id = set.classes[class_idx].category_id;
        detections.push(detection(set.images[0].id, category_id, [900.0, 900.0, 50.0, 50.0], -1.0));
        let after = coco::evaluate(&set, &detections).unwrap().summary;
        for ((name, before), (_, after)) in before.entries().into_iter().zip(after.entries()) {
            prop_assert!(after <= before + 1e-12, "{}: {} before, {} after", name, before, after);
        }
    }
}
