//! `cargo xtask ablation`: the paper's ablations with the small preset, trained and scored by the program.

mod plan;
mod report;
mod run;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

use crate::date::today;
use crate::machine::Machine;
use crate::peers::Ours;
use crate::results::write_whole;
use crate::workspace::{Workspace, run_shown};
use plan::{FIGURE_GAMMAS, FIGURE_VARIANT, TABLES, VARIANTS, Variant};
use report::{Figure, Runs, markdown};
use run::{Campaign, Data};

/// Where the data is that the paper's tables are repeated on.
const DATA: [(&str, &str); 2] =
    [("bccd", "../shared/data/bccd"), ("aquarium", "../shared/data/aquarium/dataset/aquarium_pretrain")];

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// A data set to train on, DIR or NAME=DIR; may be given several times [default: bccd and aquarium in ../shared/data].
    #[arg(long, value_name = "DIR")]
    data: Vec<String>,
    /// Passes over the data [default: the preset's].
    #[arg(long, value_name = "N")]
    epochs: Option<usize>,
    /// Seeds, from 0: so many trainings of each variant.
    #[arg(long, value_name = "N", default_value_t = 3)]
    seeds: usize,
    /// Train this variant alone; may be given several times.
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// The split that is scored; training is on train.
    #[arg(long, value_name = "NAME", default_value = "val")]
    split: String,
    /// Folder of the runs; those that are done there are not trained again [default: target/ablation].
    #[arg(long, value_name = "DIR")]
    runs: Option<PathBuf>,
    /// Folder of the report [default: benches/results/DATE-MACHINE].
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
}

pub(crate) fn run(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    ensure!(arguments.seeds > 0, "--seeds: expected at least 1, found 0");
    let variants = chosen(&arguments.only)?;
    let root = workspace.root();
    let data = match arguments.data.as_slice() {
        [] => DATA.iter().map(|(name, path)| Data::parse(&format!("{name}={}", root.join(path).display()))).collect(),
        given => given.iter().map(|argument| Data::parse(argument)).collect::<Result<Vec<_>>>(),
    }?;
    let names: Vec<String> = data.iter().map(|data| data.name.clone()).collect();
    ensure!(
        names.iter().enumerate().all(|(idx, name)| !names[..idx].contains(name)),
        "--data: expected names that differ, found {}; NAME=DIR gives another",
        names.join(", ")
    );

    // Of the whole workspace, so that it is the build that the tests use.
    run_shown(workspace.cargo(&["build", "--release", "--workspace", "--bin", "retinanet"]))?;
    let metadata = workspace.metadata()?;
    let target = Path::new(metadata["target_directory"].as_str().context("cargo metadata: no `target_directory`")?);
    let machine = Machine::here(root);
    let date = today();
    let campaign = Campaign {
        ours: Ours::new(&target.join("release")),
        folder: arguments.runs.clone().unwrap_or_else(|| target.join("ablation")),
        epochs: arguments.epochs,
        split: arguments.split.clone(),
        commit: machine.commit.clone(),
    };
    let default = || root.join("benches/results").join(format!("{date}-{}", machine.slug()));
    let output = arguments.output.clone().unwrap_or_else(default);
    fs::create_dir_all(&output).with_context(|| format!("{}: could not create", output.display()))?;

    let mut runs = Runs::default();
    let mut figures = Vec::new();
    // Seed by seed, so that a campaign that is stopped has something of everything.
    for seed in 0..arguments.seeds {
        for data in &data {
            for variant in &variants {
                let done = campaign.run(data, variant, seed)?;
                println!("{} {} seed {seed}: {:?}", data.name, variant.name, done.outcome);
                runs.insert(&data.name, variant.name, done);
                if seed == 0 && variant.name == FIGURE_VARIANT {
                    figures.extend(figure(&campaign, data, variant, &output)?);
                }
                let text = markdown(&runs, &names, &figures, &machine, &date, &command(arguments));
                write_whole(&output.join("ablation.md"), &text)?;
                // In one line: thousands of numbers are points of curves.
                let document = document(&runs, &figures, &machine, &date, arguments);
                write_whole(&output.join("ablation.json"), &format!("{document}\n"))?;
            }
        }
    }
    println!("written: {}", output.join("ablation.md").display());
    Ok(())
}

