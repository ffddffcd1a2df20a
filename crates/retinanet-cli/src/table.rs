//! Tables that a person can read.

use retinanet_eval::CocoMetrics;

/// Rows in columns: the first left, the others right; the first row is the heading.
///
/// Control characters, such as those of a hostile class name, are written as escapes.
pub(crate) fn render(rows: &[Vec<String>]) -> String {
    let rows: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(|cell| printable(cell)).collect()).collect();
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().enumerate().map(|(column, cell)| {
            let width = widths[column];
            if column == 0 { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    let mut lines: Vec<String> = rows.iter().map(line).collect();
    if lines.len() > 1 {
        let rule = widths.iter().sum::<usize>() + 2 * columns.saturating_sub(1);
        lines.insert(1, "-".repeat(rule));
    }
    lines.join("\n")
}

/// The text with its control characters as escapes.
pub(crate) fn printable(text: &str) -> String {
    let written = |character: char| match character.is_control() {
        true => character.escape_default().to_string(),
        false => character.to_string(),
    };
    text.chars().map(written).collect()
}

/// A score between 0 and 1 as .123, or a dash where it is not defined.
pub(crate) fn score(value: f64) -> String {
    if value < 0.0 { "-".to_owned() } else { format!("{value:.3}") }
}

/// A number of things: `1 image`, `2 images`.
pub(crate) fn count(number: usize, one: &str, several: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { several })
}

/// A size in MiB.
pub(crate) fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// COCO's twelve numbers and those of each class.
pub(crate) fn metrics(metrics: &CocoMetrics) -> String {
    let explain = |key: &str| match key {
        "AP" => "average precision, mean over IoU .50 to .95",
        "AP50" => "average precision at IoU .50",
        "AP75" => "average precision at IoU .75",
        "APs" => "of objects below 32 x 32 pixels",
        "APm" => "of objects from 32 x 32 to 96 x 96 pixels",
        "APl" => "of objects above 96 x 96 pixels",
        "AR1" => "average recall with 1 detection an image",
        "AR10" => "average recall with 10 detections an image",
        "AR100" => "average recall with 100 detections an image",
        "ARs" => "of objects below 32 x 32 pixels",
        "ARm" => "of objects from 32 x 32 to 96 x 96 pixels",
        _ => "of objects above 96 x 96 pixels",
    };
    let twelve = metrics.summary.entries();
    let twelve = twelve.iter().map(|(key, value)| format!("{key:<6} {:>5}  {}", score(*value), explain(key)));
    let mut rows = vec![["class", "objects", "AP", "AP50", "AR100"].map(str::to_owned).to_vec()];
    for class in &metrics.per_class {
        rows.push(vec![
            class.name.clone(),
            class.num_ground_truth.to_string(),
            score(class.ap),
            score(class.ap50),
            score(class.ar100),
        ]);
    }
    format!("{}\n\n{}", twelve.collect::<Vec<_>>().join("\n"), render(&rows))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let rows = [vec!["class".to_owned(), "AP".to_owned()], vec!["cat".to_owned(), "0.5".to_owned()]];
        assert_eq!(render(&rows), "class   AP\n----------\ncat    0.5");
        let hostile = [vec!["a\u{1b}[31mb".to_owned()], vec!["c\nd".to_owned()]];
        assert_eq!(render(&hostile), "a\\u{1b}[31mb\n------------\nc\\nd");
        assert_eq!(score(-1.0), "-");
        assert_eq!(score(0.12345), "0.123");
        let found = [0, 1, 2].map(|number| count(number, "box", "boxes"));
        assert_eq!(found, ["0 boxes", "1 box", "2 boxes"]);
    }
}
