//! A training as a person sees it: a bar or lines, and a line an epoch.

use super::pace::Pace;
use super::{Mode, style};
use console::Term;
use indicatif::ProgressBar;
use retinanet::run::{Unit, resident_bytes};
use retinanet::{EpochSummary, Event, Step, TrainConfig};
use std::time::{Duration, Instant};

/// Between two lines where there is no bar.
const LINE_INTERVAL: Duration = Duration::from_secs(30);

/// Between two changes of the text below a bar.
const TEXT_INTERVAL: Duration = Duration::from_millis(150);

/// Columns where the terminal does not say.
const DEFAULT_WIDTH: usize = 80;

/// Shows the events of a training on standard error.
pub(crate) struct TrainingProgress {
    mode: Mode,
    bar: ProgressBar,
    epochs: usize,
    validate_every: usize,
    /// Images of the validation split; none where it is not scored.
    validation_images: Option<usize>,
    total_steps: usize,
    pace: Pace,
    last_step: Option<Step>,
    /// Images scored by now, while that goes on.
    validated: Option<usize>,
    ap: Option<f64>,
    /// AP and epoch.
    best: Option<(f64, usize)>,
    /// When something was shown last.
    shown: Instant,
}

impl TrainingProgress {
    /// Before the first event.
    pub(crate) fn new(mode: Mode, config: &TrainConfig, validation_images: Option<usize>) -> Self {
        Self {
            mode,
            bar: ProgressBar::hidden(),
            epochs: config.epochs,
            validate_every: config.validate_every,
            validation_images,
            total_steps: 0,
            pace: Pace::default(),
            last_step: None,
            validated: None,
            ap: None,
            best: None,
            shown: Instant::now(),
        }
    }

    /// Prints a line, above the bar where there is one.
    pub(crate) fn say(&self, text: &str) {
        self.bar.suspend(|| eprintln!("{text}"));
    }

    /// Shows what happened.
    pub(crate) fn observe(&mut self, event: &Event<'_>) {
        match event {
            Event::Start { steps_per_epoch, state, .. } => {
                self.total_steps = steps_per_epoch * self.epochs;
                let all = self.validation_images.map_or(0, |_| self.epochs.div_ceil(self.validate_every));
                let left = all.saturating_sub(state.epoch / self.validate_every);
                self.pace = Pace::new(self.total_steps, left);
                self.best = state.best;
                self.shown = Instant::now();
                if self.mode == Mode::Bar {
                    let style = style("[{wide_bar}] {pos}/{len} steps\n{msg}");
                    self.bar = ProgressBar::new(self.total_steps as u64).with_style(style);
                    self.bar.set_position(state.step as u64);
                }
            }
            Event::Failure(failure) => self.say(&format!("failed: {failure}")),
            Event::Diverging(divergence) => self.say(&format!("warning: {divergence}")),
            Event::Step(step) => {
                self.pace.step(step);
                self.last_step = Some(*step);
                self.bar.inc(1);
                self.refresh();
            }
            Event::Validating { images } => {
                self.validated = Some(*images);
                self.refresh();
            }
            Event::Validation { epoch, evaluation } => {
                let ap = evaluation.metrics.summary.ap;
                self.ap = Some(ap);
                if ap >= 0.0 && self.best.is_none_or(|(best, _)| ap > best) {
                    self.best = Some((ap, *epoch));
                }
            }
            Event::Epoch(summary) => {
                self.validated = None;
                if summary.score.is_some() {
                    self.pace.validated(summary.validation);
                }
                if self.mode != Mode::Hidden {
                    self.say(&epoch_line(summary, self.epochs));
                }
                self.shown = Instant::now();
            }
            _ => {}
        }
    }

