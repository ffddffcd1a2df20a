//! `retinanet completions` and `retinanet manual`: what shells and `man` want to know of the command line.

use crate::args::{Cli, CompletionsArgs, ManualArgs};
use crate::{Status, data, table};
use anyhow::Context;
use clap::{Command, CommandFactory};
use retinanet_annotations::write_atomically;
use std::io::Write;

/// Prints a completion script.
pub(crate) fn completions(args: &CompletionsArgs) -> anyhow::Result<Status> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "retinanet", &mut script);
    std::io::stdout().write_all(&script).context("standard output: cannot write")?;
    Ok(Status::Done)
}

/// Writes a manual page for the program and one for each of its commands.
pub(crate) fn manual(args: &ManualArgs) -> anyhow::Result<Status> {
    data::make_folder(&args.output)?;
    let mut root = Cli::command();
    root.build();
    let mut pages = Vec::new();
    collect(&root, &mut pages);
    for (name, page) in &pages {
        let path = args.output.join(format!("{name}.1"));
        write_atomically(&path, |file| file.write_all(page))
            .with_context(|| format!("{}: cannot write", path.display()))?;
    }
    let first = args.output.join("retinanet.1");
    crate::out!(
        "{} in {}; read one with: man {}",
        table::count(pages.len(), "page", "pages"),
        args.output.display(),
        first.display()
    )?;
    Ok(Status::Done)
}

/// The page of a command and of those below it, by name.
fn collect(command: &Command, pages: &mut Vec<(String, Vec<u8>)>) {
    let name = command.get_display_name().unwrap_or(command.get_name()).to_owned();
    let mut page = Vec::new();
    let man = clap_mangen::Man::new(command.clone().display_name(name.clone()).disable_help_subcommand(true));
    // Memory takes all that is written to it.
    if man.render(&mut page).is_ok() {
        pages.push((name, page));
    }
    for subcommand in
        command.get_subcommands().filter(|subcommand| !subcommand.is_hide_set() && subcommand.get_name() != "help")
    {
        collect(subcommand, pages);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_has_a_page_of_its_own() {
        let mut root = Cli::command();
        root.build();
        let mut pages = Vec::new();
        collect(&root, &mut pages);
        let text = |name: &str| {
            let page = pages.iter().find(|(page, _)| page == name).map(|(_, page)| page.clone());
            String::from_utf8(page.unwrap_or_default()).expect("text")
        };
        assert!(text("retinanet").contains("retinanet\\-detect(1)"), "{}", text("retinanet"));
        assert!(text("retinanet-detect").contains("score\\-threshold"));
        assert!(!pages.iter().any(|(name, _)| name.contains("help")));
    }
}
