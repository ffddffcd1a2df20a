//! Pictures of what is learned from and what is found.

use crate::evaluate::Evaluation;
use crate::targets::Targets;
use retinanet_anchors::{BBox, Detection, ImageSize, Pyramid};
use retinanet_annotations::Class;
use retinanet_data::{Batch, BatchImage, Dataset, Image, Preprocessing};
use retinanet_draw::{
    Color, DrawError, LabelledBox, Outline, RgbImage, class_color, draw_detections, draw_outlines, encode_png, grid,
    label_detections, picture_from_rgb, scaled,
};
use retinanet_focal::IGNORE;

use super::record::FirstBatchRecord;

/// Colours of the first batch.
const FOREGROUND: Color = Color::new(60, 220, 90);
const IGNORED: Color = Color::new(170, 170, 176);
const GROUND_TRUTH: Color = Color::new(255, 221, 51);
const WITHOUT_ANCHOR: Color = Color::new(235, 30, 45);

/// Images of the first batch that are drawn, and the longer side of each.
const BATCH_IMAGES: usize = 4;
const BATCH_SIDE: u32 = 560;

/// Images that ground truth and detections are drawn of, the longer side of each, and the lowest score drawn.
const DETECTION_IMAGES: usize = 6;
const DETECTION_SIDE: u32 = 420;
const DETECTION_SCORE: f32 = 0.3;

/// A picture with its file's bytes.
pub(super) struct Drawn {
    pub(super) picture: RgbImage,
    pub(super) png: Vec<u8>,
}

impl Drawn {
    pub(super) fn new(picture: RgbImage) -> Result<Self, DrawError> {
        let png = encode_png(&picture)?;
        Ok(Self { picture, png })
    }
}

/// What each anchor of an image is trained toward, as far as pictures and counts want it.
struct ImageTargets {
    foreground: Vec<BBox>,
    ignored: Vec<BBox>,
    /// Whether some anchor learns it, for each ground truth.
    is_learned: Vec<bool>,
}

impl ImageTargets {
    fn new(
        image_idx: usize,
        image: &BatchImage,
        anchors: &Pyramid<Vec<BBox>>,
        targets: &Targets,
    ) -> candle_core::Result<Self> {
        let (mut foreground, mut ignored) = (Vec::new(), Vec::new());
        let mut is_learned = vec![false; image.boxes.len()];
        for ((anchors, classes), matched) in
            anchors.values().iter().zip(targets.classes.values()).zip(targets.foreground.values())
        {
            let classes = classes.get(image_idx)?.to_vec1::<i64>()?;
            ignored
                .extend(anchors.iter().zip(&classes).filter(|(_, class)| **class == IGNORE).map(|(anchor, _)| *anchor));
            for anchor in matched.iter().filter(|anchor| anchor.image_idx == image_idx) {
                foreground.push(anchor.anchor);
                for (learned, bbox) in is_learned.iter_mut().zip(&image.boxes) {
                    *learned |= *bbox == anchor.ground_truth;
                }
            }
        }
        Ok(Self { foreground, ignored, is_learned })
    }
}

/// The images of a batch as the network learns from them: anchors that learn a box in green, those that are left out of
/// the loss in grey, ground truth in yellow, and in red where no anchor learns it; with the counts of the whole batch.
pub(super) fn first_batch(
    batch: &Batch,
    anchors: &Pyramid<Vec<BBox>>,
    targets: &Targets,
    preprocessing: &Preprocessing,
    classes: &[Class],
) -> crate::Result<(Result<Drawn, DrawError>, FirstBatchRecord)> {
    let mut record = FirstBatchRecord { images: batch.images.len(), ..FirstBatchRecord::default() };
    let mut drawn = Vec::new();
    for (image_idx, image) in batch.images.iter().enumerate() {
        let found = ImageTargets::new(image_idx, image, anchors, targets)?;
        record.boxes += image.boxes.len();
        record.boxes_without_anchor += found.is_learned.iter().filter(|learned| !**learned).count();
        record.foreground_anchors += found.foreground.len();
        record.ignored_anchors += found.ignored.len();
        if image_idx < BATCH_IMAGES {
            drawn.push(draw_batch_image(batch, image_idx, &found, preprocessing, classes));
        }
    }
    let drawn: Result<Vec<RgbImage>, DrawError> = drawn.into_iter().collect();
    Ok((drawn.and_then(|pictures| grid(&pictures, 2, 6)).and_then(Drawn::new), record))
}

