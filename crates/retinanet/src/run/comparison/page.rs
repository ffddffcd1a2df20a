//! The page of a comparison.

use super::{Comparison, Difference, Quantity};
use retinanet_draw::page::{Block, Cell, Page, Section, Table, Tone};

pub(super) fn page(comparison: &Comparison) -> String {
    let names: Vec<&str> = comparison.runs.iter().map(|run| run.name.as_str()).collect();
    let mut page = Page::new(format!("Runs {}", names.join(", "))).section(runs(comparison));
    let plots: Vec<Block> = comparison.plots().into_iter().map(Block::Plot).collect();
    if !plots.is_empty() {
        page = page.section(Section::new("Curves").with(Block::Side(plots)));
    }
    for (title, quantities) in [("Result", &comparison.results), ("AP of each class", &comparison.classes)] {
        if !quantities.is_empty() {
            page = page.section(Section::new(title).with(table(&names, quantities, Quantity::row)));
        }
    }
    let differing = [
        ("Configuration", &comparison.configuration, "Nothing differs in what is known of it."),
        ("Data", &comparison.data, "Nothing differs in what is known of it."),
        ("Machine and start", &comparison.machine, "Nothing differs in what is known of them."),
    ];
    for (title, differences, nothing) in differing {
        let section = Section::new(title);
        page = page.section(match differences.is_empty() {
            true => section.with(nothing),
            false => section.with(table(&names, differences, Difference::row)),
        });
    }
    page.to_html()
}

fn runs(comparison: &Comparison) -> Section {
    let mut section = Section::new("Runs");
    let rows = comparison
        .runs
        .iter()
        .map(|run| vec![Cell::text(run.name.clone()), Cell::text(run.status.clone()), Cell::text(run.path.clone())]);
    section.push(Table::new(["run", "status", "folder"]).rows(rows));
    for run in &comparison.runs {
        for note in &run.notes {
            section.push(Block::Callout(Tone::Note, format!("{}: {note}", run.name)));
        }
    }
    section
}

fn table<T>(names: &[&str], rows: &[T], row: impl Fn(&T, usize) -> Vec<Cell>) -> Table {
    let headings = std::iter::once("").chain(names.iter().copied());
    Table::new(headings).rows(rows.iter().map(|values| row(values, names.len())))
}

impl Quantity {
    fn row(&self, runs: usize) -> Vec<Cell> {
        let values = (0..runs).map(|run_idx| Cell::number(self.text(run_idx)));
        std::iter::once(Cell::text(self.name.clone())).chain(values).collect()
    }
}

impl Difference {
    fn row(&self, runs: usize) -> Vec<Cell> {
        let values = (0..runs).map(|run_idx| Cell::text(self.text(run_idx)));
        std::iter::once(Cell::text(self.key.clone())).chain(values).collect()
    }
}