/// The variants that are asked for, in their order; all if none is.
fn chosen(only: &[String]) -> Result<Vec<&'static Variant>> {
    let names = || VARIANTS.iter().map(|variant| variant.name).collect::<Vec<_>>().join(", ");
    if let Some(unknown) = only.iter().find(|name| VARIANTS.iter().all(|variant| variant.name != name.as_str())) {
        bail!("--only: expected one of {}, found {unknown}", names());
    }
    let is_chosen = |variant: &&Variant| only.is_empty() || only.iter().any(|name| name == variant.name);
    Ok(VARIANTS.iter().filter(is_chosen).collect())
}

/// Figure 4 of a model; none where its training diverged.
fn figure(campaign: &Campaign, data: &Data, variant: &Variant, output: &Path) -> Result<Option<Figure>> {
    let folder = campaign.run_folder(data, variant, 0);
    if !folder.join("last.safetensors").exists() {
        return Ok(None);
    }
    let picture = format!("ablation-losses-{}.png", data.name);
    let losses = campaign.losses(data, &folder, &FIGURE_GAMMAS, &output.join(&picture))?;
    Ok(Some(Figure { data: data.name.clone(), picture, losses }))
}

/// As it would be typed on any machine.
fn command(arguments: &Arguments) -> String {
    let mut words = vec![format!("cargo xtask ablation --seeds {}", arguments.seeds)];
    // Where the data lies is not another machine's business.
    words.extend(arguments.data.iter().map(|data| match data.split_once('=') {
        Some((name, _)) => format!("--data {name}=DIR"),
        None => "--data DIR".to_string(),
    }));
    words.extend(arguments.epochs.map(|epochs| format!("--epochs {epochs}")));
    if arguments.split != "val" {
        words.push(format!("--split {}", arguments.split));
    }
    words.extend(arguments.only.iter().map(|name| format!("--only {name}")));
    words.join(" ")
}

fn document(runs: &Runs, figures: &[Figure], machine: &Machine, date: &str, arguments: &Arguments) -> Value {
    let Machine { processor, cores, memory, system, compiler, commit } = machine;
    let rows = TABLES.iter().flat_map(|table| table.rows.iter().map(move |row| (table, row)));
    let rows = rows.map(
        |(table, row)| json!({ "table": table.title, "row": row.label, "variant": row.variant, "paper": row.paper }),
    );
    let figures = figures.iter().map(|figure| (figure.data.clone(), figure.losses.clone()));
    json!({
        "date": date,
        "command": command(arguments),
        "machine": {
            "processor": processor, "cores": cores, "memory": memory, "system": system, "compiler": compiler,
            "commit": commit,
        },
        "variants": VARIANTS.iter().map(|variant| (variant.name, variant.assignments)).collect::<std::collections::BTreeMap<_, _>>(),
        "rows": rows.collect::<Vec<_>>(),
        "runs": runs.json(),
        "losses": figures.collect::<serde_json::Map<_, _>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variants_are_chosen_by_name() {
        let names = |only: &[&str]| {
            let only: Vec<String> = only.iter().map(|name| (*name).to_string()).collect();
            Ok::<_, anyhow::Error>(chosen(&only)?.iter().map(|variant| variant.name).collect::<Vec<_>>())
        };
        assert_eq!(names(&[]).expect("all").len(), VARIANTS.len());
        assert_eq!(names(&["ohem", "gamma_2"]).expect("both"), ["gamma_2", "ohem"]);
        let message = names(&["gamma_3"]).expect_err("no such variant").to_string();
        assert!(message.contains("gamma_2") && message.ends_with("found gamma_3"), "{message}");
    }
}
