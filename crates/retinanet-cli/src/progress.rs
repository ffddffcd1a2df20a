//! Progress bars with rate and remaining time; silent where standard error is no terminal.

use indicatif::{ProgressBar, ProgressStyle};

/// A bar over `length` units such as images.
pub(crate) fn bar(length: usize, unit: &str) -> ProgressBar {
    let template = format!("{{msg}} [{{bar:30}}] {{pos}}/{{len}} {unit}, {{per_sec}}, {{eta}} left");
    let style = ProgressStyle::with_template(&template).expect("the template has known keys").progress_chars("=> ");
    ProgressBar::new(length as u64).with_style(style)
}
