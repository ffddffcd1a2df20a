//! COCO's evaluation of boxes, number for number that of pycocotools 2.0.11.
//!
//! - Detections of a class in an image are matched greedily, best score first, at most 100 of them; equal scores in the
//!   order of the list, and over images in the order of their ids.
//! - A crowd may be matched any number of times, and such detections do not count; overlap with it is intersection over
//!   the detection's own area.
//! - For an area range, objects outside of it are treated as crowds are, and detections outside of it that match nothing
//!   do not count. Area is the annotation's own number, for detections width times height; both ends belong to the range.
//! - Precision is the highest at the same or a higher recall, taken at recall 0, .01, ... 1.
//! - Classes and area ranges with nothing to find do not enter the means; where that leaves nothing, the number is -1.
//! - Boxes are f64 left, top, width, height, as read. Objects without extent count: nothing finds them. Pascal VOC's
//!   flag "difficult" has no meaning here.
//!
//! What differs: a match with the annotation of id 0 is a match (pycocotools takes it for none), an empty list of
//! detections has a score, and a missing area or crowd flag is no failure. The means are sums in another order, equal to
//! about 1e-15.

use std::cmp::Ordering;
use std::collections::HashMap;

use retinanet_annotations::{AnnotationSet, DetectionRecord};

use crate::EvalError;

mod accumulate;
mod matching;
pub(crate) mod metrics;

use accumulate::{AreaScores, ClassOutcomes, ScoredOutcomes};
use matching::{Object, match_detections};
use metrics::{ClassMetrics, CocoMetrics, CocoSummary};

const NUM_THRESHOLDS: usize = 10;
const NUM_RECALLS: usize = 101;
const NUM_AREAS: usize = 4;
const NUM_MAX_DETECTIONS: usize = 3;

/// All, small, medium, large, in square pixels; an object of exactly 32 x 32 is small and medium.
const AREA_RANGES: [[f64; 2]; NUM_AREAS] =
    [[0.0, 1e10], [0.0, 32.0 * 32.0], [32.0 * 32.0, 96.0 * 96.0], [96.0 * 96.0, 1e10]];

/// How many detections an image and class count, best first.
const MAX_DETECTIONS: [usize; NUM_MAX_DETECTIONS] = [1, 10, 100];

/// The position of IoU .75 among the thresholds.
const AT_75: usize = 5;

/// .5, .55, ... .95 as numpy's `linspace` gives them, since boxes of whole pixels meet such numbers exactly: .9 is one
/// unit in the last place below the literal.
fn iou_thresholds() -> [f64; NUM_THRESHOLDS] {
    let step = (0.95 - 0.5) / 9.0;
    let mut thresholds = std::array::from_fn(|idx| idx as f64 * step + 0.5);
    thresholds[NUM_THRESHOLDS - 1] = 0.95;
    thresholds
}

/// 0, .01, ... 1, likewise.
fn recalls() -> [f64; NUM_RECALLS] {
    std::array::from_fn(|idx| if idx == NUM_RECALLS - 1 { 1.0 } else { idx as f64 * 0.01 })
}

/// Highest first; both are finite.
fn descending(a: f64, b: f64) -> Ordering {
    b.partial_cmp(&a).unwrap_or(Ordering::Equal)
}

