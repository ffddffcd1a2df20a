//! What a run is: `run.json`.

use super::machine::Machine;
use super::time::Timestamp;
use retinanet_annotations::{Class, Effect};
use retinanet_data::Dataset;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// How many messages of a kind are kept; more are only counted.
const MAX_MESSAGES: usize = 100;

/// What was run, on which data and machine, and how it ended. Fields that a file of another version lacks have defaults.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RunRecord {
    /// The version of this library.
    pub version: String,
    /// The program and its arguments.
    pub command_line: Vec<String>,
    /// How it is going, or how it ended.
    #[serde(flatten)]
    pub status: RunStatus,
    /// When it began.
    pub started: Timestamp,
    /// When this was written last: the end of a run that has ended.
    pub updated: Timestamp,
    /// How often it was gone on with after it had ended early, in order.
    pub resumptions: Vec<Resumption>,
    /// Start of everything that was drawn.
    pub seed: u64,
    /// Steps of an epoch.
    pub steps_per_epoch: usize,
    /// The class of each output.
    pub classes: Vec<Class>,
    /// The splits, as they were read.
    pub data: Vec<SplitRecord>,
    /// Where it ran.
    pub machine: Machine,
    /// What was said when it began, such as where weights come from.
    pub notes: Vec<String>,
    /// How the first batch met the anchors; none before it was made.
    pub first_batch: Option<FirstBatchRecord>,
    /// Samples that could not be used.
    pub failures: Messages,
    /// Files of this folder that could not be written, and why.
    pub warnings: Messages,
}

/// Where a run was gone on with.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Resumption {
    /// The program and its arguments.
    pub command_line: Vec<String>,
    /// Steps of the optimiser that were done.
    pub step: usize,
    /// When the record was written last before.
    pub stopped: Timestamp,
    /// When it went on.
    pub resumed: Timestamp,
}

/// How a run is going, or how it ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "lowercase")]
pub enum RunStatus {
    /// It goes on, or was killed.
    #[default]
    Running,
    /// All epochs are done.
    Finished,
    /// It was asked to end early; its weights are saved.
    Interrupted,
    /// It could not go on.
    Failed {
        /// Why.
        error: String,
    },
}

impl RunStatus {
    /// As one word.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Finished => "finished",
            Self::Interrupted => "interrupted",
            Self::Failed { .. } => "failed",
        }
    }
}

/// Messages, the first of them in words.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Messages {
    /// How many there were.
    pub count: usize,
    /// The first of them.
    pub first: Vec<String>,
}

impl Messages {
    /// Takes all but the first `count` back.
    pub(super) fn truncate(&mut self, count: usize) {
        self.count = self.count.min(count);
        self.first.truncate(count);
    }

    pub(super) fn push(&mut self, message: String) {
        self.count += 1;
        if self.first.len() < MAX_MESSAGES {
            self.first.push(message);
        }
    }
}

/// What a split is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SplitRole {
    /// To be learned from.
    #[default]
    Train,
    /// To be scored while training.
    Validation,
}

/// Where a split came from, which only the caller knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DataSource {
    /// The folder or file of each data set; none for images that are made.
    pub paths: Vec<PathBuf>,
    /// The name of the split, or what the images are.
    pub split: String,
}

/// A split of a data set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SplitRecord {
    /// What it is for.
    pub role: SplitRole,
    /// Where the data sets lay.
    pub paths: Vec<String>,
    /// The name of the split.
    pub split: String,
    /// Images, those that cannot be read among them.
    pub images: usize,
    /// Images with no boxes.
    pub images_without_boxes: usize,
    /// Boxes.
    pub boxes: usize,
    /// Boxes of each class.
    pub boxes_per_class: Vec<usize>,
    /// Images that the annotations name and that were left out.
    pub images_left_out: usize,
    /// Boxes that were left out.
    pub boxes_left_out: usize,
    /// What was wrong in the annotations.
    pub problems: Messages,
}

impl SplitRecord {
    /// Counts what is in a data set.
    pub fn new(role: SplitRole, source: &DataSource, dataset: &dyn Dataset) -> Self {
        let set = dataset.annotations();
        let mut boxes_per_class = vec![0; set.classes.len()];
        for annotation in set.images.iter().flat_map(|image| &image.annotations) {
            if let Some(count) = boxes_per_class.get_mut(annotation.class_idx) {
                *count += 1;
            }
        }
        let mut problems = Messages::default();
        set.problems.iter().for_each(|problem| problems.push(problem.to_string()));
        Self {
            role,
            paths: source.paths.iter().map(|path| path.display().to_string()).collect(),
            split: source.split.clone(),
            images: dataset.len(),
            images_without_boxes: set.images.iter().filter(|image| image.annotations.is_empty()).count(),
            boxes: set.num_annotations(),
            boxes_per_class,
            images_left_out: set.problems.count(Effect::ImageDropped),
            boxes_left_out: set.num_dropped_boxes(),
            problems,
        }
    }
}

/// How the ground truth of the first batch met the anchors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct FirstBatchRecord {
    /// Images.
    pub images: usize,
    /// Their boxes, as augmented and resized.
    pub boxes: usize,
    /// Boxes that no anchor learns.
    pub boxes_without_anchor: usize,
    /// Anchors that learn a box.
    pub foreground_anchors: usize,
    /// Anchors that are left out of the loss.
    pub ignored_anchors: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_comes_back_and_others_are_read_as_far_as_they_go() -> Result<(), serde_json::Error> {
        for status in [RunStatus::Running, RunStatus::Finished, RunStatus::Failed { error: "\"\n".to_owned() }] {
            let record = RunRecord { status, seed: 7, notes: vec!["a".to_owned()], ..RunRecord::default() };
            let text = serde_json::to_string(&record)?;
            assert_eq!(serde_json::from_str::<RunRecord>(&text)?, record, "{text}");
        }
        let other = r#"{"status": "finished", "seed": 3, "of_tomorrow": [1], "machine": {"cores": 2}}"#;
        let record: RunRecord = serde_json::from_str(other)?;
        assert_eq!((record.status, record.seed, record.machine.cores), (RunStatus::Finished, 3, 2));
        Ok(())
    }

    #[test]
    fn messages_are_counted_beyond_those_that_are_kept() {
        let mut messages = Messages::default();
        (0..MAX_MESSAGES + 5).for_each(|number| messages.push(number.to_string()));
        assert_eq!((messages.count, messages.first.len()), (MAX_MESSAGES + 5, MAX_MESSAGES));
        messages.truncate(MAX_MESSAGES + 2);
        assert_eq!((messages.count, messages.first.len()), (MAX_MESSAGES + 2, MAX_MESSAGES));
        messages.truncate(3);
        assert_eq!((messages.count, messages.first.len()), (3, 3));
    }
}
