//! Chores of the workspace, one file a command: `cargo xtask --help`.

mod ablation;
mod alone;
mod bench;
mod ci;
mod date;
mod dist;
mod machine;
mod onnx;
mod peers;
mod readme;
mod results;
mod sanitize;
mod sizes;
mod structure;
mod weights;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::workspace::Workspace;

/// Chores of the workspace.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Every check except the tests, cheapest first; stops at the first that fails.
    Ci,
    /// Compare the dependencies among the crates with the layers they belong to.
    Structure,
    /// Check that the README's quick start is the two promised commands.
    Readme,
    /// Build each crate in a project of its own, outside the workspace, and run the first example of its documentation.
    Alone,
    /// Run the benches and keep their numbers in `benches/results/DATE-MACHINE/`.
    Bench(bench::Arguments),
    /// Repeat the paper's ablations on small data, and keep the table in `benches/results/DATE-MACHINE/`.
    Ablation(ablation::Arguments),
    /// Build the program as one static file, with manual pages and completions, in `target/dist/`.
    Dist,
    /// Run exported detectors in ONNX Runtime and OpenVINO, and compare their outputs with ours.
    Onnx(onnx::Arguments),
    /// Run the kernels' tests with every access to memory checked by AddressSanitizer.
    Sanitize(sanitize::Arguments),
    /// List, fetch and check published models, as `retinanet models` does.
    Weights(weights::Arguments),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let workspace = Workspace::of_this_program();
    let outcome = match arguments.command {
        Command::Ci => ci::run(&workspace),
        Command::Structure => structure::run(&workspace),
        Command::Readme => readme::run(&workspace),
        Command::Alone => alone::run(&workspace),
        Command::Bench(arguments) => bench::run(&workspace, &arguments),
        Command::Ablation(arguments) => ablation::run(&workspace, &arguments),
        Command::Dist => dist::run(&workspace),
        Command::Onnx(arguments) => onnx::run(&workspace, &arguments),
        Command::Sanitize(arguments) => sanitize::run(&workspace, &arguments),
        Command::Weights(arguments) => weights::run(&workspace, &arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
