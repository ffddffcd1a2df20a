//! The typed configuration, and the presets that carry the references' numbers.

mod assignment;

use crate::early_stopping::EarlyStopping;
use crate::ema::EmaConfig;
use crate::loss::{BoxLoss, LossConfig};
use crate::optim::{Decay, OptimizerConfig, RateFactors, Schedule};
use crate::postprocess::PostProcessing;
use retinanet_anchors::{AnchorConfig, Atss, BoxCoder, Matcher, Matching};
use retinanet_backbone::{FpnConfig, ResNetConfig};
use retinanet_data::{Augmentation, ClassBalance, Preprocessing};
use retinanet_head::HeadConfig;
use retinanet_ops::kernels::cpu::inference::Precision;
use retinanet_ops::network::NormKind;
use serde::{Deserialize, Serialize};

/// All that a detector and its training depend on but the data, the classes and the weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Images to C2..C5.
    pub backbone: ResNetConfig,
    /// C2..C5 to the pyramid.
    pub fpn: FpnConfig,
    /// The pyramid to logits and deltas.
    pub head: HeadConfig,
    /// The boxes that the head starts from.
    pub anchors: AnchorConfig,
    /// Which anchors learn which ground truth.
    pub matcher: Matching,
    /// Boxes to deltas and back.
    pub box_coder: BoxCoder,
    /// What training descends.
    pub loss: LossConfig,
    /// Pictures to the network's input.
    pub preprocessing: Preprocessing,
    /// Predictions to detections.
    pub post_processing: PostProcessing,
    /// How training goes.
    pub train: TrainConfig,
}

/// How training goes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainConfig {
    /// Passes over the data.
    pub epochs: usize,
    /// Images a step.
    pub batch: usize,
    /// The learning rate at the reference batch; at another batch it is scaled by batch / reference_batch (Goyal et al. 2017).
    pub learning_rate: f64,
    /// The batch that `learning_rate` belongs to.
    pub reference_batch: usize,
    /// What convolutions multiply and how activations are stored, f32 or bf16; parameters, their gradients, the statistics of
    /// norms and the losses are f32 in both.
    #[serde(default)]
    pub dtype: Precision,
    /// Images that run through the network together, the gradients of a batch adding up over such parts: a batch in the
    /// memory of a part. Batch norms take the statistics of a part. None for whole batches.
    pub micro_batch: Option<usize>,
    /// Stages of the backbone, from C2 on, whose blocks keep their results alone: what lies within a block is computed again
    /// when the gradients pass it. Less memory for more time, and the same weights to the bit. 0 keeps all, 4 is all stages.
    #[serde(default)]
    pub recompute_stages: usize,
    /// What descends.
    pub optimizer: OptimizerConfig,
    /// Factors on the learning rate of the backbone, as a whole and by layer.
    #[serde(default)]
    pub rates: RateFactors,
    /// The learning rate over the steps.
    pub schedule: Schedule,
    /// The norm that all gradients together are cut to; none to leave them.
    pub clip_norm: Option<f64>,
    /// The running average of the weights, scored and saved in their place; none for the weights themselves.
    pub ema: Option<EmaConfig>,
    /// Whether images of rare classes are seen more often; none for each image once an epoch.
    pub class_balance: Option<ClassBalance>,
    /// What happens to a picture before it is learned from.
    pub augmentation: Augmentation,
    /// Epochs between two scorings of the validation split; the last epoch is always scored.
    pub validate_every: usize,
    /// Ends a training that gets no better; none for all epochs.
    pub early_stopping: Option<EarlyStopping>,
    /// Start of everything that is drawn: weights, order, augmentation.
    pub seed: u64,
}

impl TrainConfig {
    /// The learning rate that is used: scaled to the batch.
    pub fn scaled_learning_rate(&self) -> f64 {
        self.learning_rate * self.batch as f64 / self.reference_batch as f64
    }
}

