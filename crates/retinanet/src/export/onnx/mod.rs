//! Detectors as ONNX files.
//!
//! The network is the one that runs: the same description, written down by another engine. What stands around it here,
//! normalisation, anchors and post-processing, is written as nodes too, for images of any number and size.

mod anchors;
mod detections;
mod input;
mod metadata;

use crate::config::ConfigError;
use crate::detector::Detector;
use crate::error::{Error, Result};
use crate::postprocess::Borders;
use detections::Level;
use retinanet_anchors::Pyramid;
use retinanet_head::HeadOutput;
use retinanet_onnx::proto::{DimensionValue, ModelProto, ValueInfoProto};
use retinanet_onnx::{About, Attribute, Dim, ElementType, Graph, GraphEngine, Opset, Value, encode};
use std::path::Path;

/// What a caller of the file gives for images.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnnxInput {
    /// `[N, 3, H, W]`, f32: resized, normalised, padded with zeros.
    #[default]
    F32Nchw,
    /// `[N, H, W, 3]`, bytes of red, green and blue: resized and padded with anything; the rest happens in the graph.
    U8Nhwc,
}

/// How a detector is written as ONNX.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OnnxOptions {
    /// Version of the operators.
    pub opset: Opset,
    /// What a caller gives for images.
    pub input: OnnxInput,
    /// Whether the graph ends with detections, or with the logits, deltas and anchors that they are made of.
    pub with_nms: bool,
}

/// A file that was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnnxFile {
    /// What a caller gives.
    pub inputs: Vec<OnnxValue>,
    /// What a caller gets.
    pub outputs: Vec<OnnxValue>,
    /// Number of nodes.
    pub nodes: usize,
    /// Size.
    pub bytes: usize,
}

/// An input or output of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnnxValue {
    /// Name.
    pub name: String,
    /// Type of the elements: `f32`, `u8` or `i64`.
    pub element: &'static str,
    /// A number or the name of a length that is known when the model runs, one a dimension.
    pub shape: Vec<String>,
    /// What it is.
    pub doc: String,
}

impl Detector {
    /// Writes the detector as an ONNX file that holds its weights, whole or not at all.
    ///
    /// The layers of a quantised detector are written in f32, with the weights that their integers stand for.
    ///
    /// # Shapes
    /// Any N, and any H and W that are multiples of `pad_to` of the preprocessing, which stands in the metadata, as do
    /// classes and configuration. Inputs:
    /// - `images`: as [`OnnxInput`] says
    /// - `image_sizes`: `[N, 2]`, i64, height and width of each image without its padding. With detections, which are
    ///   clipped to it, and with bytes, where what lies beyond counts as padding
    ///
    /// Outputs, R anchors of all levels, fine to coarse, each in the order (y, x, anchor):
    /// - `class_logits`: `[N, R, K]`
    /// - `box_deltas`: `[N, R, 4]`
    /// - `anchors`: `[R, 4]`, corners in pixels
    ///
    /// or, with detections, M of each image, best first, those behind `num_detections` being 0 and of label -1:
    /// - `boxes`: `[N, M, 4]`, corners in pixels of the resized image
    /// - `scores`: `[N, M]`
    /// - `labels`: `[N, M]`, i64, 0..K
    /// - `num_detections`: `[N]`, i64
    ///
    /// # Errors
    /// The file would take 2 GiB or cannot be written, or the post-processing keeps no detections.
    pub fn export_onnx(&self, path: impl AsRef<Path>, options: &OnnxOptions) -> Result<OnnxFile> {
        let path = path.as_ref();
        let model = self.to_onnx(options)?;
        let bytes = encode(&model)?;
        let in_file = |source| Error::Io { path: path.to_owned(), source };
        retinanet_annotations::remove_abandoned(path);
        retinanet_annotations::write_atomically(path, |file| file.write_all(&bytes)).map_err(in_file)?;
        let graph = model.graph.unwrap_or_default();
        let values = |values: &[ValueInfoProto]| values.iter().map(OnnxValue::new).collect();
        Ok(OnnxFile {
            inputs: values(&graph.input),
            outputs: values(&graph.output),
            nodes: graph.node.len(),
            bytes: bytes.len(),
        })
    }

