//! `retinanet compare`: runs beside each other.

use crate::args::CompareArgs;
use crate::{Status, table};
use anyhow::Context;
use retinanet::run::{Comparison, Difference, Quantity, Run};
use retinanet_annotations::write_atomically;
use std::path::Path;

/// What is written beside what is printed.
#[derive(Clone, Copy)]
enum Output {
    Picture,
    Page,
}

pub(crate) fn run(args: &CompareArgs) -> anyhow::Result<Status> {
    // What cannot be written is said before anything is read.
    let output = args.output.as_deref().map(|path| Ok::<_, anyhow::Error>((path, output_kind(path)?))).transpose()?;
    let runs = args.runs.iter().map(Run::read).collect::<Result<Vec<_>, _>>()?;
    let comparison = Comparison::new(&runs);
    if args.json {
        crate::out!("{}", serde_json::to_string(&comparison)?)?;
    } else {
        crate::out!("{}", text(&comparison))?;
    }
    if let Some((path, kind)) = output {
        let bytes = match kind {
            Output::Picture => comparison.curves()?,
            Output::Page => comparison.page().into_bytes(),
        };
        write_atomically(path, |file| file.write_all(&bytes))
            .with_context(|| format!("{}: cannot write", path.display()))?;
        eprintln!("written: {}", path.display());
    }
    Ok(Status::Done)
}

fn output_kind(path: &Path) -> anyhow::Result<Output> {
    let ending = path.extension().map(|extension| extension.to_string_lossy().to_lowercase()).unwrap_or_default();
    match ending.as_str() {
        "png" => Ok(Output::Picture),
        "html" | "htm" => Ok(Output::Page),
        _ => anyhow::bail!("--output: expected a name that ends in .png or .html, found {}", path.display()),
    }
}

fn text(comparison: &Comparison) -> String {
    let mut sections = Vec::new();
    let mut section = |title: &str, rows: Vec<Vec<String>>| {
        if !rows.is_empty() {
            let names = comparison.runs.iter().map(|run| run.name.clone());
            let heading = std::iter::once(title.to_owned()).chain(names).collect();
            sections.push(table::render(&[vec![heading], rows].concat()));
        }
    };
    let columns = comparison.runs.len();
    let different = |differences: &[Difference]| -> Vec<Vec<String>> {
        let row = |row: &Difference| with_columns(&row.key, columns, &|column| row.text(column));
        differences.iter().map(row).collect()
    };
    let quantities = |quantities: &[Quantity]| -> Vec<Vec<String>> {
        let row = |row: &Quantity| with_columns(&row.name, columns, &|column| row.text(column));
        quantities.iter().map(row).collect()
    };
    section("configuration", different(&comparison.configuration));
    section("data", different(&comparison.data));
    section("machine and start", different(&comparison.machine));
    section("result", quantities(&comparison.results));
    section("AP of a class", quantities(&comparison.classes));
    if comparison.configuration.is_empty() && comparison.data.is_empty() {
        sections.insert(0, "Nothing differs in what is known of configuration and data.".to_owned());
    }
    let notes = comparison.runs.iter().flat_map(|run| run.notes.iter().map(move |note| (run, note)));
    let notes: Vec<String> = notes.map(|(run, note)| table::printable(&format!("{}: {note}", run.name))).collect();
    if !notes.is_empty() {
        sections.push(notes.join("\n"));
    }
    sections.join("\n\n")
}

fn with_columns(name: &str, columns: usize, text: &dyn Fn(usize) -> String) -> Vec<String> {
    std::iter::once(name.to_owned()).chain((0..columns).map(text)).collect()
}
