//! `retinanet export`: a model for other programs to run.

use crate::args::{ExportArgs, InputArg};
use crate::interrupt::Interrupt;
use crate::zoo::{self, Wanted};
use crate::{Status, output, table};
use retinanet::{Detector, OnnxFile, OnnxInput, OnnxOptions, OnnxValue, Opset};
use retinanet_data::Preprocessing;
use serde::Serialize;

#[derive(Serialize)]
struct Document<'a> {
    model: String,
    output: String,
    opset: i64,
    bytes: usize,
    nodes: usize,
    inputs: Vec<ValueEntry<'a>>,
    outputs: Vec<ValueEntry<'a>>,
}

#[derive(Serialize)]
struct ValueEntry<'a> {
    name: &'a str,
    element: &'a str,
    shape: &'a [String],
    doc: &'a str,
}

impl<'a> ValueEntry<'a> {
    fn all(values: &'a [OnnxValue]) -> Vec<Self> {
        let entry = |value: &'a OnnxValue| Self {
            name: &value.name,
            element: value.element,
            shape: &value.shape,
            doc: &value.doc,
        };
        values.iter().map(entry).collect()
    }
}

pub(crate) fn run(args: &ExportArgs) -> anyhow::Result<Status> {
    output::check_file(&args.model, &args.onnx, "--onnx")?;
    let input = match args.input {
        InputArg::F32Nchw => OnnxInput::F32Nchw,
        InputArg::U8Nhwc => OnnxInput::U8Nhwc,
    };
    let options = OnnxOptions { opset: Opset::new(args.opset)?, input, with_nms: args.with_nms };
    let Some(model) = zoo::resolve(&args.model, Wanted::Detector, &args.zoo, &Interrupt::ignored())? else {
        return Ok(Status::DoneWithFailures);
    };
    let detector = Detector::load(model)?;
    if detector.quantization.is_some() {
        eprintln!(
            "note: the model is quantised: its layers are written in f32, with what their 8-bit weights stand for"
        );
    }
    let file = detector.export_onnx(&args.onnx, &options)?;
    print(args, &file, &detector.config.preprocessing)?;
    Ok(Status::Done)
}

fn print(args: &ExportArgs, file: &OnnxFile, preprocessing: &Preprocessing) -> anyhow::Result<()> {
    if args.json {
        let document = Document {
            model: args.model.display().to_string(),
            output: args.onnx.display().to_string(),
            opset: args.opset,
            bytes: file.bytes,
            nodes: file.nodes,
            inputs: ValueEntry::all(&file.inputs),
            outputs: ValueEntry::all(&file.outputs),
        };
        return crate::out!("{}", serde_json::to_string(&document)?);
    }
    let mut rows = vec![["value", "type", "shape"].map(str::to_owned).to_vec()];
    for (kind, values) in [("in", &file.inputs), ("out", &file.outputs)] {
        let row = |value: &OnnxValue| {
            let shape = format!("[{}]", value.shape.join(", "));
            vec![format!("{kind:<4}{}", value.name), value.element.to_owned(), shape]
        };
        rows.extend(values.iter().map(row));
    }
    crate::out!("{}", table::render(&rows))?;
    let size = table::mebibytes(file.bytes as u64);
    crate::out!("\nONNX, opset {}, {} nodes, {size:.1} MiB: {}", args.opset, file.nodes, args.onnx.display())?;
    crate::out!("any batch; height and width: multiples of {}\n\nin Python:\n", preprocessing.pad_to)?;
    crate::out!("{}", snippet(args, preprocessing))
}

/// Python that runs the file on pictures of the right size.
fn snippet(args: &ExportArgs, preprocessing: &Preprocessing) -> String {
    let (images, sizes) = match args.input {
        InputArg::F32Nchw => {
            let Preprocessing { mean, std, .. } = preprocessing;
            let x = format!("((image / 255 - {mean:?}) / {std:?}).transpose(0, 3, 1, 2).astype(np.float32)");
            (x, args.with_nms)
        }
        InputArg::U8Nhwc => ("image".to_owned(), true),
    };
    let sizes = if sizes { ", \"image_sizes\": np.array([image.shape[1:3]])" } else { "" };
    let (outputs, shown) = if args.with_nms {
        ("boxes, scores, labels, counts", "print(boxes[0, :counts[0]], scores[0, :counts[0]], labels[0, :counts[0]])")
    } else {
        ("class_logits, box_deltas, anchors", "print(class_logits.shape, box_deltas.shape, anchors.shape)")
    };
    let Preprocessing { min_size, max_size, pad_to, .. } = preprocessing;
    format!(
        "    import numpy as np, onnxruntime as ort\n\
         \x20   from PIL import Image\n\
         \x20   session = ort.InferenceSession({:?})\n\
         \x20   image = Image.open(\"photo.jpg\").convert(\"RGB\")\n\
         \x20   scale = min({min_size} / min(image.size), {max_size} / max(image.size))\n\
         \x20   image = image.resize([max(1, round(side * scale / {pad_to})) * {pad_to} for side in image.size])\n\
         \x20   image = np.asarray(image)[None]\n\
         \x20   images = {images}\n\
         \x20   {outputs} = session.run(None, {{\"images\": images{sizes}}})\n\
         \x20   {shown}",
        args.onnx.display().to_string()
    )
}
