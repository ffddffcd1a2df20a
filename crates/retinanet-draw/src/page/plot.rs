//! Curves as inline SVG, in the colours of the page.

use std::fmt::Write as _;

use maud::{Markup, html};

use super::shown;
use crate::Plot;
use crate::color::curve_color;
use crate::plot::{points, range, y_axis};
use crate::ticks::Axis;

/// Sides of the drawing in its own units, which are pixels where the page is as wide.
const WIDTH: f64 = 560.0;
const HEIGHT: f64 = 320.0;
/// The area of the curves: left, top, right, bottom.
const AREA: [f64; 4] = [64.0, 14.0, 548.0, 272.0];
/// More points than this on one curve are more than there are pixels: each run of neighbours is drawn by its extremes.
const MAX_POINTS: usize = 2000;

pub(super) fn markup(plot: &Plot) -> Markup {
    let [left, top, right, bottom] = AREA;
    let whole = points(plot).all(|(x, _)| x.fract() == 0.0);
    let x_axis = Axis::tight(range(points(plot).map(|(x, _)| x)), whole, 8);
    let y_axis = y_axis(plot, 7);
    let x_at = |value: f64| x_axis.position(value).map(|at| left + at * (right - left));
    let y_at = |value: f64| y_axis.position(value).map(|at| bottom - at * (bottom - top));
    let color = |idx: usize| {
        let [red, green, blue] = curve_color(idx).to_array();
        format!("rgb({red} {green} {blue})")
    };
    html! {
        figure {
            @if !plot.title.is_empty() { figcaption { (shown(&plot.title)) } }
            ul.legend {
                @for (idx, series) in plot.series.iter().enumerate().filter(|(_, series)| !series.name.is_empty()) {
                    li { i style=(format!("background:{}", color(idx))) {} (shown(&series.name)) }
                }
            }
            svg viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) role="img" aria-label=(shown(&plot.title)) {
                @for (value, text) in &y_axis.ticks {
                    @if let Some(y) = y_at(*value) {
                        line.grid x1=(left) x2=(right) y1=(coordinate(y)) y2=(coordinate(y)) {}
                        text x=(left - 8.0) y=(coordinate(y + 4.5)) text-anchor="end" { (text) }
                    }
                }
                @for (value, text) in &x_axis.ticks {
                    @if let Some(x) = x_at(*value) {
                        line.grid x1=(coordinate(x)) x2=(coordinate(x)) y1=(top) y2=(bottom) {}
                        text x=(coordinate(x)) y=(bottom + 20.0) text-anchor="middle" { (text) }
                    }
                }
                line.axis x1=(left) x2=(right) y1=(bottom) y2=(bottom) {}
                line.axis x1=(left) x2=(left) y1=(top) y2=(bottom) {}
                @if !plot.x_label.is_empty() {
                    text x=((left + right) / 2.0) y=(HEIGHT - 8.0) text-anchor="middle" { (shown(&plot.x_label)) }
                }
                @if !plot.y_label.is_empty() {
                    text x=(14) y=((top + bottom) / 2.0) text-anchor="middle"
                        transform=(format!("rotate(-90 14 {})", (top + bottom) / 2.0)) { (shown(&plot.y_label)) }
                }
                // The first series is the most important: it is drawn last, on top.
                @for (idx, series) in plot.series.iter().enumerate().rev() {
                    path.curve stroke=(color(idx)) d=(path(series.points.iter().map(|(x, y)| Some((x_at(*x)?, y_at(*y)?))))) {}
                }
            }
        }
    }
}

/// The commands of a path that joins the points up to each gap; a point alone is a dot.
fn path(points: impl Iterator<Item = Option<(f64, f64)>>) -> String {
    let points = thinned(points.collect());
    let mut path = String::new();
    let mut is_joined = false;
    for (idx, point) in points.iter().enumerate() {
        let Some((x, y)) = *point else {
            is_joined = false;
            continue;
        };
        let command = if is_joined { 'L' } else { 'M' };
        // Writing to a string cannot fail.
        let _ = write!(path, "{command}{} {}", coordinate(x), coordinate(y));
        if !is_joined && points.get(idx + 1).copied().flatten().is_none() {
            path.push_str("h0");
        }
        is_joined = true;
    }
    path
}

/// The least and the greatest of every run of neighbours, in their order, where there are too many points.
fn thinned(points: Vec<Option<(f64, f64)>>) -> Vec<Option<(f64, f64)>> {
    if points.len() <= MAX_POINTS {
        return points;
    }
    let run = points.len().div_ceil(MAX_POINTS / 2);
    let extremes = |run: &[Option<(f64, f64)>]| {
        let placed = || run.iter().enumerate().filter_map(|(idx, point)| point.map(|(_, y)| (idx, y)));
        let least = placed().min_by(|a, b| a.1.total_cmp(&b.1));
        let most = placed().max_by(|a, b| a.1.total_cmp(&b.1));
        match (least, most) {
            (Some((a, _)), Some((b, _))) if a != b => vec![run[a.min(b)], run[a.max(b)]],
            (Some((a, _)), _) => vec![run[a]],
            _ => vec![None],
        }
    };
    points.chunks(run).flat_map(extremes).collect()
}

/// A hundredth of a pixel is finer than any screen.
fn coordinate(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_and_dots() {
        let points =
            [Some((0.0, 1.0)), Some((1.0, 2.005)), None, Some((3.0, 4.0)), None, Some((5.0, 6.0)), Some((7.0, 8.0))];
        assert_eq!(path(points.into_iter()), "M0 1L1 2.01M3 4h0M5 6L7 8");
        assert_eq!(path([].into_iter()), "");
    }

    #[test]
    fn long_curves_keep_their_extremes() {
        let mut points: Vec<Option<(f64, f64)>> = (0..100_000).map(|x| Some((f64::from(x), 0.0))).collect();
        points[54_321] = Some((54_321.0, 9.0));
        points[54_323] = Some((54_323.0, -9.0));
        let thin = thinned(points);
        assert!(thin.len() <= MAX_POINTS);
        assert!(thin.contains(&Some((54_321.0, 9.0))) && thin.contains(&Some((54_323.0, -9.0))));
    }
}