/// Scores detections against ground truth.
///
/// Source: pycocotools 2.0.11, `cocoeval.py` with `iouType="bbox"`; the module's documentation says what differs.
/// Detections of categories that the ground truth lacks are passed over, as there.
///
/// Time is that of sorting, plus detections times objects for each image and class.
///
/// # Errors
/// A detection is of an image that the ground truth lacks; a score, box or area is not finite; two images or two classes
/// share an id; an annotation's class index is past the classes.
pub fn evaluate(ground_truth: &AnnotationSet, detections: &[DetectionRecord]) -> Result<CocoMetrics, EvalError> {
    let cells = Cells::new(ground_truth, detections)?;
    let (thresholds, recalls) = (iou_thresholds(), recalls());
    let mut scores = Vec::with_capacity(ground_truth.classes.len());
    let mut per_class = Vec::with_capacity(ground_truth.classes.len());
    for (class_idx, class) in ground_truth.classes.iter().enumerate() {
        let mut outcomes = cells.outcomes(class_idx, &thresholds);
        let class_scores = outcomes.scores(&recalls);
        let of_all = |number: fn(&AreaScores) -> f64| class_scores[0].as_ref().map_or(-1.0, number);
        per_class.push(ClassMetrics {
            class_idx,
            category_id: class.category_id,
            name: class.name.clone(),
            num_ground_truth: outcomes.num_objects[0],
            ap: of_all(AreaScores::ap),
            ap50: of_all(|scores| scores.precision[0]),
            ar100: of_all(|scores| scores.recall[2]),
        });
        scores.push(class_scores);
    }
    Ok(CocoMetrics { summary: summarise(&scores), per_class })
}

impl AreaScores {
    fn ap(&self) -> f64 {
        self.precision.iter().sum::<f64>() / NUM_THRESHOLDS as f64
    }
}

fn summarise(scores: &[[Option<AreaScores>; NUM_AREAS]]) -> CocoSummary {
    let mean = |area_idx: usize, number: &dyn Fn(&AreaScores) -> f64| {
        let numbers: Vec<f64> = scores.iter().filter_map(|areas| areas[area_idx].as_ref().map(number)).collect();
        if numbers.is_empty() { -1.0 } else { numbers.iter().sum::<f64>() / numbers.len() as f64 }
    };
    CocoSummary {
        ap: mean(0, &AreaScores::ap),
        ap50: mean(0, &|scores| scores.precision[0]),
        ap75: mean(0, &|scores| scores.precision[AT_75]),
        ap_small: mean(1, &AreaScores::ap),
        ap_medium: mean(2, &AreaScores::ap),
        ap_large: mean(3, &AreaScores::ap),
        ar1: mean(0, &|scores| scores.recall[0]),
        ar10: mean(0, &|scores| scores.recall[1]),
        ar100: mean(0, &|scores| scores.recall[2]),
        ar_small: mean(1, &|scores| scores.recall[2]),
        ar_medium: mean(2, &|scores| scores.recall[2]),
        ar_large: mean(3, &|scores| scores.recall[2]),
    }
}

/// Something of one class in one image.
#[derive(Debug)]
struct Entry<T> {
    class_idx: usize,
    /// Position of the image in the order of ids.
    image_rank: usize,
    value: T,
}

/// Objects and detections by class, then image.
#[derive(Debug)]
struct Cells {
    objects: Vec<Entry<Object>>,
    /// Within a cell in descending order of score.
    detections: Vec<Entry<DetectionRecord>>,
}

impl Cells {
    fn new(ground_truth: &AnnotationSet, detections: &[DetectionRecord]) -> Result<Self, EvalError> {
        let image_ranks = ranks("image", ground_truth.images.iter().map(|image| image.id))?;
        ranks("category", ground_truth.classes.iter().map(|class| class.category_id))?;
        let class_positions: HashMap<i64, usize> =
            ground_truth.classes.iter().enumerate().map(|(idx, class)| (class.category_id, idx)).collect();

        let mut objects = Vec::with_capacity(ground_truth.num_annotations());
        for image in &ground_truth.images {
            for (idx, annotation) in image.annotations.iter().enumerate() {
                let place = || format!("image {}: annotation {idx}", image.id);
                let class_idx = annotation.class_idx;
                if class_idx >= ground_truth.classes.len() {
                    let num_classes = ground_truth.classes.len();
                    return Err(EvalError::UnknownClass { place: place(), class_idx, num_classes });
                }
                check_box(annotation.xywh, place)?;
                check_finite("area", annotation.area, place)?;
                let value = Object { xywh: annotation.xywh, area: annotation.area, is_crowd: annotation.is_crowd };
                objects.push(Entry { class_idx, image_rank: image_ranks[&image.id], value });
            }
        }
        objects.sort_by_key(Entry::cell);

        let mut entries = Vec::with_capacity(detections.len());
        for (idx, detection) in detections.iter().enumerate() {
            let place = || format!("detection {idx}");
            check_box(detection.xywh, place)?;
            check_finite("score", detection.score, place)?;
            let image_rank = *image_ranks.get(&detection.image_id).ok_or(EvalError::UnknownImage {
                detection_idx: idx,
                image_id: detection.image_id,
                num_images: ground_truth.images.len(),
            })?;
            if let Some(&class_idx) = class_positions.get(&detection.category_id) {
                entries.push(Entry { class_idx, image_rank, value: *detection });
            }
        }
        entries.sort_by(|a, b| a.cell().cmp(&b.cell()).then(descending(a.value.score, b.value.score)));
        Ok(Self { objects, detections: entries })
    }

