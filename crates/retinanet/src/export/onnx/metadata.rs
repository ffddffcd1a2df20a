//! What the file says of itself, so that it is all that a program needs.

use super::{OnnxInput, OnnxOptions};
use crate::detector::{CLASSES, CONFIG, Detector};
use crate::error::Result;
use serde::Serialize;

/// What a program reads: classes, preparation and post-processing in JSON, the whole configuration in TOML.
pub(super) fn entries(detector: &Detector, options: &OnnxOptions) -> Result<Vec<(&'static str, String)>> {
    let config = &detector.config;
    let mut entries = vec![
        ("format", "retinanet".to_owned()),
        ("input", input_name(options.input).to_owned()),
        (CLASSES, json(&detector.classes)),
        ("preprocessing", json(&config.preprocessing)),
        ("post_processing", json(&config.post_processing)),
        ("box_coder", json(&config.box_coder)),
        (CONFIG, config.to_toml()?),
    ];
    if detector.quantization.is_some() {
        entries.push(("quantization", "f32 weights that stand for 8-bit integers".to_owned()));
    }
    Ok(entries)
}

/// What a person reads.
pub(super) fn doc(options: &OnnxOptions) -> String {
    let outputs = if options.with_nms { "detections" } else { "class logits, box deltas and anchors" };
    format!(
        "RetinaNet: images to {outputs}. The metadata has classes, preprocessing and post_processing in JSON: resize the \
         shorter side to min_size unless the longer would pass max_size, pad right and below to a multiple of pad_to; \
         divide boxes by the factors of the resize."
    )
}

fn input_name(input: OnnxInput) -> &'static str {
    match input {
        OnnxInput::F32Nchw => "f32-nchw",
        OnnxInput::U8Nhwc => "u8-nhwc",
    }
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("numbers and strings have a form in JSON")
}
