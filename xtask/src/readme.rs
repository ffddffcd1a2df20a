//! `cargo xtask readme`: the quick start is what the README promises, because programs read it too.

use anyhow::{Context as _, Result, bail};

use crate::workspace::Workspace;

/// The main job, and the tests.
const COMMANDS: [&str; 2] = ["cargo run --release -- demo", "cargo test --release --workspace"];

pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    let path = workspace.root().join("README.md");
    let text = std::fs::read_to_string(&path).context("README.md: could not read")?;
    check(&text)
}

fn check(text: &str) -> Result<()> {
    let blocks = quick_start_blocks(text);
    let [block] = blocks.as_slice() else {
        bail!("README.md: sh blocks under `## Quick start`: expected 1, found {}", blocks.len());
    };
    if block.as_slice() != COMMANDS {
        bail!("README.md: quick start: expected {COMMANDS:?}, found {block:?}");
    }
    Ok(())
}

/// The lines of each sh block between the heading and the next one of its level.
fn quick_start_blocks(text: &str) -> Vec<Vec<&str>> {
    let mut blocks = Vec::new();
    let mut is_quick_start = false;
    // The fence's language and its lines so far, inside one.
    let mut block: Option<(&str, Vec<&str>)> = None;
    for line in text.lines() {
        match (line.strip_prefix("```"), block.as_mut()) {
            (Some(_), Some(_)) => {
                let (language, lines) = block.take().unwrap_or_default();
                if is_quick_start && language == "sh" {
                    blocks.push(lines);
                }
            }
            (Some(language), None) => block = Some((language.trim(), Vec::new())),
            (None, Some((_, lines))) => lines.push(line),
            // A `#` inside a block is a comment; only here is it a heading.
            (None, None) if line.starts_with("# ") || line.starts_with("## ") => {
                is_quick_start = line.trim_end() == "## Quick start";
            }
            (None, None) => {}
        }
    }
    blocks
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "# RetinaNet\n\n## Quick start\n\nText.\n\n```sh\ncargo run --release -- demo\n\
                        cargo test --release --workspace\n```\n\n## More\n\n```sh\n# another\ncargo doc\n```\n";

    #[test]
    fn two_commands_pass() {
        check(GOOD).expect("as promised");
    }

    #[track_caller]
    fn check_refused(text: &str, part: &str) {
        let error = check(text).expect_err("not as promised").to_string();
        assert!(error.contains(part), "{error}");
    }

    #[test]
    fn anything_else_is_refused() {
        check_refused("", "expected 1, found 0");
        check_refused(&GOOD.replace("## Quick start", "## Start"), "expected 1, found 0");
        check_refused(&GOOD.replace("```sh", "```text"), "expected 1, found 0");
        check_refused(&GOOD.replace("## More", "### More"), "expected 1, found 2");
        check_refused(&GOOD.replace("-- demo\n", "-- demo\n# a comment\n"), "a comment");
        check_refused(&GOOD.replace(" --workspace", ""), "found");
    }
}
