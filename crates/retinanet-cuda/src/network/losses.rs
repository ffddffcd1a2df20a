//! The losses of a detector in training, and what its anchors are trained toward.

use super::prepared::Room;
use super::training::Training;
use crate::bytes::{bytes_of, bytes_of_mut};
use crate::device::{Device, Memory};
use crate::error::{Error, Result};
use crate::kernels::{
    AnchorTable, BoxLoss, GroundTruth, Normalizer, PreparedClassLoss, StepJudge, assign_targets,
    assign_targets_workspace_bytes, box_loss, box_loss_workspace_bytes, class_loss_workspace_bytes, image_weights,
};
use retinanet_anchors::{BBox, BoxCoder, ImageSize, Matcher};
use retinanet_focal::ClassLoss;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

/// What a detector is charged with.
#[derive(Clone, Debug)]
pub struct LossOptions {
    /// Over every anchor that is not ignored; none that chooses examples.
    pub class: ClassLoss,
    /// Over foreground anchors.
    pub r#box: BoxLoss,
    /// The box loss counts this much beside the class loss.
    pub box_weight: f64,
    /// What both are divided by.
    pub normalizer: Normalizer,
    /// Which anchors learn which box.
    pub matcher: Matcher,
    /// What the deltas mean.
    pub coder: BoxCoder,
    /// K.
    pub num_classes: usize,
}

/// The objects of an image, in the frame of the batch.
#[derive(Clone, Copy, Debug)]
pub struct Objects<'a> {
    /// In pixels.
    pub boxes: &'a [BBox],
    /// The class of each, 0..K.
    pub classes: &'a [usize],
}

/// Sizes of images whose anchors are kept.
const MOST_SIZES: usize = 64;

/// Targets and losses of a detector on a device: the outputs of its network are the class logits of all levels, then the box
/// deltas.
#[derive(Debug)]
pub struct Losses {
    device: Arc<dyn Device>,
    options: LossOptions,
    class: PreparedClassLoss,
    anchors: HashMap<ImageSize, AnchorTable>,
    /// State of [`Normalizer::MovingAverage`], one f64.
    average: Memory,
    /// Of the batch: its size, images and boxes.
    batch: Option<(ImageSize, usize)>,
    boxes: Room,
    labels: Room,
    first: Room,
    classes: Room,
    matched: Room,
    num_foreground: Room,
    weights: Room,
    workspace: Room,
}

impl Losses {
    /// Losses whose moving average, where there is one, is 0.
    ///
    /// # Errors
    /// A hyper-parameter is out of its range, the class loss chooses examples, or there is no memory.
    pub fn new(device: &Arc<dyn Device>, options: LossOptions) -> Result<Self> {
        if matches!(options.class, ClassLoss::HardExamples(_) | ClassLoss::Sampled(_)) {
            let (place, expected) = ("class loss".to_owned(), "one over all examples".to_owned());
            return Err(Error::Mismatch { place, expected, found: "one that chooses some".to_owned() });
        }
        Ok(Self {
            device: Arc::clone(device),
            class: PreparedClassLoss::new(device, &options.class, options.num_classes)?,
            options,
            anchors: HashMap::new(),
            average: Memory::of(device, &0f64.to_ne_bytes())?,
            batch: None,
            boxes: Room::default(),
            labels: Room::default(),
            first: Room::default(),
            classes: Room::default(),
            matched: Room::default(),
            num_foreground: Room::default(),
            weights: Room::default(),
            workspace: Room::default(),
        })
    }

    /// The state of [`Normalizer::MovingAverage`], after all work before.
    ///
    /// # Errors
    /// Work before or the copy failed.
    pub fn average(&self) -> Result<f64> {
        let mut average = [0.0];
        self.average.span().read(bytes_of_mut(&mut average))?;
        Ok(average[0])
    }

    /// Sets the state of [`Normalizer::MovingAverage`].
    ///
    /// # Errors
    /// The copy fails.
    pub fn set_average(&self, average: f64) -> Result<()> {
        self.average.span().write(bytes_of(&[average]))
    }

    /// Whether the anchors for images padded to this size are known.
    pub fn has_anchors(&self, padded: ImageSize) -> bool {
        self.anchors.contains_key(&padded)
    }

    /// Takes the anchors of each level for images padded to this size.
    ///
    /// # Errors
    /// There is no memory for them.
    pub fn set_anchors(&mut self, padded: ImageSize, levels: &[Vec<BBox>]) -> Result<()> {
        if self.anchors.len() >= MOST_SIZES {
            self.anchors.clear();
        }
        self.anchors.insert(padded, AnchorTable::new(&self.device, levels.iter().map(Vec::as_slice))?);
        Ok(())
    }

