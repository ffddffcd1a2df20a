//! `retinanet bench`: how long the network, detection or a training step takes, and how much memory.

mod candidates;
mod clock;
mod core;
mod data;
mod detect;
mod dump;
mod precision;
mod random;
mod report;
mod subject;
mod train;
mod train_on_device;

use crate::Status;
use crate::args::{BenchArgs, BenchMode, Dtype, IsaArg};
use clock::Run;
use report::{Configuration, Report};
use retinanet::{ComputeDevice, DetectionPlan};
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
    if args.mode == BenchMode::Data {
        args.engine.place.check_is_cpu("--mode data")?;
        return data::run(args);
    }
    let device = args.engine.place.open()?;
    let subject = Subject::new(args)?;
    let configuration = Configuration::new(args, &subject, &device);
    let measured = match args.mode {
        BenchMode::Core => core::measure(subject, args, device)?,
        BenchMode::Detect => detect::measure(subject, args, device)?,
        BenchMode::Train if device == ComputeDevice::Cpu => train::measure(&subject, args)?,
        BenchMode::Train => train_on_device::measure(&subject, args, device)?,
        BenchMode::Data => unreachable!("it has no network and returned before"),
    };
    crate::data::report("failed", &measured.failures);
    let report = Report::new(args.mode, configuration, &measured);
    if args.json {
        crate::out!("{}", report.json())?;
    } else {
        crate::out!("{}", report.text())?;
    }
    Ok(if measured.failures.is_empty() { Status::Done } else { Status::DoneWithFailures })
}

/// The number of layers in each precision, and which of an int8 plan are in another.
fn add_layers(details: &mut serde_json::Map<String, serde_json::Value>, plan: &DetectionPlan) {
    let names = plan.layers().map(|layer| (layer.name, layer.precision.name()));
    let (mut counts, mut others) = (std::collections::BTreeMap::<&str, usize>::new(), Vec::new());
    for (layer, precision) in names {
        *counts.entry(precision).or_default() += 1;
        if precision != "int8" {
            others.push(layer);
        }
    }
    if counts.contains_key("int8") {
        details.insert("not_int8".to_owned(), others.into());
    }
    details.insert("layers".to_owned(), serde_json::json!(counts));
}

/// What the options cannot say by themselves: that one is of no use with another, or out of range.
fn validate(args: &BenchArgs) -> anyhow::Result<()> {
    for (option, value) in [("--repeat", args.repeat), ("--batch", args.batch), ("--num-classes", args.num_classes)] {
        anyhow::ensure!(value > 0, "{option}: expected at least 1, found 0");
    }
    let is_detect = args.mode == BenchMode::Detect;
    for (option, is_given) in [
        ("--images", !args.images.is_empty()),
        ("--candidates", args.candidates.is_some()),
        ("--dense", args.dense),
        ("--beside-dense", args.beside_dense),
    ] {
        anyhow::ensure!(is_detect || !is_given, "{option}: expected --mode detect, found {}", args.mode.name());
    }
    let is_data = args.mode == BenchMode::Data;
    for (option, is_given) in [("--data", args.data.is_some()), ("--workers", args.workers.is_some())] {
        anyhow::ensure!(is_data || !is_given, "{option}: expected --mode data, found {}", args.mode.name());
    }
    for (option, value) in [("--epochs", Some(args.epochs)), ("--workers", args.workers)] {
        anyhow::ensure!(value != Some(0), "{option}: expected at least 1, found 0");
    }
    let is_train = args.mode == BenchMode::Train;
    let dtype = args.inference.dtype.unwrap_or(Dtype::F32);
    for (option, expected, is_refused) in [
        ("--dump", "--mode core or detect", args.dump.is_some() && (is_train || is_data)),
        ("--dtype", "--mode core, detect or train", dtype != Dtype::F32 && is_data),
        ("--dtype f16", "--mode core or detect", dtype == Dtype::F16 && is_train),
        ("--dtype int8", "--mode core or detect", dtype == Dtype::Int8 && is_train),
        ("--isa", "--mode core, detect or train", args.isa.is_some() && is_data),
    ] {
        anyhow::ensure!(!is_refused, "{option}: expected {expected}, found {}", args.mode.name());
    }
    if let Some(isa) = args.isa {
        let (found, widest) = (isa.name(), IsaArg::detect().name());
        anyhow::ensure!(
            isa.isa().is_available(),
            "--isa: expected a set of this processor, whose widest is {widest}, found {found}"
        );
    }
    Ok(())
}
