//! What was measured, for a person and for a program.

use super::Measured;
use super::clock::{Run, median};
use super::subject::Subject;
use crate::args::{BenchArgs, BenchMode, IsaArg};
use crate::table;
use retinanet::ComputeDevice;
use retinanet::run::{Machine, peak_resident_bytes};
use retinanet_anchors::ImageSize;
use serde_json::{Map, Value, json};

/// What was run.
pub(super) struct Configuration {
    /// The preset, or the model's file.
    model: String,
    num_classes: usize,
    batch: usize,
    dtype: &'static str,
    isa: &'static str,
    /// Where it ran, if not on the processor.
    device: Option<String>,
    threads: usize,
    repeat: usize,
}

impl Configuration {
    pub(super) fn new(args: &BenchArgs, subject: &Subject, device: &ComputeDevice) -> Self {
        Self {
            model: subject.name.clone(),
            num_classes: subject.detector.classes.len(),
            batch: args.batch,
            dtype: args.inference.precision(&subject.detector, device).name(),
            isa: args.isa.unwrap_or_else(IsaArg::detect).name(),
            device: device.description(),
            threads: rayon::current_num_threads(),
            repeat: args.repeat,
        }
    }
}

pub(super) struct Report {
    mode: BenchMode,
    configuration: Configuration,
    size: Option<ImageSize>,
    min_ms: f64,
    median_ms: f64,
    peak_rss_mib: Option<f64>,
    images_per_s: f64,
    stages: Vec<(&'static str, f64)>,
    details: Map<String, Value>,
}

impl Report {
    pub(super) fn new(mode: BenchMode, configuration: Configuration, measured: &Measured) -> Self {
        let totals: Vec<f64> = measured.runs.iter().map(|run| run.total).collect();
        let min_ms = totals.iter().copied().fold(f64::INFINITY, f64::min);
        let median_ms = median(totals);
        Self {
            mode,
            configuration,
            size: measured.size,
            min_ms,
            median_ms,
            peak_rss_mib: peak_rss_mib(),
            images_per_s: measured.images_per_run as f64 * 1e3 / median_ms,
            stages: stages(&measured.runs),
            details: measured.details.clone(),
        }
    }

    /// One object: times, memory, the configuration, and what the mode adds.
    pub(super) fn json(&self) -> Value {
        let stages: Map<String, Value> =
            self.stages.iter().map(|&(name, time)| (name.to_owned(), rounded(time).into())).collect();
        let Configuration { model, num_classes, batch, dtype, isa, device, threads, repeat } = &self.configuration;
        let mut document = json!({
            "mode": self.mode.name(),
            "min_ms": rounded(self.min_ms),
            "median_ms": rounded(self.median_ms),
            "peak_rss_mib": self.peak_rss_mib.map(rounded),
            "images_per_s": rounded(self.images_per_s),
            "stages": stages,
            "model": model,
            "num_classes": num_classes,
            "height": self.size.map(|size| size.height),
            "width": self.size.map(|size| size.width),
            "batch": batch,
            "dtype": dtype,
            "isa": isa,
            "device": device,
            "threads": threads,
            "repeat": repeat,
            "processor": Machine::detect().processor,
        });
        if let Value::Object(object) = &mut document {
            object.extend(self.details.clone());
        }
        document
    }

    pub(super) fn text(&self) -> String {
        let Configuration { model, num_classes, batch, dtype, isa, device, threads, repeat } = &self.configuration;
        let size = self
            .size
            .map_or_else(|| "images of their own sizes".to_owned(), |size| format!("{}x{}", size.height, size.width));
        let mut rows = vec![vec![format!("{} {model}", self.mode.name()), "ms".to_owned()]];
        let mut row = |name: &str, value: f64| rows.push(vec![name.to_owned(), format!("{value:.2}")]);
        row("fastest run", self.min_ms);
        row("median run", self.median_ms);
        for (stage, time) in &self.stages {
            row(&format!("  {stage}"), *time);
        }
        let mut lines = vec![
            table::render(&rows),
            String::new(),
            format!(
                "{:.2} images/s, {num_classes} classes, {size}, batch {batch}, {dtype}, {isa}, {threads} threads, {repeat} runs",
                self.images_per_s
            ),
        ];
        lines.extend(self.peak_rss_mib.map(|peak| format!("{peak:.0} MiB at most")));
        lines.extend(self.details.iter().map(|(name, value)| format!("{}: {value}", name.replace('_', " "))));
        lines.extend(device.clone());
        lines.extend(Machine::detect().processor);
        lines.join("\n")
    }
}

/// The median of each stage, in the order of the first run.
fn stages(runs: &[Run]) -> Vec<(&'static str, f64)> {
    let names = runs.first().map(|run| &run.stages).into_iter().flatten().map(|&(name, _)| name);
    let times =
        |name| runs.iter().flat_map(|run| &run.stages).filter(move |stage| stage.0 == name).map(|stage| stage.1);
    names.map(|name| (name, median(times(name).collect()))).collect()
}

/// The most memory that the process has had, as the system accounts it.
pub(super) fn peak_rss_mib() -> Option<f64> {
    peak_resident_bytes().map(|bytes| bytes as f64 / f64::from(1 << 20))
}

/// Three decimals: a microsecond, a kibibyte.
pub(super) fn rounded(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_are_medians_in_order() {
        let run = |a: f64, b: f64| Run { total: a + b, stages: vec![("b", b), ("a", a)] };
        assert_eq!(stages(&[run(1.0, 9.0), run(3.0, 7.0), run(2.0, 8.0)]), [("b", 8.0), ("a", 2.0)]);
        assert!(stages(&[]).is_empty());
    }
}
