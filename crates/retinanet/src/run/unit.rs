//! Numbers as people read them.

use serde::{Deserialize, Serialize};

/// What a number counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Things.
    Count,
    /// A score of 0 to 1, below 0 where it is not defined.
    Score,
    /// A loss, or another number without a unit.
    Loss,
    /// Seconds.
    Seconds,
    /// Things in a second.
    PerSecond,
    /// A share of 0 to 1.
    Share,
    /// Bytes.
    Bytes,
}

impl Unit {
    /// A number with its unit.
    ///
    /// ```
    /// use retinanet::run::Unit;
    ///
    /// assert_eq!(Unit::Seconds.text(3725.0), "1 h 2 min");
    /// assert_eq!(Unit::Score.text(-1.0), "-");
    /// ```
    pub fn text(self, value: f64) -> String {
        match self {
            Self::Count => format!("{value:.0}"),
            Self::Score if value < 0.0 => "-".to_owned(),
            Self::Score => format!("{value:.3}"),
            Self::Loss => significant(value),
            Self::Seconds => duration(value),
            Self::PerSecond if value >= 100.0 => format!("{value:.0}"),
            Self::PerSecond if value >= 1.0 => format!("{value:.1}"),
            Self::PerSecond => format!("{value:.2}"),
            Self::Share => format!("{:.0} %", value * 100.0),
            Self::Bytes => format!("{:.0} MiB", value / f64::from(1 << 20)),
        }
    }
}

/// Four digits, with an exponent where there would be many zeros.
fn significant(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        size if (1e-3..1e5).contains(&size) => {
            let decimals = (3 - size.log10().floor() as i32).clamp(0, 6);
            format!("{value:.*}", decimals as usize)
        }
        _ => format!("{value:.3e}"),
    }
}

/// Two parts of a time: the smaller ones would say nothing.
fn duration(seconds: f64) -> String {
    if !seconds.is_finite() || seconds < 0.0 {
        return "-".to_owned();
    }
    if seconds < 10.0 {
        return format!("{seconds:.1} s");
    }
    let whole = seconds.round().min(9e15) as u64;
    match whole {
        0..60 => format!("{whole} s"),
        60..3600 => format!("{} min {} s", whole / 60, whole % 60),
        3600..86400 => format!("{} h {} min", whole / 3600, whole % 3600 / 60),
        _ => format!("{} d {} h", whole / 86400, whole % 86400 / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(unit: Unit, value: f64, expected: &str) {
        assert_eq!(unit.text(value), expected);
    }

    #[test]
    fn numbers_are_short() {
        for (value, expected) in [
            (0.04, "0.0 s"),
            (9.94, "9.9 s"),
            (59.4, "59 s"),
            (59.6, "1 min 0 s"),
            (7322.0, "2 h 2 min"),
            (1e6, "11 d 13 h"),
        ] {
            check(Unit::Seconds, value, expected);
        }
        check(Unit::Seconds, f64::NAN, "-");
        check(Unit::Seconds, f64::INFINITY, "-");
        for (value, expected) in [
            (0.0, "0"),
            (0.012345, "0.01235"),
            (0.5, "0.5000"),
            (123.456, "123.5"),
            (1e-4, "1.000e-4"),
            (f64::NAN, "NaN"),
        ] {
            check(Unit::Loss, value, expected);
        }
        check(Unit::Score, 0.12345, "0.123");
        check(Unit::PerSecond, 0.123, "0.12");
        check(Unit::PerSecond, 1234.5, "1234");
        check(Unit::Share, 0.126, "13 %");
        check(Unit::Bytes, 1536.0 * 1024.0, "2 MiB");
    }
}
