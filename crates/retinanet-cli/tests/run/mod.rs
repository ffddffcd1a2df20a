//! Runs the binary.

use std::path::Path;
use std::process::{Command, Output};

/// Runs it and compares its exit code, and that its standard error holds a text.
#[track_caller]
pub(crate) fn check(args: &[&str], code: i32, stderr_part: &str) -> Output {
    let output = Command::new(env!("CARGO_BIN_EXE_retinanet")).args(args).output().expect("the binary runs");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{args:?}: {stderr}");
    assert!(stderr.contains(stderr_part), "{args:?}: expected {stderr_part:?} in {stderr:?}");
    output
}

/// A path as an argument.
pub(crate) fn path(path: &Path) -> &str {
    path.to_str().expect("temporary folders have plain names")
}