    /// The content of the file that [`Self::export_onnx`] writes.
    ///
    /// # Errors
    /// The post-processing keeps no detections, or clips them in another order than torchvision's.
    pub fn to_onnx(&self, options: &OnnxOptions) -> Result<ModelProto> {
        if options.with_nms {
            self.check_post_processing()?;
        }
        let network = &self.model.network;
        let mut graph = Graph::new(options.opset);
        let inputs = input::add(&mut graph, options, &self.config.preprocessing);
        let output = network.forward(&mut GraphEngine::new(&mut graph, &self.model.parameters), &inputs.images)?;
        let anchors = anchors::add(&mut graph, network.anchor_generator(), &inputs.images, &output.class_logits);
        let levels = levels(&mut graph, output, anchors, network.num_classes());
        match &inputs.sizes {
            Some(sizes) if options.with_nms => {
                detections::add(&mut graph, &levels, sizes, &self.config, network.num_classes());
            }
            _ => raw_outputs(&mut graph, &levels, network.num_classes()),
        }
        let (doc, metadata) = (metadata::doc(options), metadata::entries(self, options)?);
        Ok(graph.into_model(&About {
            name: "retinanet",
            producer: "retinanet",
            producer_version: env!("CARGO_PKG_VERSION"),
            doc: &doc,
            metadata: &metadata,
        }))
    }

    fn check_post_processing(&self) -> Result<()> {
        let post = &self.config.post_processing;
        for (field, found) in [("pre_nms_top_k", post.pre_nms_top_k), ("max_detections", post.max_detections)] {
            if found == 0 {
                let (field, expected) = (format!("post_processing.{field}"), "at least 1, with detections".to_owned());
                return Err(ConfigError::Value { field, expected, found: found.to_string() }.into());
            }
        }
        if post.borders != Borders::Torchvision {
            let field = "post_processing.borders".to_owned();
            let expected = "torchvision, with detections (raw outputs go with any)".to_owned();
            return Err(
                ConfigError::Value { field, expected, found: format!("{:?}", post.borders).to_lowercase() }.into()
            );
        }
        Ok(())
    }
}

/// The anchors of each level as rows: the classes and offsets of an anchor are side by side once the channels are last.
fn levels(graph: &mut Graph, output: HeadOutput<Value>, anchors: Pyramid<Value>, num_classes: usize) -> Pyramid<Level> {
    let mut rows = |map: &Value, columns: usize| {
        let channels_last = [("perm", Attribute::Ints(&[0, 2, 3, 1]))];
        let map = graph.node("Transpose", &format!("{}.channels_last", map.name()), &[map], &channels_last);
        graph.reshape(&format!("{}.rows", map.name()), &map, &[0, -1, columns as i64])
    };
    let level = |((logits, deltas), anchors): ((&Value, &Value), &Value)| Level {
        logits: rows(logits, num_classes),
        deltas: rows(deltas, 4),
        anchors: anchors.clone(),
    };
    let maps = output.class_logits.values().iter().zip(output.box_deltas.values());
    let levels = maps.zip(anchors.values()).map(level).collect();
    Pyramid::new(anchors.finest(), levels).expect("as many as there are anchors")
}

/// A dimension of images.
const BATCH: Dim<'static> = Dim::Any("batch");

fn raw_outputs(graph: &mut Graph, levels: &Pyramid<Level>, num_classes: usize) {
    let all = |of: fn(&Level) -> &Value| levels.values().iter().map(|level| of(level).clone()).collect::<Vec<_>>();
    let rows = Dim::Any("anchors");
    let logits = graph.concat("class_logits", &all(|level| &level.logits), 1);
    let deltas = graph.concat("box_deltas", &all(|level| &level.deltas), 1);
    let anchors = graph.concat("anchors", &all(|level| &level.anchors), 0);
    let doc = "class logits of every anchor; the score is their sigmoid";
    graph.output(&logits, ElementType::F32, &[BATCH, rows, Dim::Fixed(num_classes)], doc);
    let doc = "dx, dy, dw, dh of every anchor: the centre moves by (dx, dy) sides of the anchor, the sides grow by \
               exp(dw), exp(dh); box_coder in the metadata has their weights and limit";
    graph.output(&deltas, ElementType::F32, &[BATCH, rows, Dim::Fixed(4)], doc);
    let doc = "x0, y0, x1, y1 of every anchor, in pixels of the padded image";
    graph.output(&anchors, ElementType::F32, &[rows, Dim::Fixed(4)], doc);
}

impl OnnxValue {
    fn new(info: &ValueInfoProto) -> Self {
        let tensor = info.r#type.as_ref().and_then(|kind| kind.tensor_type.as_ref());
        let element = match tensor.map(|tensor| tensor.elem_type) {
            Some(kind) if kind == ElementType::U8 as i32 => "u8",
            Some(kind) if kind == ElementType::I64 as i32 => "i64",
            _ => "f32",
        };
        let shape = tensor.and_then(|tensor| tensor.shape.as_ref()).into_iter().flat_map(|shape| &shape.dim);
        let shape = shape.map(|dim| match &dim.value {
            Some(DimensionValue::DimValue(length)) => length.to_string(),
            Some(DimensionValue::DimParam(name)) => name.clone(),
            None => "any".to_owned(),
        });
        Self { name: info.name.clone(), element, shape: shape.collect(), doc: info.doc_string.clone() }
    }
}
