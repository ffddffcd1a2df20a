//! The class and box subnets of RetinaNet: P3..P7 to class logits and box deltas.
//!
//! Two small fully convolutional networks, each shared by all levels and not with the other (Lin et al. 2017, section 4).
//! A description, as the backbone is: layers with torchvision's names and one `forward` over any
//! [`Engine`].
//!
//! ```
//! use retinanet_head::{Head, HeadConfig};
//!
//! let head = Head::new(&HeadConfig::default(), 256, 9, 80)?;
//! assert_eq!(head.class_logits.out_channels, 9 * 80);
//! // At the start every anchor says foreground with probability .01: -ln((1 - .01) / .01) = -4.595.
//! assert!((head.class_logits.bias_start + 4.595).abs() < 1e-3);
//! # Ok::<(), retinanet_head::HeadError>(())
//! ```

use retinanet_anchors::Pyramid;
use retinanet_ops::network::{ConvLayer, Engine, Initialization, NormKind};
use serde::{Deserialize, Serialize};

/// The two subnets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HeadConfig {
    /// 3x3 convolutions with ReLU before the last, 4 in the paper.
    pub depth: usize,
    /// Channels of these convolutions, 256 in the paper.
    pub channels: usize,
    /// Groups of a group norm behind each, none in the paper; torchvision v2 has 32.
    pub group_norm: Option<usize>,
    /// The probability of foreground that the class logits start with, pi = .01 in the paper; within (0, 1).
    pub prior_probability: f64,
}

impl Default for HeadConfig {
    fn default() -> Self {
        Self { depth: 4, channels: 256, group_norm: None, prior_probability: 0.01 }
    }
}

/// A configuration that describes no head.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HeadError {
    /// A field's value is out of its range.
    #[error("{field}: expected {expected}, found {found}")]
    Value {
        /// Where.
        field: &'static str,
        /// What is allowed.
        expected: &'static str,
        /// What was given.
        found: String,
    },
}

/// The description of both subnets.
#[derive(Clone, Debug, PartialEq)]
pub struct Head {
    /// The class subnet before its last layer.
    pub class_tower: Vec<ConvLayer>,
    /// `A * K` logits a location, the classes of an anchor side by side.
    pub class_logits: ConvLayer,
    /// The box subnet before its last layer.
    pub box_tower: Vec<ConvLayer>,
    /// `A * 4` offsets a location, the four of an anchor side by side.
    pub box_deltas: ConvLayer,
}

/// What the head gives for a pyramid.
#[derive(Clone, Debug)]
pub struct HeadOutput<V> {
    /// `[N, H, W, A * K]` a level.
    pub class_logits: Pyramid<V>,
    /// `[N, H, W, A * 4]` a level.
    pub box_deltas: Pyramid<V>,
}

impl Head {
    /// Describes both subnets on levels of `in_channels`, for `anchors_per_location` (A) and `num_classes` (K).
    ///
    /// # Errors
    /// A count is 0, the prior is not within (0, 1) or the groups do not divide the channels.
    pub fn new(
        config: &HeadConfig,
        in_channels: usize,
        anchors_per_location: usize,
        num_classes: usize,
    ) -> Result<Self, HeadError> {
        let check = |holds: bool, field, expected, found: String| {
            if holds { Ok(()) } else { Err(HeadError::Value { field, expected, found }) }
        };
        check(num_classes > 0, "num_classes", "at least 1", num_classes.to_string())?;
        check(anchors_per_location > 0, "anchors", "at least 1 a location", anchors_per_location.to_string())?;
        check(config.channels > 0, "head.channels", "at least 1", config.channels.to_string())?;
        let prior = config.prior_probability;
        check(prior > 0.0 && prior < 1.0, "head.prior_probability", "within (0, 1)", prior.to_string())?;
        let groups_fit = config.group_norm.is_none_or(|groups| groups > 0 && config.channels.is_multiple_of(groups));
        check(groups_fit, "head.group_norm", "a divisor of head.channels", format!("{:?}", config.group_norm))?;

        let normal = Initialization::Normal(0.01);
        let tower = |prefix: &str| -> Vec<ConvLayer> {
            (0..config.depth)
                .map(|i| {
                    let from = if i == 0 { in_channels } else { config.channels };
                    let path = format!("head.{prefix}.conv.{i}");
                    let layer = ConvLayer::new(format!("{path}.0"), from, config.channels, 3, 1)
                        .with_relu()
                        .with_initialization(normal);
                    match config.group_norm {
                        Some(groups) => layer.with_norm(format!("{path}.1"), NormKind::Group { groups, epsilon: 1e-5 }),
                        None => layer,
                    }
                })
                .collect()
        };
        let tower_channels = if config.depth == 0 { in_channels } else { config.channels };
        let last = |name: &str, outputs| {
            ConvLayer::new(name, tower_channels, anchors_per_location * outputs, 3, 1).with_initialization(normal)
        };
        let mut class_logits = last("head.classification_head.cls_logits", num_classes);
        class_logits.bias_start = -((1.0 - prior) / prior).ln();
        Ok(Self {
            class_tower: tower("classification_head"),
            class_logits,
            box_tower: tower("regression_head"),
            box_deltas: last("head.regression_head.bbox_reg", 4),
        })
    }

    /// The pyramid to class logits and box deltas.
    ///
    /// # Errors
    /// The engine refuses a layer.
    pub fn forward<E: Engine>(
        &self,
        engine: &mut E,
        pyramid: &Pyramid<E::Value>,
    ) -> candle_core::Result<HeadOutput<E::Value>> {
        let mut subnet = |tower: &[ConvLayer], last: &ConvLayer| {
            pyramid.try_map(|_, level| {
                let mut x = level.clone();
                for layer in tower {
                    x = engine.conv(layer, &x, None)?;
                }
                engine.conv(last, &x, None)
            })
        };
        Ok(HeadOutput {
            class_logits: subnet(&self.class_tower, &self.class_logits)?,
            box_deltas: subnet(&self.box_tower, &self.box_deltas)?,
        })
    }

    /// Every layer: the class subnet, then the box subnet.
    pub fn layers(&self) -> impl Iterator<Item = &ConvLayer> {
        let class = self.class_tower.iter().chain([&self.class_logits]);
        class.chain(&self.box_tower).chain([&self.box_deltas])
    }
}
