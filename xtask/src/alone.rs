//! `cargo xtask alone`: each crate in a project of its own, outside the workspace, with the example that its documentation
//! begins with.
//!
//! Within the workspace a crate gets the features that any other asks for; here it has to name what it needs.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::workspace::{Workspace, run_shown};

pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    let metadata = workspace.metadata()?;
    let target = metadata["target_directory"].as_str().context("cargo metadata: no `target_directory`")?;
    let packages = metadata["packages"].as_array().context("cargo metadata: no `packages`")?;
    let published = packages.iter().filter(|package| package["publish"].is_null());
    for package in published {
        let name = package["name"].as_str().context("cargo metadata: a package without `name`")?;
        let Some(library) = library(package) else {
            println!("{name}: a program, which nothing can depend on");
            continue;
        };
        let text = fs::read_to_string(library).with_context(|| format!("{library}: could not read"))?;
        let example = first_example(&text).with_context(|| format!("{library}: expected an example, found none"))?;
        let folder = Path::new(target).join("alone").join(name);
        write_project(workspace.root(), &folder, package, &example)?;
        let manifest = folder.join("Cargo.toml").display().to_string();
        let command = if example.runs { "run" } else { "build" };
        let mut cargo = workspace.cargo(&[command, "--release", "--quiet", "--manifest-path", &manifest]);
        // What the workspace has built of other people's crates, with the same features, is not built again.
        cargo.env("CARGO_TARGET_DIR", target);
        run_shown(cargo).with_context(|| format!("{name}: alone"))?;
        println!("{name}: {}", if example.runs { "ran" } else { "compiled; its example would need files" });
    }
    Ok(())
}

/// The file with the documentation of a package's library.
fn library(package: &Value) -> Option<&str> {
    let mut targets = package["targets"].as_array()?.iter();
    let target = targets.find(|target| target["kind"].as_array().is_some_and(|kinds| kinds.contains(&"lib".into())))?;
    target["src_path"].as_str()
}

/// Code from a crate's documentation.
#[derive(Debug, PartialEq)]
struct Example {
    code: String,
    /// Whether it can be run as it stands.
    runs: bool,
}

/// The first block of code of the documentation of a crate, with the lines that are hidden in it.
fn first_example(source: &str) -> Option<Example> {
    let mut lines =
        source.lines().map_while(|line| line.strip_prefix("//!")).map(|line| line.strip_prefix(' ').unwrap_or(line));
    let attributes = lines.find_map(|line| line.strip_prefix("```"))?;
    let shown = |line: &str| line.strip_prefix("# ").unwrap_or(line).to_owned() + "\n";
    let code = lines.take_while(|line| !line.starts_with("```")).map(shown).collect();
    Some(Example { code, runs: !attributes.contains("no_run") })
}

/// As a program: an example without a `main` may end in a `Result`, as in documentation.
fn program(code: &str) -> String {
    if code.contains("fn main(") {
        return code.to_owned();
    }
    format!(
        "fn main() {{\n    example().unwrap();\n}}\n\nfn example() -> Result<(), impl std::fmt::Debug> {{\n{code}}}\n"
    )
}

fn write_project(root: &Path, folder: &Path, package: &Value, example: &Example) -> Result<()> {
    let write = |path: &str, text: &str| {
        let path = folder.join(path);
        fs::write(&path, text).with_context(|| format!("{}: could not write", path.display()))
    };
    fs::create_dir_all(folder.join("src")).with_context(|| format!("{}: could not create", folder.display()))?;
    write("Cargo.toml", &manifest(package, &example.code)?)?;
    write("src/main.rs", &program(&example.code))?;
    // The versions that are tested.
    let lock = fs::read_to_string(root.join("Cargo.lock")).context("Cargo.lock: could not read")?;
    write("Cargo.lock", &lock)
}

/// The manifest of a workspace of one program, which depends on the package and on what its example names.
fn manifest(package: &Value, code: &str) -> Result<String> {
    let text = |value: &Value, key: &str| value[key].as_str().unwrap_or_default().to_owned();
    let (name, path) = (text(package, "name"), text(package, "manifest_path"));
    let folder = Path::new(&path).parent().context("cargo metadata: a package without `manifest_path`")?;
    let mut dependencies = vec![format!("{name} = {{ path = {:?} }}", folder.display().to_string())];
    for dependency in package["dependencies"].as_array().context("cargo metadata: no `dependencies`")? {
        let (name, path) = (text(dependency, "name"), text(dependency, "path"));
        let is_named = code.contains(&format!("{}::", name.replace('-', "_")));
        if !dependency["kind"].is_null() || !is_named {
            continue;
        }
        dependencies.push(match path.as_str() {
            "" => format!("{name} = {:?}", text(dependency, "req")),
            path => format!("{name} = {{ path = {path:?} }}"),
        });
    }
    Ok(format!(
        "[workspace]\n\n[package]\nname = \"{name}-alone\"\nedition = \"2024\"\n\n[dependencies]\n{}\n\n\
         [profile.release]\ncodegen-units = 16\n",
        dependencies.join("\n")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_block_with_its_hidden_lines() {
        let source = "//! Words.\n//!\n//! ```no_run\n//! use a::B;\n//! # let b = B;\n//! ```\n//!\n//! ```\n//! c();\n//! ```\nuse d;\n";
        let expected = Example { code: "use a::B;\nlet b = B;\n".to_owned(), runs: false };
        assert_eq!(first_example(source), Some(expected));
        assert!(first_example(&source.replace("no_run", "")).is_some_and(|example| example.runs));
        assert_eq!(first_example("use a;\n\n//! ```\n//! b();\n//! ```\n"), None);
    }

    #[test]
    fn a_program_has_one_main() {
        assert_eq!(program("fn main() {}\n"), "fn main() {}\n");
        assert_eq!(program("Ok::<(), ()>(())\n").matches("fn main() {").count(), 1);
    }

    #[test]
    fn what_the_example_names_is_asked_for() {
        let package = serde_json::json!({
            "name": "a-b", "manifest_path": "/w/a/Cargo.toml",
            "dependencies": [
                { "name": "c-d", "kind": null, "path": "/w/c", "req": "^1" },
                { "name": "e", "kind": null, "req": "^2.1" },
                { "name": "unused", "kind": null, "req": "^3" },
                { "name": "f", "kind": "dev", "req": "^4" },
            ],
        });
        let text = manifest(&package, "use a_b::A; use c_d::C; e::e(); f::f()").expect("well formed");
        assert!(
            text.contains("[dependencies]\na-b = { path = \"/w/a\" }\nc-d = { path = \"/w/c\" }\ne = \"^2.1\"\n\n[")
        );
    }
}
