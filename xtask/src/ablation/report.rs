//! What the runs show, beside the paper's numbers.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::plan::{Row, TABLES, Table};
use super::run::{Done, Outcome};
use crate::machine::Machine;

/// The runs by data set and variant.
#[derive(Default)]
pub(super) struct Runs(BTreeMap<(String, String), Vec<Done>>);

/// Figure 4 of a data set: what `retinanet losses` printed, and the picture's name.
pub(super) struct Figure {
    pub(super) data: String,
    pub(super) picture: String,
    pub(super) losses: Value,
}

/// Mean and standard deviation over seeds, in percent.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Spread {
    mean: f64,
    /// Unbiased; none of a single seed.
    deviation: Option<f64>,
}

impl Spread {
    fn of(values: &[f64]) -> Option<Self> {
        if values.is_empty() {
            return None;
        }
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        Some(Self { mean, deviation: (values.len() > 1).then(|| (squares / (count - 1.0)).sqrt()) })
    }

    fn text(self) -> String {
        let deviation = self.deviation.map_or_else(String::new, |deviation| format!(" ({deviation:.1})"));
        format!("{:.1}{deviation}", self.mean)
    }
}

impl Runs {
    pub(super) fn insert(&mut self, data: &str, variant: &str, done: Done) {
        self.0.entry((data.to_string(), variant.to_string())).or_default().push(done);
    }

    fn of(&self, data: &str, variant: &str) -> &[Done] {
        self.0.get(&(data.to_string(), variant.to_string())).map_or(&[], Vec::as_slice)
    }

    /// The spread of AP, AP50 or AP75 over those seeds that ended with a score.
    fn spread(&self, data: &str, variant: &str, metric: usize) -> Option<Spread> {
        let scores = self.of(data, variant).iter().filter_map(|done| match &done.outcome {
            Outcome::Score(score) => Some(score[metric]),
            Outcome::Diverged(_) => None,
        });
        Spread::of(&scores.collect::<Vec<_>>())
    }

    fn cell(&self, data: &str, variant: &str, metric: usize) -> String {
        let runs = self.of(data, variant);
        let diverged = runs.iter().filter(|done| matches!(done.outcome, Outcome::Diverged(_))).count();
        let spread = self.spread(data, variant, metric).map(Spread::text);
        match (diverged, spread) {
            (0, spread) => spread.unwrap_or_default(),
            (_, None) => "diverged".to_string(),
            (_, Some(spread)) => format!("{spread}, {diverged} of {} diverged", runs.len()),
        }
    }

    pub(super) fn json(&self) -> Value {
        let run = |done: &Done| match &done.outcome {
            Outcome::Score([ap, ap50, ap75]) => {
                json!({ "seed": done.seed, "commit": done.commit, "AP": ap, "AP50": ap50, "AP75": ap75 })
            }
            Outcome::Diverged(error) => json!({ "seed": done.seed, "commit": done.commit, "diverged": error }),
        };
        let mut document = json!({});
        for ((data, variant), runs) in &self.0 {
            document[data][variant] = runs.iter().map(run).collect();
        }
        document
    }
}

/// The whole report. `command` is how it was made.
pub(super) fn markdown(
    runs: &Runs,
    data: &[String],
    figures: &[Figure],
    machine: &Machine,
    date: &str,
    command: &str,
) -> String {
    let Machine { processor, cores, memory, system, compiler, .. } = machine;
    let mut text = format!(
        "# Ablation beside the paper's, {date}\n\n{processor}, {cores} cores, {memory} memory, {system}, {compiler}\n\n\
         `{command}`\n\n\
         AP, AP50 and AP75 in percent, mean over seeds with the standard deviation in brackets. The paper's numbers are from \
         Lin et al. 2017, on COCO minival with ImageNet backbones; ours are the preset small_r18 from scratch on small data: \
         the order of rows is to be compared, not the numbers.\n"
    );
    let is_shown =
        |table: &&Table| table.rows.iter().any(|row| data.iter().any(|name| !runs.of(name, row.variant).is_empty()));
    for table in TABLES.iter().filter(is_shown) {
        text.push_str(&section(table, runs, data));
    }
    if !figures.is_empty() {
        text.push_str(&figures_section(figures));
    }
    text
}

fn section(table: &Table, runs: &Runs, data: &[String]) -> String {
    let mut text = format!("\n## {}\n\nPaper: {}.\n\n| | paper AP | AP50 | AP75 |", table.title, table.source);
    text.extend(data.iter().map(|name| format!(" {name} AP | AP50 | AP75 |")));
    text.push_str("\n| :-- |");
    text.push_str(&" --: | --: | --: |".repeat(1 + data.len()));
    for row in table.rows {
        let paper = row.paper.map_or_else(Default::default, |scores| scores.map(|score| format!("{score:.1}")));
        text.push_str(&format!("\n| {} | {} |", row.label, paper.join(" | ")));
        for name in data {
            text.extend((0..3).map(|metric| format!(" {} |", runs.cell(name, row.variant, metric))));
        }
    }
    text.push('\n');
    text.push_str(&agreement(table, runs, data));
    text
}

