//! `cargo xtask structure`: who may know whom, compared with the manifests.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::sizes::{LONG_FILE, long_files};
use crate::workspace::Workspace;

/// Each crate of the workspace with those of the workspace that it may depend on, by layers from the bottom.
///
/// Arrows point down only, crates of one layer do not see each other, and everyone may use the anchors' vocabulary.
const LAYERS: &[(&str, &[&str])] = &[
    // L0
    ("retinanet-anchors", &[]),
    ("retinanet-annotations", &["retinanet-anchors"]),
    ("retinanet-focal", &["retinanet-anchors"]),
    ("retinanet-ops", &["retinanet-anchors"]),
    ("retinanet-zoo", &[]),
    // L1
    ("retinanet-backbone", &["retinanet-anchors", "retinanet-ops"]),
    ("retinanet-cuda", &["retinanet-anchors", "retinanet-focal", "retinanet-ops"]),
    ("retinanet-head", &["retinanet-anchors", "retinanet-ops"]),
    ("retinanet-onnx", &["retinanet-ops"]),
    ("retinanet-data", &["retinanet-anchors", "retinanet-annotations"]),
    ("retinanet-eval", &["retinanet-anchors", "retinanet-annotations"]),
    ("retinanet-draw", &["retinanet-anchors"]),
    // L2
    (
        "retinanet",
        &[
            "retinanet-anchors",
            "retinanet-annotations",
            "retinanet-backbone",
            "retinanet-cuda",
            "retinanet-data",
            "retinanet-draw",
            "retinanet-eval",
            "retinanet-focal",
            "retinanet-head",
            "retinanet-onnx",
            "retinanet-ops",
        ],
    ),
    // L3
    (
        "retinanet-cli",
        &[
            "retinanet",
            "retinanet-anchors",
            "retinanet-annotations",
            "retinanet-cuda",
            "retinanet-data",
            "retinanet-draw",
            "retinanet-eval",
            "retinanet-zoo",
        ],
    ),
];

/// Outside of the layers: nothing depends on them, and they may use everything.
const FREE: &[&str] = &["retinanet-benches", "xtask"];

/// Libraries that only some crates may depend on.
const LIBRARIES: &[(&str, &[&str])] = &[
    ("ab_glyph", &["retinanet-draw"]),
    ("anyhow", &["retinanet-cli"]),
    ("base64", &["retinanet-draw"]),
    ("bytesize", &["retinanet-cli"]),
    (
        "candle-core",
        &[
            "retinanet-focal",
            "retinanet-ops",
            "retinanet-backbone",
            "retinanet-head",
            "retinanet-onnx",
            "retinanet",
            "retinanet-cli",
        ],
    ),
    ("clap", &["retinanet-cli"]),
    ("clap_complete", &["retinanet-cli"]),
    ("clap_mangen", &["retinanet-cli"]),
    ("console", &["retinanet-cli"]),
    ("crc32c", &["retinanet", "retinanet-data"]),
    ("csv", &["retinanet-annotations", "retinanet-cli"]),
    ("cudarc", &["retinanet-cuda"]),
    ("etcetera", &["retinanet-cli"]),
    ("fast_image_resize", &["retinanet-data"]),
    ("fs4", &["retinanet-data"]),
    ("glob", &["retinanet-cli"]),
    ("humantime", &["retinanet", "retinanet-cli"]),
    ("image", &["retinanet-data", "retinanet-draw"]),
    ("indicatif", &["retinanet-cli"]),
    ("libloading", &["retinanet-cuda"]),
    ("maud", &["retinanet-draw"]),
    ("md-5", &["retinanet-zoo"]),
    ("prost", &["retinanet", "retinanet-onnx"]),
    ("roxmltree", &["retinanet-annotations"]),
    ("safetensors", &["retinanet"]),
    ("serde-saphyr", &["retinanet-annotations"]),
    ("strsim", &["retinanet-annotations", "retinanet-zoo"]),
    ("sysinfo", &["retinanet"]),
    ("unicode-normalization", &["retinanet-annotations"]),
    ("ureq", &["retinanet-zoo"]),
    ("walkdir", &["retinanet-data"]),
    ("zip", &["retinanet"]),
];

/// A crate of the workspace and what it depends on, development dependencies left out: tests may look anywhere.
#[derive(Debug, PartialEq)]
struct Package {
    name: String,
    dependencies: BTreeSet<String>,
}

pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    let packages = packages(&workspace.metadata()?)?;
    let faults = faults(&packages);
    if !faults.is_empty() {
        bail!("{}", faults.join("\n"));
    }
    let edges: usize = packages.iter().map(|package| package.dependencies.len()).sum();
    println!("{} crates, {edges} dependencies, all allowed", packages.len());
    for folder in ["crates", "xtask", "benches"] {
        for (path, lines) in long_files(&workspace.root().join(folder))? {
            let path = path.strip_prefix(workspace.root()).unwrap_or(&path);
            println!("note: {}: {lines} lines: expected at most {LONG_FILE}", path.display());
        }
    }
    Ok(())
}

fn packages(metadata: &Value) -> Result<Vec<Package>> {
    let text = |value: &Value, key: &str| value[key].as_str().map(str::to_string);
    let packages = metadata["packages"].as_array().context("cargo metadata: no `packages`")?;
    let package = |value: &Value| {
        let name = text(value, "name").context("cargo metadata: a package without `name`")?;
        let dependencies = value["dependencies"].as_array().context("cargo metadata: no `dependencies`")?;
        let used = dependencies.iter().filter(|dependency| dependency["kind"] != "dev");
        Ok(Package { name, dependencies: used.filter_map(|dependency| text(dependency, "name")).collect() })
    };
    packages.iter().map(package).collect()
}

