//! `cargo xtask dist`: the program as it is handed on, one static file with manual pages and completions beside it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use crate::workspace::{Workspace, run_shown};

/// Starts of the program that are timed.
const STARTS: usize = 20;

pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    let target = host(workspace)?;
    let mut build = workspace.cargo(&["build", "--release", "--package", "retinanet-cli", "--target", &target]);
    // musl's allocator and memory functions cost speed; the GNU library links statically, too.
    build.env("RUSTFLAGS", "-C target-feature=+crt-static -C strip=symbols");
    run_shown(build)?;

    let name = format!("retinanet-{}-{target}", env!("CARGO_PKG_VERSION"));
    let folder = workspace.root().join("target/dist").join(&name);
    fs::create_dir_all(&folder).with_context(|| format!("{}: cannot make the folder", folder.display()))?;
    let program = format!("retinanet{}", std::env::consts::EXE_SUFFIX);
    let built = workspace.root().join("target").join(&target).join("release").join(&program);
    let program = folder.join(program);
    copy(&built, &program)?;
    for file in ["README.md", "LICENSE-APACHE", "LICENSE-MIT"] {
        copy(&workspace.root().join(file), &folder.join(file))?;
    }
    let mut manual = Command::new(&program);
    run_shown({
        manual.args(["manual", "--output"]).arg(folder.join("man"));
        manual
    })?;
    for (shell, file) in [
        ("bash", "retinanet.bash"),
        ("zsh", "_retinanet"),
        ("fish", "retinanet.fish"),
        ("powershell", "_retinanet.ps1"),
    ] {
        let output = Command::new(&program).args(["completions", shell]).output().context("the program starts")?;
        ensure!(output.status.success(), "retinanet completions {shell}: expected success, found {}", output.status);
        let path = folder.join("completions").join(file);
        fs::create_dir_all(folder.join("completions")).context("completions: cannot make the folder")?;
        fs::write(&path, output.stdout).with_context(|| format!("{}: cannot write", path.display()))?;
    }

    let bytes = fs::metadata(&program).with_context(|| format!("{}: cannot read", program.display()))?.len();
    println!("{}", folder.display());
    println!("size: {:.1} MB", bytes as f64 / 1e6);
    println!("libraries it needs: {}", needed(&program)?);
    let start = start_time(&program)?;
    println!("process start to version printed: {:.1} ms (the fastest of {STARTS})", start.as_secs_f64() * 1e3);
    Ok(())
}

/// The target that this machine builds for.
fn host(workspace: &Workspace) -> Result<String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output =
        Command::new(rustc).current_dir(workspace.root()).arg("-vV").output().context("rustc: could not start")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).context("rustc -vV: expected a line `host: TARGET`, found none")
}

fn copy(from: &Path, to: &PathBuf) -> Result<()> {
    fs::copy(from, to).with_context(|| format!("{} to {}: cannot copy", from.display(), to.display()))?;
    Ok(())
}

/// The shared libraries of the program; an error where there are some and none are expected.
fn needed(program: &Path) -> Result<String> {
    if !cfg!(all(target_os = "linux", target_env = "gnu")) {
        return Ok("not looked at on this system".to_owned());
    }
    let output = Command::new("ldd").arg(program).output().context("ldd: could not start")?;
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    if text.contains("statically linked") || text.contains("not a dynamic executable") {
        return Ok("none".to_owned());
    }
    bail!("{}: shared libraries: expected none, found {}", program.display(), text.trim())
}

fn start_time(program: &Path) -> Result<Duration> {
    let mut fastest = Duration::MAX;
    for _ in 0..STARTS {
        let begin = Instant::now();
        let output = Command::new(program).arg("--version").output().context("the program starts")?;
        ensure!(output.status.success(), "retinanet --version: expected success, found {}", output.status);
        fastest = fastest.min(begin.elapsed());
    }
    Ok(fastest)
}