/// How many pairs of rows stand in the paper's order by AP, of all that both have, and of those that are further apart than
/// their deviations; nothing where there is no pair.
fn agreement(table: &Table, runs: &Runs, data: &[String]) -> String {
    let mut text = String::new();
    for name in data {
        let both = |row: &Row| Some((row.paper?[0], runs.spread(name, row.variant, 0)?));
        let rows: Vec<(f64, Spread)> = table.rows.iter().filter_map(both).collect();
        let (mut all, mut clear) = ([0, 0], [0, 0]);
        for (idx, (paper, spread)) in rows.iter().enumerate() {
            for (other_paper, other) in rows[..idx].iter().filter(|other| other.0 != *paper) {
                let difference = spread.mean - other.mean;
                let agrees = usize::from((paper > other_paper) == (difference > 0.0) && difference != 0.0);
                all = [all[0] + agrees, all[1] + 1];
                let deviation = |spread: &Spread| spread.deviation.unwrap_or(f64::INFINITY);
                if difference.abs() > deviation(spread).hypot(deviation(other)) {
                    clear = [clear[0] + agrees, clear[1] + 1];
                }
            }
        }
        if all[1] > 0 {
            text.push_str(&format!(
                "\n{name}: {} of {} pairs of rows are in the paper's order; of those further apart than their deviations, {} of {}.\n",
                all[0], all[1], clear[0], clear[1]
            ));
        }
    }
    text
}

fn figures_section(figures: &[Figure]) -> String {
    let mut text = "\n## Where the loss is (figure 4)\n\n\
        Share of the class loss in the hardest examples of a model trained with gamma 2, on the scored split, if its loss had \
        this gamma. In the paper, the hardest 20 % of the foreground have about half of it for gamma 0, and the background's \
        is nearly all in the hardest examples for gamma 2.\n"
        .to_string();
    for figure in figures {
        text.push_str(&format!("\n### {}\n\n![cumulative losses]({})\n\n", figure.data, figure.picture));
        text.push_str(
            "| gamma | hardest 20 % of the foreground | hardest .1 % of the background |\n| --: | --: | --: |\n",
        );
        let curves = |side: &str| figure.losses[side]["curves"].as_array().cloned().unwrap_or_default();
        let percent = |curve: &Value| {
            let loss = curve["loss_of_hardest"]["loss"].as_f64();
            loss.map_or_else(String::new, |loss| format!("{:.1} %", 100.0 * loss))
        };
        for (foreground, background) in curves("foreground").iter().zip(&curves("background")) {
            let gamma = &foreground["gamma"];
            text.push_str(&format!("| {gamma} | {} | {} |\n", percent(foreground), percent(background)));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn done(seed: usize, outcome: Outcome) -> Done {
        Done { seed, outcome, commit: "abc".to_string() }
    }

    #[test]
    fn spreads_worked_by_hand() {
        assert_eq!(Spread::of(&[]), None);
        assert_eq!(Spread::of(&[40.0]), Some(Spread { mean: 40.0, deviation: None }));
        // Deviations -2, 0, 2: sqrt(8 / 2).
        assert_eq!(Spread::of(&[38.0, 40.0, 42.0]), Some(Spread { mean: 40.0, deviation: Some(2.0) }));
        assert_eq!(Spread { mean: 40.04, deviation: Some(1.96) }.text(), "40.0 (2.0)");
    }

    #[test]
    fn rows_show_means_divergence_and_the_paper() {
        let mut runs = Runs::default();
        for (seed, ap) in [(0, 38.0), (1, 40.0), (2, 42.0)] {
            runs.insert("cells", "cross_entropy", done(seed, Outcome::Score([ap, ap + 10.0, 20.0])));
            runs.insert("cells", "no_prior", done(seed, Outcome::Diverged("step 1".to_string())));
        }
        runs.insert("fish", "no_prior", done(0, Outcome::Score([45.0, 50.0, 1.0])));
        runs.insert("fish", "no_prior", done(1, Outcome::Diverged("step 9".to_string())));
        let text = section(&TABLES[0], &runs, &["cells".to_string(), "fish".to_string()]);
        let row =
            "| bias 0 (diverges in the paper) |  |  |  | diverged | diverged | diverged | 45.0, 1 of 2 diverged |";
        assert!(text.contains(row), "{text}");
        assert!(
            text.contains("| prior .01 | 30.2 | 46.7 | 32.8 | 40.0 (2.0) | 50.0 (2.0) | 20.0 (0.0) |  |  |  |"),
            "{text}"
        );
        let document = runs.json();
        assert_eq!(document["cells"]["cross_entropy"][2]["AP50"], 52.0);
        assert_eq!(document["fish"]["no_prior"][1]["diverged"], "step 9");
    }

    #[test]
    fn orders_are_compared_pair_by_pair() {
        let mut runs = Runs::default();
        // The paper: 31.1, 32.9, 33.7, 34.0, 32.2. Means here: 20.5, 25.5, 25.55, none and 30.5, deviations .71 and once 2.19.
        // Of six pairs the last row is wrong with two, and one is within the spread.
        for (variant, seeds) in [
            ("alpha_75", [20.0, 21.0]),
            ("gamma_0.5", [25.0, 26.0]),
            ("gamma_1", [24.0, 27.1]),
            ("gamma_5", [30.0, 31.0]),
        ] {
            for (seed, ap) in seeds.into_iter().enumerate() {
                runs.insert("cells", variant, done(seed, Outcome::Score([ap, 0.0, 0.0])));
            }
        }
        let text = agreement(&TABLES[2], &runs, &["cells".to_string(), "fish".to_string()]);
        let expected = "cells: 4 of 6 pairs of rows are in the paper's order; of those further apart than their deviations, 3 of 5.";
        assert_eq!(text.trim(), expected);
    }
}
