//! Runs beside each other: what was different, and what came of it.

mod differences;
mod page;

use super::curves;
use super::metrics::{EpochMetrics, Metrics};
use super::reading::Run;
use super::record::{RunRecord, SplitRole};
use super::unit::Unit;
use retinanet_draw::{DrawError, Plot};
use serde::Serialize;
use serde_json::{Map, Value, json};

pub use differences::Difference;
pub(crate) use differences::configuration_differences;
use differences::{differences, flattened};

/// Several runs beside each other. Every list of values has one for each run, in their order.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// The runs.
    pub runs: Vec<ComparedRun>,
    /// Values of the configuration that are not the same in all runs, by their path such as `loss.class.focal.gamma`.
    pub configuration: Vec<Difference>,
    /// What is not the same in their data.
    pub data: Vec<Difference>,
    /// What is not the same in their machines, programs and beginnings.
    pub machine: Vec<Difference>,
    /// What came of them.
    pub results: Vec<Quantity>,
    /// AP of each class at the epoch with the best AP.
    pub classes: Vec<Quantity>,
    #[serde(skip)]
    metrics: Vec<Metrics>,
}

/// A run of a comparison.
#[derive(Clone, Debug, Serialize)]
pub struct ComparedRun {
    /// The name of its folder; the whole path where several have the same name.
    pub name: String,
    /// Its folder.
    pub path: String,
    /// How it is going, or how it ended.
    pub status: String,
    /// What is missing or unfinished.
    pub notes: Vec<String>,
}

/// A number of each run; none where a run does not have it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Quantity {
    /// What it is.
    pub name: String,
    /// What it counts.
    pub unit: Unit,
    /// One for each run.
    pub values: Vec<Option<f64>>,
}

impl Comparison {
    /// Compares runs, as far as their files go.
    pub fn new(runs: &[Run]) -> Self {
        let names: Vec<String> = runs.iter().map(Run::name).collect();
        let is_unique = |name: &String| names.iter().filter(|other| *other == name).count() == 1;
        let compared = runs.iter().zip(&names).map(|(run, name)| ComparedRun {
            name: if is_unique(name) { name.clone() } else { run.folder.path().display().to_string() },
            path: run.folder.path().display().to_string(),
            status: run.status(),
            notes: run.notes.clone(),
        });
        let of_records = |of: &dyn Fn(&RunRecord) -> Map<String, Value>| {
            differences(
                &runs.iter().map(|run| run.record.as_ref().map(|record| flattened(of(record)))).collect::<Vec<_>>(),
            )
        };
        let configurations: Vec<_> = runs
            .iter()
            .map(|run| match serde_json::to_value(run.config.as_ref()?) {
                Ok(Value::Object(table)) => Some(flattened(table)),
                _ => None,
            })
            .collect();
        Self {
            configuration: differences(&configurations),
            data: of_records(&data_values),
            machine: of_records(&machine_values),
            results: results(runs),
            classes: class_scores(runs),
            metrics: runs.iter().map(|run| run.metrics.clone()).collect(),
            runs: compared.collect(),
        }
    }

    /// The curves of all runs over each other, as a PNG file.
    ///
    /// # Errors
    /// The picture cannot be encoded.
    pub fn curves(&self) -> Result<Vec<u8>, DrawError> {
        Ok(curves::picture(&self.plots())?.png)
    }

    /// Everything on one page that needs no network, HTML.
    pub fn page(&self) -> String {
        page::page(self)
    }

    fn plots(&self) -> Vec<Plot> {
        let names = self.runs.iter().map(|run| run.name.clone());
        curves::of_runs(&names.zip(&self.metrics).collect::<Vec<_>>())
    }
}

impl Quantity {
    /// The value of a run in words; a dash where it has none.
    pub fn text(&self, run_idx: usize) -> String {
        self.values.get(run_idx).copied().flatten().map_or_else(|| "-".to_owned(), |value| self.unit.text(value))
    }
}

