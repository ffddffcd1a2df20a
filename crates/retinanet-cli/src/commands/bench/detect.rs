//! From decoded images to boxes.

use super::random::uniform;
use super::subject::Subject;
use super::{Measured, candidates, clock, dump};
use crate::args::BenchArgs;
use crate::commands::detect::list_inputs;
use retinanet::InferenceOptions;
use retinanet_anchors::Detection;
use retinanet_data::{DecodeLimits, Image, decode_file};
use serde_json::json;

pub(super) fn measure(subject: Subject, args: &BenchArgs) -> anyhow::Result<Measured> {
    let (images, failures) = if args.images.is_empty() {
        ((0..args.batch).map(|image_idx| random_image(&subject, image_idx)).collect(), Vec::new())
    } else {
        decode(args)
    };
    anyhow::ensure!(!images.is_empty(), "--images: expected at least 1 image, found 0 that can be read");
    let padded = args.images.is_empty().then(|| subject.padded());
    let mut detector = subject.detector;
    let mut details = serde_json::Map::new();
    if let Some(count) = args.candidates {
        candidates::calibrate(&mut detector, &images, count)?;
        let mut passing = 0;
        for image in &images {
            passing += candidates::count(&detector, &candidates::predict(&detector, image)?)?;
        }
        details.insert("locations_per_image".to_owned(), json!(passing as f64 / images.len() as f64));
    }

    let plan = detector.into_plan(&InferenceOptions::default())?;
    let (runs, detections) = clock::repeat(args.repeat, |clock| {
        let mut detections: Vec<Vec<Detection>> = Vec::with_capacity(images.len());
        for images in images.chunks(args.batch) {
            let views: Vec<_> = images.iter().map(Image::view).collect();
            let batch = plan.config().preprocessing.batch(&views)?;
            clock.lap("preprocess");
            detections.extend(plan.detect_prepared(&batch)?);
            clock.lap("network and postprocess");
        }
        Ok(detections)
    })?;
    if let Some(path) = &args.dump {
        dump::detections(path, &detections)?;
    }
    let found: usize = detections.iter().map(Vec::len).sum();
    details.insert("images".to_owned(), json!(images.len()));
    details.insert("detections_per_image".to_owned(), json!(found as f64 / images.len() as f64));
    Ok(Measured { runs, images_per_run: images.len(), size: padded, details, failures })
}

/// The images that can be read, and what was wrong with the others.
fn decode(args: &BenchArgs) -> (Vec<Image>, Vec<String>) {
    let (paths, errors) = list_inputs(&args.images);
    let mut failures: Vec<String> = errors.into_iter().map(|error| error.error).collect();
    let mut images = Vec::with_capacity(paths.len());
    for path in paths {
        match decode_file(&path, &DecodeLimits::default()) {
            Ok(image) => images.push(image),
            Err(error) => failures.push(error.to_string()),
        }
    }
    (images, failures)
}

/// A picture of the size that the resize is to give.
fn random_image(subject: &Subject, image_idx: usize) -> Image {
    let size = subject.size;
    let count = (size.width * size.height * 3) as u64;
    let pixels = (0..count).map(|position| (uniform(image_idx as u64 + 2, position) * 256.0) as u8).collect();
    Image { size, pixels }
}
