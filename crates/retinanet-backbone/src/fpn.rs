//! The feature pyramid network (Lin et al. 2017b): C2..C5 to P3..P7, or another contiguous range.

use crate::{BackboneError, ensure};
use retinanet_anchors::{Pyramid, PyramidLevel};
use retinanet_ops::network::{ConvLayer, Engine, Initialization};
use serde::{Deserialize, Serialize};

/// What P6 is computed from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum P6Source {
    /// The backbone's last stage: the paper, Detectron2, torchvision v2.
    #[default]
    C5,
    /// The pyramid's own P5: torchvision v1.
    P5,
}

/// A feature pyramid.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FpnConfig {
    /// Channels of every level.
    pub channels: usize,
    /// The finest level: P3 in the paper, P2 for small objects; P2 to P5.
    pub finest: PyramidLevel,
    /// The coarsest level: P7 in the paper; P5 to P7.
    pub coarsest: PyramidLevel,
    /// What P6 is computed from.
    pub p6_source: P6Source,
    /// Whether P7 is computed from the ReLU of P6: the paper and all references but MMDetection, which takes P6 as it is.
    pub relu_before_p7: bool,
}

impl Default for FpnConfig {
    fn default() -> Self {
        Self {
            channels: 256,
            finest: PyramidLevel::P3,
            coarsest: PyramidLevel::P7,
            p6_source: P6Source::C5,
            relu_before_p7: true,
        }
    }
}

/// The description of a feature pyramid.
#[derive(Clone, Debug, PartialEq)]
pub struct Fpn {
    finest: PyramidLevel,
    /// 1x1 on the stages, fine to coarse.
    pub lateral: Vec<ConvLayer>,
    /// 3x3 on the merged maps, fine to coarse.
    pub output: Vec<ConvLayer>,
    /// 3x3 stride 2: P6, and P7 on P6.
    pub extra: Vec<ConvLayer>,
    p6_source: P6Source,
    relu_before_p7: bool,
}

impl Fpn {
    /// Describes the pyramid over stages C2..C5 of these channels, its parameters named as torchvision does behind `prefix`.
    ///
    /// # Errors
    /// The range of levels does not lie in P2..P7 or does not hold P5.
    pub fn new(config: &FpnConfig, stage_channels: [usize; 4], prefix: &str) -> Result<Self, BackboneError> {
        let FpnConfig { channels, finest, coarsest, p6_source, relu_before_p7 } = *config;
        ensure(channels > 0, "fpn.channels", "at least 1", channels)?;
        ensure((PyramidLevel::P2..=PyramidLevel::P5).contains(&finest), "fpn.finest", "P2 to P5", finest)?;
        ensure((PyramidLevel::P5..=PyramidLevel::P7).contains(&coarsest), "fpn.coarsest", "P5 to P7", coarsest)?;

        let uniform = |name: String, from, kernel, stride| {
            ConvLayer::new(name, from, channels, kernel, stride)
                .with_initialization(Initialization::KaimingUniformFanIn)
        };
        let stages = &stage_channels[usize::from(finest.number()) - 2..];
        let lateral = stages
            .iter()
            .enumerate()
            .map(|(i, &from)| uniform(format!("{prefix}.inner_blocks.{i}.0"), from, 1, 1))
            .collect();
        let output =
            (0..stages.len()).map(|i| uniform(format!("{prefix}.layer_blocks.{i}.0"), channels, 3, 1)).collect();
        let p6_channels = if p6_source == P6Source::C5 { stage_channels[3] } else { channels };
        let extra = (6..=coarsest.number())
            .map(|number| {
                uniform(
                    format!("{prefix}.extra_blocks.p{number}"),
                    if number == 6 { p6_channels } else { channels },
                    3,
                    2,
                )
            })
            .collect();
        Ok(Self { finest, lateral, output, extra, p6_source, relu_before_p7 })
    }

    /// C2..C5 to the pyramid.
    ///
    /// # Errors
    /// The engine refuses a layer.
    pub fn forward<E: Engine>(
        &self,
        engine: &mut E,
        stages: &Pyramid<E::Value>,
    ) -> candle_core::Result<Pyramid<E::Value>> {
        let first_stage = stages.len() - self.lateral.len();
        let stages = &stages.values()[first_stage..];
        let mut levels = Vec::with_capacity(self.lateral.len() + self.extra.len());
        let mut top_down: Option<E::Value> = None;
        for ((stage, lateral), output) in stages.iter().zip(&self.lateral).zip(&self.output).rev() {
            let lateral = engine.conv(lateral, stage, None)?;
            let merged = match &top_down {
                Some(coarse) => engine.upsample_add(coarse, &lateral)?,
                None => lateral,
            };
            levels.push(engine.conv(output, &merged, None)?);
            top_down = Some(merged);
        }
        levels.reverse();
        for (extra_idx, extra) in self.extra.iter().enumerate() {
            let last = levels.last().expect("a pyramid holds P5 at least");
            let level = match (extra_idx, self.p6_source) {
                (0, P6Source::C5) => engine.conv(extra, stages.last().expect("a backbone gives C5"), None)?,
                (0, P6Source::P5) => engine.conv(extra, last, None)?,
                _ if self.relu_before_p7 => {
                    let positive = engine.relu(last)?;
                    engine.conv(extra, &positive, None)?
                }
                _ => engine.conv(extra, last, None)?,
            };
            levels.push(level);
        }
        Ok(Pyramid::new(self.finest, levels).expect("the range of levels is checked where the pyramid is described"))
    }

    /// The levels, fine to coarse.
    pub fn levels(&self) -> Vec<PyramidLevel> {
        let count = self.lateral.len() + self.extra.len();
        std::iter::successors(Some(self.finest), |level| level.next()).take(count).collect()
    }

    /// Every layer: lateral, output, extra.
    pub fn layers(&self) -> impl Iterator<Item = &ConvLayer> {
        self.lateral.iter().chain(&self.output).chain(&self.extra)
    }
}
