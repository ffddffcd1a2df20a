//! `retinanet eval`: a model over a split, and its score.

use crate::args::EvalArgs;
use crate::commands::score::summary_json;
use crate::interrupt::Interrupt;
use crate::zoo::{self, Wanted};
use crate::{Status, data, nothing_right, progress, table};
use anyhow::Context;
use retinanet::{Detector, evaluate};
use retinanet_annotations::coco::write_detections;
use retinanet_data::Dataset;
use serde_json::json;
use std::time::Instant;

pub(crate) fn run(args: &EvalArgs) -> anyhow::Result<Status> {
    let device = args.engine.place.open()?;
    let interrupt = Interrupt::listen(zoo::INTERRUPTED)?;
    let Some(path) = zoo::resolve(&args.model, Wanted::Detector, &args.zoo, &interrupt)? else {
        return Ok(Status::DoneWithFailures);
    };
    interrupt.announce("interrupted: finishing this image");
    let detector = Detector::load(path)?;
    let options = args.inference.options(&detector, device);
    let threshold = detector.config.post_processing.score_threshold;
    let plan = detector.into_plan(&options)?;
    let request = args.data.request()?;
    let split = data::split_to_score(&request, args.split.as_deref())?;
    let dataset = data::open(&request, &split)?;
    let bar = progress::bar(dataset.len(), "images").with_message(split);
    let start = Instant::now();
    let mut images_done = 0;
    let evaluation = evaluate(&plan, &dataset, &mut |done| {
        images_done = done;
        bar.set_position(done as u64);
        interrupt.flow()
    })?;
    bar.finish_and_clear();
    let Some(evaluation) = evaluation else {
        eprintln!(
            "interrupted: no score, as {images_done} of {} were looked at",
            table::count(dataset.len(), "image", "images")
        );
        return Ok(Status::DoneWithFailures);
    };
    let seconds = start.elapsed().as_secs_f64();

    if let Some(path) = &args.detections {
        write_detections(path, &evaluation.detections).with_context(|| format!("{}: cannot write", path.display()))?;
    }
    if args.json {
        let mut document = summary_json(&evaluation.metrics);
        document["classes"] = evaluation
            .metrics
            .per_class
            .iter()
            .map(|class| json!({ "name": class.name, "objects": class.num_ground_truth, "AP": class.ap, "AP50": class.ap50, "AR100": class.ar100 }))
            .collect();
        document["images"] = dataset.len().into();
        document["errors"] = evaluation.failures.iter().map(ToString::to_string).collect();
        crate::out!("{document}")?;
    } else {
        crate::out!("{}", table::metrics(&evaluation.metrics))?;
        crate::out!(
            "\n{} in {seconds:.1} s, {:.1} images/s",
            table::count(dataset.len(), "image", "images"),
            dataset.len() as f64 / seconds.max(1e-9)
        )?;
    }
    let why =
        nothing_right::why(evaluation.metrics.summary.ap50, dataset.annotations(), &evaluation.detections, threshold);
    why.iter().for_each(|why| eprintln!("note: {why}"));
    data::report("failed", &evaluation.failures);
    let is_complete = evaluation.failures.is_empty() && data::num_dropped_images(&dataset) == 0;
    Ok(if is_complete { Status::Done } else { Status::DoneWithFailures })
}
