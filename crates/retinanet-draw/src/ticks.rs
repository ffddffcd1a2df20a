//! Round numbers along an axis.

/// Beyond this a value is taken for a missing one: sums and differences of plotted values must not overflow.
pub(crate) const LARGEST: f64 = 1e300;

/// The ends of an axis and the values that are written at it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Axis {
    pub(crate) low: f64,
    pub(crate) high: f64,
    /// Whether positions go by the logarithm.
    pub(crate) is_log: bool,
    /// Ascending, between the ends; with the text to write.
    pub(crate) ticks: Vec<(f64, String)>,
}

impl Axis {
    /// An axis over exactly these values, at most `max_ticks` of them marked; whole numbers only where all data are.
    pub(crate) fn tight(range: (f64, f64), whole: bool, max_ticks: usize) -> Self {
        let (low, high) = widened(range);
        let step = nice_step(high - low, max_ticks, whole);
        Self { low, high, is_log: false, ticks: multiples(low, high, step) }
    }

    /// An axis that ends at marked values on both sides of these.
    pub(crate) fn loose(range: (f64, f64), max_ticks: usize) -> Self {
        let (low, high) = widened(range);
        let step = nice_step(high - low, max_ticks.saturating_sub(1), false);
        let (low, high) = ((low / step).floor() * step, (high / step).ceil() * step);
        Self { low, high, is_log: false, ticks: multiples(low, high, step) }
    }

    /// A logarithmic axis over these positive values, marked at powers of ten, or between them where there are few.
    pub(crate) fn log((low, high): (f64, f64), max_ticks: usize) -> Self {
        let (mut first, mut last) = (low.log10(), high.log10());
        if last - first < 0.1 {
            (first, last) = (first - 0.05, last + 0.05);
        }
        let (low, high) = (10_f64.powf(first), 10_f64.powf(last));
        let decades = first.ceil() as i32..=last.floor() as i32;
        let powers = decades.clone().count();
        let candidates: Vec<f64> = if powers >= 2 {
            let stride = powers.div_ceil(max_ticks.max(2));
            decades.step_by(stride).map(|exponent| 10_f64.powi(exponent)).collect()
        } else if last - first > 0.5 {
            let parts = |exponent: i32| [1.0, 2.0, 5.0].map(|part| part * 10_f64.powi(exponent));
            (first.floor() as i32..=last.ceil() as i32).flat_map(parts).collect()
        } else {
            let step = nice_step(high - low, max_ticks, false);
            return Self { low, high, is_log: true, ticks: multiples(low, high, step) };
        };
        let written = |value: f64| (value, brief(value));
        let ticks = candidates.into_iter().filter(|v| (low..=high).contains(v)).map(written).collect();
        Self { low, high, is_log: true, ticks }
    }

    /// Where a value is between the ends, 0 to 1 for those inside; `None` for one that has no place.
    pub(crate) fn position(&self, value: f64) -> Option<f64> {
        if !value.is_finite() || value.abs() > LARGEST {
            return None;
        }
        if !self.is_log {
            return Some((value - self.low) / (self.high - self.low));
        }
        let (low, high) = (self.low.ln(), self.high.ln());
        (value > 0.0).then(|| (value.ln() - low) / (high - low))
    }
}

/// The range, or one around it where it is too narrow to divide.
fn widened((low, high): (f64, f64)) -> (f64, f64) {
    let size = low.abs().max(high.abs());
    // Differences of the last few bits are noise of the arithmetic, and have no round numbers between.
    if high - low > size * 1e-9 && high - low > 1e-290 {
        return (low, high);
    }
    let margin = if size > 1e-280 { size * 0.1 } else { 1.0 };
    (low - margin, high + margin)
}

/// The smallest of 1, 2, 5 times a power of ten that divides a span into at most `max_ticks` parts.
fn nice_step(span: f64, max_ticks: usize, whole: bool) -> f64 {
    let least = span / max_ticks.max(1) as f64;
    let power = 10_f64.powf(least.log10().floor());
    // A hair of slack, so that 0.2 / 1 counts as 0.2 although its quotient is not exact.
    let step = [1.0, 2.0, 5.0, 10.0].map(|part| part * power).into_iter().find(|s| *s >= least * 0.999_999);
    let step = step.unwrap_or(10.0 * power);
    if whole { step.max(1.0) } else { step }
}

