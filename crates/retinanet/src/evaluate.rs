//! A detector over a data set, and its score.

use crate::error::{Error, Result};
use crate::plan::DetectionPlan;
use retinanet_annotations::{Class, DetectionRecord};
use retinanet_data::{Dataset, SampleError};
use retinanet_eval::CocoMetrics;
use std::ops::ControlFlow;

/// Detections of a whole data set and what they are worth.
#[derive(Debug)]
pub struct Evaluation {
    /// COCO's numbers. Of an image that could not be read every object counts as missed.
    pub metrics: CocoMetrics,
    /// Every detection, in the data set's image and category ids.
    pub detections: Vec<DetectionRecord>,
    /// Images that could not be read.
    pub failures: Vec<SampleError>,
}

/// Detects on every image and scores the whole; `on_image` is called after each with how many are done.
///
/// None if it breaks off: the score of a part would say nothing of the whole.
///
/// # Errors
/// The detector's classes are not the data set's, or the network cannot run on an image.
pub fn evaluate(
    plan: &DetectionPlan,
    dataset: &dyn Dataset,
    on_image: &mut dyn FnMut(usize) -> ControlFlow<()>,
) -> Result<Option<Evaluation>> {
    let category_ids = category_ids(plan.classes(), dataset.classes())?;
    let images = &dataset.annotations().images;
    let (mut detections, mut failures) = (Vec::new(), Vec::new());
    for index in 0..dataset.len() {
        match dataset.sample(index) {
            Ok(sample) => {
                let found = plan.detect(&sample.image)?;
                detections.extend(found.iter().filter_map(|detection| {
                    let [x0, y0, x1, y1] = detection.bbox.to_array().map(f64::from);
                    Some(DetectionRecord {
                        image_id: images[index].id,
                        category_id: category_ids[detection.label]?,
                        xywh: [x0, y0, x1 - x0, y1 - y0],
                        score: f64::from(detection.score),
                    })
                }));
            }
            Err(failure) => failures.push(failure),
        }
        if on_image(index + 1).is_break() {
            return Ok(None);
        }
    }
    let metrics = retinanet_eval::coco::evaluate(dataset.annotations(), &detections)?;
    Ok(Some(Evaluation { metrics, detections, failures }))
}

/// The data set's category id of each of the detector's classes: by name; a class that the data set does not have is not scored.
///
/// Weights without names carry category ids alone, and are matched by these.
fn category_ids(detector: &[Class], dataset: &[Class]) -> Result<Vec<Option<i64>>> {
    let by_name = |class: &Class| dataset.iter().find(|other| other.name == class.name);
    let by_id = |class: &Class| dataset.iter().find(|other| other.category_id == class.category_id);
    let is_named = detector.iter().any(|class| class.name != class.category_id.to_string());
    let found = detector
        .iter()
        .map(|class| if is_named { by_name(class) } else { by_id(class) }.map(|class| class.category_id));
    let found: Vec<Option<i64>> = found.collect();
    if found.iter().all(Option::is_none) {
        let names = |classes: &[Class]| classes.iter().map(|class| class.name.as_str()).collect::<Vec<_>>().join(", ");
        return Err(Error::Data(format!(
            "classes: expected some of the model's ({}), found {}",
            names(detector),
            names(dataset)
        )));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(category_id: i64, name: &str) -> Class {
        Class { category_id, name: name.to_owned() }
    }

    #[test]
    fn classes_are_matched_by_name_and_nameless_ones_by_id() -> Result<()> {
        let data = [class(3, "cat"), class(7, "dog")];
        assert_eq!(
            category_ids(&[class(0, "dog"), class(1, "cow"), class(2, "cat")], &data)?,
            [Some(7), None, Some(3)]
        );
        assert_eq!(category_ids(&[class(0, "0"), class(3, "3")], &data)?, [None, Some(3)]);
        let message = category_ids(&[class(0, "bird")], &data).expect_err("no class in common").to_string();
        assert!(message.contains("bird") && message.contains("cat, dog"), "{message}");
        Ok(())
    }
}