fn draw_batch_image(
    batch: &Batch,
    image_idx: usize,
    targets: &ImageTargets,
    preprocessing: &Preprocessing,
    classes: &[Class],
) -> Result<RgbImage, DrawError> {
    let image = &batch.images[image_idx];
    let picture = picture_from_rgb(image.resized, bytes(batch, image_idx, preprocessing))?;
    let (mut picture, factor) = scaled(&picture, BATCH_SIDE);
    let outlines = |boxes: &[BBox], color, opacity| -> Vec<Outline> {
        boxes.iter().map(|bbox| Outline { bbox: bbox.scale(factor, factor), color, opacity }).collect()
    };
    draw_outlines(&mut picture, &outlines(&targets.ignored, IGNORED, 0.35));
    draw_outlines(&mut picture, &outlines(&targets.foreground, FOREGROUND, 0.75));
    let boxes = image.boxes.iter().zip(&image.classes).zip(&targets.is_learned);
    let labelled = boxes.map(|((bbox, &class_idx), &is_learned)| {
        let name = class_name(classes, class_idx);
        let (text, color) = match is_learned {
            true => (name, GROUND_TRUTH),
            false => (format!("{name}: no anchor"), WITHOUT_ANCHOR),
        };
        LabelledBox { bbox: bbox.scale(factor, factor), text, color }
    });
    let mut labelled: Vec<LabelledBox> = labelled.collect();
    // What is wrong is drawn over what is not.
    labelled.sort_by_key(|labelled| labelled.color != WITHOUT_ANCHOR);
    draw_detections(&mut picture, &labelled);
    Ok(picture)
}

/// The RGB bytes of an image of a batch without its padding.
fn bytes(batch: &Batch, image_idx: usize, preprocessing: &Preprocessing) -> Vec<u8> {
    let ImageSize { width, height } = batch.images[image_idx].resized;
    let row_length = batch.padded.width * 3;
    let first = image_idx * batch.padded.height * row_length;
    let mut bytes = Vec::with_capacity(width * height * 3);
    for row in 0..height {
        let start = first + row * row_length;
        let channels = batch.pixels[start..start + width * 3].iter().enumerate();
        bytes.extend(channels.map(|(idx, value)| {
            let value = value * preprocessing.std[idx % 3] + preprocessing.mean[idx % 3];
            (value * 255.0).round().clamp(0.0, 255.0) as u8
        }));
    }
    bytes
}

/// Some images of a data set, each with its ground truth on the left and what was found on the right.
///
/// Images that cannot be read are left out; `found` gives the detections of an image by its index and pixels.
pub(super) fn beside_ground_truth(
    dataset: &dyn Dataset,
    classes: &[Class],
    mut found: impl FnMut(usize, &Image) -> crate::Result<Vec<Detection>>,
) -> crate::Result<Result<Drawn, DrawError>> {
    let count = DETECTION_IMAGES.min(dataset.len());
    let mut pairs = Vec::with_capacity(count);
    for number in 0..count {
        // Spread over the set: neighbours are often alike.
        let index = number * dataset.len() / count;
        let Ok(sample) = dataset.sample(index) else { continue };
        let mut detections = found(index, &sample.image)?;
        detections.retain(|detection| detection.score >= DETECTION_SCORE);
        let ground_truth = sample.boxes.iter().zip(&sample.classes).map(|(&bbox, &class_idx)| {
            let text = class_name(dataset.classes(), class_idx);
            LabelledBox { bbox, text, color: class_color(class_idx) }
        });
        let names: Vec<&str> = classes.iter().map(|class| class.name.as_str()).collect();
        pairs.push(draw_pair(&sample.image, ground_truth.collect(), label_detections(&detections, &names)));
    }
    let pairs: Result<Vec<RgbImage>, DrawError> = pairs.into_iter().collect();
    Ok(pairs.and_then(|pairs| grid(&pairs, 2, 8)).and_then(Drawn::new))
}

fn draw_pair(image: &Image, left: Vec<LabelledBox>, right: Vec<LabelledBox>) -> Result<RgbImage, DrawError> {
    let picture = picture_from_rgb(image.size, image.pixels.clone())?;
    let (picture, factor) = scaled(&picture, DETECTION_SIDE);
    let draw = |mut boxes: Vec<LabelledBox>| {
        let mut picture = picture.clone();
        boxes.iter_mut().for_each(|labelled| labelled.bbox = labelled.bbox.scale(factor, factor));
        draw_detections(&mut picture, &boxes);
        picture
    };
    grid(&[draw(left), draw(right)], 2, 2)
}

fn class_name(classes: &[Class], class_idx: usize) -> String {
    classes.get(class_idx).map_or_else(|| format!("class {class_idx}"), |class| class.name.clone())
}

/// The detections of one image of a scored split, in the data set's own class indices.
pub(super) fn scored_detections(evaluation: &Evaluation, dataset: &dyn Dataset, index: usize) -> Vec<Detection> {
    let set = dataset.annotations();
    let Some(image) = set.images.get(index) else { return Vec::new() };
    let of_image = evaluation.detections.iter().filter(|record| record.image_id == image.id);
    of_image
        .filter_map(|record| {
            let [x, y, width, height] = record.xywh;
            let [x0, y0, x1, y1] = [x, y, x + width, y + height].map(|side| side as f32);
            let label = set.class_idx(record.category_id)?;
            Some(Detection { bbox: BBox::new(x0, y0, x1, y1), label, score: record.score as f32 })
        })
        .collect()
}