/// The multiples of a step inside a range, written with the digits that the step needs.
fn multiples(low: f64, high: f64, step: f64) -> Vec<(f64, String)> {
    // A multiple at an end counts although the division is not exact.
    let slack = 1e-6;
    let (first, last) = ((low / step - slack).ceil(), (high / step + slack).floor());
    let count = if last >= first { (last - first) as usize + 1 } else { 0 };
    let largest = low.abs().max(high.abs());
    // More than this only where rounding has no room left for the step.
    let values = (0..count.min(1000)).map(|idx| (first + idx as f64) * step + 0.0);
    values.map(|value| (value, written(value, step, largest))).collect()
}

/// A value with the digits its step needs; with an exponent where zeros would crowd the axis.
fn written(value: f64, step: f64, largest: f64) -> String {
    let step_exponent = step.log10().floor() as i32;
    let largest_exponent = largest.log10().floor() as i32;
    if (-4..=6).contains(&largest_exponent) && step_exponent >= -6 {
        return format!("{value:.*}", usize::try_from(-step_exponent).unwrap_or(0));
    }
    if value == 0.0 {
        return "0".to_string();
    }
    let own_exponent = value.abs().log10().floor() as i32;
    format!("{value:.*e}", (own_exponent - step_exponent).clamp(0, 15) as usize)
}

/// A value of one digit, as short as it goes.
fn brief(value: f64) -> String {
    if (0.001..10_000.0).contains(&value) {
        // Rounding to six digits hides that 10^-3 is not exactly 0.001.
        format!("{}", (value * 1e6).round() / 1e6)
    } else {
        format!("{value:.0e}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(axis: &Axis, expected: &[&str]) {
        let found: Vec<&str> = axis.ticks.iter().map(|(_, text)| text.as_str()).collect();
        assert_eq!(found, expected);
        assert!(axis.low < axis.high);
        for (value, text) in &axis.ticks {
            let at = axis.position(*value).expect("a tick has a place");
            assert!((-1e-6..=1.0 + 1e-6).contains(&at), "{text} at {at}");
        }
    }

    #[test]
    fn linear_axes() {
        check(&Axis::loose((0.03, 0.97), 6), &["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        check(&Axis::loose((-1.2, 3.9), 5), &["-2", "0", "2", "4"]);
        check(&Axis::tight((1.0, 30.0), true, 6), &["5", "10", "15", "20", "25", "30"]);
        check(&Axis::tight((1.0, 3.0), true, 9), &["1", "2", "3"]);
        check(&Axis::tight((0.0, 90_000.0), true, 4), &["0", "50000"]);
        check(&Axis::loose((0.0, 3e8), 4), &["0", "1e8", "2e8", "3e8"]);
        check(&Axis::loose((1e-7, 3e-7), 5), &["1.0e-7", "1.5e-7", "2.0e-7", "2.5e-7", "3.0e-7"]);
    }

    #[test]
    fn constants_get_room() {
        check(&Axis::loose((5.0, 5.0), 5), &["4.5", "5.0", "5.5"]);
        check(&Axis::loose((0.0, 0.0), 3), &["-1", "0", "1"]);
        check(&Axis::tight((3.0, 3.0), true, 5), &["3"]);
    }

    #[test]
    fn logarithmic_axes() {
        check(&Axis::log((0.002, 70.0), 6), &["0.01", "0.1", "1", "10"]);
        check(&Axis::log((1e-9, 1e9), 5), &["1e-9", "1e-5", "0.1", "1000", "1e7"]);
        check(&Axis::log((0.3, 3.0), 5), &["0.5", "1", "2"]);
        check(&Axis::log((3.0, 4.0), 5), &["3.0", "3.2", "3.4", "3.6", "3.8", "4.0"]);
        check(&Axis::log((2.0, 2.0), 3), &["1.8", "2.0", "2.2"]);
        assert_eq!(Axis::log((1.0, 10.0), 3).position(0.0), None);
        assert_eq!(Axis::log((1.0, 100.0), 3).position(10.0), Some(0.5));
    }

    #[test]
    fn values_without_a_place() {
        let axis = Axis::tight((0.0, 1.0), false, 3);
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MAX] {
            assert_eq!(axis.position(value), None);
        }
    }
}
