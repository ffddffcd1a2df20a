//! What a person sees of long work: bars on a terminal, lines everywhere else.

mod mode;
mod pace;
mod training;

use crate::args::ProgressArg;
use indicatif::{ProgressBar, ProgressStyle};
pub(crate) use mode::Mode;
pub(crate) use training::TrainingProgress;

/// A bar over `length` units such as images, with rate and remaining time; silent where standard error takes no bar.
pub(crate) fn bar(length: usize, unit: &str) -> ProgressBar {
    if Mode::of_stderr(ProgressArg::Auto) != Mode::Bar {
        return ProgressBar::hidden();
    }
    let template = format!("{{msg}} [{{bar:30}}] {{pos}}/{{len}} {unit}, {{per_sec}}, {{eta}} left");
    ProgressBar::new(length as u64).with_style(style(&template))
}

/// A style of this workspace's bars.
fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("the template has known keys").progress_chars("=> ")
}