    /// Begins a batch: what all anchors of all its images are trained toward, how many of them learn a box, and what each image
    /// weighs.
    ///
    /// # Errors
    /// The anchors for this size are not known, an image has more boxes than classes or fewer, or the device fails.
    pub fn begin(&mut self, padded: ImageSize, images: &[Objects<'_>], judge: &StepJudge) -> Result<()> {
        let device = &self.device;
        let anchors = table(&self.anchors, padded)?;
        let (mut boxes, mut labels, mut first) = (Vec::new(), Vec::new(), vec![0i32]);
        for image in images {
            if image.boxes.len() != image.classes.len() {
                let (expected, found) = (image.boxes.len().to_string(), image.classes.len().to_string());
                return Err(Error::Mismatch { place: "targets: classes".to_owned(), expected, found });
            }
            boxes.extend(image.boxes.iter().flat_map(|bbox| bbox.to_array()));
            labels.extend(image.classes.iter().map(|&class| class as i32));
            first.push(labels.len() as i32);
        }
        let (num_images, count) = (images.len(), labels.len());
        fill(device, &mut self.boxes, bytes_of(&boxes))?;
        fill(device, &mut self.labels, bytes_of(&labels))?;
        fill(device, &mut self.first, bytes_of(&first))?;
        let numbers = num_images * anchors.num_anchors() * size_of::<i32>();
        self.classes.reserve(device, numbers)?;
        self.matched.reserve(device, numbers)?;
        self.num_foreground.reserve(device, num_images * size_of::<i32>())?;
        self.weights.reserve(device, num_images * size_of::<f32>())?;
        self.workspace.reserve(device, assign_targets_workspace_bytes(count))?;
        let ground_truth =
            GroundTruth { count, boxes: self.boxes.span(), labels: self.labels.span(), first: self.first.span() };
        let (to, num_foreground) = ((self.classes.span(), self.matched.span()), self.num_foreground.span());
        let workspace = self.workspace.span();
        assign_targets(&self.options.matcher, anchors, num_images, &ground_truth, to, num_foreground, workspace)?;
        let (average, weights) = (self.average.span(), self.weights.span());
        let total = judge.num_foreground();
        image_weights(self.options.normalizer, num_images, num_foreground, average, weights, total)?;
        self.batch = Some((padded, num_images));
        Ok(())
    }

    /// Adds the losses of some images of the batch, whose outputs the network has just computed, to those of the step, and
    /// writes the gradients of the outputs.
    ///
    /// # Errors
    /// The network has other outputs, or none that is trained; or the device fails.
    pub fn add(&mut self, training: &Training, images: Range<usize>, judge: &StepJudge) -> Result<()> {
        let mismatch =
            |expected: String, found: String| Err(Error::Mismatch { place: "losses".to_owned(), expected, found });
        let Some((padded, num_images)) = self.batch.filter(|(_, num_images)| images.end <= *num_images) else {
            return mismatch("images of the batch that was begun".to_owned(), format!("{images:?}"));
        };
        let anchors = table(&self.anchors, padded)?;
        let (num_levels, num_classes) = (anchors.num_levels(), self.options.num_classes);
        let weights = self.weights.span().part(images.start * size_of::<f32>(), images.len() * size_of::<f32>());
        for level in 0..num_levels {
            let num_anchors = anchors.of_level(level).len();
            let shape = (images.len(), num_anchors);
            let [logits, deltas] = [level, num_levels + level].map(|idx| training.output(idx));
            let gradients = [level, num_levels + level].map(|idx| training.output_gradient(idx));
            let [Some(logits_gradient), Some(deltas_gradient)] = gradients else {
                return mismatch("outputs that are trained".to_owned(), format!("others on level {level}"));
            };
            let numbers = [logits.shape.len() / num_classes, deltas.shape.len() / 4];
            if numbers != [images.len() * num_anchors; 2] {
                return mismatch(format!("{} anchors", images.len() * num_anchors), format!("{numbers:?}"));
            }
            let of_images = |numbers| {
                let of_level = anchors.level_part(numbers, level, num_images, size_of::<i32>());
                of_level
                    .part(images.start * num_anchors * size_of::<i32>(), images.len() * num_anchors * size_of::<i32>())
            };
            let element = logits.element;
            let workspace_len = class_loss_workspace_bytes(element, images.len(), num_anchors, num_classes)
                .max(box_loss_workspace_bytes(images.len(), num_anchors));
            self.workspace.reserve(&self.device, workspace_len)?;
            let workspace = self.workspace.span();
            let classes = of_images(self.classes.span());
            let gradient = logits_gradient.span;
            let sum = judge.class_loss();
            self.class.run(element, shape, logits.span, classes, weights, sum, gradient, workspace)?;
            let matched = (of_images(self.matched.span()), self.boxes.span());
            let gradient = (self.options.box_weight as f32, deltas_gradient.span);
            box_loss(
                self.options.r#box,
                &self.options.coder,
                element,
                shape,
                deltas.span,
                anchors.level_span(level),
                matched,
                weights,
                judge.box_loss(),
                gradient,
                workspace,
            )?;
        }
        Ok(())
    }
}

fn table(anchors: &HashMap<ImageSize, AnchorTable>, padded: ImageSize) -> Result<&AnchorTable> {
    anchors.get(&padded).ok_or_else(|| {
        let (place, expected) = ("losses".to_owned(), format!("the anchors for images of {padded:?}"));
        Error::Mismatch { place, expected, found: "none".to_owned() }
    })
}

fn fill(device: &Arc<dyn Device>, room: &mut Room, bytes: &[u8]) -> Result<()> {
    room.reserve(device, bytes.len())?;
    room.span().write(bytes)
}
