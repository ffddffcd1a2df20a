//! `cargo xtask sanitize`: the kernels' tests with every access to memory checked.

use std::process::Command;

use anyhow::{Result, bail};

use crate::workspace::{Workspace, printed, run_shown};

/// The tests that call kernels on slices directly.
const TESTS: [&str; 6] = ["conv2d_kernels", "inference_kernels", "kernels", "threads", "training_kernels", "winograd"];
/// Those of them that an interpreter finishes; it knows no vectors of AVX-512, so on the portable paths alone.
const INTERPRETED_TEST: &str = "inference_kernels";

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Run the portable kernels in Miri instead, where `cargo miri` is installed: minutes.
    #[arg(long)]
    miri: bool,
}

pub(crate) fn run(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    if arguments.miri { miri(workspace) } else { address(workspace) }
}

fn address(workspace: &Workspace) -> Result<()> {
    let host = host(workspace)?;
    // The target is named so that build scripts and macros are left alone.
    let mut words = vec!["test", "--release", "-p", "retinanet-ops", "--target", &host];
    words.extend(TESTS.iter().flat_map(|test| ["--test", test]));
    let mut command = workspace.cargo(&words);
    // Sanitizers are unstable; the compiler that built everything else has them all the same.
    command.env("RUSTC_BOOTSTRAP", "1").env("RUSTFLAGS", "-Zsanitizer=address");
    if !has_address_sanitizer(workspace, &host) {
        bail!("sanitize: AddressSanitizer for {host}: expected a compiler that has it, found none");
    }
    run_shown(command)?;
    println!("sanitize: no access out of bounds in {}", TESTS.join(", "));
    Ok(())
}

fn miri(workspace: &Workspace) -> Result<()> {
    if printed(workspace.cargo(&["miri", "--version"])).is_none() {
        bail!(
            "sanitize: cargo miri: expected to be installed, found not; on a nightly toolchain: rustup component add miri"
        );
    }
    let words = ["miri", "test", "-p", "retinanet-ops", "--test", INTERPRETED_TEST, "--", "extremes", "cells", "nan"];
    run_shown(workspace.cargo(&words))
}

/// The target that this machine builds for.
fn host(workspace: &Workspace) -> Result<String> {
    let version = printed(rustc(workspace, &["-vV"])).unwrap_or_default();
    match version.lines().find_map(|line| line.strip_prefix("host: ")) {
        Some(host) => Ok(host.to_string()),
        None => bail!("sanitize: rustc -vV: expected a line `host: ...`, found none"),
    }
}

/// Whether the compiler has the sanitizer's library for the target.
fn has_address_sanitizer(workspace: &Workspace, host: &str) -> bool {
    let Some(folder) = printed(rustc(workspace, &["--print", "target-libdir", "--target", host])) else { return false };
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
    files.map(|file| file.file_name()).any(|name| name.to_string_lossy().contains("rt.asan"))
}

fn rustc(workspace: &Workspace, arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    command.current_dir(workspace.root()).args(arguments);
    command
}
