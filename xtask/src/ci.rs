//! `cargo xtask ci`: every check except the tests of the default build, cheapest first.

use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

use crate::workspace::{Workspace, run_shown};
use crate::{readme, structure};

/// The feature that builds the engines for GPUs. With the whole workspace, so that all else is built once for both.
const CUDA: &str = "retinanet-cli/cuda";

struct Step {
    name: &'static str,
    /// What to do when it fails.
    remedy: &'static str,
    check: fn(&Workspace) -> Result<()>,
}

const STEPS: [Step; 6] = [
    Step {
        name: "structure",
        remedy: "take the dependency out, or change the table in xtask/src/structure.rs and say why in the README",
        check: structure::run,
    },
    Step { name: "readme", remedy: "bring the README's `## Quick start` back to the two commands", check: readme::run },
    Step { name: "formatting", remedy: "run `cargo fmt --all`", check: formatting },
    Step {
        name: "clippy",
        remedy: "fix what it says; `cargo clippy --release --workspace --all-targets` repeats it",
        check: clippy,
    },
    Step {
        name: "devices",
        remedy: "fix what fails; the tests need no GPU, but run on one where it is",
        check: devices,
    },
    Step {
        name: "documentation",
        remedy: "fix what it says; `cargo doc --release --workspace --no-deps` repeats it",
        check: documentation,
    },
];

pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    let started = Instant::now();
    for (idx, step) in STEPS.iter().enumerate() {
        println!("[{}/{}] {}", idx + 1, STEPS.len(), step.name);
        let step_started = Instant::now();
        let outcome = (step.check)(workspace);
        let took = seconds(step_started.elapsed());
        if let Err(error) = outcome {
            println!("[{}/{}] {}: failed after {took}", idx + 1, STEPS.len(), step.name);
            return Err(anyhow!("{}: {error:#}\nwhat to do: {}", step.name, step.remedy));
        }
        println!("[{}/{}] {}: passed in {took}", idx + 1, STEPS.len(), step.name);
    }
    println!("ci: all {} checks passed in {}", STEPS.len(), seconds(started.elapsed()));
    Ok(())
}

fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

fn formatting(workspace: &Workspace) -> Result<()> {
    run_shown(workspace.cargo(&["fmt", "--all", "--check"]))
}

fn clippy(workspace: &Workspace) -> Result<()> {
    let check = |what: &[&str]| {
        let words = [&["clippy", "--release", "--all-targets", "--quiet"], what, &["--", "-D", "warnings"]].concat();
        run_shown(workspace.cargo(&words))
    };
    // Benches are among the targets, so they compile too.
    check(&["--workspace"])?;
    // What is there only with a GPU's engines.
    check(&["--workspace", "--features", CUDA])
}

/// What is tested only with a GPU's engines built in.
fn devices(workspace: &Workspace) -> Result<()> {
    let tests = ["--test", "device", "--test", "device_kernels"];
    run_shown(workspace.cargo(&[&["test", "--release", "--workspace", "--features", CUDA], &tests[..]].concat()))
}

fn documentation(workspace: &Workspace) -> Result<()> {
    // Of the release profile, so that it builds on what clippy has checked already.
    let mut command = workspace.cargo(&["doc", "--release", "--workspace", "--no-deps", "--quiet"]);
    command.env("RUSTDOCFLAGS", "-D warnings");
    run_shown(command)
}
