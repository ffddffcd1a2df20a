//! Line plots: losses, average precision, precision against recall.

use image::RgbImage;
use retinanet_anchors::ImageSize;

use crate::Color;
use crate::canvas::{PixelRect, fill};
use crate::color::curve_color;
use crate::curve::Curve;
use crate::text::Text;
use crate::ticks::{Axis, LARGEST};

const PAPER: Color = Color::WHITE;
const INK: Color = Color::new(45, 45, 50);
const AXIS: Color = Color::new(120, 120, 126);
const GRID: Color = Color::new(228, 228, 232);

/// The longest side of a plot, in pixels; a longer one is cut to it.
const MAX_SIDE: usize = 8192;

/// How values go along an axis.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scale {
    /// In proportion.
    #[default]
    Linear,
    /// By their logarithm; values that are not positive are gaps.
    Log,
}

/// Curves over a common pair of axes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plot {
    /// Above everything; may be empty.
    pub title: String,
    /// Below the horizontal axis; may be empty.
    pub x_label: String,
    /// Above the vertical axis; may be empty.
    pub y_label: String,
    /// Of the vertical axis.
    pub y_scale: Scale,
    /// The curves, each in its own colour.
    pub series: Vec<Series>,
}

/// One curve.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Series {
    /// In the legend; a series without a name is not in it.
    pub name: String,
    /// `(x, y)`, joined in this order. A NaN or an infinity in either is a gap; a point alone is a dot.
    pub points: Vec<(f64, f64)>,
}

/// Draws a plot: title, legend, axes marked at round numbers, grid, curves.
///
/// The horizontal axis spans the data; the vertical one is widened to marked values. Text and lines grow with the size;
/// what has no room is left out, down to an empty `0x0` picture. Sides of more than 8192 pixels are cut to that.
///
/// ```
/// use retinanet_anchors::ImageSize;
/// use retinanet_draw::{Plot, Series, line_plot};
///
/// let plot = Plot {
///     title: "Training".to_string(),
///     x_label: "epoch".to_string(),
///     y_label: "loss".to_string(),
///     series: vec![Series { name: "class".to_string(), points: vec![(1.0, 1.2), (2.0, 0.7), (3.0, 0.5)] }],
///     ..Plot::default()
/// };
/// assert_eq!(line_plot(&plot, ImageSize::new(640, 400)).dimensions(), (640, 400));
/// ```
#[must_use]
pub fn line_plot(plot: &Plot, size: ImageSize) -> RgbImage {
    let [width, height] = [size.width, size.height].map(|side| side.min(MAX_SIDE) as u32);
    let mut picture = RgbImage::from_pixel(width, height, image::Rgb(PAPER.to_array()));
    let style = Style::for_picture(&picture);
    let bounds = PixelRect::of(&picture).grown(-style.margin);

    let top = style.draw_head(&mut picture, plot, &bounds);
    let line = style.text.line_height();
    // The labels of the ticks are centred on them: half a line stands out above the highest, if nothing else does.
    let top = if plot.y_label.is_empty() { top + line / 2 } else { top };
    let x_label_height = if plot.x_label.is_empty() { 0 } else { line + style.gap / 2 };
    let bottom = bounds.y1 - x_label_height - line - style.gap;

    let max_ticks = |length: i64, each: i64| usize::try_from(length / each.max(1)).unwrap_or(0).clamp(2, 12);
    let y_axis = y_axis(plot, max_ticks(bottom - top, 5 * line / 2));
    let y_text_width = y_axis.ticks.iter().map(|(_, text)| style.text.width(text)).max();
    let left = bounds.x0 + y_text_width.unwrap_or(0) + style.gap;
    let area = PixelRect::new(left, top, bounds.x1, bottom);
    if area.width() < 2 || area.height() < 2 {
        return picture;
    }

    let x_axis = style.x_axis(plot, area.width());
    style.draw_axes(&mut picture, &area, &x_axis, &y_axis);
    style.draw_centered(&mut picture, &plot.x_label, (area.x0, area.x1), bounds.y1 - line);
    let at = |(x, y): (f64, f64)| {
        let (x, y) = (x_axis.position(x)?, y_axis.position(y)?);
        let x = area.x0 as f64 + x * area.width() as f64;
        let y = area.y1 as f64 - y * area.height() as f64;
        Some((x as f32, y as f32))
    };
    // The first series is the most important: it is drawn last, on top.
    for (idx, series) in plot.series.iter().enumerate().rev() {
        // A little beyond the axes, so that a line along one keeps its width.
        let mut curve = Curve::new(area.grown(style.stroke.ceil() as i64 * 2), style.stroke);
        trace(&mut curve, series.points.iter().map(|point| at(*point)));
        curve.paint(&mut picture, curve_color(idx));
    }
    picture
}

