//! `retinanet data check`: a data set looked over, as tables, JSON or an HTML page.

mod page;
mod pictures;
mod tables;

use crate::args::CheckArgs;
use crate::interrupt::Interrupt;
use crate::{Status, data, output, progress};
use anyhow::Context;
use retinanet_annotations::write_atomically;
use retinanet_data::check::{CheckInput, CheckOptions, CheckReport, Example, Finding, check};
use std::path::{Path, PathBuf};

pub(crate) fn run(args: &CheckArgs) -> anyhow::Result<Status> {
    anyhow::ensure!(args.examples > 0, "--examples: expected at least 1, found 0");
    anyhow::ensure!(args.threads != Some(0), "--threads: expected at least 1, found 0");
    let options = options(args)?;
    check_targets(args)?;
    let pool = rayon::ThreadPoolBuilder::new().num_threads(args.threads.unwrap_or(0)).build()?;
    let interrupt =
        Interrupt::listen("interrupted: finishing the images at hand; the report will say that it is of a part")?;

    let input = CheckInput::read(&args.selection.request(&args.paths)?, args.split.as_deref())?;
    let images = input.splits.iter().map(|split| split.annotations.images.len()).sum();
    let bar = progress::bar(images, "images").with_message("checking");
    let on_image = |_: usize| {
        bar.inc(1);
        interrupt.flow()
    };
    let report = pool.install(|| check(&input, &options, &on_image))?;
    bar.finish_and_clear();

    let names = Names { args };
    if args.json {
        crate::out!("{}", serde_json::to_string_pretty(&report)?)?;
    } else {
        crate::out!("{}", tables::text(&report, &names))?;
    }
    write(args, &report, &names, &pool)?;
    Ok(if report.needs_a_person() { Status::DoneWithFailures } else { Status::Done })
}

/// What boxes should fit: the preset or file with the assignments merged in.
fn options(args: &CheckArgs) -> anyhow::Result<CheckOptions> {
    let config = args.configuration.read([])?;
    Ok(CheckOptions {
        preprocessing: config.preprocessing,
        anchors: config.anchors,
        finest: config.fpn.finest,
        foreground_iou: config.matcher.foreground_iou(),
        max_examples: args.examples,
        ..CheckOptions::default()
    })
}

/// Finds out before the work whether the reports can be written.
fn check_targets(args: &CheckArgs) -> anyhow::Result<()> {
    if let Some(report) = &args.report {
        output::check_target(report)?;
    }
    match &args.output {
        Some(folder) => data::make_folder(folder),
        None => Ok(()),
    }
}

/// Writes the page and the folder, where they are asked for.
fn write(args: &CheckArgs, report: &CheckReport, names: &Names, pool: &rayon::ThreadPool) -> anyhow::Result<()> {
    if args.report.is_none() && args.output.is_none() {
        return Ok(());
    }
    let bar = progress::bar(report.findings.len(), "findings").with_message("pictures");
    let tiles: Vec<Vec<pictures::Tile>> = report
        .findings
        .iter()
        .map(|finding| {
            let tiles = pool.install(|| pictures::tiles(finding));
            bar.inc(1);
            tiles
        })
        .collect();
    bar.finish_and_clear();
    let page = page::page(report, &tiles, names)?.to_html();
    let write_file = |path: &Path, bytes: &[u8]| {
        write_atomically(path, |file| file.write_all(bytes))
            .with_context(|| format!("{}: cannot write", path.display()))?;
        eprintln!("report: {}", path.display());
        anyhow::Ok(())
    };
    if let Some(path) = &args.report {
        write_file(path, page.as_bytes())?;
    }
    if let Some(folder) = &args.output {
        for (finding, tiles) in report.findings.iter().zip(&tiles).filter(|(_, tiles)| !tiles.is_empty()) {
            let path = folder.join(format!("{}.png", finding.kind));
            crate::pictures::write(&path, &pictures::sheet(tiles)?)?;
        }
        write_file(&folder.join("report.json"), &serde_json::to_vec_pretty(report)?)?;
        write_file(&folder.join("report.html"), page.as_bytes())?;
    }
    Ok(())
}

/// How things are called in tables and on the page.
struct Names<'a> {
    args: &'a CheckArgs,
}

impl Names<'_> {
    /// The sets, as they were given.
    fn sets(&self) -> String {
        self.args.paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
    }

    /// Whose image size and anchors were taken.
    fn preset(&self) -> String {
        match &self.args.configuration.config {
            Some(path) => path.display().to_string(),
            None => format!("preset {}", self.args.configuration.preset),
        }
    }

    /// The folders that the sets lie in.
    fn folders(&self) -> impl Iterator<Item = &Path> {
        let paths = self.args.paths.iter().map(PathBuf::as_path);
        paths.map(|path| if path.is_dir() { path } else { path.parent().unwrap_or(path) })
    }

    /// A path without the folder of the set before it.
    fn path(&self, path: &Path) -> String {
        let inside = self.folders().filter_map(|folder| path.strip_prefix(folder).ok());
        let short = inside.filter(|path| !path.as_os_str().is_empty()).min_by_key(|path| path.as_os_str().len());
        short.unwrap_or(path).display().to_string()
    }

    /// Where an example is: file, and line or id.
    fn place(&self, example: &Example) -> String {
        let file = example.file.as_deref().map_or_else(String::new, |file| self.path(file));
        match (example.line, example.id) {
            (Some(line), _) => format!("{file}: line {line}"),
            (None, Some(id)) => format!("{file}: id {id}"),
            (None, None) => file,
        }
    }

    /// What an example is, with paths without the folder of the set.
    fn what(&self, example: &Example) -> String {
        self.folders().fold(example.what.clone(), |text, folder| {
            let prefix = format!("{}/", folder.display());
            // A prefix such as ./ may stand anywhere.
            if prefix.len() > 4 { text.replace(&prefix, "") } else { text }
        })
    }
}

/// A finding in a few words, with its number at the end: one is no plural.
fn headline(finding: &Finding) -> String {
    format!("{}: {}", finding.what, finding.count)
}
