//! What a person sees while a model is fetched: a bar on a terminal, else a line now and then.

use indicatif::{ProgressBar, ProgressState, ProgressStyle};
use retinanet_zoo::{Checked, Event};
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// Between two lines where there is no terminal.
const PAUSE: Duration = Duration::from_secs(10);

/// How far a model is.
pub(crate) struct Watch {
    is_terminal: bool,
    bar: Option<ProgressBar>,
    name: String,
    /// When these bytes began to come, and what was there before.
    started: (Instant, u64),
    last_line: Instant,
    has_waited: bool,
}

impl Default for Watch {
    fn default() -> Self {
        Self {
            is_terminal: std::io::stderr().is_terminal(),
            bar: None,
            name: String::new(),
            started: (Instant::now(), 0),
            last_line: Instant::now(),
            has_waited: false,
        }
    }
}

impl Watch {
    /// Shows what happened.
    pub(crate) fn show(&mut self, event: &Event) {
        match *event {
            Event::Waiting { name } if !self.has_waited => {
                self.has_waited = true;
                self.say(&format!("{name}: another process is fetching it; waiting"));
            }
            Event::Waiting { .. } => {}
            Event::Started { name, url, from, total } => {
                let size = total.map_or(String::new(), |total| format!(" ({})", mebibytes(total)));
                self.say(&match from {
                    0 => format!("{name}{size}: fetching {url}"),
                    _ => format!("{name}{size}: going on after {}: {url}", mebibytes(from)),
                });
                self.name = name.to_owned();
                self.started = (Instant::now(), from);
                self.last_line = Instant::now();
                self.end();
                self.bar = self.is_terminal.then(|| bar(name, from, total));
            }
            Event::Progress { done, total } => self.progress(done, total),
            Event::Restarted(reason) => self.say(&format!("beginning anew: {reason}")),
            Event::Retrying { failures, attempts, fault, wait } => self.say(&format!(
                "attempt {failures} of {attempts} failed: {fault}; next one in {:.1} s",
                wait.as_secs_f64()
            )),
            Event::Fetched { name, sha256, checked } => {
                self.end();
                self.say(&format!("{name}: sha256 {sha256}, {}", explain(checked)));
            }
            _ => {}
        }
    }

    fn progress(&mut self, done: u64, total: Option<u64>) {
        if let Some(bar) = &self.bar {
            bar.set_position(done);
        } else if self.last_line.elapsed() >= PAUSE {
            self.last_line = Instant::now();
            let (started, from) = self.started;
            eprintln!("{}: {}", self.name, line(done, total, mean_rate(done, from, started.elapsed())));
        }
    }

    /// Takes the bar away.
    pub(crate) fn end(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }

    fn say(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| eprintln!("{text}")),
            None => eprintln!("{text}"),
        }
    }
}

/// What a person should make of a digest that was compared with this.
pub(crate) fn explain(checked: Checked) -> String {
    match checked {
        Checked::Published => "as published".to_owned(),
        Checked::Leading(digits) => format!("as published, which is {digits} leading digits"),
        Checked::FirstSeen => "as when it was first seen here; none was published".to_owned(),
        Checked::Noted => "not checked, as none was published; written down to know the file by".to_owned(),
    }
}

/// A size as `130.3 MiB`.
pub(crate) fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

fn line(done: u64, total: Option<u64>, rate: f64) -> String {
    let speed = format!("{}/s", mebibytes(rate as u64));
    match total {
        Some(total) => {
            let left = total.saturating_sub(done) as f64 / rate.max(1.0);
            format!("{} of {}, {speed}, {left:.0} s left", mebibytes(done), mebibytes(total))
        }
        None => format!("{}, {speed}", mebibytes(done)),
    }
}

fn bar(name: &str, from: u64, total: Option<u64>) -> ProgressBar {
    let (bar, template) = match total {
        Some(total) => (ProgressBar::new(total), "{msg} [{bar:30}] {line}"),
        None => (ProgressBar::new_spinner(), "{msg} {spinner} {line}"),
    };
    // The bytes from before came at no rate that says anything of now; the bar's own would count them.
    let write_line = move |state: &ProgressState, out: &mut dyn std::fmt::Write| {
        let rate = mean_rate(state.pos(), from, state.elapsed());
        // Where a bar cannot be written, there is nobody to tell.
        let _ = out.write_str(&line(state.pos(), total, rate));
    };
    let style = ProgressStyle::with_template(template).expect("the template has known keys");
    let style = style.with_key("line", write_line).progress_chars("=> ");
    bar.with_style(style).with_message(name.to_owned()).with_position(from)
}

/// Bytes a second, of those that came after the first `from`.
fn mean_rate(done: u64, from: u64, elapsed: Duration) -> f64 {
    done.saturating_sub(from) as f64 / elapsed.as_secs_f64().max(1e-9)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_say_how_far_and_how_long() {
        let mib = 1 << 20;
        assert_eq!(line(30 * mib, Some(130 * mib), 10.0 * mib as f64), "30.0 MiB of 130.0 MiB, 10.0 MiB/s, 10 s left");
        assert_eq!(line(mib / 2, None, 0.0), "0.5 MiB, 0.0 MiB/s");
        assert_eq!(line(mib, Some(mib), 0.0), "1.0 MiB of 1.0 MiB, 0.0 MiB/s, 0 s left");
        assert_eq!(mean_rate(30 * mib, 20 * mib, Duration::from_secs(2)), 5.0 * mib as f64);
        assert_eq!(mean_rate(10, 20, Duration::ZERO), 0.0);
    }
}
