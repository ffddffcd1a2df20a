//! ResNet and ResNeXt (He et al. 2016, Xie et al. 2017): images to C2..C5.

use crate::{BackboneError, ensure};
use retinanet_anchors::{Pyramid, PyramidLevel};
use retinanet_ops::network::{ConvLayer, Engine, NormKind};
use serde::{Deserialize, Serialize};

/// How many layers a ResNet counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ResNetDepth {
    /// Basic blocks, 2 + 2 + 2 + 2.
    R18,
    /// Basic blocks, 3 + 4 + 6 + 3.
    R34,
    /// Bottlenecks, 3 + 4 + 6 + 3.
    #[default]
    R50,
    /// Bottlenecks, 3 + 4 + 23 + 3.
    R101,
    /// Bottlenecks, 3 + 8 + 36 + 3.
    R152,
}

impl ResNetDepth {
    /// Blocks of each of the four stages.
    pub fn blocks(self) -> [usize; 4] {
        match self {
            Self::R18 => [2, 2, 2, 2],
            Self::R34 | Self::R50 => [3, 4, 6, 3],
            Self::R101 => [3, 4, 23, 3],
            Self::R152 => [3, 8, 36, 3],
        }
    }

    /// Whether the blocks are bottlenecks of three convolutions, whose output is four times as wide.
    pub fn is_bottleneck(self) -> bool {
        !matches!(self, Self::R18 | Self::R34)
    }
}

/// A ResNet or ResNeXt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ResNetConfig {
    /// Layers.
    pub depth: ResNetDepth,
    /// Channels of the stem; the stages have 1, 2, 4 and 8 times as many (bottlenecks four times that). 64 in the paper.
    pub width: usize,
    /// Groups of the 3x3 convolution: 1 for ResNet, 32 or 64 for ResNeXt. Bottlenecks only.
    pub groups: usize,
    /// Channels a group has in the first stage when the width is 64: 64 for ResNet, 4 for ResNeXt 32x4d. Bottlenecks only.
    pub width_per_group: usize,
    /// The norm behind every convolution.
    pub norm: NormKind,
    /// Where a bottleneck halves the size: false in its 3x3 as torchvision, true in its first 1x1 as the original weights.
    pub stride_in_1x1: bool,
    /// How many parts are not trained, from the image on: 0 none, 1 the stem, 2 the stem and C2, up to 5.
    pub frozen_stages: usize,
}

impl Default for ResNetConfig {
    /// ResNet-50 as torchvision fine-tunes it: frozen batch norm, stem and C2 not trained.
    fn default() -> Self {
        Self {
            depth: ResNetDepth::R50,
            width: 64,
            groups: 1,
            width_per_group: 64,
            norm: NormKind::FrozenBatch { epsilon: 1e-5 },
            stride_in_1x1: false,
            frozen_stages: 2,
        }
    }
}

/// A residual block: `relu(layers(x) + shortcut(x))`.
#[derive(Clone, Debug, PartialEq)]
pub struct Block {
    /// Two 3x3, or 1x1, 3x3, 1x1. The sum and the ReLU belong to the last.
    pub layers: Vec<ConvLayer>,
    /// The 1x1 on the shortcut where the size or the channels change.
    pub downsample: Option<ConvLayer>,
}

/// The description of a ResNet.
#[derive(Clone, Debug, PartialEq)]
pub struct ResNet {
    /// 7x7 stride 2; a 3x3 stride 2 max pooling follows it.
    pub stem: ConvLayer,
    /// The four stages, giving C2..C5.
    pub stages: [Vec<Block>; 4],
}

