//! `cargo xtask weights`: published models from within the workspace, by the program's own `models` command.

use anyhow::Result;
use clap::Subcommand;

use crate::workspace::{Workspace, run_shown};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// List the models of weights/manifest.toml.
    List(Rest),
    /// Fetch models into the cache folder.
    Fetch(Rest),
    /// Compare the digests of models; of all that are there if none is named.
    Verify(Rest),
}

/// Names, and the options of `retinanet models`.
#[derive(clap::Args)]
struct Rest {
    #[arg(value_name = "NAME|OPTION", trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<String>,
}

pub(crate) fn run(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    run_shown(workspace.cargo(&words(arguments)))
}

/// Fetching is in one place only, so that what the checks of the program cover holds here too.
fn words(arguments: &Arguments) -> Vec<&str> {
    let (command, rest) = match &arguments.command {
        Command::List(rest) => ("list", rest),
        Command::Fetch(rest) => ("fetch", rest),
        Command::Verify(rest) => ("verify", rest),
    };
    let mut words = vec!["run", "--release", "--quiet", "--package", "retinanet-cli", "--", "models", command];
    words.extend(rest.rest.iter().map(String::as_str));
    words
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        arguments: Arguments,
    }

    #[track_caller]
    fn check(line: &[&str], expected: &[&str]) {
        let line = Line::try_parse_from([&["weights"], line].concat()).expect("a command");
        assert_eq!(words(&line.arguments)[6..], *expected);
    }

    #[test]
    fn everything_is_passed_on() {
        check(&["list"], &["models", "list"]);
        check(&["fetch", "a", "b"], &["models", "fetch", "a", "b"]);
        check(&["verify", "--json", "a"], &["models", "verify", "--json", "a"]);
        check(&["list", "--models-dir", "folder"], &["models", "list", "--models-dir", "folder"]);
        assert!(Line::try_parse_from(["weights", "remove"]).is_err());
    }
}
