//! Runs, timed whole and by stage.

use std::time::Instant;

/// The time of one run, in milliseconds.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Run {
    pub(super) total: f64,
    /// Each stage with the sum of its laps, in the order in which they first ended.
    pub(super) stages: Vec<(&'static str, f64)>,
}

/// A clock that a run presses at the end of each stage.
pub(super) struct Clock {
    start: Instant,
    last: Instant,
    stages: Vec<(&'static str, f64)>,
}

impl Clock {
    /// Starts the run here: what came before was preparation.
    pub(super) fn restart(&mut self) {
        (self.start, self.last) = (Instant::now(), Instant::now());
        self.stages.clear();
    }

    /// Ends a stage, which began with the run or with the end of the one before it.
    pub(super) fn lap(&mut self, stage: &'static str) {
        let now = Instant::now();
        self.add(stage, milliseconds(self.last, now));
        self.last = now;
    }

    /// Adds to a stage what was timed elsewhere.
    pub(super) fn add(&mut self, stage: &'static str, milliseconds: f64) {
        match self.stages.iter_mut().find(|(name, _)| *name == stage) {
            Some((_, sum)) => *sum += milliseconds,
            None => self.stages.push((stage, milliseconds)),
        }
    }
}

fn milliseconds(from: Instant, to: Instant) -> f64 {
    (to - from).as_secs_f64() * 1e3
}

/// Runs once without looking, then `repeat` times; the times, and what the last run gave.
pub(super) fn repeat<T>(
    repeat: usize,
    mut body: impl FnMut(&mut Clock) -> anyhow::Result<T>,
) -> anyhow::Result<(Vec<Run>, T)> {
    let mut timed = || {
        let now = Instant::now();
        let mut clock = Clock { start: now, last: now, stages: Vec::new() };
        let output = body(&mut clock)?;
        let total = milliseconds(clock.start, Instant::now());
        Ok::<_, anyhow::Error>((Run { total, stages: clock.stages }, output))
    };
    let (_, mut last) = timed()?;
    let mut runs = Vec::with_capacity(repeat);
    for _ in 0..repeat {
        let (run, output) = timed()?;
        runs.push(run);
        last = output;
    }
    Ok((runs, last))
}

/// The middle value, or the mean of the two in the middle; 0 of none.
pub(super) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => 0.0,
        count if count % 2 == 1 => values[middle],
        _ => (values[middle - 1] + values[middle]) / 2.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
        assert_eq!(median(Vec::new()), 0.0);
    }

    #[test]
    fn what_came_before_a_restart_does_not_count() -> anyhow::Result<()> {
        let (runs, ()) = repeat(1, |clock| {
            std::thread::sleep(std::time::Duration::from_millis(200));
            clock.lap("preparation");
            clock.restart();
            clock.lap("a");
            Ok(())
        })?;
        assert!(runs[0].total < 150.0 && runs[0].stages.len() == 1, "{runs:?}");
        Ok(())
    }

    #[test]
    fn stages_add_up_to_no_more_than_the_run() -> anyhow::Result<()> {
        let mut calls = 0;
        let (runs, last) = repeat(3, |clock| {
            calls += 1;
            std::thread::sleep(std::time::Duration::from_millis(2));
            clock.lap("a");
            clock.lap("b");
            std::thread::sleep(std::time::Duration::from_millis(2));
            clock.lap("a");
            Ok(calls)
        })?;
        assert_eq!((runs.len(), last), (3, 4));
        for run in runs {
            assert_eq!(run.stages.iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["a", "b"]);
            assert!(run.stages[0].1 >= 4.0, "{run:?}");
            assert!(run.stages.iter().map(|(_, time)| time).sum::<f64>() <= run.total, "{run:?}");
        }
        Ok(())
    }
}
