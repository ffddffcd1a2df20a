//! The loader alone: from files to batches, epoch by epoch.

use super::report::{peak_rss_mib, rounded};
use crate::args::BenchArgs;
use crate::data::Cache;
use crate::{Status, data, table};
use anyhow::Context;
use retinanet::Config;
use retinanet::run::Machine;
use retinanet_annotations::DataRequest;
use retinanet_data::{Loader, LoaderConfig, LoaderStatistics};
use serde_json::{Value, json};
use std::time::Duration;

pub(super) fn run(args: &BenchArgs) -> anyhow::Result<Status> {
    let path = args.data.as_ref().context("--data: expected a data set for --mode data, found none")?;
    let config = Config::parse(Config::preset_text(&args.preset)?, &args.set)?;
    let cores = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let workers = args.workers.unwrap_or_else(cores);
    let dataset = data::open_to_train(&DataRequest::new([path]), &args.split, &config)?;
    let dataset = Cache::open(&args.cache)?.over(dataset);
    let order =
        LoaderConfig { batch: args.batch, shuffle: true, seed: config.train.seed, workers, ..LoaderConfig::default() };
    let loader = Loader::new(dataset, config.preprocessing, config.train.augmentation.clone(), order)?;

    let (mut epochs, mut failures) = (Vec::new(), Vec::new());
    for epoch_idx in 0..args.epochs {
        let mut epoch = loader.epoch(epoch_idx);
        let mut failed: Vec<String> = Vec::new();
        for loaded in epoch.by_ref() {
            failed.extend(loaded.failures.iter().map(ToString::to_string));
        }
        failed.extend(epoch.take_failures().iter().map(ToString::to_string));
        if epoch_idx == 0 {
            failures = failed;
        }
        epochs.push(epoch.statistics());
    }
    data::report("failed", &failures);
    let images = epochs.first().map_or(0, |epoch| epoch.images);
    anyhow::ensure!(images > 0, "--data: expected at least 1 image, found 0 that can be read");
    if args.json {
        let fastest = epochs.iter().map(|epoch| epoch.elapsed).min().unwrap_or_default();
        crate::out!(
            "{}",
            json!({
                "mode": args.mode.name(),
                "data": path.display().to_string(),
                "split": args.split,
                "preset": args.preset,
                "images": images,
                "failures": failures.len(),
                "batch": args.batch,
                "workers": workers,
                "min_ms": rounded(milliseconds(fastest)),
                "epochs": epochs.iter().map(document).collect::<Vec<_>>(),
                "peak_rss_mib": peak_rss_mib().map(rounded),
                "processor": Machine::detect().processor,
            })
        )?;
    } else {
        crate::out!("{}", text(&epochs))?;
        let peak = peak_rss_mib().map_or(String::new(), |peak| format!(", {peak:.0} MiB at most"));
        crate::out!("{images} images, batch {}, {workers} workers{peak}", args.batch)?;
        if let Some(processor) = Machine::detect().processor {
            crate::out!("{processor}")?;
        }
    }
    Ok(if failures.is_empty() { Status::Done } else { Status::DoneWithFailures })
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Milliseconds of a worker an image.
fn each(time: Duration, epoch: &LoaderStatistics) -> f64 {
    milliseconds(time) / epoch.images.max(1) as f64
}

fn document(epoch: &LoaderStatistics) -> Value {
    json!({
        "images": epoch.images,
        "failures": epoch.failures,
        "seconds": epoch.elapsed.as_secs_f64(),
        "images_per_s": rounded(epoch.images_per_second()),
        "decoded_bytes": epoch.decoded_bytes,
        "decode_ms_per_image": rounded(each(epoch.decoding, epoch)),
        "augment_ms_per_image": rounded(each(epoch.augmenting, epoch)),
        "prepare_ms_per_image": rounded(each(epoch.preparing, epoch)),
        "waited_s": epoch.waited.as_secs_f64(),
        "cache_hits": epoch.cache.hits,
        "cache_misses": epoch.cache.misses,
        "cache_bytes": epoch.cache.held_bytes,
    })
}

fn text(epochs: &[LoaderStatistics]) -> String {
    let heading = ["epoch", "images/s", "decode ms", "augment ms", "prepare ms", "cache hits"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    for (epoch_idx, epoch) in epochs.iter().enumerate() {
        let times = [epoch.decoding, epoch.augmenting, epoch.preparing].map(|time| format!("{:.3}", each(time, epoch)));
        let [decode, augment, prepare] = times;
        let rate = format!("{:.1}", epoch.images_per_second());
        rows.push(vec![(epoch_idx + 1).to_string(), rate, decode, augment, prepare, epoch.cache.hits.to_string()]);
    }
    table::render(&rows)
}
