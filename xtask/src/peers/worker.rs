//! A peer that is loaded once and makes runs when it is told to; see `xtask/peers/worker.py`.

use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

/// Longer than any peer takes to load a network, to quantise it or to make the runs of a round.
const LIMIT: Duration = Duration::from_secs(300);

/// The process of a peer; it ends with the value.
pub(crate) struct Worker {
    child: Child,
    input: ChildStdin,
    lines: Receiver<Value>,
    errors: Option<JoinHandle<String>>,
    /// What it says of itself: versions, precisions of the layers.
    pub(crate) description: Value,
}

/// The runs of one turn.
pub(crate) struct Turn {
    pub(crate) milliseconds: Vec<f64>,
    pub(crate) peak_rss_mib: Option<f64>,
}

impl Worker {
    /// Starts it and waits until it is loaded and warm.
    pub(crate) fn start(mut command: Command) -> Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().context("could not start")?;
        let (Some(input), Some(output), Some(errors)) = (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            bail!("expected three pipes to the process, found fewer");
        };
        let (sender, lines) = channel();
        std::thread::spawn(move || forward(output, &sender));
        let errors = std::thread::spawn(move || last_line(errors));
        let mut worker = Self { child, input, lines, errors: Some(errors), description: Value::Null };
        worker.description = worker.answer()?;
        Ok(worker)
    }

    /// Makes so many runs.
    pub(crate) fn turn(&mut self, runs: usize) -> Result<Turn> {
        // A process that has ended says why through its answer.
        _ = writeln!(self.input, "{runs}").and_then(|()| self.input.flush());
        let answer = self.answer()?;
        let times = answer["ms"].as_array().context("expected `ms` in the answer, found none")?;
        let milliseconds = times.iter().filter_map(Value::as_f64).collect();
        Ok(Turn { milliseconds, peak_rss_mib: answer["peak_rss_mib"].as_f64() })
    }

    fn answer(&mut self) -> Result<Value> {
        match self.lines.recv_timeout(LIMIT) {
            Ok(answer) => Ok(answer),
            Err(RecvTimeoutError::Timeout) => bail!("expected an answer within {} s, found none", LIMIT.as_secs()),
            Err(RecvTimeoutError::Disconnected) => {
                let last = self.errors.take().and_then(|errors| errors.join().ok()).unwrap_or_default();
                bail!("the process ended: {last}")
            }
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // It may have ended already.
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

/// Objects only: libraries print progress to the same stream.
fn forward(output: impl Read, sender: &Sender<Value>) {
    for line in BufReader::new(output).lines().map_while(Result::ok) {
        if let Ok(value @ Value::Object(_)) = serde_json::from_str(&line)
            && sender.send(value).is_err()
        {
            return;
        }
    }
}

/// Reads to the end, so that the process never waits for its errors to be read.
fn last_line(errors: impl Read) -> String {
    let lines = BufReader::new(errors).lines().map_while(Result::ok);
    lines.filter(|line| !line.trim().is_empty()).last().unwrap_or_else(|| "no message".to_string())
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_worker_answers_in_turn() -> Result<()> {
        let script =
            r#"echo progress; echo '{"ready":"a"}'; read n; echo "{\"ms\":[$n,2.5],\"peak_rss_mib\":7}"; read n"#;
        let mut worker = Worker::start(shell(script))?;
        assert_eq!(worker.description["ready"], "a");
        let turn = worker.turn(4)?;
        assert_eq!((turn.milliseconds, turn.peak_rss_mib), (vec![4.0, 2.5], Some(7.0)));
        Ok(())
    }

    #[test]
    fn one_that_ends_says_why() -> Result<()> {
        let failed = Worker::start(shell("echo a >&2; echo no such module >&2; exit 1"));
        assert!(failed.is_err_and(|error| error.to_string().contains("no such module")));
        let mut worker = Worker::start(shell(r#"echo '{"ready":"a"}'; echo out of memory >&2"#))?;
        assert!(worker.turn(1).is_err_and(|error| error.to_string().contains("out of memory")));
        Ok(())
    }
}