    /// Takes the bar away.
    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }

    /// Shows how it goes, where the last time is long enough ago.
    fn refresh(&mut self) {
        let interval = match self.mode {
            Mode::Bar => TEXT_INTERVAL,
            Mode::Plain => LINE_INTERVAL,
            Mode::Hidden => return,
        };
        if self.shown.elapsed() < interval {
            return;
        }
        self.shown = Instant::now();
        let items = self.items();
        if self.mode == Mode::Bar {
            let width = Term::stderr().size_checked().map_or(DEFAULT_WIDTH, |(_, columns)| usize::from(columns));
            self.bar.set_message(wrapped(&items, width));
        } else {
            let steps = self.last_step.map_or(0, |step| step.step + 1);
            eprintln!("step {steps}/{}  {}", self.total_steps, items.join("  "));
        }
    }

    /// How it goes, the most important first.
    fn items(&self) -> Vec<String> {
        let mut items = Vec::new();
        let epoch = self.last_step.map_or(1, |step| step.epoch + 1);
        items.push(format!("epoch {epoch}/{}", self.epochs));
        match (self.validated, self.validation_images) {
            (Some(images), Some(all)) => items.push(format!("scoring {images}/{all}")),
            _ => items
                .extend(self.pace.images_per_second().map(|rate| format!("{} images/s", Unit::PerSecond.text(rate)))),
        }
        items.extend(self.pace.seconds_left().map(|seconds| format!("{} left", Unit::Seconds.text(seconds))));
        if let Some(step) = &self.last_step {
            items.push(format!("class {:.3}", step.class_loss));
            items.push(format!("box {:.3}", step.box_loss));
        }
        items.extend(self.ap.map(|ap| format!("AP {}", Unit::Score.text(ap))));
        items.extend(self.best.map(|(ap, epoch)| format!("best {} at epoch {epoch}", Unit::Score.text(ap))));
        items.extend(self.last_step.map(|step| format!("lr {}", short(step.learning_rate))));
        items.extend(self.pace.waited().map(|share| format!("waiting {}", Unit::Share.text(share))));
        items.extend(resident_bytes().map(|bytes| Unit::Bytes.text(bytes as f64)));
        items
    }
}

/// An epoch in a line.
fn epoch_line(summary: &EpochSummary, epochs: usize) -> String {
    let EpochSummary { epoch, class_loss, box_loss, duration, .. } = summary;
    let mut items =
        vec![format!("epoch {epoch}/{epochs}"), format!("class {class_loss:.4}"), format!("box {box_loss:.4}")];
    if let Some(score) = &summary.score {
        items.push(format!("AP {}", Unit::Score.text(score.ap)));
        items.push(format!("AP50 {}", Unit::Score.text(score.ap50)));
    }
    let seconds = duration.as_secs_f64();
    items.push(Unit::Seconds.text(seconds));
    if seconds > 0.0 {
        items.push(format!("{} images/s", Unit::PerSecond.text(summary.images as f64 / seconds)));
        items.push(format!("waiting {}", Unit::Share.text(summary.loading.waited.as_secs_f64() / seconds)));
    }
    items.join("  ")
}

/// A learning rate of two digits.
fn short(rate: f64) -> String {
    if rate >= 1e-3 { format!("{rate:.4}") } else { format!("{rate:.1e}") }
}

/// The items in lines of at most so many columns, each whole where it can be.
fn wrapped(items: &[String], width: usize) -> String {
    // The last column stays free: some terminals break a line that fills it.
    let width = width.saturating_sub(1).max(1);
    let mut lines: Vec<String> = Vec::new();
    for item in items {
        let item: String = item.chars().take(width).collect();
        match lines.last_mut() {
            Some(line) if line.chars().count() + 2 + item.chars().count() <= width => {
                line.push_str("  ");
                line.push_str(&item);
            }
            _ => lines.push(item),
        }
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(items: &[&str], width: usize, expected: &str) {
        let items: Vec<String> = items.iter().map(|&item| item.to_owned()).collect();
        assert_eq!(wrapped(&items, width), expected);
    }

    #[test]
    fn lines_fit_the_terminal() {
        check(&["epoch 1/3", "class 0.5", "box 0.2"], 80, "epoch 1/3  class 0.5  box 0.2");
        check(&["epoch 1/3", "class 0.5", "box 0.2"], 21, "epoch 1/3  class 0.5\nbox 0.2");
        check(&["epoch 1/3", "class 0.5"], 20, "epoch 1/3\nclass 0.5");
        check(&["epoch 1/3"], 6, "epoch");
        check(&["ab"], 0, "a");
        check(&[], 40, "");
    }

    #[test]
    fn rates_are_short() {
        assert_eq!([0.01, 0.00123, 1e-5].map(short), ["0.0100", "0.0012", "1.0e-5"]);
    }
}
