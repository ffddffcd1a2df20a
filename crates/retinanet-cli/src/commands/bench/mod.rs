//! `retinanet bench`: how long the network, detection or a training step takes, and how much memory.

mod candidates;
mod clock;
mod core;
mod detect;
mod dump;
mod memory;
mod random;
mod report;
mod subject;
mod train;

use crate::Status;
use crate::args::{BenchArgs, BenchMode};
use clock::Run;
use report::{Configuration, Report};
use retinanet_anchors::ImageSize;
use subject::Subject;

/// What a mode has measured.
struct Measured {
    runs: Vec<Run>,
    images_per_run: usize,
    /// The size of the network's input, where there is one.
    size: Option<ImageSize>,
    /// What this mode alone has to say, for the report.
    details: serde_json::Map<String, serde_json::Value>,
    /// Files that could not be used.
    failures: Vec<String>,
}

pub(crate) fn run(args: &BenchArgs) -> anyhow::Result<Status> {
    validate(args)?;
    let subject = Subject::new(args)?;
    let (name, num_classes) = (subject.name.clone(), subject.detector.classes.len());
    let measured = match args.mode {
        BenchMode::Core => core::measure(subject, args)?,
        BenchMode::Detect => detect::measure(subject, args)?,
        BenchMode::Train => train::measure(&subject, args)?,
    };
    crate::data::report("failed", &measured.failures);
    let configuration = Configuration::new(args, name, num_classes, measured.size);
    let report = Report::new(args.mode, configuration, &measured);
    if args.json {
        crate::out!("{}", report.json())?;
    } else {
        crate::out!("{}", report.text())?;
    }
    Ok(if measured.failures.is_empty() { Status::Done } else { Status::DoneWithFailures })
}

/// What the options cannot say by themselves: that one is of no use with another, or out of range.
fn validate(args: &BenchArgs) -> anyhow::Result<()> {
    for (option, value) in [("--repeat", args.repeat), ("--batch", args.batch), ("--num-classes", args.num_classes)] {
        anyhow::ensure!(value > 0, "{option}: expected at least 1, found 0");
    }
    let is_detect = args.mode == BenchMode::Detect;
    for (option, is_given) in [("--images", !args.images.is_empty()), ("--candidates", args.candidates.is_some())] {
        anyhow::ensure!(is_detect || !is_given, "{option}: expected --mode detect, found {}", args.mode.name());
    }
    let is_train = args.mode == BenchMode::Train;
    anyhow::ensure!(!is_train || args.dump.is_none(), "--dump: expected --mode core or detect, found train");
    Ok(())
}