    /// What became of each detection of a class.
    fn outcomes(&self, class_idx: usize, thresholds: &[f64; NUM_THRESHOLDS]) -> ClassOutcomes {
        let mut objects = of_class(&self.objects, class_idx);
        let mut detections = of_class(&self.detections, class_idx);
        let mut class = ClassOutcomes::default();
        while let Some(image_rank) = [objects.first().map(|o| o.image_rank), detections.first().map(|d| d.image_rank)]
            .into_iter()
            .flatten()
            .min()
        {
            let here = split_image(&mut objects, image_rank);
            let found = split_image(&mut detections, image_rank);
            let here: Vec<Object> = here.iter().map(|entry| entry.value).collect();
            let found = &found[..found.len().min(MAX_DETECTIONS[NUM_MAX_DETECTIONS - 1])];
            let boxes: Vec<[f64; 4]> = found.iter().map(|entry| entry.value.xywh).collect();
            let outcomes = match_detections(&boxes, &here, thresholds, &mut class.num_objects);
            let scored = found.iter().zip(outcomes).enumerate();
            class.detections.extend(scored.map(|(rank, (entry, outcomes))| ScoredOutcomes {
                score: entry.value.score,
                rank,
                outcomes,
            }));
        }
        class
    }
}

impl<T> Entry<T> {
    fn cell(&self) -> (usize, usize) {
        (self.class_idx, self.image_rank)
    }
}

fn of_class<T>(entries: &[Entry<T>], class_idx: usize) -> &[Entry<T>] {
    let start = entries.partition_point(|entry| entry.class_idx < class_idx);
    let end = entries.partition_point(|entry| entry.class_idx <= class_idx);
    &entries[start..end]
}

/// Takes the entries of one image off the front.
fn split_image<'a, T>(entries: &mut &'a [Entry<T>], image_rank: usize) -> &'a [Entry<T>] {
    let count = entries.iter().take_while(|entry| entry.image_rank == image_rank).count();
    let (front, rest) = entries.split_at(count);
    *entries = rest;
    front
}

/// Positions of ids in ascending order.
fn ranks(what: &'static str, ids: impl Iterator<Item = i64>) -> Result<HashMap<i64, usize>, EvalError> {
    let mut sorted: Vec<i64> = ids.collect();
    sorted.sort_unstable();
    if let Some(pair) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(EvalError::DuplicateId { what, id: pair[0] });
    }
    Ok(sorted.into_iter().enumerate().map(|(rank, id)| (id, rank)).collect())
}

fn check_box(xywh: [f64; 4], place: impl Fn() -> String) -> Result<(), EvalError> {
    let [x, y, width, height] = xywh;
    // Sums and products must not overflow either: infinity over infinity is no overlap.
    let derived = [x + width, y + height, width * height * 2.0];
    if derived.iter().all(|value| value.is_finite()) { Ok(()) } else { Err(not_finite("box", &xywh, place)) }
}

fn check_finite(what: &'static str, number: f64, place: impl Fn() -> String) -> Result<(), EvalError> {
    if number.is_finite() { Ok(()) } else { Err(not_finite(what, &[number], place)) }
}

fn not_finite(what: &'static str, numbers: &[f64], place: impl Fn() -> String) -> EvalError {
    let found: Vec<String> = numbers.iter().map(f64::to_string).collect();
    EvalError::NotFinite { place: place(), what, found: found.join(", ") }
}
