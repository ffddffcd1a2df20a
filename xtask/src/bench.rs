//! `cargo xtask bench`: runs the criterion suites, or ours beside the peers, and keeps the numbers with the machine they were measured on.

use std::path::Path;

use anyhow::{Context as _, Result, bail};

use crate::date::today;
use crate::machine::Machine;
use crate::peers;
use crate::results::{Measurement, collect, estimates, read, write};
use crate::workspace::{Workspace, run_shown};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Run only the benches whose id contains this (criterion takes it as a regular expression).
    #[arg(long)]
    filter: Option<String>,
    /// Stop measuring early; the numbers are rougher, and marked so.
    #[arg(long)]
    quick: bool,
    #[command(flatten)]
    peers: peers::Options,
}

pub(crate) fn run(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    let machine = Machine::here(workspace.root());
    let date = today();
    println!("processor  {}", machine.processor);
    println!("cores      {}", machine.cores);
    println!("memory     {}", machine.memory);
    println!("system     {}", machine.system);
    println!("compiler   {}", machine.compiler);
    println!("commit     {}", machine.commit);
    println!("date       {date}");

    if arguments.peers.is_asked() {
        return peers::run(workspace, &machine, &arguments.peers, arguments.quick);
    }
    let metadata = workspace.metadata()?;
    let target = metadata["target_directory"].as_str().context("cargo metadata: no `target_directory`")?;
    let folder = Path::new(target).join("criterion");
    let before = estimates(&folder);
    let mut words = vec!["bench", "-p", "retinanet-benches", "--"];
    words.extend(arguments.quick.then_some("--quick"));
    words.extend(arguments.filter.as_deref());
    run_shown(workspace.cargo(&words))?;

    let measured = collect(&folder, &before, &machine.commit, arguments.quick)?;
    if measured.is_empty() {
        let filter = arguments.filter.as_deref().unwrap_or("(none)");
        bail!("benches: measurements with filter {filter}: expected at least 1, found 0");
    }

    let results = workspace.root().join("benches").join("results").join(format!("{date}-{}", machine.slug()));
    // A run with a filter adds to the day's results; each line says which commit it is of.
    let earlier = if arguments.filter.is_some() { read(&results)? } else { Vec::new() };
    let all = merged(earlier, measured);
    write(&results, &machine, &date, &all)?;
    let shown = results.strip_prefix(workspace.root()).unwrap_or(&results);
    println!("{} measurements in {}", all.len(), shown.display());
    Ok(())
}

/// All of both, sorted by id; the new one where both have it.
fn merged(earlier: Vec<Measurement>, measured: Vec<Measurement>) -> Vec<Measurement> {
    let mut all = measured;
    for old in earlier {
        if all.iter().all(|new| new.id != old.id) {
            all.push(old);
        }
    }
    all.sort_by(|a, b| a.id.cmp(&b.id));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measurement(id: &str, median: f64) -> Measurement {
        Measurement { id: id.to_string(), median, ..Measurement::default() }
    }

    #[test]
    fn a_new_measurement_replaces_the_old() {
        let all = merged(
            vec![measurement("b", 1.0), measurement("a", 2.0)],
            vec![measurement("c", 3.0), measurement("b", 4.0)],
        );
        assert_eq!(all, [measurement("a", 2.0), measurement("b", 4.0), measurement("c", 3.0)]);
    }
}
