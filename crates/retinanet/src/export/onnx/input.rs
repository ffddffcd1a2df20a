//! What a caller gives, as the network takes it.

use super::{BATCH, OnnxInput, OnnxOptions};
use retinanet_data::Preprocessing;
use retinanet_onnx::{Attribute, Dim, ElementType, Graph, Value};

/// The inputs of a graph.
pub(super) struct Inputs {
    /// `[N, 3, H, W]`, normalised.
    pub(super) images: Value,
    /// `[N, 2]`, height and width without the padding, where the graph needs them.
    pub(super) sizes: Option<Value>,
}

pub(super) fn add(graph: &mut Graph, options: &OnnxOptions, preprocessing: &Preprocessing) -> Inputs {
    let (channels, height, width) = (Dim::Fixed(3), Dim::Any("height"), Dim::Any("width"));
    let pad_to = preprocessing.pad_to;
    let images = match options.input {
        OnnxInput::F32Nchw => {
            let doc = format!("RGB, resized, normalised, padded with zeros to multiples of {pad_to}");
            graph.input("images", ElementType::F32, &[BATCH, channels, height, width], &doc)
        }
        OnnxInput::U8Nhwc => {
            let doc = format!("RGB, resized, padded with anything to multiples of {pad_to}");
            graph.input("images", ElementType::U8, &[BATCH, height, width, channels], &doc)
        }
    };
    let needs_sizes = options.with_nms || options.input == OnnxInput::U8Nhwc;
    let sizes = needs_sizes.then(|| {
        let doc = "height and width of each resized image, without its padding";
        graph.input("image_sizes", ElementType::I64, &[BATCH, Dim::Fixed(2)], doc)
    });
    match (options.input, sizes) {
        (OnnxInput::U8Nhwc, Some(sizes)) => {
            let images = prepared(graph, &images, &sizes, preprocessing);
            Inputs { images, sizes: Some(sizes) }
        }
        (_, sizes) => Inputs { images, sizes },
    }
}

/// `(p / 255 - mean) / std`, channels first, zeros beyond the images.
fn prepared(graph: &mut Graph, bytes: &Value, sizes: &Value, preprocessing: &Preprocessing) -> Value {
    // The transposition comes first, where there is a byte a value.
    let channels_first = [("perm", Attribute::Ints(&[0, 3, 1, 2]))];
    let x = graph.node("Transpose", "images.channels_first", &[bytes], &channels_first);
    let x = graph.cast("images.f32", &x, ElementType::F32);
    let mean = graph.floats("images.mean", &[3, 1, 1], &preprocessing.mean.map(|mean| 255.0 * mean));
    let std = graph.floats("images.std", &[3, 1, 1], &preprocessing.std.map(|std| 255.0 * std));
    let x = graph.node("Sub", "images.centred", &[&x, &mean], &[]);
    let x = graph.node("Div", "images.normalised", &[&x, &std], &[]);

    let canvas = graph.shape("images.canvas", &x, 2, 4);
    let [rows, columns] = [0, 1].map(|axis| {
        let name = ["images.rows", "images.columns"][axis];
        let (index, zero, one) = (graph.int(axis as i64), graph.int(0), graph.int(1));
        let count = graph.node("Gather", &format!("{name}.count"), &[&canvas, &index], &[]);
        let positions = graph.node("Range", name, &[&zero, &count, &one], &[]);
        let positions = graph.reshape(&format!("{name}.along"), &positions, [&[-1, 1][..], &[1, -1]][axis]);
        let index = graph.ints(&[axis as i64]);
        let limits = graph.node("Gather", &format!("{name}.sizes"), &[sizes, &index], &[("axis", Attribute::Int(1))]);
        let limits = graph.reshape(&format!("{name}.limits"), &limits, &[-1, 1, 1, 1]);
        graph.node("Less", &format!("{name}.inside"), &[&positions, &limits], &[])
    });
    let inside = graph.node("And", "images.inside", &[&rows, &columns], &[]);
    let zero = graph.float(0.0);
    graph.node("Where", "images.padded", &[&inside, &x, &zero], &[])
}
