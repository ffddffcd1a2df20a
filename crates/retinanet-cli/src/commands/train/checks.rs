//! What is looked at before anything is trained, so that a training does not find out at its end.

use crate::table;
use retinanet::{Config, Training, validation_class_notes};
use retinanet_anchors::{Matcher, Matching};
use retinanet_annotations::AnnotationSet;
use retinanet_data::check::{AnchorFit, FindingKind, UnmatchedBoxes, shared_images};

/// Images whose boxes are held against anchors: enough to know the share, and seconds of work at most.
const MOST_IMAGES: usize = 2000;

/// Share of boxes without an anchor from which on a person should look.
const MANY: f64 = 0.05;

/// Images that are named before the rest is counted.
const NAMED: usize = 3;

/// A line for each thing that a person should know.
///
/// # Errors
/// There is nothing to learn, the validation split has none of the classes, or the anchors cannot be worked with.
pub(super) fn notes(training: &Training) -> anyhow::Result<Vec<String>> {
    let (config, train) = (&training.config, training.train.annotations());
    anyhow::ensure!(!train.images.is_empty(), "the data: expected at least 1 image to train on, found 0");
    anyhow::ensure!(
        train.num_annotations() > 0,
        "the data: expected at least 1 box to learn from, found 0 in {}: are the annotations where their format has them?",
        table::count(train.images.len(), "image", "images")
    );
    let mut notes = Vec::new();
    if let Some(validation) = &training.validation {
        notes.extend(validation_class_notes(&train.classes, validation.classes())?);
        notes.extend(shared(train, validation.annotations()));
    }
    let fit = AnchorFit::new(config.preprocessing, &config.anchors, config.fpn.finest)?;
    notes.extend(unmatched(&fit.unmatched(train, config.matcher.foreground_iou(), MOST_IMAGES), train, config));
    Ok(notes)
}

/// Images that are both learned from and scored.
fn shared(train: &AnnotationSet, validation: &AnnotationSet) -> Option<String> {
    let shared = shared_images(train, validation);
    let names = shared.iter().take(NAMED).map(|(_, path)| path.display().to_string()).collect::<Vec<_>>().join(", ");
    let more = if shared.len() > NAMED { format!(" and {} more", shared.len() - NAMED) } else { String::new() };
    let warning = || {
        format!(
            "warning: {} of {} to validate on are learned from too, so that scores say little of new ones: {names}{more}",
            shared.len(),
            table::count(validation.images.len(), "image", "images"),
        )
    };
    (!shared.is_empty()).then(warning)
}

/// Boxes that no anchor fits.
fn unmatched(found: &UnmatchedBoxes, train: &AnnotationSet, config: &Config) -> Option<String> {
    let UnmatchedBoxes { images, boxes, unmatched, sides: [small, large], aspect_ratios: [flat, tall] } = *found;
    if unmatched == 0 {
        return None;
    }
    let share = unmatched as f64 / boxes as f64;
    let kind = if share < MANY { "note" } else { "warning" };
    let of_part = if images < train.images.len() { format!(" of {images} images") } else { String::new() };
    // ATSS has none: each box sets its own.
    let Matching::Iou(Matcher { foreground_iou: iou, allow_low_quality, .. }) = config.matcher else { return None };
    let learned = match allow_low_quality {
        true => "each is learned by its best anchor alone",
        false => "nothing learns them",
    };
    let size = config.preprocessing.min_size;
    Some(format!(
        "{kind}: {unmatched} of {boxes} boxes{of_part} ({:.1} %) fit no anchor at IoU {iou}, and {learned}: {small:.0} to {large:.0} \
         pixels a side with images at {size}, height over width {flat:.2} to {tall:.2}. {}",
        100.0 * share,
        FindingKind::BoxUnmatched.advice()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use retinanet_annotations::AnnotatedImage;

    #[test]
    fn boxes_without_an_anchor_are_a_note_until_they_are_many() -> Result<(), retinanet::ConfigError> {
        let config = Config::preset("small_r18")?;
        let set = AnnotationSet { images: vec![AnnotatedImage::default(); 3], ..AnnotationSet::default() };
        let of = |images, unmatched| {
            let found = UnmatchedBoxes { images, boxes: 200, unmatched, sides: [3.0, 12.4], aspect_ratios: [0.1, 9.0] };
            unmatched_text(&found, &set, &config)
        };
        assert_eq!(of(3, 0), "");
        let note = of(3, 9);
        assert!(note.starts_with("note: 9 of 200 boxes (4.5 %) fit no anchor at IoU 0.5, and "), "{note}");
        assert!(
            note.contains(": 3 to 12 pixels a side") && note.contains("width 0.10 to 9.00. Change anchors."),
            "{note}"
        );
        assert!(of(2, 10).starts_with("warning: 10 of 200 boxes of 2 images (5.0 %)"), "{}", of(2, 10));
        Ok(())
    }

    fn unmatched_text(found: &UnmatchedBoxes, set: &AnnotationSet, config: &Config) -> String {
        unmatched(found, set, config).unwrap_or_default()
    }
}