/// Joins the points up to each gap.
fn trace(curve: &mut Curve, points: impl Iterator<Item = Option<(f32, f32)>>) {
    let mut last: Option<(f32, f32)> = None;
    let mut is_alone = false;
    for point in points {
        match (last, point) {
            (Some(from), Some(to)) => curve.segment(from, to),
            (Some(only), None) if is_alone => curve.dot(only),
            _ => {}
        }
        is_alone = last.is_none() && point.is_some();
        last = point;
    }
    if let (Some(only), true) = (last, is_alone) {
        curve.dot(only);
    }
}

/// The least and the greatest of the values, or 0 to 1 where there are none.
pub(crate) fn range(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let placed = values.filter(|value| value.abs() <= LARGEST);
    let ends = placed.fold(None, |ends: Option<(f64, f64)>, value| match ends {
        None => Some((value, value)),
        Some((low, high)) => Some((low.min(value), high.max(value))),
    });
    ends.unwrap_or((0.0, 1.0))
}

/// The points of all series that both coordinates give a place.
pub(crate) fn points(plot: &Plot) -> impl Iterator<Item = (f64, f64)> {
    let all = plot.series.iter().flat_map(|series| series.points.iter().copied());
    all.filter(|(x, y)| x.abs() <= LARGEST && y.abs() <= LARGEST)
}

pub(crate) fn y_axis(plot: &Plot, max_ticks: usize) -> Axis {
    let values = points(plot).map(|(_, y)| y);
    match plot.y_scale {
        Scale::Linear => Axis::loose(range(values), max_ticks),
        Scale::Log => {
            let mut positive = values.filter(|value| *value >= 1e-300).peekable();
            let ends = if positive.peek().is_some() { range(positive) } else { (0.1, 1.0) };
            Axis::log(ends, max_ticks)
        }
    }
}

/// Sizes of what is drawn, from the size of the picture.
struct Style {
    /// Around everything.
    margin: i64,
    /// Between neighbours.
    gap: i64,
    /// Width of a curve.
    stroke: f32,
    /// Width of axes and grid.
    rule: i64,
    text: Text,
    title: Text,
}

impl Style {
    fn for_picture(picture: &RgbImage) -> Self {
        let side = picture.width().min(picture.height()) as f32;
        let text_height = (7.0 + side / 60.0).max(10.0).round();
        Self {
            margin: (text_height * 0.8) as i64,
            gap: (text_height * 0.5) as i64,
            stroke: (side / 260.0).max(1.4),
            rule: (side / 500.0).round().max(1.0) as i64,
            text: Text::new(text_height),
            title: Text::new((text_height * 1.25).round()),
        }
    }

    /// Title, legend and the vertical axis' label; returns where the plot itself begins.
    fn draw_head(&self, picture: &mut RgbImage, plot: &Plot, bounds: &PixelRect) -> i64 {
        let mut y = bounds.y0;
        if !plot.title.is_empty() {
            if let Some(title) = self.title.fitted(&plot.title, bounds.width()) {
                self.title.draw(picture, bounds.x0, y, &title, INK);
            }
            y += self.title.line_height() + self.gap;
        }
        y = self.draw_legend(picture, plot, bounds, y);
        if !plot.y_label.is_empty() {
            if let Some(label) = self.text.fitted(&plot.y_label, bounds.width()) {
                self.text.draw(picture, bounds.x0, y, &label, INK);
            }
            y += self.text.line_height() + 2 * self.gap;
        }
        y
    }

