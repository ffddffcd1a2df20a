//! One label file: a line for each box.

use std::collections::HashMap;
use std::path::Path;

use retinanet_anchors::ImageSize;

use super::{corners, extent};
use crate::file::quoted;
use crate::geometry::{defect, outside};
use crate::problems::ProblemLog;
use crate::{Annotation, Details, Effect, Outline, Place, Problems};

/// Boxes and what was left out. `positions` maps class numbers to class indices.
///
/// A line is `class cx cy width height`, or `class x y x y x y ...` for a polygon, of which the bounding box is taken; all
/// but the class relative to the image.
pub(super) fn parse(
    path: &Path,
    text: &str,
    size: ImageSize,
    positions: &HashMap<i64, usize>,
    details: bool,
) -> (Vec<Annotation>, Problems) {
    let mut log = ProblemLog::new(path);
    let mut annotations = Vec::new();
    for (line, number) in text.lines().zip(1..) {
        if line.trim().is_empty() {
            continue;
        }
        match parse_line(line, size, positions, details) {
            Ok(annotation) => annotations.push(annotation),
            Err(what) => log.push(Place::Line(number), Effect::BoxDropped, what),
        }
    }
    (annotations, log.problems)
}

/// The class number of each line that has one, for sets that list no classes.
pub(super) fn class_numbers(text: &str) -> impl Iterator<Item = i64> {
    text.lines().filter_map(|line| class_number(line.split_whitespace().next()?))
}

/// Some tools write the class as they write the rest, `3.0`.
fn class_number(text: &str) -> Option<i64> {
    let exact = text.parse().ok();
    exact.or_else(|| text.parse().ok().filter(|v: &f64| v.fract() == 0.0 && v.abs() < 1e9).map(|v| v as i64))
}

fn parse_line(
    line: &str,
    size: ImageSize,
    positions: &HashMap<i64, usize>,
    details: bool,
) -> Result<Annotation, String> {
    let mut columns = line.split_whitespace();
    let class = columns.next().unwrap_or_default();
    let class_idx = class_number(class).and_then(|number| positions.get(&number).copied());
    let class_idx =
        class_idx.ok_or_else(|| format!("class: expected one of {}, found {}", numbers(positions), quoted(class)))?;
    let mut values = Vec::new();
    for column in columns {
        let value: Option<f64> = column.parse().ok();
        values.push(
            value.ok_or_else(|| format!("column {}: expected a number, found {}", values.len() + 2, quoted(column)))?,
        );
    }
    if !values.iter().all(|value| value.is_finite()) {
        return Err(format!("box is not finite: expected finite numbers, found {}", quoted(line.trim())));
    }
    let [x, y, width, height] = match values.as_slice() {
        &[cx, cy, width, height] => [cx - width / 2.0, cy - height / 2.0, width, height],
        points if points.len() >= 6 && points.len().is_multiple_of(2) => bounding_box(points),
        other => {
            return Err(format!("columns: expected 5, or a class and at least 3 pairs, found {}", other.len() + 1));
        }
    };
    let (image_width, image_height) = (size.width as f64, size.height as f64);
    let xywh = [x * image_width, y * image_height, width * image_width, height * image_height];
    // The size is the file's own, so that what is outside is wrong for sure.
    if let Some(what) = defect(xywh).or_else(|| outside(xywh, Some(size))) {
        return Err(what);
    }
    let mut annotation = Annotation::new(class_idx, xywh);
    if details && values.len() > 4 && !is_own_box(&values) {
        let corners = values.chunks_exact(2).map(|pair| [pair[0] * image_width, pair[1] * image_height]);
        let outline = Some(Outline::Polygons(vec![corners.collect()]));
        annotation.details = Details { outline, ..Details::default() }.boxed();
    }
    Ok(annotation)
}

/// Whether a polygon is the four corners of its bounding box, which is how boxes are written among polygons.
fn is_own_box(points: &[f64]) -> bool {
    points == corners(extent(points))
}

fn bounding_box(points: &[f64]) -> [f64; 4] {
    let [left, top, right, bottom] = extent(points);
    [left, top, right - left, bottom - top]
}

fn numbers(positions: &HashMap<i64, usize>) -> String {
    match (positions.keys().min(), positions.keys().max()) {
        (Some(low), Some(high)) if (high - low) as usize + 1 == positions.len() => format!("{low}..={high}"),
        (Some(_), Some(_)) => format!("{} numbers", positions.len()),
        _ => "none".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Vec<Annotation>, Vec<String>) {
        let positions = HashMap::from([(0, 0), (1, 1), (2, 2)]);
        let (boxes, problems) = parse(Path::new("7.txt"), text, ImageSize::new(100, 200), &positions, false);
        (boxes, problems.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn boxes_and_polygons() {
        let (boxes, problems) = read("1 0.5 0.5 0.25 0.5\r\n\n2.0 .25 .25 .75 .5 .5 .125\n");
        assert_eq!(problems, [""; 0]);
        assert_eq!((boxes[0].class_idx, boxes[0].xywh, boxes[0].area), (1, [37.5, 50.0, 25.0, 100.0], 2500.0));
        assert_eq!((boxes[1].class_idx, boxes[1].xywh), (2, [25.0, 25.0, 50.0, 75.0]));
    }

    #[test]
    fn boxes_partly_outside_stay() {
        assert_eq!(read("0 0 0 0.5 0.5").0[0].xywh, [-25.0, -50.0, 50.0, 100.0]);
    }

    #[track_caller]
    fn check(line: &str, expected: &str) {
        let (boxes, problems) = read(&format!("\n\n{line}\n0 .5 .5 .1 .1"));
        assert_eq!(boxes.len(), 1, "{line}");
        assert_eq!(problems, [format!("7.txt: line 3: {expected}")], "{line}");
    }

    #[test]
    fn bad_lines_cost_their_box_only() {
        check("0 0.5 0.5 0 0.5", "box has non-positive width: expected > 0, found 0");
        check("0 0.5 0.5 0.5 -0.5", "box has non-positive height: expected > 0, found -100");
        check("3 0.5 0.5 0.5 0.5", "class: expected one of 0..=2, found \"3\"");
        check("-1 0.5 0.5 0.5 0.5", "class: expected one of 0..=2, found \"-1\"");
        check("0 0.5 0.5 0.5", "columns: expected 5, or a class and at least 3 pairs, found 4");
        check("0 0.5 0.5 0.5 0.5 0.9", "columns: expected 5, or a class and at least 3 pairs, found 6");
        check("0 0.5 a 0.5 0.5", "column 3: expected a number, found \"a\"");
        check("0 NaN 0.5 0.5 0.5", "box is not finite: expected finite numbers, found \"0 NaN 0.5 0.5 0.5\"");
        check(
            "0 2 0.5 0.5 0.5",
            "box is outside the image: expected it within 100x200, found left 175, top 50, width 50, height 100",
        );
    }
}
