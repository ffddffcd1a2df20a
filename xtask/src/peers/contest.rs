//! Contestants that are measured in turn, round after round, so that whatever else the machine does meets all of them.

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::{Value, json};

use super::Bench;
use super::ours::text;
use super::worker::Worker;

/// One side.
pub(crate) enum Side {
    /// `retinanet` with these arguments, started anew each round.
    Ours(Vec<String>),
    /// A script that stays loaded.
    Peer(Command),
}

/// The best of all turns.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    pub(crate) best_ms: f64,
    pub(crate) peak_rss_mib: Option<f64>,
    /// What a peer says of itself, or the whole answer of ours.
    pub(crate) description: Value,
}

/// What a contest found.
#[derive(Debug, Default)]
pub(crate) struct Results {
    outcomes: BTreeMap<String, Outcome>,
    pub(crate) failures: Vec<String>,
    pub(crate) commands: Vec<String>,
}

impl Results {
    pub(crate) fn get(&self, name: &str) -> Option<&Outcome> {
        self.outcomes.get(name)
    }

    pub(crate) fn best_ms(&self, name: &str) -> Option<f64> {
        self.get(name).map(|outcome| outcome.best_ms)
    }

    pub(crate) fn json(&self) -> Value {
        let entry = |outcome: &Outcome| json!({ "best_ms": outcome.best_ms, "peak_rss_mib": outcome.peak_rss_mib, "description": outcome.description });
        self.outcomes.iter().map(|(name, outcome)| (name.clone(), entry(outcome))).collect()
    }
}

/// Lets every side make so many runs a round. A side that fails is reported and takes no further part.
pub(crate) fn compete(bench: &Bench, sides: Vec<(&str, Side)>, rounds: usize, runs: usize) -> Results {
    let mut results = Results::default();
    let mut alive = Vec::new();
    for (name, side) in sides {
        match side {
            Side::Ours(mut arguments) => {
                arguments.extend(["--repeat".to_string(), runs.to_string(), "--json".to_string()]);
                results.commands.push(text(&bench.ours.retinanet(&arguments)));
                alive.push((name, Running::Ours(arguments)));
            }
            Side::Peer(command) => {
                results.commands.push(text(&command));
                match Worker::start(command) {
                    Ok(worker) => alive.push((name, Running::Peer(worker))),
                    Err(error) => results.failures.push(format!("{name}: {error:#}")),
                }
            }
        }
    }
    for _ in 0..rounds {
        alive.retain_mut(|(name, running)| match running.turn(bench, runs) {
            Ok(outcome) => {
                let best = results.outcomes.entry((*name).to_string()).or_insert_with(|| outcome.clone());
                let best_ms = best.best_ms.min(outcome.best_ms);
                let peaks = [best.peak_rss_mib, outcome.peak_rss_mib];
                let peak_rss_mib = peaks.into_iter().flatten().reduce(f64::max);
                *best = Outcome { best_ms, peak_rss_mib, description: outcome.description };
                true
            }
            Err(error) => {
                results.failures.push(format!("{name}: {error:#}"));
                false
            }
        });
    }
    results
}

enum Running {
    Ours(Vec<String>),
    Peer(Worker),
}

impl Running {
    fn turn(&mut self, bench: &Bench, runs: usize) -> anyhow::Result<Outcome> {
        match self {
            Self::Ours(arguments) => {
                let answer = bench.ours.json(arguments)?;
                let best_ms = answer["min_ms"].as_f64().unwrap_or(f64::INFINITY);
                Ok(Outcome { best_ms, peak_rss_mib: answer["peak_rss_mib"].as_f64(), description: answer })
            }
            Self::Peer(worker) => {
                let turn = worker.turn(runs)?;
                let best_ms = turn.milliseconds.iter().copied().fold(f64::INFINITY, f64::min);
                Ok(Outcome { best_ms, peak_rss_mib: turn.peak_rss_mib, description: worker.description.clone() })
            }
        }
    }
}
