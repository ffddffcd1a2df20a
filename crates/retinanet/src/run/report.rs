//! The page of a run: all that its folder holds, to be looked at.

use super::advice::advice;
use super::curves;
use super::metrics::{EpochMetrics, LoadingMetrics};
use super::reading::Run;
use super::record::{Messages, RunRecord, RunStatus, SplitRecord, SplitRole};
use super::unit::Unit;
use retinanet_data::{DecodeLimits, decode_file};
use retinanet_draw::page::{Block, Cell, Facts, Page, Picture, Section, Table, Tone};
use retinanet_draw::picture_from_rgb;
use std::path::Path;

/// The page of a run, HTML that needs no network. What the folder lacks is left out.
pub(super) fn page(run: &Run) -> String {
    let mut page = Page::new(format!("Run {}", run.name()));
    if let Some(record) = &run.record {
        page =
            page.lead(format!("{}, started {}, last written {}", record.status.word(), record.started, record.updated));
    }
    page = page.section(outcome(run));
    let plots: Vec<Block> = curves::of_run(&run.metrics).into_iter().map(Block::Plot).collect();
    if !plots.is_empty() {
        page = page.section(Section::new("Curves").with(Block::Side(plots)));
    }
    let sections = [classes(run), pictures(run), data(run), messages(run), origin(run), configuration(run)];
    page = sections.into_iter().flatten().fold(page, Page::section);
    page.section(next(run)).to_html()
}

/// How it ended, its numbers, and what stands out.
fn outcome(run: &Run) -> Section {
    let mut section = Section::new("Outcome");
    let tone = match run.record.as_ref().map(|record| &record.status) {
        Some(RunStatus::Failed { .. }) => Tone::Error,
        Some(RunStatus::Running) => Tone::Note,
        _ => Tone::Warning,
    };
    for note in &run.notes {
        section.push(Block::Callout(tone, note.clone()));
    }
    let mut facts = Facts::new();
    let scored = |epoch: &EpochMetrics| {
        let score = epoch.score.as_ref().map_or((-1.0, -1.0), |score| (score.ap, score.ap50));
        format!("{} (AP50 {}) at epoch {}", Unit::Score.text(score.0), Unit::Score.text(score.1), epoch.epoch)
    };
    if let Some(best) = run.metrics.best() {
        facts.push("best AP", scored(best));
    }
    if let Some(last) = run.metrics.last_scored() {
        facts.push("last AP", scored(last));
    }
    if let Some(last) = run.metrics.epochs.last() {
        facts.push(
            "last losses",
            format!("class {}, box {}", Unit::Loss.text(last.class_loss), Unit::Loss.text(last.box_loss)),
        );
    }
    let steps = run.metrics.steps.last().map_or(0, |step| step.step);
    facts.push("epochs and steps", format!("{} and {steps}", run.metrics.epochs.len()));
    if let Some(duration) = run.duration() {
        facts.push("time", Unit::Seconds.text(duration.as_secs_f64()));
    }
    if let Some([before @ .., last]) = run.record.as_ref().map(|record| record.resumptions.as_slice()) {
        let times = if before.is_empty() { "once".to_owned() } else { format!("{} times", before.len() + 1) };
        facts.push("resumed", format!("{times}, last at step {} on {}", last.step, last.resumed));
    }
    if let Some(rate) = run.metrics.images_per_second() {
        facts.push("speed of training", format!("{} images/s", Unit::PerSecond.text(rate)));
    }
    if let Some(share) = run.metrics.waited() {
        facts.push("waiting for images", Unit::Share.text(share));
    }
    if let Some(bytes) = run.metrics.peak_memory_bytes() {
        facts.push("peak memory", Unit::Bytes.text(bytes as f64));
    }
    section.push(facts);
    let advice = advice(run);
    if advice.is_empty() {
        section.push("Nothing stands out.");
    } else {
        section.push(Section::new("What stands out").with(Block::List(advice)));
    }
    if !run.metrics.epochs.is_empty() {
        section.push(loading(&run.metrics.loading()));
    }
    section
}

