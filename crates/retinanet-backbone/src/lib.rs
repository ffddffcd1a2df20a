//! ResNet, ResNeXt and the feature pyramid network: images to C2..C5 to P3..P7.
//!
//! Both are descriptions: plain structs of layers with the names that torchvision's files use, and one `forward` over any
//! [`Engine`](retinanet_ops::network::Engine).
//!
//! ```
//! use retinanet_backbone::{Fpn, FpnConfig, ResNet, ResNetConfig, ResNetDepth};
//!
//! let resnet = ResNet::new(&ResNetConfig { depth: ResNetDepth::R50, ..Default::default() }, "backbone.body")?;
//! let fpn = Fpn::new(&FpnConfig::default(), resnet.out_channels(), "backbone.fpn")?;
//! let parameters: usize = resnet.layers().flat_map(|layer| layer.parameters()).map(|p| p.shape.iter().product::<usize>()).sum();
//! // torchvision's ResNet-50 without its classifier has 23,508,032 weights, and 53,120 running statistics beside them.
//! assert_eq!(parameters, 23_508_032 + 53_120);
//! assert_eq!(fpn.levels().len(), 5);
//! # Ok::<(), retinanet_backbone::BackboneError>(())
//! ```

mod fpn;
mod resnet;

pub use fpn::{Fpn, FpnConfig, P6Source};
pub use resnet::{Block, ResNet, ResNetConfig, ResNetDepth};

/// A configuration that describes no network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BackboneError {
    /// A field's value is out of its range.
    #[error("{field}: expected {expected}, found {found}")]
    Value {
        /// Where.
        field: &'static str,
        /// What is allowed.
        expected: String,
        /// What was given.
        found: String,
    },
}

fn ensure(
    holds: bool,
    field: &'static str,
    expected: &str,
    found: impl std::fmt::Display,
) -> Result<(), BackboneError> {
    if holds {
        Ok(())
    } else {
        Err(BackboneError::Value { field, expected: expected.to_owned(), found: found.to_string() })
    }
}
