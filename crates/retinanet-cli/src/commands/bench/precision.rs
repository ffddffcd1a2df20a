//! How the detector is run: options, and 8 bits for a network that was never trained.

use super::subject::Subject;
use crate::args::BenchArgs;
use retinanet::{ComputeDevice, Detector, InferenceOptions, Precision, QuantizeOptions, quantize};
use retinanet_data::Image;
use std::ops::ControlFlow;

/// Sides that images are resized to for the calibration of random weights, at most: it is no part of what is timed.
const CALIBRATION_SIDE: usize = 256;

/// Most images of that calibration.
const CALIBRATION_IMAGES: usize = 2;

/// The options, and the detector they are for: with random weights, quantised on these images where int8 is asked for.
pub(super) fn prepare(
    subject: Subject,
    args: &BenchArgs,
    device: ComputeDevice,
    images: &[Image],
) -> anyhow::Result<(Detector, InferenceOptions)> {
    let detector = subject.detector;
    let isa = args.isa.map(|isa| isa.isa());
    let options = InferenceOptions { isa, sparse_head: !args.dense, ..args.inference.options(&detector, device) };
    let is_random = args.model.is_none();
    let detector =
        if options.precision == Precision::Int8 && is_random { quantized(detector, images)? } else { detector };
    Ok((detector, options))
}

fn quantized(mut detector: Detector, images: &[Image]) -> anyhow::Result<Detector> {
    let preprocessing = detector.config.preprocessing;
    detector.config.preprocessing.min_size = preprocessing.min_size.min(CALIBRATION_SIDE);
    detector.config.preprocessing.max_size = preprocessing.max_size.min(CALIBRATION_SIDE);
    let options = QuantizeOptions::default();
    let images = &images[..images.len().min(CALIBRATION_IMAGES)];
    let go_on = &mut |_, _| ControlFlow::Continue(());
    let quantized = quantize(&detector, &options, images.len(), &mut |i| images.get(i).cloned(), go_on)?;
    let mut detector = quantized.map_or(detector, |quantized| quantized.detector);
    detector.config.preprocessing = preprocessing;
    Ok(detector)
}