/// Where the time of the threads went that load images.
fn loading(loading: &LoadingMetrics) -> Section {
    let asked = loading.cache_hits + loading.cache_misses;
    let mut facts = Facts::new()
        .fact("decoding", Unit::Seconds.text(loading.decoding_seconds))
        .fact("augmenting", Unit::Seconds.text(loading.augmenting_seconds))
        .fact("resizing and normalising", Unit::Seconds.text(loading.preparing_seconds))
        .fact("decoded", Unit::Bytes.text(loading.decoded_bytes as f64));
    if asked > 0 {
        facts.push("images from memory", Unit::Share.text(loading.cache_hits as f64 / asked as f64));
    }
    facts.push("the training waited for it", Unit::Seconds.text(loading.waited_seconds));
    Section::closed("Loading images, all threads and epochs together").with(facts)
}

/// The scores of each class at the epoch with the best AP.
fn classes(run: &Run) -> Option<Section> {
    let epoch = run.metrics.best().or_else(|| run.metrics.last_scored())?;
    let train = run.record.as_ref().and_then(|record| record.data.iter().find(|split| split.role == SplitRole::Train));
    let boxes = |name: &str| {
        let class_idx = run.record.as_ref()?.classes.iter().position(|class| class.name == name)?;
        train?.boxes_per_class.get(class_idx).map(ToString::to_string)
    };
    let rows = epoch.classes.iter().map(|class| {
        let score = |value: f64| Cell::number(Unit::Score.text(value));
        vec![
            Cell::text(class.name.clone()),
            Cell::number(boxes(&class.name).unwrap_or_else(|| "-".to_owned())),
            Cell::number(class.num_ground_truth),
            score(class.ap),
            score(class.ap50),
            score(class.ar100),
        ]
    });
    let table = Table::new(["class", "boxes to learn from", "objects to find", "AP", "AP50", "AR100"]).rows(rows);
    let mut section = Section::new("Classes").tag(Tone::Plain, format!("epoch {}", epoch.epoch)).with(table);
    let score = epoch.score?;
    let mut facts = Facts::new();
    for (name, value) in score.entries() {
        facts.push(name, Unit::Score.text(value));
    }
    section.push(Section::closed("All twelve numbers").with(facts));
    Some(section)
}

fn pictures(run: &Run) -> Option<Section> {
    let batch = match run.record.as_ref().and_then(|record| record.first_batch) {
        Some(batch) => format!(
            "The first batch as the network learned from it, {} images with {} boxes. Green: the {} anchors that learn a box. Grey: {} anchors that are left out of the loss. Yellow: boxes. Red: {} boxes that no anchor learns.",
            batch.images, batch.boxes, batch.foreground_anchors, batch.ignored_anchors, batch.boxes_without_anchor
        ),
        None => String::new(),
    };
    let is_scored = run.metrics.last_scored().is_some();
    let found =
        if is_scored { "the validation split, at the best epoch" } else { "the training split, after the last step" };
    let found = format!("Ground truth on the left, detections from a score of .3 on the right: images of {found}.");
    let shown = [
        picture(&run.folder.first_batch(), batch).map(|picture| Section::new("First batch").with(picture)),
        picture(&run.folder.detections(), found).map(|picture| Section::new("Detections").with(picture)),
    ];
    let shown: Vec<Section> = shown.into_iter().flatten().collect();
    (!shown.is_empty()).then(|| shown.into_iter().fold(Section::new("Pictures"), Section::with))
}

fn picture(path: &Path, caption: String) -> Option<Picture> {
    let image = decode_file(path, &DecodeLimits::default()).ok()?;
    Picture::photo(&picture_from_rgb(image.size, image.pixels).ok()?, caption).ok()
}

fn data(run: &Run) -> Option<Section> {
    let record = run.record.as_ref()?;
    let row = |split: &SplitRecord| {
        let role = match split.role {
            SplitRole::Train => "learned from",
            SplitRole::Validation => "scored",
        };
        vec![
            Cell::text(role),
            Cell::text(split.split.clone()),
            Cell::number(split.images),
            Cell::number(split.images_without_boxes),
            Cell::number(split.boxes),
            Cell::number(split.images_left_out),
            Cell::number(split.boxes_left_out),
            Cell::text(split.paths.join(", ")),
        ]
    };
    let headings = ["", "split", "images", "without boxes", "boxes", "images left out", "boxes left out", "from"];
    let table = Table::new(headings).rows(record.data.iter().map(row));
    let classes: Vec<String> = record.classes.iter().map(|class| class.name.clone()).collect();
    let classes = Facts::new().fact(format!("{} classes", classes.len()), classes.join(", "));
    Some(Section::new("Data").with(table).with(classes))
}

