//! `cargo xtask bench --peers`: other runtimes beside ours, in turn, into one table.

mod contest;
mod document;
mod gpu;
mod ours;
mod section;
mod sections;
mod venv;
mod worker;

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};

use crate::date::today;
use crate::machine::{Machine, slug};
use crate::workspace::{Workspace, run_shown};
use document::Document;
use gpu::Gpu;
pub(crate) use ours::{Ours, text};
use section::Section;
pub(crate) use venv::Venv;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Compare with torchvision, ONNX Runtime and OpenVINO instead of running the criterion suites.
    #[arg(long, conflicts_with = "filter")]
    peers: bool,
    /// Compare on a GPU, with torchvision alone.
    #[arg(long, requires = "peers")]
    cuda: bool,
    /// The Python environment that has the peers [default: ~/.cache/peers/venv].
    #[arg(long, value_name = "DIR", requires = "peers")]
    venv: Option<PathBuf>,
    /// The folder with `photos/`, `bccd/`, `aquarium/` and `coco128x2/` [default: ../shared/data].
    #[arg(long, value_name = "DIR", requires = "peers")]
    data: Option<PathBuf>,
    /// Run this section alone, and keep the others of the day; may be given several times.
    #[arg(long, value_name = "SECTION", requires = "peers")]
    only: Vec<String>,
    /// Keep the sections of the day that are complete and of this commit.
    #[arg(long, requires = "peers")]
    resume: bool,
}

impl Options {
    pub(crate) fn is_asked(&self) -> bool {
        self.peers
    }
}

/// What every section has at hand.
struct Bench {
    ours: Ours,
    venv: Venv,
    /// Photos, the blood cells, and more images.
    data: PathBuf,
    root: PathBuf,
    /// One round instead of several.
    quick: bool,
}

impl Bench {
    /// How often every contestant gets its turn.
    fn rounds(&self, full: usize) -> usize {
        if self.quick { 1 } else { full }
    }

    /// A folder or file of the data, or the error that says which option names it.
    fn data(&self, path: &str) -> Result<PathBuf> {
        let found = self.data.join(path);
        ensure!(found.exists(), "--data: expected {path} in {}, found nothing there", self.data.display());
        Ok(found)
    }

    /// The text without the folders of this machine: what is committed can be repeated on another.
    fn portable(&self, text: &str) -> String {
        let names = [
            (self.venv.python(), "python"),
            (self.venv.cache(), "$CACHE"),
            (&self.data, "$DATA"),
            (self.ours.folder(), "target/release"),
        ];
        let text =
            names.iter().fold(text.to_string(), |text, (path, name)| text.replace(&path.display().to_string(), name));
        text.replace(&format!("{}/", self.root.display()), "")
    }
}

pub(crate) fn run(workspace: &Workspace, machine: &Machine, options: &Options, quick: bool) -> Result<()> {
    let gpu = options.cuda.then(Gpu::find).transpose()?;
    let sections: &[_] = if options.cuda { &sections::CUDA } else { &sections::CPU };
    let names: Vec<&str> = sections.iter().map(|(name, _)| *name).collect();
    for name in &options.only {
        ensure!(names.contains(&name.as_str()), "--only: expected one of {}, found {name}", names.join(", "));
    }
    let root = workspace.root().to_path_buf();
    let venv = Venv::find(options.venv.as_deref(), &root)?;
    // The whole workspace, as the tests build it: of one package alone, other features of its libraries would be built anew.
    let mut words = vec!["build", "--release", "--workspace", "--bin", "retinanet", "--examples"];
    words.extend(options.cuda.then_some("--features=retinanet-cli/cuda"));
    run_shown(workspace.cargo(&words))?;
    let metadata = workspace.metadata()?;
    let target = metadata["target_directory"].as_str().context("cargo metadata: no `target_directory`")?;
    let ours = Ours::new(&Path::new(target).join("release"));
    let data = options.data.clone().unwrap_or_else(|| root.join("../shared/data"));
    let data = data.canonicalize().unwrap_or(data);
    let bench = Bench { ours, venv, data, root, quick };

    let slug = gpu.as_ref().map_or_else(|| machine.slug(), |gpu| slug(&gpu.name));
    let folder = bench.root.join("benches/results").join(format!("{}-{slug}", today()));
    let keeps = options.resume || !options.only.is_empty();
    let mut document = Document::open(&folder, machine, gpu.as_ref(), &today(), keeps)?;
    for (name, measure) in sections {
        let is_asked = options.only.is_empty() || options.only.iter().any(|only| only == name);
        if !is_asked || (options.resume && document.is_complete(name, &machine.commit)) {
            continue;
        }
        println!("== {name}");
        let start = Instant::now();
        let section = measure(&bench).unwrap_or_else(|error| Section::of_failure(format!("{error:#}")));
        let section = section.finish(&machine.commit, start.elapsed(), quick, |text| bench.portable(text));
        document.insert(name, section);
        document.write(&folder)?;
        println!("{}", document.section_text(name));
    }
    println!("written: {}", bench.portable(&folder.join("peers.md").display().to_string()));
    let failures = document.failures();
    if !failures.is_empty() {
        bail!("peers: {} parts could not be measured:\n{}", failures.len(), failures.join("\n"));
    }
    Ok(())
}
