//! Whether standard error is somebody's eyes or a file.

use crate::args::ProgressArg;
use std::env;
use std::io::IsTerminal;

/// How progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// A bar that is drawn over and over.
    Bar,
    /// A line now and then, of plain characters.
    Plain,
    /// Not at all.
    Hidden,
}

/// What is known of the place where standard error goes.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    is_terminal: bool,
    /// `TERM=dumb`.
    is_dumb: bool,
    /// `NO_COLOR` is set: no control characters are wanted.
    is_plain: bool,
    /// `CI` is set, and not to `false`.
    is_ci: bool,
}

impl Mode {
    /// What standard error can show of what is asked for.
    pub(crate) fn of_stderr(arg: ProgressArg) -> Self {
        let is_set = |name: &str| env::var_os(name).is_some_and(|value| !value.is_empty());
        let place = Place {
            is_terminal: std::io::stderr().is_terminal(),
            is_dumb: env::var_os("TERM").is_some_and(|term| term == "dumb"),
            is_plain: is_set("NO_COLOR"),
            is_ci: is_set("CI") && env::var_os("CI").is_some_and(|value| value != "false"),
        };
        Self::choose(arg, place)
    }

    fn choose(arg: ProgressArg, place: Place) -> Self {
        let takes_bar = place.is_terminal && !place.is_dumb && !place.is_plain && !place.is_ci;
        match arg {
            ProgressArg::None => Self::Hidden,
            ProgressArg::Plain => Self::Plain,
            // A file would be filled with control characters, whoever asks for them.
            ProgressArg::Bar if place.is_terminal => Self::Bar,
            ProgressArg::Auto if takes_bar => Self::Bar,
            ProgressArg::Bar | ProgressArg::Auto => Self::Plain,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(place: Place, auto: Mode, bar: Mode) {
        assert_eq!(Mode::choose(ProgressArg::Auto, place), auto, "auto");
        assert_eq!(Mode::choose(ProgressArg::Bar, place), bar, "bar");
        assert_eq!(Mode::choose(ProgressArg::Plain, place), Mode::Plain);
        assert_eq!(Mode::choose(ProgressArg::None, place), Mode::Hidden);
    }

    #[test]
    fn a_bar_needs_a_terminal_that_takes_it() {
        let terminal = Place { is_terminal: true, ..Place::default() };
        check(terminal, Mode::Bar, Mode::Bar);
        check(Place::default(), Mode::Plain, Mode::Plain);
        check(Place { is_dumb: true, ..terminal }, Mode::Plain, Mode::Bar);
        check(Place { is_plain: true, ..terminal }, Mode::Plain, Mode::Bar);
        check(Place { is_ci: true, ..terminal }, Mode::Plain, Mode::Bar);
    }
}
