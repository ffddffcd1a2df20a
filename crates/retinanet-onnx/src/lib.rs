//! ONNX graphs: a [`Graph`] that nodes are added to, and an [`Engine`](retinanet_ops::network::Engine) that writes the nodes
//! of a described network, [`GraphEngine`].
//!
//! Feature maps are `[N, C, H, W]` as ONNX has them, of any N, H and W; norms with stored statistics are folded into the
//! convolutions.
//!
//! ```
//! use candle_core::{DType, Device, Tensor};
//! use retinanet_onnx::{About, Dim, ElementType, Graph, GraphEngine, Opset};
//! use retinanet_ops::network::{ConvLayer, Engine, Parameters};
//!
//! let layer = ConvLayer::new("conv", 3, 8, 3, 1).with_relu();
//! let parameters = Parameters::new([
//!     ("conv.weight".to_owned(), Tensor::ones((8, 3, 3, 3), DType::F32, &Device::Cpu)?),
//!     ("conv.bias".to_owned(), Tensor::zeros(8, DType::F32, &Device::Cpu)?),
//! ])?;
//! let mut graph = Graph::new(Opset::default());
//! let shape = |channels| [Dim::Any("batch"), Dim::Fixed(channels), Dim::Any("height"), Dim::Any("width")];
//! let image = graph.input("image", ElementType::F32, &shape(3), "RGB");
//! let y = GraphEngine::new(&mut graph, &parameters).conv(&layer, &image, None)?;
//! graph.output(&y, ElementType::F32, &shape(8), "a feature map");
//! let model = graph.into_model(&About { name: "one layer", ..About::default() });
//! assert_eq!(model.graph.as_ref().map(|graph| graph.node.len()), Some(2)); // Conv and Relu
//! assert!(retinanet_onnx::encode(&model)?.len() > 8 * 27 * 4);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod engine;
mod graph;
mod model;
pub mod proto;

pub use engine::GraphEngine;
pub use graph::{Attribute, Dim, ElementType, Graph, Value};
pub use model::{About, OnnxError, Opset, decode, encode};
