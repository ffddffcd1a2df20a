//! The command line of RetinaNet: arguments, printing, pictures, exit codes; all else is the libraries'.
//!
//! Exit codes: 0 done, 1 done with failures to report (a file that could not be read, an interruption), 2 could not run.

mod args;
mod commands;
mod data;
mod device;
mod inputs;
mod interrupt;
mod nothing_right;
mod output;
mod pictures;
mod progress;
mod summary;
mod table;
mod training;
mod zoo;

use args::{Cli, Command};
use clap::Parser;
use std::process::ExitCode;

/// How a command that ran ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Status {
    /// All that was asked.
    Done,
    /// All that could be done, and failures were reported.
    DoneWithFailures,
}

fn main() -> ExitCode {
    // candle's own pool waits by spinning, which takes the cores from the kernels that do the work; what it is left with
    // here is bound by memory and as fast on one thread.
    // SAFETY: no other thread runs yet.
    unsafe { std::env::set_var("CANDLE_NUM_THREADS", "1") };
    // A reader that has seen enough (`retinanet info | head -1`) ends the program quietly, as it does any other.
    #[cfg(unix)]
    // SAFETY: no other thread runs yet, and the default action needs no handler.
    unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
    }
    let cli = Cli::parse();
    settle_memory(cli.command.trains());
    match run(cli) {
        Ok(Status::Done) => ExitCode::SUCCESS,
        Ok(Status::DoneWithFailures) => ExitCode::from(1),
        Err(error) => {
            eprintln!("error: {}", message(&error));
            ExitCode::from(2)
        }
    }
}

/// How freed memory is kept or given back.
///
/// A training step makes and drops hundreds of large tensors. By default each is given back to the system, and the next one
/// is made of fresh pages, zeroed one fault at a time: a training keeps the memory. Everything else gives large blocks back
/// at once: the weights of a file are dropped once they are packed, before the feature maps take their room.
fn settle_memory(trains: bool) {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: no other thread runs yet; these are plain settings.
    unsafe {
        if trains {
            libc::mallopt(libc::M_MMAP_THRESHOLD, 1 << 30);
            libc::mallopt(libc::M_TRIM_THRESHOLD, i32::MAX);
        } else {
            // Said once, so that it does not grow with the blocks that are freed, as it does by default.
            libc::mallopt(libc::M_MMAP_THRESHOLD, 1 << 20);
        }
    }
    #[cfg(not(all(target_os = "linux", target_env = "gnu")))]
    let _ = trains;
}

/// The error and its causes, but those that the text before them already says.
fn message(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |text, cause| match text.as_str() {
        "" => cause,
        _ if text.contains(&cause) => text,
        _ => format!("{text}: {cause}"),
    })
}

/// The program and its arguments, for the record.
fn command_line() -> Vec<String> {
    std::env::args_os().map(|argument| argument.to_string_lossy().into_owned()).collect()
}

/// How the program was called, for commands to try next.
fn program() -> String {
    std::env::args().next().unwrap_or_else(|| "retinanet".to_owned())
}

/// Prints a line to standard output; a full disk behind it is an error like any other.
macro_rules! out {
    ($($argument:tt)*) => {{
        use std::io::Write as _;
        anyhow::Context::context(writeln!(std::io::stdout(), $($argument)*), "standard output: cannot write")
    }};
}
use out;

fn run(cli: Cli) -> anyhow::Result<Status> {
    if let Some(engine) = cli.command.engine() {
        engine.start()?;
    }
    // Inside of the pool, so that this thread is one of those that compute: from outside, it would sleep and be woken again
    // for each of the hundreds of kernels of a step.
    rayon::scope(|_| match cli.command {
        Command::Detect(args) => commands::detect::run(&args),
        Command::Train(args) => commands::train::run(&args),
        Command::Eval(args) => commands::eval::run(&args),
        Command::Data(command) => commands::data::run(&command),
        Command::Score(args) => commands::score::run(&args),
        Command::Losses(args) => commands::losses::run(&args),
        Command::Compare(args) => commands::compare::run(&args),
        Command::Info(args) => commands::info::run(&args),
        Command::Convert(args) => commands::convert::run(&args),
        Command::Models(args) => commands::models::run(&args),
        Command::Demo(args) => commands::demo::run(&args),
        Command::Bench(args) => commands::bench::run(&args),
        Command::Quantize(args) => commands::quantize::run(&args),
        Command::Completions(args) => commands::completions::completions(&args),
        Command::Manual(args) => commands::completions::manual(&args),
        Command::Export(args) => commands::export::run(&args),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[test]
    fn a_cause_is_said_once() {
        let io = std::io::Error::other("disk on fire");
        let error = anyhow::Error::from(retinanet::Error::Io { path: "a.txt".into(), source: io });
        assert_eq!(message(&error), "a.txt: disk on fire");
        let error = Err::<(), _>(error).context("cannot write").expect_err("an error");
        assert_eq!(message(&error), "cannot write: a.txt: disk on fire");
    }
}
