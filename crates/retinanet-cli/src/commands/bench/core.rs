//! Backbone, pyramid and heads, on random pixels.

use super::random::{picture, uniform};
use super::subject::Subject;
use super::{Measured, add_layers, clock, dump, precision};
use crate::args::BenchArgs;
use candle_core::{Device, Tensor};
use retinanet::{ComputeDevice, RunReport};
use retinanet_anchors::ImageSize;

pub(super) fn measure(subject: Subject, args: &BenchArgs, device: ComputeDevice) -> anyhow::Result<Measured> {
    let padded = subject.padded();
    let calibration = picture(subject.size, 0);
    let (detector, options) = precision::prepare(subject, args, device, &[calibration])?;
    let plan = detector.into_plan(&options)?;
    let pixels = pixels(args.batch, padded);
    let image_len = pixels.len() / args.batch;
    let mut runner = plan.runner();
    runner.resize(&vec![padded; args.batch])?;
    let (runs, ()) = clock::repeat(args.repeat, |clock| {
        for (image_idx, pixels) in pixels.chunks_exact(image_len).enumerate() {
            runner.input_mut(image_idx).copy_from_slice(pixels);
        }
        clock.restart();
        runner.run()?;
        add_stages(clock, &runner.report(), |stage| !matches!(stage, "preprocess" | "post_process"));
        Ok(())
    })?;
    if let Some(path) = &args.dump {
        dump::predictions(path, &images(args.batch, padded)?, &runner.predictions()?)?;
    }
    let mut details = serde_json::Map::new();
    add_layers(&mut details, &plan);
    Ok(Measured { runs, images_per_run: args.batch, size: Some(padded), details, failures: Vec::new() })
}

/// The stages of a run that the mode has.
pub(super) fn add_stages(clock: &mut clock::Clock, report: &RunReport, is_wanted: impl Fn(&str) -> bool) {
    for (stage, time) in report.stages().into_iter().filter(|(stage, _)| is_wanted(stage)) {
        clock.add(stage, time.as_secs_f64() * 1e3);
    }
}

/// `[N, H, W, 3]`, in the range of normalised pictures.
pub(super) fn images(batch: usize, size: ImageSize) -> anyhow::Result<Tensor> {
    Ok(Tensor::from_vec(pixels(batch, size), (batch, size.height, size.width, 3), &Device::Cpu)?)
}

/// The same as numbers.
pub(super) fn pixels(batch: usize, size: ImageSize) -> Vec<f32> {
    let count = batch * size.width * size.height * 3;
    (0..count as u64).map(|position| uniform(1, position) * 4.0 - 2.0).collect()
}