    /// The names of the series in rows, each after a piece of its line; returns where the next thing begins.
    fn draw_legend(&self, picture: &mut RgbImage, plot: &Plot, bounds: &PixelRect, top: i64) -> i64 {
        let line = self.text.line_height();
        let sample = 3 * line / 2;
        let (mut x, mut y) = (bounds.x0, top);
        let mut is_empty = true;
        for (idx, series) in plot.series.iter().enumerate() {
            let room = bounds.width() - sample - self.gap;
            let Some(name) = self.text.fitted(&series.name, room).filter(|name| !name.is_empty()) else {
                continue;
            };
            let width = sample + self.gap + self.text.width(&name);
            if x > bounds.x0 && x + width > bounds.x1 {
                (x, y) = (bounds.x0, y + line);
            }
            // Where the legend would take half of the picture, the rest of it is left out.
            if y + line > bounds.y0 + bounds.height() / 2 {
                break;
            }
            let mut curve = Curve::new(PixelRect::new(x, y, x + sample, y + line), self.stroke);
            let middle = (y as f32 + 0.5 * line as f32).round();
            let inset = self.stroke;
            curve.segment((x as f32 + inset, middle), ((x + sample) as f32 - inset, middle));
            curve.paint(picture, curve_color(idx));
            self.text.draw(picture, x + sample + self.gap, y, &name, INK);
            x += width + 2 * self.gap;
            is_empty = false;
        }
        if is_empty { top } else { y + line + self.gap }
    }

    /// The horizontal axis with as many marks as have room for their numbers.
    fn x_axis(&self, plot: &Plot, width: i64) -> Axis {
        let ends = range(points(plot).map(|(x, _)| x));
        let whole = points(plot).all(|(x, _)| x.fract() == 0.0);
        let mut axis = Axis::tight(ends, whole, 12);
        for max_ticks in (1..12).rev() {
            let widest = axis.ticks.iter().map(|(_, text)| self.text.width(text)).max().unwrap_or(0);
            if axis.ticks.len() as i64 * (widest + 2 * self.gap) <= width {
                break;
            }
            axis = Axis::tight(ends, whole, max_ticks);
        }
        axis
    }

    fn draw_axes(&self, picture: &mut RgbImage, area: &PixelRect, x_axis: &Axis, y_axis: &Axis) {
        let line = self.text.line_height();
        let place = |axis: &Axis, value: f64, length: i64| {
            let at = axis.position(value).unwrap_or(0.0) * length as f64;
            at.round() as i64
        };
        for (value, text) in &y_axis.ticks {
            let y = area.y1 - place(y_axis, *value, area.height());
            fill(picture, PixelRect::new(area.x0, y, area.x1, y + self.rule), GRID, 1.0);
            let x = area.x0 - self.gap - self.text.width(text);
            self.text.draw(picture, x, y - line / 2, text, INK);
        }
        for (value, text) in &x_axis.ticks {
            let x = area.x0 + place(x_axis, *value, area.width());
            fill(picture, PixelRect::new(x, area.y0, x + self.rule, area.y1), GRID, 1.0);
            // The numbers at the ends stay inside the picture.
            let width = self.text.width(text);
            let most = i64::from(picture.width()) - width - self.gap / 2;
            self.text.draw(picture, (x - width / 2).min(most), area.y1 + self.gap, text, INK);
        }
        let PixelRect { x0, y0, x1, y1 } = *area;
        fill(picture, PixelRect::new(x0, y1, x1, y1 + self.rule), AXIS, 1.0);
        fill(picture, PixelRect::new(x0, y0, x0 + self.rule, y1 + self.rule), AXIS, 1.0);
    }

    fn draw_centered(&self, picture: &mut RgbImage, text: &str, span: (i64, i64), y: i64) {
        if let Some(text) = self.text.fitted(text, span.1 - span.0) {
            let x = span.0 + (span.1 - span.0 - self.text.width(&text)) / 2;
            self.text.draw(picture, x, y, &text, INK);
        }
    }
}