/// What was wrong, kind by kind.
fn messages(run: &Run) -> Option<Section> {
    let record = run.record.as_ref()?;
    let splits = record.data.iter().map(|split| (format!("In the annotations of {}", split.split), &split.problems));
    let kinds = splits.chain([
        ("Images that could not be used".to_owned(), &record.failures),
        ("Files of this folder that could not be written".to_owned(), &record.warnings),
    ]);
    let found: Vec<Section> =
        kinds.filter(|(_, messages)| messages.count > 0).map(|(title, messages)| listed(title, messages)).collect();
    (!found.is_empty()).then(|| found.into_iter().fold(Section::new("Problems found"), Section::with))
}

fn listed(title: String, messages: &Messages) -> Section {
    let mut lines = messages.first.clone();
    if messages.count > lines.len() {
        lines.push(format!("and {} more", messages.count - lines.len()));
    }
    Section::closed(title).tag(Tone::Warning, messages.count.to_string()).with(Block::List(lines))
}

/// The command, the version and the machine.
fn origin(run: &Run) -> Option<Section> {
    let RunRecord { version, command_line, seed, machine, notes, .. } = run.record.as_ref()?;
    let processor = machine.processor.as_deref().unwrap_or("unknown");
    let mut facts = Facts::new()
        .fact("version", version)
        .fact("seed", seed)
        .fact("processor", format!("{processor}, {} cores, {} threads used", machine.cores, machine.threads))
        .fact("system", format!("{}, {}", machine.os, machine.architecture));
    if let Some(bytes) = machine.memory_bytes {
        facts.push("memory", Unit::Bytes.text(bytes as f64));
    }
    let mut section = Section::new("Command and machine").with(Block::Code(shell(command_line))).with(facts);
    if !notes.is_empty() {
        section.push(Block::List(notes.clone()));
    }
    Some(section)
}

/// A command line as a shell takes it.
fn shell(arguments: &[String]) -> String {
    let is_plain = |argument: &str| {
        !argument.is_empty() && argument.chars().all(|c| c.is_alphanumeric() || "-_./=:+,@%".contains(c))
    };
    let quoted = arguments.iter().map(|argument| match is_plain(argument) {
        true => argument.clone(),
        false => format!("'{}'", argument.replace('\'', "'\\''")),
    });
    quoted.collect::<Vec<_>>().join(" ")
}

fn configuration(run: &Run) -> Option<Section> {
    let text = toml::to_string(run.config.as_ref()?).ok()?;
    Some(Section::closed("Configuration").with(Block::Code(text)))
}

/// Commands that go on from here.
fn next(run: &Run) -> Section {
    let folder = &run.folder;
    let model = Some(folder.best()).filter(|best| best.is_file()).unwrap_or_else(|| folder.last());
    let argument = |path: &Path| shell(&[path.display().to_string()]);
    let mut lines = vec![format!("retinanet detect --model {} IMAGE...", argument(&model))];
    let paths = run.record.as_ref().and_then(|record| record.data.first()).map_or(&[][..], |split| &split.paths);
    let data = match paths {
        [] => " --data DATA".to_owned(),
        paths => paths.iter().map(|path| format!(" --data {}", shell(std::slice::from_ref(path)))).collect(),
    };
    lines.push(format!("retinanet eval --model {}{data} --split test", argument(&model)));
    lines.push(format!("retinanet compare {} ANOTHER_RUN --output comparison.html", argument(folder.path())));
    let logs = folder.path().parent().filter(|path| !path.as_os_str().is_empty()).unwrap_or(Path::new("."));
    lines.push(format!("tensorboard --logdir {}", argument(logs)));
    Section::new("Next").with(Block::Code(lines.join("\n")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_can_be_pasted() {
        let arguments = ["retinanet", "--set", "a={ b = 'x' }", ""].map(str::to_owned);
        assert_eq!(shell(&arguments), r"retinanet --set 'a={ b = '\''x'\'' }' ''");
    }
}