/// Names of the presets and their complete files.
const PRESETS: [(&str, &str); 7] = [
    ("paper_r50", include_str!("presets/paper_r50.toml")),
    ("paper_r101", include_str!("presets/paper_r101.toml")),
    ("torchvision_r50_v1", include_str!("presets/torchvision_r50_v1.toml")),
    ("torchvision_r50_v2", include_str!("presets/torchvision_r50_v2.toml")),
    ("detectron2_r50_1x", include_str!("presets/detectron2_r50_1x.toml")),
    ("detectron2_r50_3x", include_str!("presets/detectron2_r50_3x.toml")),
    ("small_r18", include_str!("presets/small_r18.toml")),
];

/// A configuration that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// No preset has this name.
    #[error("preset: expected one of {}, found {found:?}", Config::preset_names().collect::<Vec<_>>().join(", "))]
    Preset {
        /// What was asked for.
        found: String,
    },
    /// The text is not TOML, or has a field too many, too few or of another type.
    #[error("configuration: {message}")]
    Parse {
        /// What the parser says, with the line.
        message: String,
    },
    /// An assignment is not `key=value`, or its key leads through something that is not a table.
    #[error("--set {assignment}: expected {expected}")]
    Assignment {
        /// As given.
        assignment: String,
        /// What was expected of it.
        expected: String,
    },
    /// A value is out of its range.
    #[error("configuration: {field}: expected {expected}, found {found}")]
    Value {
        /// Where.
        field: String,
        /// What is allowed.
        expected: String,
        /// What was given.
        found: String,
    },
}

impl ConfigError {
    /// An error about this field unless the condition holds.
    pub(crate) fn require(holds: bool, field: &str, expected: &str, found: &dyn std::fmt::Display) -> Result<(), Self> {
        if holds {
            return Ok(());
        }
        Err(Self::Value { field: field.to_owned(), expected: expected.to_owned(), found: found.to_string() })
    }
}

