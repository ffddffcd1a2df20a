//! `retinanet detect`: images to annotated pictures and results for programs.

mod entry;
mod format;
mod images;
mod journal;
mod results;

use crate::args::DetectArgs;
use crate::inputs::{self, ErrorEntry};
use crate::interrupt::Interrupt;
use crate::zoo::{self, Wanted};
use crate::{Status, progress, table};
use anyhow::{Context, ensure};
use entry::{Entry, ImageEntry};
use format::ImageIds;
use images::{Decoded, Images};
use rayon::prelude::*;
use results::{Labels, Results};
use retinanet::{DetectionPlan, Detector};
use retinanet_anchors::Detection;
use retinanet_data::Image;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Scores from which detections are reported when the option does not say.
const RESULT_THRESHOLD: f32 = 0.05;
const PICTURE_THRESHOLD: f32 = 0.3;

pub(crate) fn run(args: &DetectArgs) -> anyhow::Result<Status> {
    let model = args.model.as_deref().context(
        "--model: expected a checkpoint of `retinanet train` (such as runs/NAME/last.safetensors), RetinaNet weights of torchvision, Detectron2 or MMDetection (.pth, .pkl), or a name of `retinanet models`, found none; `retinanet demo` trains a small one",
    )?;
    ensure!(args.batch > 0, "--batch: expected at least 1, found 0");
    let format = results::format(args)?;
    let ids = ImageIds::read(args.image_ids.as_deref())?;
    let device = args.engine.place.open()?;
    let interrupt = Interrupt::listen(zoo::INTERRUPTED)?;
    let Some(path) = zoo::resolve(Path::new(model), Wanted::Detector, &args.zoo, &interrupt)? else {
        return Ok(Status::DoneWithFailures);
    };
    interrupt.announce("interrupted: finishing this image");
    let mut detector = Detector::load(path)?;
    configure(&mut detector, args)?;
    let options = args.inference.options(&detector, device);
    let plan = detector.into_plan(&options)?;

    let items = inputs::expand(&listed(args)?, args.recursive);
    let post = &plan.config().post_processing;
    let preprocessing = &plan.config().preprocessing;
    let settings = json!({
        "model": model, "score_threshold": post.score_threshold, "max_detections": post.max_detections,
        "min_size": preprocessing.min_size, "max_size": preprocessing.max_size, "dtype": format!("{:?}", options.precision),
    });
    let Some(mut results) = Results::open(args, format, &ids, &settings)? else {
        eprintln!("{}: complete already", args.results.as_deref().unwrap_or(Path::new("")).display());
        return Ok(Status::Done);
    };
    let num_held = results.num_held();
    if num_held > 0 {
        eprintln!("resumed: {} done before", table::count(num_held, "image", "images"));
    }
    let stems = images::stems(&items);
    let pictures = images::Pictures::new(args, plan.classes())?;

    let bar = progress::bar(items.len(), "images").with_message("detecting");
    let start = Instant::now();
    let (mut errors, mut num_images) = (Vec::new(), 0);
    let mut images = Images::open(&items, |path| results.holds(path), args.batch);
    bar.set_position(images.num_skipped() as u64);
    bar.reset_eta();
    while !interrupt.is_set() {
        let batch = images.next_batch();
        if batch.is_empty() {
            break;
        }
        let found = detect(&plan, &batch);
        let entries: Vec<Entry> = batch
            .par_iter()
            .zip(found)
            .map(|(decoded, found)| entry(decoded, found, &stems[decoded.position], &pictures, &plan))
            .collect();
        for (decoded, entry) in batch.iter().zip(entries) {
            results.push(decoded.position, &entry)?;
            match entry {
                Entry::Image(image) => {
                    num_images += 1;
                    if results.leaves_stdout() {
                        bar.suspend(|| crate::out!("{}", image.line(pictures.threshold)))?;
                    }
                }
                Entry::Error(error) => {
                    bar.suspend(|| eprintln!("failed: {}", error.error));
                    errors.push(error);
                }
            }
            bar.inc(1);
        }
    }
    drop(images);
    bar.finish_and_clear();

    let is_interrupted = interrupt.is_set();
    let leaves_stdout = results.leaves_stdout();
    let labels = Labels { model, classes: plan.classes(), ids: &ids };
    let journal = results.finish(&items, &stems, !is_interrupted, &labels)?;
    if leaves_stdout {
        let seconds = start.elapsed().as_secs_f64();
        let written: Vec<String> = [
            (!args.no_pictures).then(|| format!("pictures in {}", args.output.display())),
            args.crops.as_ref().map(|folder| format!("crops in {}", folder.display())),
            args.results.as_ref().filter(|_| journal.is_none()).map(|path| format!("results in {}", path.display())),
        ]
        .into_iter()
        .flatten()
        .collect();
        let written = if written.is_empty() { String::new() } else { format!("; {}", written.join(", ")) };
        crate::out!(
            "{} in {seconds:.1} s, {:.2} images/s{written}",
            table::count(num_images, "image", "images"),
            num_images as f64 / seconds.max(1e-9)
        )?;
    }
    if let Some(journal) = journal {
        eprintln!("what was found so far is kept in {}; go on with --resume", journal.display());
    }
    if !errors.is_empty() {
        eprintln!("{} could not be used, named above", table::count(errors.len(), "input", "inputs"));
    }
    Ok(if errors.is_empty() && !is_interrupted { Status::Done } else { Status::DoneWithFailures })
}

