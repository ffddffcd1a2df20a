//! One convolution with what belongs to it: normalisation and activation.

use crate::{Activation, Conv2d};
use serde::{Deserialize, Serialize};

/// The normalisation that follows a convolution.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum NormKind {
    /// Batch norm that applies its stored statistics, in training too; nothing of it is trained.
    FrozenBatch {
        /// Added to the variance. torchvision's released COCO_V1 weights want 0, all others 1e-5.
        epsilon: f64,
    },
    /// Batch norm trained with the statistics of the batch; inference applies the running ones.
    Batch {
        /// Added to the variance.
        epsilon: f64,
        /// Share of the new batch in the running statistics, as torch counts it.
        momentum: f64,
    },
    /// Group norm: statistics of each image and group, in training and inference alike (Wu & He 2018).
    Group {
        /// Number of groups; it divides the channels.
        groups: usize,
        /// Added to the variance.
        epsilon: f64,
    },
}

impl NormKind {
    /// Whether running statistics belong to it.
    pub fn has_running_statistics(self) -> bool {
        !matches!(self, Self::Group { .. })
    }
}

/// How a convolution's weight starts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Initialization {
    /// Normal with variance 2 / (out_channels x kernel^2): a ResNet's (He et al. 2015, fan out).
    KaimingNormalFanOut,
    /// Uniform within sqrt(3 / (in_channels x kernel^2)): an FPN's in Detectron and torchvision.
    KaimingUniformFanIn,
    /// Normal with this standard deviation: the subnets' (RetinaNet, section 4.1: 0.01).
    Normal(f64),
}

/// What a parameter is to its layer; optimisers and loaders group by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParameterKind {
    /// A convolution's weight, OIHW.
    Weight,
    /// A convolution's bias.
    Bias,
    /// A norm's scale.
    NormWeight,
    /// A norm's shift.
    NormBias,
    /// A batch norm's running mean.
    RunningMean,
    /// A batch norm's running variance.
    RunningVariance,
}

/// Name, shape and start of one parameter.
#[derive(Clone, Debug, PartialEq)]
pub struct ParameterSpec {
    /// The name in files, as torchvision has it.
    pub name: String,
    /// OIHW for a weight, `[C]` for the rest.
    pub shape: Vec<usize>,
    /// What it is.
    pub kind: ParameterKind,
    /// Whether training changes it by gradient.
    pub trainable: bool,
    /// How a weight starts; of no account to the other kinds.
    pub initialization: Initialization,
    /// Where a bias starts: a norm's weight and variance start at 1, all else at this.
    pub start: f64,
}

/// A convolution, the norm behind it and the activation behind both: `activation(norm(conv(x)) + residual)`.
#[derive(Clone, Debug, PartialEq)]
pub struct ConvLayer {
    /// Prefix of the convolution's parameters, such as `backbone.body.conv1`.
    pub name: String,
    /// Channels in.
    pub in_channels: usize,
    /// Channels out.
    pub out_channels: usize,
    /// Height and width of the kernel.
    pub kernel: usize,
    /// Stride, padding, groups.
    pub conv: Conv2d,
    /// Prefix of the norm's parameters, and its kind. A convolution with a norm has no bias, one without has one.
    pub norm: Option<(String, NormKind)>,
    /// Applied last.
    pub activation: Activation,
    /// Whether training changes the layer. A frozen layer applies its norm's stored statistics.
    pub trainable: bool,
    /// How the weight starts.
    pub initialization: Initialization,
    /// Where the bias starts.
    pub bias_start: f64,
}

impl ConvLayer {
    /// A trainable layer with padding that keeps the size at stride 1, no norm, no activation, one group, bias 0.
    pub fn new(name: impl Into<String>, in_channels: usize, out_channels: usize, kernel: usize, stride: usize) -> Self {
        Self {
            name: name.into(),
            in_channels,
            out_channels,
            kernel,
            conv: Conv2d { stride, padding: kernel / 2, groups: 1 },
            norm: None,
            activation: Activation::None,
            trainable: true,
            initialization: Initialization::KaimingNormalFanOut,
            bias_start: 0.0,
        }
    }

    /// The same layer with a norm of this name.
    pub fn with_norm(mut self, name: impl Into<String>, kind: NormKind) -> Self {
        self.norm = Some((name.into(), kind));
        self
    }

    /// The same layer with a ReLU.
    pub fn with_relu(mut self) -> Self {
        self.activation = Activation::Relu;
        self
    }

    /// The same layer with another start of its weight.
    pub fn with_initialization(mut self, initialization: Initialization) -> Self {
        self.initialization = initialization;
        self
    }

    /// The norm's kind as this layer applies it: a frozen layer freezes its batch norm too.
    pub fn applied_norm(&self) -> Option<NormKind> {
        self.norm.as_ref().map(|(_, kind)| match *kind {
            NormKind::Batch { epsilon, .. } if !self.trainable => NormKind::FrozenBatch { epsilon },
            kind => kind,
        })
    }

    /// The layer's parameters, in the order torch has them.
    pub fn parameters(&self) -> Vec<ParameterSpec> {
        let spec = |prefix: &str, leaf: &str, shape: Vec<usize>, kind: ParameterKind, trainable: bool, start: f64| {
            ParameterSpec {
                name: format!("{prefix}.{leaf}"),
                shape,
                kind,
                trainable,
                initialization: self.initialization,
                start,
            }
        };
        let weight = vec![self.out_channels, self.in_channels / self.conv.groups, self.kernel, self.kernel];
        let channels = || vec![self.out_channels];
        let mut specs = vec![spec(&self.name, "weight", weight, ParameterKind::Weight, self.trainable, 0.0)];
        match &self.norm {
            None => {
                specs.push(spec(&self.name, "bias", channels(), ParameterKind::Bias, self.trainable, self.bias_start))
            }
            Some((name, kind)) => {
                let trainable = self.trainable && !matches!(kind, NormKind::FrozenBatch { .. });
                specs.push(spec(name, "weight", channels(), ParameterKind::NormWeight, trainable, 1.0));
                specs.push(spec(name, "bias", channels(), ParameterKind::NormBias, trainable, 0.0));
                if kind.has_running_statistics() {
                    specs.push(spec(name, "running_mean", channels(), ParameterKind::RunningMean, false, 0.0));
                    specs.push(spec(name, "running_var", channels(), ParameterKind::RunningVariance, false, 1.0));
                }
            }
        }
        specs
    }
}