fn data_values(record: &RunRecord) -> Map<String, Value> {
    let classes: Vec<&str> = record.classes.iter().map(|class| class.name.as_str()).collect();
    let mut values = Map::from_iter([("classes".to_owned(), json!(classes))]);
    for split in &record.data {
        let role = match split.role {
            SplitRole::Train => "train",
            SplitRole::Validation => "validation",
        };
        let value = json!({
            "paths": split.paths,
            "split": split.split,
            "images": split.images,
            "images without boxes": split.images_without_boxes,
            "boxes": split.boxes,
            "boxes left out": split.boxes_left_out,
            "images left out": split.images_left_out,
        });
        values.insert(role.to_owned(), value);
    }
    values.insert("images that failed".to_owned(), record.failures.count.into());
    values
}

fn machine_values(record: &RunRecord) -> Map<String, Value> {
    let machine = &record.machine;
    let values = json!({
        "version": record.version,
        "processor": machine.processor,
        "cores": machine.cores,
        "threads": machine.threads,
        "system": machine.os,
        "architecture": machine.architecture,
        "at the start": record.notes,
    });
    if let Value::Object(values) = values { values } else { Map::new() }
}

fn results(runs: &[Run]) -> Vec<Quantity> {
    let quantity = |name: &str, unit: Unit, of: &dyn Fn(&Run) -> Option<f64>| Quantity {
        name: name.to_owned(),
        unit,
        values: runs.iter().map(of).collect(),
    };
    let best = |run: &Run, of: &dyn Fn(&EpochMetrics) -> Option<f64>| of(run.metrics.best()?);
    let scored = |run: &Run, of: &dyn Fn(&EpochMetrics) -> Option<f64>| of(run.metrics.last_scored()?);
    let last = |run: &Run, of: &dyn Fn(&EpochMetrics) -> f64| run.metrics.epochs.last().map(of);
    let ap50 = |epoch: &EpochMetrics| epoch.score.map(|score| score.ap50).filter(|&ap50| ap50 >= 0.0);
    vec![
        quantity("best AP", Unit::Score, &|run| best(run, &EpochMetrics::ap)),
        quantity("best AP, AP50", Unit::Score, &|run| best(run, &ap50)),
        quantity("best AP, at epoch", Unit::Count, &|run| best(run, &|epoch| Some(epoch.epoch as f64))),
        quantity("last AP", Unit::Score, &|run| scored(run, &EpochMetrics::ap)),
        quantity("last AP, AP50", Unit::Score, &|run| scored(run, &ap50)),
        quantity("last class loss", Unit::Loss, &|run| last(run, &|epoch| epoch.class_loss)),
        quantity("last box loss", Unit::Loss, &|run| last(run, &|epoch| epoch.box_loss)),
        quantity("epochs", Unit::Count, &|run| last(run, &|epoch| epoch.epoch as f64)),
        quantity("steps", Unit::Count, &|run| run.metrics.steps.last().map(|step| step.step as f64)),
        quantity("time", Unit::Seconds, &|run| run.duration().map(|duration| duration.as_secs_f64())),
        quantity("images/s", Unit::PerSecond, &|run| run.metrics.images_per_second()),
        quantity("waiting for images", Unit::Share, &|run| run.metrics.waited()),
        quantity("peak memory", Unit::Bytes, &|run| run.metrics.peak_memory_bytes().map(|bytes| bytes as f64)),
    ]
}

/// AP of every class that some run was scored on, in the order in which they come.
fn class_scores(runs: &[Run]) -> Vec<Quantity> {
    let classes = |run: &Run| run.metrics.best().map(|epoch| epoch.classes.clone()).unwrap_or_default();
    let mut names: Vec<String> = Vec::new();
    for class in runs.iter().flat_map(classes) {
        if !names.contains(&class.name) {
            names.push(class.name);
        }
    }
    let score = |run: &Run, name: &str| {
        let classes = &run.metrics.best()?.classes;
        classes.iter().find(|class| class.name == name).map(|class| class.ap).filter(|&ap| ap >= 0.0)
    };
    let quantity = |name: String| {
        let values = runs.iter().map(|run| score(run, &name)).collect();
        Quantity { name, unit: Unit::Score, values }
    };
    names.into_iter().map(quantity).collect()
}