/// Everything that is not as the tables say, one line each.
fn faults(packages: &[Package]) -> Vec<String> {
    let mut faults = Vec::new();
    let members: BTreeSet<&str> = packages.iter().map(|package| package.name.as_str()).collect();
    for package in packages {
        let name = package.name.as_str();
        if FREE.contains(&name) {
            continue;
        }
        let Some((_, allowed)) = LAYERS.iter().find(|(member, _)| *member == name) else {
            faults.push(format!("{name}: layer: expected a row in the table of layers, found none"));
            continue;
        };
        for dependency in &package.dependencies {
            let dependency = dependency.as_str();
            if members.contains(dependency) && !allowed.contains(&dependency) {
                faults.push(format!("{name}: dependency: expected one of {allowed:?}, found {dependency}"));
            }
            let owners = LIBRARIES.iter().find(|(library, _)| *library == dependency);
            if let Some((_, owners)) = owners.filter(|(_, owners)| !owners.contains(&name)) {
                faults.push(format!("{dependency}: user: expected one of {owners:?}, found {name}"));
            }
        }
    }
    for (name, _) in LAYERS.iter().filter(|(name, _)| !members.contains(name)) {
        faults.push(format!("{name}: expected a crate of the workspace, found none"));
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The whole workspace with every allowed edge.
    fn full() -> Vec<Package> {
        let package = |(name, allowed): &(&str, &[&str])| Package {
            name: (*name).to_string(),
            dependencies: allowed.iter().map(|name| (*name).to_string()).collect(),
        };
        LAYERS.iter().map(package).collect()
    }

    #[track_caller]
    fn check(from: &str, to: &str, expected: &[&str]) {
        let mut packages = full();
        match packages.iter_mut().find(|package| package.name == from) {
            Some(package) => _ = package.dependencies.insert(to.to_string()),
            None => packages.push(Package { name: from.to_string(), dependencies: BTreeSet::from([to.to_string()]) }),
        }
        assert_eq!(faults(&packages), expected);
    }

    #[test]
    fn allowed_edges_pass() {
        check("retinanet-data", "retinanet-annotations", &[]);
        check("retinanet-data", "image", &[]);
        check("retinanet-head", "candle-core", &[]);
        check("retinanet-anchors", "serde", &[]);
        check("xtask", "retinanet", &[]);
        check("retinanet-benches", "candle-core", &[]);
    }

    #[test]
    fn bad_edges_are_found() {
        let upwards = r#"retinanet-ops: dependency: expected one of ["retinanet-anchors"], found retinanet"#;
        check("retinanet-ops", "retinanet", &[upwards]);
        let sideways = r#"retinanet-head: dependency: expected one of ["retinanet-anchors", "retinanet-ops"], found retinanet-backbone"#;
        check("retinanet-head", "retinanet-backbone", &[sideways]);
        let chore = r#"retinanet-anchors: dependency: expected one of [], found xtask"#;
        let mut packages = full();
        packages.push(Package { name: "xtask".to_string(), dependencies: BTreeSet::new() });
        packages[0].dependencies.insert("xtask".to_string());
        assert_eq!(faults(&packages), [chore]);
    }

    #[test]
    fn libraries_in_the_wrong_crate_are_found() {
        let image = r#"image: user: expected one of ["retinanet-data", "retinanet-draw"], found retinanet-cli"#;
        check("retinanet-cli", "image", &[image]);
        let anyhow = r#"anyhow: user: expected one of ["retinanet-cli"], found retinanet"#;
        check("retinanet", "anyhow", &[anyhow]);
        for crate_name in ["anchors", "annotations", "data", "eval", "draw"] {
            let mut packages = full();
            let name = format!("retinanet-{crate_name}");
            let package = packages.iter_mut().find(|package| package.name == name).expect("a row");
            package.dependencies.insert("candle-core".to_string());
            assert_eq!(faults(&packages).len(), 1, "{name}");
        }
    }

    #[test]
    fn unknown_and_missing_crates_are_found() {
        check("retinanet-new", "serde", &["retinanet-new: layer: expected a row in the table of layers, found none"]);
        let mut packages = full();
        packages.retain(|package| package.name != "retinanet-eval");
        assert_eq!(faults(&packages), ["retinanet-eval: expected a crate of the workspace, found none"]);
    }

    #[test]
    fn layers_point_down() {
        for (idx, (name, allowed)) in LAYERS.iter().enumerate() {
            for dependency in *allowed {
                let below = LAYERS[..idx].iter().any(|(other, _)| other == dependency);
                assert!(below, "{name} -> {dependency}");
            }
        }
    }

    #[test]
    fn development_dependencies_are_free() {
        let metadata = serde_json::json!({ "packages": [{
            "name": "a",
            "dependencies": [
                { "name": "b", "kind": null },
                { "name": "c", "kind": "dev" },
                { "name": "d", "kind": "build" },
            ],
        }] });
        let expected = Package { name: "a".to_string(), dependencies: ["b", "d"].map(str::to_string).into() };
        assert_eq!(packages(&metadata).expect("well formed"), [expected]);
    }

    #[test]
    fn this_workspace_is_as_the_tables_say() {
        let metadata = Workspace::of_this_program().metadata().expect("cargo is here");
        assert_eq!(faults(&packages(&metadata).expect("packages")), Vec::<String>::new());
    }
}