impl Config {
    /// Names of the presets: whose numbers they are.
    pub fn preset_names() -> impl Iterator<Item = &'static str> {
        PRESETS.iter().map(|(name, _)| *name)
    }

    /// Has every parameter trained: no stage is frozen, and frozen batch norms take the statistics of the batch.
    pub fn unfreeze(&mut self) {
        self.backbone.frozen_stages = 0;
        if let NormKind::FrozenBatch { epsilon } = self.backbone.norm {
            // Of torch's batch norms.
            self.backbone.norm = NormKind::Batch { epsilon, momentum: 0.1 };
        }
    }

    /// The text of a preset, to start a file of one's own from.
    ///
    /// # Errors
    /// No preset has this name.
    pub fn preset_text(name: &str) -> Result<&'static str, ConfigError> {
        let found = PRESETS.iter().find(|(preset, _)| *preset == name);
        found.map(|(_, text)| *text).ok_or_else(|| ConfigError::Preset { found: name.to_owned() })
    }

    /// A preset.
    ///
    /// # Errors
    /// No preset has this name.
    pub fn preset(name: &str) -> Result<Self, ConfigError> {
        Self::parse(Self::preset_text(name)?, &[])
    }

    /// A complete configuration in TOML with assignments such as `loss.class.focal.gamma=1.5` merged in before it is read.
    ///
    /// The value is TOML too; what is not counts as a string. A table as value replaces the table that stood there.
    ///
    /// # Errors
    /// The text or an assignment cannot be read, or a value is out of its range.
    pub fn parse(text: &str, assignments: &[String]) -> Result<Self, ConfigError> {
        let parse_error = |e: toml::de::Error| ConfigError::Parse { message: e.to_string().trim_end().to_owned() };
        let config: Self = if assignments.is_empty() {
            // Straight from the text, so that an error shows its line.
            toml::from_str(text).map_err(parse_error)?
        } else {
            let mut table: toml::Table = toml::from_str(text).map_err(parse_error)?;
            for assignment in assignments {
                assignment::assign(&mut table, assignment)?;
            }
            table.try_into().map_err(parse_error)?
        };
        config.validate()?;
        Ok(config)
    }

    /// The complete configuration as TOML, which [`Self::parse`] reads back.
    ///
    /// # Errors
    /// A value has no form in TOML.
    pub fn to_toml(&self) -> Result<String, ConfigError> {
        toml::to_string(self).map_err(|e| ConfigError::Parse { message: e.to_string() })
    }

    /// Checks every range that building the model does not check.
    ///
    /// # Errors
    /// A value is out of its range; the first is named.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let check = ConfigError::require;
        // Far above any network that has been published, and far below what overflows or takes all memory.
        let Config { backbone, fpn, head, .. } = self;
        for (field, found, limit) in [
            ("backbone.width", backbone.width, 4096),
            ("backbone.groups", backbone.groups, 4096),
            ("backbone.width_per_group", backbone.width_per_group, 4096),
            ("fpn.channels", fpn.channels, 8192),
            ("head.channels", head.channels, 8192),
            ("head.depth", head.depth, 64),
            ("train.batch", self.train.batch, 1024),
            ("train.recompute_stages", self.train.recompute_stages, 4),
            ("post_processing.pre_nms_top_k", self.post_processing.pre_nms_top_k, 1_000_000),
        ] {
            check(found <= limit, field, &format!("at most {limit}"), &found)?;
        }
        let TrainConfig { epochs, batch, learning_rate, reference_batch, schedule, clip_norm, validate_every, .. } =
            &self.train;
        check(*epochs > 0, "train.epochs", "at least 1", epochs)?;
        check(*batch > 0, "train.batch", "at least 1", batch)?;
        let is_trained = matches!(self.train.dtype, Precision::F32 | Precision::Bf16);
        check(is_trained, "train.dtype", "f32 or bf16", &self.train.dtype.name())?;
        check(self.train.micro_batch != Some(0), "train.micro_batch", "at least 1, or left out", &0)?;
        check(*reference_batch > 0, "train.reference_batch", "at least 1", reference_batch)?;
        check(*validate_every > 0, "train.validate_every", "at least 1", validate_every)?;
        check(learning_rate.is_finite() && *learning_rate > 0.0, "train.learning_rate", "above 0", learning_rate)?;
        if let Some(norm) = clip_norm {
            check(*norm > 0.0, "train.clip_norm", "above 0, or left out", norm)?;
        }
        check(
            (0.0..=1.0).contains(&schedule.warmup.factor),
            "train.schedule.warmup.factor",
            "within [0, 1]",
            &schedule.warmup.factor,
        )?;
        if let Decay::Step { milestones, .. } = &schedule.decay {
            for milestone in milestones {
                check(
                    (0.0..=1.0).contains(milestone),
                    "train.schedule.decay.step.milestones",
                    "shares of the training within [0, 1]",
                    milestone,
                )?;
            }
        }
        if let OptimizerConfig::Sgd { momentum, .. } = self.train.optimizer {
            check((0.0..1.0).contains(&momentum), "train.optimizer.sgd.momentum", "within [0, 1)", &momentum)?;
        }
        let (OptimizerConfig::Sgd { weight_decay, norm_weight_decay, bias_weight_decay, .. }
        | OptimizerConfig::Adamw { weight_decay, norm_weight_decay, bias_weight_decay }) = self.train.optimizer;
        for (field, found) in [
            ("weight_decay", weight_decay),
            ("norm_weight_decay", norm_weight_decay),
            ("bias_weight_decay", bias_weight_decay.unwrap_or(0.0)),
        ] {
            check((0.0..=1.0).contains(&found), &format!("train.optimizer.{field}"), "within [0, 1]", &found)?;
        }
        if let BoxLoss::SmoothL1 { beta } = self.loss.r#box {
            check(beta > 0.0, "loss.box.smooth_l1.beta", "above 0", &beta)?;
        }
        let post = &self.post_processing;
        check(
            (0.0..1.0).contains(&post.score_threshold),
            "post_processing.score_threshold",
            "within [0, 1)",
            &post.score_threshold,
        )?;
        check(
            (0.0..=1.0).contains(&post.nms_iou_threshold),
            "post_processing.nms_iou_threshold",
            "within [0, 1]",
            &post.nms_iou_threshold,
        )?;
        match self.matcher {
            Matching::Iou(Matcher { foreground_iou, background_iou, .. }) => {
                check(
                    (0.0..=1.0).contains(&foreground_iou),
                    "matcher.foreground_iou",
                    "within [0, 1]",
                    &foreground_iou,
                )?;
                let limit = format!("within [0, matcher.foreground_iou = {foreground_iou}]");
                check(
                    (0.0..=foreground_iou).contains(&background_iou),
                    "matcher.background_iou",
                    &limit,
                    &background_iou,
                )?;
            }
            Matching::Atss(Atss { candidates }) => {
                check((1..=1000).contains(&candidates), "matcher.atss.candidates", "within [1, 1000]", &candidates)?;
            }
        }
        let weights_are_positive = self.box_coder.weights.iter().all(|&weight| weight > 0.0 && weight.is_finite());
        check(weights_are_positive, "box_coder.weights", "above 0", &format!("{:?}", self.box_coder.weights))?;
        let clamp = self.box_coder.clamp;
        check(clamp > 0.0 && clamp <= 20.0, "box_coder.clamp", "within (0, 20]", &clamp)?;
        let message = |e: &dyn std::fmt::Display| ConfigError::Parse { message: e.to_string() };
        self.preprocessing.validate().map_err(|e| message(&e))?;
        self.train.augmentation.validate().map_err(|e| message(&e))?;
        self.train.rates.validate()?;
        self.train.ema.map_or(Ok(()), |ema| ema.validate())?;
        self.train.early_stopping.map_or(Ok(()), |stopping| stopping.validate())?;
        self.train.class_balance.map_or(Ok(()), |balance| balance.validate().map_err(|e| message(&e)))?;
        self.loss.class.validate().map_err(|e| message(&e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_preset_is_complete_and_round_trips() -> Result<(), ConfigError> {
        for name in Config::preset_names() {
            let config = Config::preset(name)?;
            assert_eq!(Config::parse(&config.to_toml()?, &[])?, config, "{name}");
        }
        Ok(())
    }

    #[test]
    fn milestones_are_those_of_the_sources() -> Result<(), ConfigError> {
        // Of epochs, or of steps.
        for (name, total, expected) in [
            ("torchvision_r50_v1", 26.0, [16.0, 22.0]),
            ("torchvision_r50_v2", 26.0, [16.0, 22.0]),
            ("detectron2_r50_1x", 90_000.0, [60_000.0, 80_000.0]),
            ("detectron2_r50_3x", 270_000.0, [210_000.0, 250_000.0]),
        ] {
            let Decay::Step { milestones, .. } = Config::preset(name)?.train.schedule.decay else { panic!("{name}") };
            assert_eq!(milestones.iter().map(|share| share * total).collect::<Vec<_>>(), expected, "{name}");
        }
        Ok(())
    }

    #[test]
    fn assignments_are_merged_before_reading() -> Result<(), ConfigError> {
        let text = Config::preset_text("paper_r50")?;
        let set =
            |assignments: &[&str]| Config::parse(text, &assignments.iter().map(|&a| a.to_owned()).collect::<Vec<_>>());
        assert_eq!(set(&["train.learning_rate=1", "train.seed=7"])?.train.learning_rate, 1.0);
        assert_eq!(set(&["loss.box_weight=.5"])?.loss.box_weight, 0.5);
        let listed = set(&["preprocessing.mean=[.5,-.25, +.125]", "train.schedule.warmup={ steps = 3, factor=.1 }"])?;
        assert_eq!((listed.preprocessing.mean, listed.train.schedule.warmup.factor), ([0.5, -0.25, 0.125], 0.1));
        assert_eq!(
            set(&["backbone.depth=r34", "fpn.p6_source=\"p5\""])?.backbone.depth,
            retinanet_backbone::ResNetDepth::R34
        );
        let adamw = set(&["train.optimizer={ adamw = { weight_decay = 0.05, norm_weight_decay = 0.0 } }"])?;
        let (weight_decay, norm_weight_decay, bias_weight_decay) = (0.05, 0.0, None);
        assert_eq!(
            adamw.train.optimizer,
            OptimizerConfig::Adamw { weight_decay, norm_weight_decay, bias_weight_decay }
        );
        Ok(())
    }

    #[test]
    fn every_option_of_a_recipe_can_be_set_and_comes_back_from_its_file() -> Result<(), ConfigError> {
        let text = Config::preset_text("paper_r50")?;
        for assignment in [
            "train.rates.backbone=0.1",
            "train.rates.layer_decay=.75",
            "train.ema={}",
            "train.ema.decay=.99",
            "train.ema.warmup=0",
            "train.early_stopping={}",
            "train.early_stopping.patience=3",
            "train.early_stopping.min_delta=.001",
            "train.class_balance.threshold=.1",
            "train.optimizer.sgd.bias_weight_decay=1e-4",
            "matcher={ atss = {} }",
            "loss.box=diou",
            "loss.box=ciou",
            "loss.class=focal_star",
            "loss.class=ohem",
            "loss.class.focal.alpha=[.25, 0.5]",
            "backbone.frozen_stages=1",
        ] {
            let config = Config::parse(text, &[assignment.to_owned()])?;
            assert_ne!(config, Config::preset("paper_r50")?, "{assignment}");
            assert_eq!(Config::parse(&config.to_toml()?, &[])?, config, "{assignment}");
        }
        Ok(())
    }

    #[track_caller]
    fn check_error(assignment: &str, part: &str) {
        let text = Config::preset_text("small_r18").expect("a preset");
        let message = Config::parse(text, &[assignment.to_owned()]).expect_err(assignment).to_string();
        assert!(message.contains(part), "{assignment}: expected {part:?} in {message:?}");
    }

    #[test]
    fn errors_name_the_field_and_what_is_allowed() {
        check_error("loss.class.focal.gama=2", "gama");
        check_error("train.epochs=0", "train.epochs: expected at least 1, found 0");
        check_error("train.epochs=many", "train.epochs".rsplit('.').next().expect("a field"));
        check_error("train", "key=value");
        check_error("train.epochs.more=1", "epochs to be a table");
        check_error("post_processing.score_threshold=1.5", "within [0, 1)");
        check_error("matcher.background_iou=.6", "matcher.background_iou");
        check_error("train.rates.backbone=2", "train.rates.backbone: expected within [0, 1], found 2");
        check_error("train.rates.layer_decay=0", "train.rates.layer_decay: expected above 0, at most 1, found 0");
        check_error("train.ema.decay=1", "train.ema.decay: expected within [0, 1), found 1");
        check_error("train.early_stopping.patience=0", "train.early_stopping.patience: expected at least 1, found 0");
        check_error("train.early_stopping.min_delta=-1", "train.early_stopping.min_delta: expected within [0, 1]");
        check_error("train.class_balance.threshold=0", "class_balance.threshold: expected a number above 0, at most 1");
        check_error("train.class_balance={}", "threshold");
        check_error(
            "train.optimizer.adamw.bias_weight_decay=2",
            "train.optimizer.bias_weight_decay: expected within [0, 1]",
        );
        check_error("loss.class.focal_star.gamma=4", "class loss: expected one, found focal");
        check_error("matcher.atss.candidates=9", "expected either atss or thresholds, found both");
        check_error(
            "matcher={ atss = { candidates = 0 } }",
            "matcher.atss.candidates: expected within [1, 1000], found 0",
        );
        check_error("box_coder.clamp=nan", "box_coder.clamp");
        check_error("head.depth=1000000", "head.depth: expected at most 64, found 1000000");
        check_error("backbone.width=4611686018427387904", "backbone.width");
        check_error("train.batch=99999999999", "train.batch: expected at most 1024");
        check_error("train.optimizer.adamw.weight_decay=-1.0", "weight_decay: expected within [0, 1], found -1");
        check_error("box_coder.weights=[1.0, 0.0, 1.0, 1.0]", "box_coder.weights");
        let message = Config::preset("papr_r50").expect_err("no such preset").to_string();
        assert!(message.contains("paper_r50") && message.contains("papr_r50"), "{message}");
    }
}