impl ResNet {
    /// Describes the network, its parameters named as torchvision does behind `prefix` (such as `backbone.body`).
    ///
    /// # Errors
    /// Width, groups or frozen stages are out of range, or a basic block is given groups.
    pub fn new(config: &ResNetConfig, prefix: &str) -> Result<Self, BackboneError> {
        ensure(config.width > 0, "backbone.width", "at least 1", config.width)?;
        ensure(config.groups > 0, "backbone.groups", "at least 1", config.groups)?;
        ensure(config.width_per_group > 0, "backbone.width_per_group", "at least 1", config.width_per_group)?;
        ensure(config.frozen_stages <= 5, "backbone.frozen_stages", "0 to 5", config.frozen_stages)?;
        let is_basic = !config.depth.is_bottleneck();
        ensure(
            !is_basic || (config.groups == 1 && config.width_per_group == 64),
            "backbone.groups",
            "1 for r18 and r34",
            config.groups,
        )?;
        if let NormKind::Group { groups, .. } = config.norm {
            ensure(
                groups > 0 && config.width.is_multiple_of(groups),
                "backbone.norm.group.groups",
                "a divisor of backbone.width",
                groups,
            )?;
        }

        let layer = |name: String, norm: String, in_channels, out_channels, kernel, stride, is_frozen: bool| {
            let mut layer = ConvLayer::new(name, in_channels, out_channels, kernel, stride)
                .with_norm(norm, config.norm)
                .with_relu();
            layer.trainable = !is_frozen;
            layer
        };
        let stem =
            layer(format!("{prefix}.conv1"), format!("{prefix}.bn1"), 3, config.width, 7, 2, config.frozen_stages > 0);
        let expansion = if is_basic { 1 } else { 4 };
        let mut in_channels = config.width;
        let stages = std::array::from_fn(|stage_idx| {
            let planes = config.width << stage_idx;
            let out_channels = planes * expansion;
            let is_frozen = config.frozen_stages > stage_idx + 1;
            (0..config.depth.blocks()[stage_idx])
                .map(|block_idx| {
                    let stride = if block_idx == 0 && stage_idx > 0 { 2 } else { 1 };
                    let path = format!("{prefix}.layer{}.{block_idx}", stage_idx + 1);
                    let named = |n: usize, from, to, kernel, stride| {
                        layer(format!("{path}.conv{n}"), format!("{path}.bn{n}"), from, to, kernel, stride, is_frozen)
                    };
                    let layers = if is_basic {
                        vec![named(1, in_channels, planes, 3, stride), named(2, planes, planes, 3, 1)]
                    } else {
                        // The width of the 3x3 as torchvision counts it: planes * (width_per_group / 64) * groups.
                        let inner = (planes * config.width_per_group / 64).max(1) * config.groups;
                        let (first, second) = if config.stride_in_1x1 { (stride, 1) } else { (1, stride) };
                        let mut middle = named(2, inner, inner, 3, second);
                        middle.conv.groups = config.groups;
                        vec![named(1, in_channels, inner, 1, first), middle, named(3, inner, out_channels, 1, 1)]
                    };
                    let downsample = (stride != 1 || in_channels != out_channels).then(|| {
                        let (conv, norm) = (format!("{path}.downsample.0"), format!("{path}.downsample.1"));
                        let mut shortcut = layer(conv, norm, in_channels, out_channels, 1, stride, is_frozen);
                        shortcut.activation = retinanet_ops::Activation::None;
                        shortcut
                    });
                    in_channels = out_channels;
                    Block { layers, downsample }
                })
                .collect()
        });
        Ok(Self { stem, stages })
    }

    /// Images `[N, H, W, 3]` to C2..C5, at strides 4 to 32.
    ///
    /// # Errors
    /// The engine refuses a layer.
    pub fn forward<E: Engine>(&self, engine: &mut E, images: &E::Value) -> candle_core::Result<Pyramid<E::Value>> {
        let stem = engine.conv(&self.stem, images, None)?;
        let mut x = engine.max_pool(&stem, 3, 2, 1)?;
        let mut stages = Vec::with_capacity(self.stages.len());
        for blocks in &self.stages {
            for block in blocks {
                x = block.forward(engine, &x)?;
            }
            stages.push(x.clone());
        }
        Ok(Pyramid::new(PyramidLevel::P2, stages).expect("four stages from level 2 on are a pyramid"))
    }

    /// What the names of each block's layers begin with, such as `backbone.body.layer1.0.`, for the first so many stages, C2
    /// being the first.
    pub fn block_prefixes(&self, num_stages: usize) -> Vec<String> {
        let blocks = self.stages.iter().take(num_stages).flatten();
        let path = |block: &Block| Some(block.layers.first()?.name.strip_suffix("conv1")?.to_owned());
        blocks.filter_map(path).collect()
    }

    /// Channels of C2..C5.
    pub fn out_channels(&self) -> [usize; 4] {
        self.stages
            .each_ref()
            .map(|blocks| blocks.last().and_then(|block| block.layers.last()).map_or(0, |layer| layer.out_channels))
    }

    /// Every layer, in the order of execution, a block's shortcut last.
    pub fn layers(&self) -> impl Iterator<Item = &ConvLayer> {
        let blocks = self.stages.iter().flatten().flat_map(|block| block.layers.iter().chain(&block.downsample));
        std::iter::once(&self.stem).chain(blocks)
    }
}

impl Block {
    fn forward<E: Engine>(&self, engine: &mut E, x: &E::Value) -> candle_core::Result<E::Value> {
        let shortcut = match &self.downsample {
            Some(layer) => engine.conv(layer, x, None)?,
            None => x.clone(),
        };
        let mut y = x.clone();
        for (layer_idx, layer) in self.layers.iter().enumerate() {
            let is_last = layer_idx + 1 == self.layers.len();
            y = engine.conv(layer, &y, is_last.then_some(&shortcut))?;
        }
        Ok(y)
    }
}
