//! `retinanet detect`: images to annotated pictures and JSON.

use crate::args::DetectArgs;
use crate::interrupt::Interrupt;
use crate::{Status, data, pictures, progress, table};
use anyhow::Context;
use retinanet::{DetectionPlan, Detector};
use retinanet_anchors::{Detection, ImageSize};
use retinanet_annotations::Class;
use retinanet_data::{DecodeLimits, decode_file};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Scores from which detections are reported when the option does not say.
const JSON_THRESHOLD: f32 = 0.05;
const PICTURE_THRESHOLD: f32 = 0.3;

#[derive(Serialize)]
struct Document<'a> {
    model: &'a str,
    images: Vec<ImageEntry>,
    errors: Vec<ErrorEntry>,
}

#[derive(Serialize)]
struct ImageEntry {
    path: String,
    width: usize,
    height: usize,
    detections: Vec<DetectionEntry>,
}

#[derive(Serialize)]
struct DetectionEntry {
    r#box: [f32; 4],
    category_id: i64,
    name: String,
    score: f32,
}

#[derive(Serialize)]
pub(crate) struct ErrorEntry {
    path: String,
    pub(crate) error: String,
}

pub(crate) fn run(args: &DetectArgs) -> anyhow::Result<Status> {
    let model = args.model.as_deref().context(
        "--model: expected a checkpoint of `retinanet train` (such as runs/NAME/last.safetensors) or RetinaNet weights of torchvision, Detectron2 or MMDetection (.pth, .pkl), found none; `retinanet demo` trains a small one",
    )?;
    let mut detector = load(model)?;
    configure(&mut detector, args)?;
    let options = args.inference.options(&detector);
    let plan = detector.into_plan(&options)?;
    let interrupt = Interrupt::listen("interrupted: finishing this image")?;

    let (inputs, mut errors) = list_inputs(&args.inputs);
    let targets = if args.no_pictures { Vec::new() } else { picture_paths(&inputs, &args.output) };
    if !args.no_pictures {
        std::fs::create_dir_all(&args.output)
            .with_context(|| format!("{}: cannot make the folder", args.output.display()))?;
    }
    let bar = progress::bar(inputs.len(), "images").with_message("detecting");
    let start = Instant::now();
    let mut images = Vec::new();
    for (i, path) in inputs.iter().enumerate() {
        if interrupt.is_set() {
            break;
        }
        match detect(&plan, path, targets.get(i).map(PathBuf::as_path), args) {
            Ok((size, detections)) => {
                if !args.json {
                    bar.suspend(|| crate::out!("{}", line(path, size, &detections, plan.classes(), args)))?;
                }
                images.push(entry(path, size, &detections, plan.classes()));
            }
            Err(error) => errors.push(ErrorEntry { path: path.display().to_string(), error: crate::message(&error) }),
        }
        bar.inc(1);
    }
    bar.finish_and_clear();

    let messages: Vec<&str> = errors.iter().map(|error| error.error.as_str()).collect();
    data::report("failed", &messages);
    if !args.json {
        let seconds = start.elapsed().as_secs_f64();
        let written = if args.no_pictures { String::new() } else { format!("; pictures in {}", args.output.display()) };
        crate::out!(
            "{} in {seconds:.1} s, {:.2} images/s{written}",
            table::count(images.len(), "image", "images"),
            images.len() as f64 / seconds.max(1e-9)
        )?;
    }
    let is_complete = errors.is_empty() && !interrupt.is_set();
    if args.json {
        crate::out!("{}", serde_json::to_string(&Document { model, images, errors })?)?;
    }
    Ok(if is_complete { Status::Done } else { Status::DoneWithFailures })
}

fn load(model: &str) -> anyhow::Result<Detector> {
    let path = Path::new(model);
    anyhow::ensure!(
        path.exists(),
        "{model}: expected a model file, found nothing there (no models are known by name yet)"
    );
    anyhow::ensure!(
        !path.is_dir(),
        "{model}: expected a model file, found a folder; did you mean {}?",
        path.join("last.safetensors").display()
    );
    Ok(Detector::load(path)?)
}

