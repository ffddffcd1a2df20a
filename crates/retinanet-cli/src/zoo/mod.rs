//! Models by name: the cache folder, what the environment says, and what a person sees while a model is fetched.

mod environment;
mod hint;
mod watch;

use crate::args::ZooArgs;
use crate::interrupt::Interrupt;
use anyhow::Context;
use etcetera::base_strategy::{BaseStrategy, choose_native_strategy};
use retinanet_zoo::{Cache, Entry, FetchOptions, Located, Manifest, Task, Zoo, ZooError};
use std::path::{Path, PathBuf};
use watch::Watch;
pub(crate) use watch::{explain, mebibytes};

/// Said at Ctrl-C while a model is fetched.
pub(crate) const INTERRUPTED: &str = "interrupted: what has come is kept; once more to stop at once";

/// What a model is wanted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// A whole detector.
    Detector,
    /// A backbone, or a detector for the one in it.
    Backbone,
}

/// The folder of this program among the user's caches; the option is what names another.
pub(crate) fn user_cache(option: &str) -> anyhow::Result<PathBuf> {
    let strategy = choose_native_strategy();
    let strategy =
        strategy.with_context(|| format!("{option}: expected a folder, found none, and no home folder either"))?;
    Ok(strategy.cache_dir().join("retinanet"))
}

/// The models that there are by name, and where they are kept.
pub(crate) fn open(args: &ZooArgs) -> anyhow::Result<Zoo> {
    let folder = match &args.models_dir {
        Some(folder) => folder.clone(),
        None => user_cache("--models-dir")?,
    };
    let embedded = Manifest::embedded();
    let manifest = match &args.manifest {
        Some(path) => Manifest::read(path)?.or(embedded),
        None => embedded,
    };
    let (proxies, root_certificates) = environment::read(|name| std::env::var(name).ok());
    let options = FetchOptions { proxies, root_certificates, ..FetchOptions::default() };
    Ok(Zoo { manifest, cache: Cache::new(folder).with_shipped(shipped()), options })
}

/// Where the models that ship with the program may lie: here, beside the program, or above the folder it was built in.
fn shipped() -> Vec<PathBuf> {
    let program = std::env::current_exe().unwrap_or_default();
    std::iter::once(PathBuf::from(".")).chain(program.ancestors().skip(1).take(4).map(Path::to_owned)).collect()
}

/// The file that an argument stands for: itself, if it is one, or a model by name, fetched if it is not here yet.
///
/// `None` if Ctrl-C came in between, which was said.
pub(crate) fn resolve(
    argument: &Path,
    wanted: Wanted,
    args: &ZooArgs,
    interrupt: &Interrupt,
) -> anyhow::Result<Option<PathBuf>> {
    // Who has a file needs neither a manifest nor a home folder.
    if argument.is_file() {
        return Ok(Some(argument.to_owned()));
    }
    let zoo = open(args)?;
    match zoo.locate(argument).map_err(hint::with_hint)? {
        Located::File(path) => Ok(Some(path.to_owned())),
        Located::Model(entry) => {
            anyhow::ensure!(
                wanted == Wanted::Backbone || entry.task == Task::Detector,
                "{}: expected a detector, found a backbone ({}); `{} train --backbone-weights {}` takes it",
                entry.name,
                entry.backbone.title(),
                crate::program(),
                entry.name
            );
            fetch(&zoo, entry, interrupt)
        }
    }
}

/// A model's file, fetched if it is not here yet, with a bar. `None` if Ctrl-C came in between, which was said.
pub(crate) fn fetch(zoo: &Zoo, entry: &Entry, interrupt: &Interrupt) -> anyhow::Result<Option<PathBuf>> {
    let mut watch = Watch::default();
    let fetched = zoo.cache.fetch(entry, &zoo.options, &mut |event| {
        watch.show(&event);
        interrupt.flow()
    });
    watch.end();
    match fetched {
        Ok(path) => Ok(Some(path)),
        Err(ZooError::Stopped { name, kept }) => {
            let kept = mebibytes(kept);
            eprintln!(
                "{name}: {kept} are kept in {}; the same command goes on from there",
                zoo.cache.folder().display()
            );
            Ok(None)
        }
        Err(error) => Err(hint::with_hint(error)),
    }
}

/// The model of a name.
pub(crate) fn get<'a>(zoo: &'a Zoo, name: &str) -> anyhow::Result<&'a Entry> {
    zoo.manifest.get(name).map_err(hint::with_hint)
}
