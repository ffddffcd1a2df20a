//! How fast each part of the network learns.

use crate::config::ConfigError;
use retinanet_ops::network::ParameterSpec;
use serde::{Deserialize, Serialize};

/// Factors on the learning rate by the depth of a layer; 1 for the pyramid and the subnets.
///
/// A pretrained backbone wants smaller steps than what is drawn anew, and the less the nearer a layer is to the image.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RateFactors {
    /// On the whole backbone, within [0, 1].
    pub backbone: f64,
    /// On a block of the backbone for each block behind it and once more, above 0 up to 1: the last block has `layer_decay`,
    /// the one before its square, the stem the highest power (Clark et al. 2020, section 3.2; as in timm).
    pub layer_decay: f64,
}

impl Default for RateFactors {
    fn default() -> Self {
        Self { backbone: 1.0, layer_decay: 1.0 }
    }
}

/// Where the backbone's parameters are named.
const BACKBONE: &str = "backbone.body.";

impl RateFactors {
    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        let Self { backbone, layer_decay } = self;
        ConfigError::require((0.0..=1.0).contains(backbone), "train.rates.backbone", "within [0, 1]", backbone)?;
        let is_share = *layer_decay > 0.0 && *layer_decay <= 1.0;
        ConfigError::require(is_share, "train.rates.layer_decay", "above 0, at most 1", layer_decay)
    }

    /// The factor of each parameter. They come in the order of the layers, from the image on.
    pub(crate) fn of(&self, specs: &[ParameterSpec]) -> Vec<f64> {
        // The number of the block that each belongs to, counted from the image; none outside of the backbone.
        let mut blocks = Vec::new();
        let depths: Vec<Option<usize>> = specs
            .iter()
            .map(|spec| {
                let block = block(&spec.name)?;
                if blocks.last() != Some(&block) {
                    blocks.push(block);
                }
                Some(blocks.len())
            })
            .collect();
        let behind = |depth: usize| (blocks.len() + 1 - depth) as i32;
        let factor =
            |depth: Option<usize>| depth.map_or(1.0, |depth| self.backbone * self.layer_decay.powi(behind(depth)));
        depths.into_iter().map(factor).collect()
    }
}

/// `layer2.0` of `backbone.body.layer2.0.conv1.weight`; empty for the stem.
fn block(name: &str) -> Option<&str> {
    let name = name.strip_prefix(BACKBONE)?;
    let end = name.match_indices('.').nth(1).map_or(0, |(end, _)| end);
    Some(if name.starts_with("layer") { &name[..end] } else { "" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::model::Network;

    #[test]
    fn factors_fall_from_the_head_to_the_image() -> crate::Result<()> {
        let network = Network::new(&Config::preset("small_r18")?, 2)?;
        let specs = network.parameters();
        let factors = |rates: RateFactors| {
            let factors = rates.of(&specs);
            move |name: &str| {
                let idx = specs.iter().position(|spec| spec.name == name).expect(name);
                factors[idx]
            }
        };
        // Of eight blocks, the first has seven behind it.
        let of = factors(RateFactors { backbone: 0.5, layer_decay: 0.5 });
        let expected = [
            ("backbone.body.conv1.weight", 10),
            ("backbone.body.bn1.bias", 10),
            ("backbone.body.layer1.0.conv1.weight", 9),
            ("backbone.body.layer1.0.bn2.weight", 9),
            ("backbone.body.layer1.1.conv1.weight", 8),
            ("backbone.body.layer2.0.downsample.0.weight", 7),
            ("backbone.body.layer4.0.conv2.weight", 3),
            ("backbone.body.layer4.1.conv2.weight", 2),
            ("backbone.fpn.inner_blocks.0.0.weight", 0),
            ("head.classification_head.cls_logits.bias", 0),
        ];
        for (name, halvings) in expected {
            assert_eq!(of(name), 0.5f64.powi(halvings), "{name}");
        }
        Ok(())
    }
}
