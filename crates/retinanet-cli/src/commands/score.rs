//! `retinanet score`: detections against ground truth, both COCO JSON.

use crate::args::ScoreArgs;
use crate::{Status, data, table};
use retinanet_annotations::coco::{read_detections, read_ground_truth};
use retinanet_eval::CocoMetrics;

pub(crate) fn run(args: &ScoreArgs) -> anyhow::Result<Status> {
    let ground_truth = read_ground_truth(&args.ground_truth)?;
    data::report_problems(&ground_truth.problems);
    let detections = read_detections(&args.detections)?;
    let metrics = retinanet_eval::coco::evaluate(&ground_truth, &detections)?;
    if args.json {
        crate::out!("{}", summary_json(&metrics))?;
    } else {
        crate::out!("{}", table::metrics(&metrics))?;
    }
    Ok(Status::Done)
}

/// COCO's twelve numbers in full precision, -1 where undefined.
pub(crate) fn summary_json(metrics: &CocoMetrics) -> serde_json::Value {
    let entries = metrics.summary.entries();
    entries
        .iter()
        .map(|&(key, value)| (key.to_owned(), serde_json::Value::from(value)))
        .collect::<serde_json::Map<_, _>>()
        .into()
}
