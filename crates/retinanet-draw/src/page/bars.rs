//! Horizontal bars, which stay readable on a narrow page and with long names.

use maud::{Markup, html};

use super::shown;
use crate::color::curve_color;

/// Bars one below the other, each of one or several parts: a histogram, or counts by name.
#[derive(Clone, Debug)]
pub struct Bars {
    title: String,
    parts: Vec<String>,
    bars: Vec<(String, Vec<f64>)>,
}

impl Bars {
    /// No bars yet, of one part each.
    #[must_use]
    pub fn new(title: impl Into<String>) -> Self {
        Self { title: title.into(), parts: Vec::new(), bars: Vec::new() }
    }

    /// Names the parts of a bar, such as the splits of a set, for the legend.
    #[must_use]
    pub fn parts(self, names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { parts: names.into_iter().map(Into::into).collect(), ..self }
    }

    /// Adds a bar of one part.
    #[must_use]
    pub fn bar(mut self, name: impl Into<String>, value: u32) -> Self {
        self.push(name, [f64::from(value)]);
        self
    }

    /// Adds a bar of several parts, whose sum is written behind it. What is not a number above 0 counts as 0.
    pub fn push(&mut self, name: impl Into<String>, parts: impl IntoIterator<Item = f64>) {
        let parts = parts.into_iter().map(|part| if part.is_finite() { part.max(0.0) } else { 0.0 });
        self.bars.push((name.into(), parts.collect()));
    }

    pub(super) fn markup(&self) -> Markup {
        let sum = |parts: &[f64]| parts.iter().sum::<f64>();
        let longest = self.bars.iter().map(|(_, parts)| sum(parts)).fold(0.0, f64::max);
        // Three decimals of a percent are finer than any screen.
        let width = |part: f64| if longest > 0.0 { (1e5 * part / longest).round() / 1e3 } else { 0.0 };
        let color = |idx: usize| {
            let [red, green, blue] = curve_color(idx).to_array();
            format!("background:rgb({red} {green} {blue})")
        };
        html! {
            figure {
                @if !self.title.is_empty() { figcaption { (shown(&self.title)) } }
                @if self.parts.len() > 1 {
                    ul.legend {
                        @for (idx, name) in self.parts.iter().enumerate() { li { i style=(color(idx)) {} (shown(name)) } }
                    }
                }
                table.bars {
                    @for (name, parts) in &self.bars {
                        tr {
                            th scope="row" { span { (shown(name)) } }
                            td.bar {
                                div.track {
                                    @for (idx, part) in parts.iter().enumerate().filter(|(_, part)| **part > 0.0) {
                                        i style=(format!("width:{}%;{}", width(*part), color(idx))) {}
                                    }
                                }
                            }
                            td.number { (written(sum(parts))) }
                        }
                    }
                }
            }
        }
    }
}

/// Counts without a point, other values with three digits.
fn written(value: f64) -> String {
    if value.fract() == 0.0 || value >= 1000.0 { format!("{value:.0}") } else { format!("{value:.3}") }
}
