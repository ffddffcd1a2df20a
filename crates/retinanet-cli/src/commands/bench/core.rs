//! Backbone, pyramid and heads, on random pixels.

use super::random::uniform;
use super::subject::Subject;
use super::{Measured, clock, dump};
use crate::args::BenchArgs;
use candle_core::{Device, Tensor};
use retinanet_anchors::ImageSize;

pub(super) fn measure(subject: Subject, args: &BenchArgs) -> anyhow::Result<Measured> {
    let padded = subject.padded();
    let images = images(args.batch, padded)?;
    let model = subject.detector.model;
    let (runs, predictions) = clock::repeat(args.repeat, |clock| {
        let predictions = model.predict(&images)?;
        clock.lap("network");
        Ok(predictions)
    })?;
    if let Some(path) = &args.dump {
        dump::predictions(path, &images, &predictions)?;
    }
    let details = serde_json::Map::new();
    Ok(Measured { runs, images_per_run: args.batch, size: Some(padded), details, failures: Vec::new() })
}

/// `[N, H, W, 3]`, in the range of normalised pictures.
pub(super) fn images(batch: usize, size: ImageSize) -> anyhow::Result<Tensor> {
    let count = batch * size.width * size.height * 3;
    let pixels: Vec<f32> = (0..count as u64).map(|position| uniform(1, position) * 4.0 - 2.0).collect();
    Ok(Tensor::from_vec(pixels, (batch, size.height, size.width, 3), &Device::Cpu)?)
}