fn configure(detector: &mut Detector, args: &DetectArgs) -> anyhow::Result<()> {
    let post = &mut detector.config.post_processing;
    // The network's own threshold is the lower one; pictures draw what is above theirs.
    post.score_threshold = args.score_threshold.unwrap_or(JSON_THRESHOLD);
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

/// Endings of the files of a folder that count as images; a file that is named by itself may have any.
const IMAGE_ENDINGS: [&str; 8] = ["bmp", "gif", "jpeg", "jpg", "png", "tif", "tiff", "webp"];

fn is_image_path(path: &Path) -> bool {
    let ending = path.extension().map(|extension| extension.to_string_lossy().to_lowercase());
    path.is_file() && ending.is_some_and(|ending| IMAGE_ENDINGS.contains(&ending.as_str()))
}

/// The images of files and folders, in order; a folder's by name. What is neither is an error of its own.
pub(crate) fn list_inputs(inputs: &[PathBuf]) -> (Vec<PathBuf>, Vec<ErrorEntry>) {
    let (mut images, mut errors) = (Vec::new(), Vec::new());
    let mut fail = |path: &Path, error: String| {
        errors.push(ErrorEntry { path: path.display().to_string(), error: format!("{}: {error}", path.display()) })
    };
    for input in inputs {
        if !input.is_dir() {
            if input.exists() {
                images.push(input.clone())
            } else {
                fail(input, "expected an image or a folder, found nothing there".to_owned())
            }
            continue;
        }
        match std::fs::read_dir(input)
            .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>())
        {
            Ok(entries) => {
                let found: BTreeSet<PathBuf> = entries.into_iter().filter(|path| is_image_path(path)).collect();
                if found.is_empty() {
                    fail(input, "expected images, found none in this folder (subfolders are not searched)".to_owned());
                }
                images.extend(found);
            }
            Err(error) => fail(input, error.to_string()),
        }
    }
    (images, errors)
}

/// Where each picture goes: the image's name with .jpg, numbered where two images share one.
fn picture_paths(inputs: &[PathBuf], output: &Path) -> Vec<PathBuf> {
    let mut taken: BTreeMap<String, usize> = BTreeMap::new();
    let name = |input: &PathBuf| {
        let stem = input.file_stem().map_or_else(|| "image".to_owned(), |stem| stem.to_string_lossy().into_owned());
        let count = taken.entry(stem.to_lowercase()).and_modify(|count| *count += 1).or_insert(1);
        output.join(if *count == 1 { format!("{stem}.jpg") } else { format!("{stem}-{count}.jpg") })
    };
    inputs.iter().map(name).collect()
}

fn detect(
    plan: &DetectionPlan,
    path: &Path,
    picture: Option<&Path>,
    args: &DetectArgs,
) -> anyhow::Result<(ImageSize, Vec<Detection>)> {
    let image = decode_file(path, &DecodeLimits::default())?;
    let detections = plan.detect(&image)?;
    if let Some(target) = picture {
        let is_source = target.exists() && std::fs::canonicalize(target)? == std::fs::canonicalize(path)?;
        anyhow::ensure!(!is_source, "{}: its picture would replace it; give another --output", path.display());
        let threshold = args.score_threshold.unwrap_or(PICTURE_THRESHOLD);
        pictures::write(target, &pictures::annotate(&image, &detections, plan.classes(), threshold)?)?;
    }
    Ok((image.size, detections))
}

/// What a person reads of an image: how many of each class, at the picture's threshold.
fn line(path: &Path, size: ImageSize, detections: &[Detection], classes: &[Class], args: &DetectArgs) -> String {
    let threshold = args.score_threshold.unwrap_or(PICTURE_THRESHOLD);
    let mut counts: BTreeMap<usize, usize> = BTreeMap::new();
    for detection in detections.iter().filter(|detection| detection.score >= threshold) {
        *counts.entry(detection.label).or_default() += 1;
    }
    let counts: Vec<String> = counts.iter().map(|(&label, count)| format!("{count} {}", classes[label].name)).collect();
    let found = if counts.is_empty() { format!("nothing above {threshold}") } else { counts.join(", ") };
    format!("{} ({size}): {found}", path.display())
}

fn entry(path: &Path, size: ImageSize, detections: &[Detection], classes: &[Class]) -> ImageEntry {
    let detection = |detection: &Detection| {
        let class = &classes[detection.label];
        DetectionEntry {
            r#box: detection.bbox.to_array(),
            category_id: class.category_id,
            name: class.name.clone(),
            score: detection.score,
        }
    };
    ImageEntry {
        path: path.display().to_string(),
        width: size.width,
        height: size.height,
        detections: detections.iter().map(detection).collect(),
    }
}
