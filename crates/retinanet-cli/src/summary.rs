//! What a person reads when a training has ended.

use crate::table;
use retinanet::run::{EpochMetrics, Run, RunFolder, Unit};
use retinanet_eval::ClassMetrics;
use std::path::{Path, PathBuf};

/// Scores, times and files of a run, from its folder.
pub(crate) fn summary(run: &Run) -> String {
    let mut parts = vec![course(run)];
    if let Some(epochs) = epochs(run) {
        parts.push(epochs);
    }
    if let Some(scored) = run.metrics.last_scored() {
        parts.push(classes(&scored.classes));
    }
    parts.push(files(&run.folder));
    parts.join("\n\n")
}

/// How far it went, how fast, and what it took.
fn course(run: &Run) -> String {
    let mut items = Vec::new();
    let duration = run.duration().map(|duration| Unit::Seconds.text(duration.as_secs_f64()));
    items.extend(duration.map(|duration| format!("{} after {duration}", run.status())));
    let last = run.metrics.epochs.last();
    items.push(table::count(last.map_or(0, |epoch| epoch.epoch), "epoch", "epochs"));
    let steps = run.metrics.steps.last().map_or(0, |step| step.step);
    items.push(table::count(steps, "step", "steps"));
    items.extend(run.metrics.images_per_second().map(|rate| format!("{} images/s", Unit::PerSecond.text(rate))));
    let memory = run.metrics.peak_memory_bytes();
    items.extend(memory.map(|bytes| format!("{} at most", Unit::Bytes.text(bytes as f64))));
    match images(run) {
        Some(images) => format!("{}\n{images}", items.join(", ")),
        None => items.join(", "),
    }
}

/// Where the time went that images took, once an epoch is done.
fn images(run: &Run) -> Option<String> {
    let waited = Unit::Share.text(run.metrics.waited()?);
    let loading = run.metrics.loading();
    let [decoding, augmenting, preparing] =
        [loading.decoding_seconds, loading.augmenting_seconds, loading.preparing_seconds]
            .map(|s| Unit::Seconds.text(s));
    let cached = match loading.cache_hits + loading.cache_misses {
        0 => String::new(),
        asked => format!(", {} from memory", Unit::Share.text(loading.cache_hits as f64 / asked as f64)),
    };
    Some(format!(
        "images: decoding {decoding}, augmenting {augmenting}, resizing {preparing}{cached}; {waited} of the training waited for them"
    ))
}

/// The best and the last epoch, where there is one.
fn epochs(run: &Run) -> Option<String> {
    let last = run.metrics.epochs.last()?;
    let row = |name: &str, epoch: &EpochMetrics| {
        let score = |of: fn(&retinanet_eval::CocoSummary) -> f64| {
            epoch.score.as_ref().map_or("-".to_owned(), |s| table::score(of(s)))
        };
        vec![
            name.to_owned(),
            epoch.epoch.to_string(),
            score(|score| score.ap),
            score(|score| score.ap50),
            Unit::Loss.text(epoch.class_loss),
            Unit::Loss.text(epoch.box_loss),
        ]
    };
    let mut rows = vec![["", "epoch", "AP", "AP50", "class loss", "box loss"].map(str::to_owned).to_vec()];
    rows.extend(run.metrics.best().map(|best| row("best", best)));
    rows.push(row("last", last));
    Some(table::render(&rows))
}

/// The scores of each class, in the order of the data set.
fn classes(classes: &[ClassMetrics]) -> String {
    let mut rows = vec![["class", "objects", "AP", "AP50", "AR100"].map(str::to_owned).to_vec()];
    rows.extend(classes.iter().map(|class| {
        let [ap, ap50, ar100] = [class.ap, class.ap50, class.ar100].map(table::score);
        vec![class.name.clone(), class.num_ground_truth.to_string(), ap, ap50, ar100]
    }));
    table::render(&rows)
}

/// The files that are there, each with what it is.
fn files(folder: &RunFolder) -> String {
    let known = [
        (folder.report(), "all of it on one page"),
        (folder.best(), "the model of the best epoch"),
        (folder.last(), "the model after the last step"),
        (folder.curves(), "losses, scores, learning rate"),
        (folder.first_batch(), "what was learned from first"),
        (folder.detections(), "ground truth beside what is found"),
        (folder.config(), "the configuration"),
        (folder.record(), "data, machine, how it ended"),
        (folder.metrics(), "the numbers over time"),
    ];
    let name = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let there = known.iter().filter(|(path, _)| path.is_file());
    let mut there: Vec<(String, &str)> = there.map(|(path, what)| (name(path), *what)).collect();
    if !folder.events().is_empty() {
        there.push(("events.out.tfevents.*".to_owned(), "for TensorBoard"));
    }
    let width = there.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    let lines: Vec<String> = there.iter().map(|(name, what)| format!("  {name:<width$}  {what}")).collect();
    format!("written to {}:\n{}", folder.path().display(), lines.join("\n"))
}

/// The model to go on with: the best where there is one.
pub(crate) fn model(folder: &RunFolder) -> PathBuf {
    Some(folder.best()).filter(|best| best.is_file()).unwrap_or_else(|| folder.last())
}
