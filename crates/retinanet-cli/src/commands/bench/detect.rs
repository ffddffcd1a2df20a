//! From decoded images to boxes.

use super::clock::{self, Clock};
use super::core::add_stages;
use super::random::picture;
use super::subject::Subject;
use super::{Measured, add_layers, candidates, dump, precision};
use crate::args::BenchArgs;
use crate::inputs;
use retinanet::{ComputeDevice, DetectionPlan, InferenceOptions};
use retinanet_anchors::Detection;
use retinanet_data::{DecodeLimits, Image, decode_file};
use serde_json::json;
use std::time::Instant;

pub(super) fn measure(subject: Subject, args: &BenchArgs, device: ComputeDevice) -> anyhow::Result<Measured> {
    let (images, failures) = if args.images.is_empty() {
        ((0..args.batch).map(|image_idx| picture(subject.size, image_idx as u64)).collect(), Vec::new())
    } else {
        decode(args)
    };
    anyhow::ensure!(!images.is_empty(), "--images: expected at least 1 image, found 0 that can be read");
    let padded = args.images.is_empty().then(|| subject.padded());
    let (detector, options) = precision::prepare(subject, args, device, &images)?;
    let mut details = serde_json::Map::new();
    if let Some(count) = args.candidates {
        let passing = candidates::calibrate(&detector, &options, &images, count)?;
        details.insert("locations_per_image".to_owned(), json!(passing));
    }

    let dense = if args.beside_dense {
        Some(detector.plan(&InferenceOptions { sparse_head: false, ..options.clone() })?)
    } else {
        None
    };
    let plan = detector.into_plan(&options)?;
    let mut dense_ms = Vec::new();
    let (runs, (detections, share)) = clock::repeat(args.repeat, |clock| {
        if let Some(dense) = &dense {
            let start = Instant::now();
            detect(dense, &images, args.batch, clock)?;
            dense_ms.push(start.elapsed().as_secs_f64() * 1e3);
            clock.restart();
        }
        detect(&plan, &images, args.batch, clock)
    })?;
    if let Some(path) = &args.dump {
        dump::detections(path, &detections)?;
    }
    if dense.is_some() {
        // The first was made to warm up.
        let min = dense_ms.iter().skip(1).copied().fold(f64::INFINITY, f64::min);
        details.insert("dense_min_ms".to_owned(), json!(min));
    }
    let found: usize = detections.iter().map(Vec::len).sum();
    details.insert("box_tower_share".to_owned(), json!(share));
    details.insert("images".to_owned(), json!(images.len()));
    details.insert("detections_per_image".to_owned(), json!(found as f64 / images.len() as f64));
    add_layers(&mut details, &plan);
    Ok(Measured { runs, images_per_run: images.len(), size: padded, details, failures })
}

/// One run over all images: what is found, and the mean share of the box subnet that was evaluated.
fn detect(
    plan: &DetectionPlan,
    images: &[Image],
    batch: usize,
    clock: &mut Clock,
) -> anyhow::Result<(Vec<Vec<Detection>>, f64)> {
    let mut detections = Vec::with_capacity(images.len());
    let mut share = 0.0;
    for batch in images.chunks(batch) {
        detections.extend(plan.detect_batch(&batch.iter().collect::<Vec<_>>())?);
        let report = plan.last_run();
        share += report.box_head_share * batch.len() as f64 / images.len() as f64;
        add_stages(clock, &report, |_| true);
    }
    Ok((detections, share))
}

/// The images that can be read, and what was wrong with the others.
fn decode(args: &BenchArgs) -> (Vec<Image>, Vec<String>) {
    let (paths, mut failures) = inputs::partition(inputs::expand(&args.images, false));
    let mut images = Vec::with_capacity(paths.len());
    for path in paths {
        match decode_file(&path, &DecodeLimits::default()) {
            Ok(image) => images.push(image),
            Err(error) => failures.push(error.to_string()),
        }
    }
    (images, failures)
}