fn configure(detector: &mut Detector, args: &DetectArgs) -> anyhow::Result<()> {
    let post = &mut detector.config.post_processing;
    // The network's own threshold is the lower one; pictures draw what is above theirs.
    post.score_threshold = args.score_threshold.unwrap_or(RESULT_THRESHOLD);
    post.max_detections = args.max_detections.unwrap_or(post.max_detections);
    let preprocessing = &mut detector.config.preprocessing;
    if let Some(size) = args.min_size {
        preprocessing.min_size = size;
        preprocessing.max_size = preprocessing.max_size.max(size);
    }
    preprocessing.max_size = args.max_size.unwrap_or(preprocessing.max_size);
    detector.config.validate()?;
    Ok(())
}

/// The inputs as given, then those of the lists.
fn listed(args: &DetectArgs) -> anyhow::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for input in &args.inputs {
        if input == Path::new("-") {
            paths.extend(inputs::read_list(input)?);
        } else {
            paths.push(input.clone());
        }
    }
    for list in &args.list {
        paths.extend(inputs::read_list(list)?);
    }
    Ok(paths)
}

/// What is found in each image of the batch that could be read; of one that could not, nothing.
///
/// A batch that the network cannot run on is tried image by image, so that one costs the others nothing.
fn detect(plan: &DetectionPlan, batch: &[Decoded]) -> Vec<anyhow::Result<Vec<Detection>>> {
    let images: Vec<&Image> = batch.iter().filter_map(|decoded| decoded.image.as_ref().ok()).collect();
    let found = match plan.detect_batch(&images) {
        Ok(found) => found.into_iter().map(Ok).collect(),
        Err(error) if images.len() == 1 => vec![Err(error.into())],
        Err(_) => images.iter().map(|image| Ok(plan.detect(image)?)).collect::<Vec<_>>(),
    };
    let mut found = found.into_iter();
    let of_image = |decoded: &Decoded| match &decoded.image {
        Ok(_) => found.next().unwrap_or_else(|| Ok(Vec::new())),
        Err(_) => Ok(Vec::new()),
    };
    batch.iter().map(of_image).collect()
}

/// The entry of an image, its pictures written.
fn entry(
    decoded: &Decoded,
    found: anyhow::Result<Vec<Detection>>,
    stem: &str,
    pictures: &images::Pictures<'_>,
    plan: &DetectionPlan,
) -> Entry {
    let fail = |error: String| Entry::Error(ErrorEntry { path: decoded.path.clone(), error });
    let image = match &decoded.image {
        Ok(image) => image,
        Err(error) => return fail(error.clone()),
    };
    let path = Path::new(&decoded.path);
    let written = found.and_then(|found| pictures.write(path, stem, image, &found).map(|()| found));
    match written {
        Ok(found) => Entry::Image(ImageEntry::new(path, image.size, &found, plan.classes())),
        Err(error) => {
            let text = crate::message(&error);
            // What concerns a picture names that picture's file.
            fail(if text.contains(&decoded.path) { text } else { format!("{}: {text}", decoded.path) })
        }
    }
}
