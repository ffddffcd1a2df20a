//! The report as a person reads it in a terminal.

use super::{Names, headline};
use crate::table;
use retinanet_data::check::{Bin, CheckReport, Histogram, Severity, Spread};

/// Classes that are listed; the page has all.
const CLASSES: usize = 25;

/// Examples of a finding that are listed; the other forms have more.
const EXAMPLES: usize = 3;

/// The whole report.
pub(super) fn text(report: &CheckReport, names: &Names) -> String {
    let mut parts = vec![splits(report)];
    if !report.classes.is_empty() {
        parts.push(classes(report));
    }
    parts.push(numbers(report, names));
    if !report.findings.is_empty() {
        parts.push(findings(report, names));
    }
    parts.push(verdict(report));
    // Names come from files: they must not command the terminal.
    parts.join("\n\n").replace(|letter: char| letter.is_control() && letter != '\n', "\u{fffd}")
}

fn splits(report: &CheckReport) -> String {
    let heading = ["split", "images", "readable", "no boxes", "boxes", "an image", "classes"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    for split in &report.splits {
        let each = split.boxes_per_image.map_or_else(|| "-".to_owned(), |boxes| format!("{:.1}", boxes.mean));
        let numbers =
            [split.images, split.readable_images, split.images_without_boxes, split.boxes].map(|n| n.to_string());
        let [images, readable, empty, boxes] = numbers;
        rows.push(vec![split.name.clone(), images, readable, empty, boxes, each, split.classes.to_string()]);
    }
    table::render(&rows)
}

fn classes(report: &CheckReport) -> String {
    let mut rows = vec![vec!["class".to_owned(), "boxes".to_owned(), "images".to_owned()]];
    rows[0].extend(report.splits.iter().map(|split| split.name.clone()));
    rows[0].extend(["median side".to_owned(), "no anchor".to_owned()]);
    let mut classes: Vec<_> = report.classes.iter().collect();
    classes.sort_by_key(|class| std::cmp::Reverse(class.boxes));
    for class in classes.iter().take(CLASSES) {
        let mut row = vec![class.name.clone(), class.boxes.to_string(), class.images.to_string()];
        row.extend(class.boxes_by_split.iter().map(ToString::to_string));
        row.push(class.resized_side.map_or_else(|| "-".to_owned(), |side| format!("{:.0}", side.median)));
        row.push(class.unmatched_boxes.to_string());
        rows.push(row);
    }
    let more = classes.len().saturating_sub(CLASSES);
    let more = if more > 0 { format!("\nand {more} more") } else { String::new() };
    format!("{}{more}", table::render(&rows))
}

fn numbers(report: &CheckReport, names: &Names) -> String {
    let images = &report.image_statistics;
    let boxes = &report.box_statistics;
    let mut lines = Vec::new();
    let formats: Vec<String> =
        images.formats.iter().map(|count| format!("{} {:?}", count.images, count.format)).collect();
    if let (Some(width), Some(height)) = (images.width, images.height) {
        let sizes = table::count(images.distinct_sizes, "size", "sizes");
        let range = |side: Spread| format!("{:.0} to {:.0} (median {:.0})", side.min, side.max, side.median);
        lines.push(format!(
            "images  {}; {sizes}: width {}, height {}",
            formats.join(", "),
            range(width),
            range(height)
        ));
    }
    if boxes.side.count() > 0 {
        let [small, medium, large] = [&boxes.coco_sizes.small, &boxes.coco_sizes.medium, &boxes.coco_sizes.large]
            .map(|n| n.iter().sum::<usize>());
        lines.push(format!(
            "boxes   {small} small, {medium} medium, {large} large (COCO's, below 32 and above 96 pixels a side)"
        ));
        lines.push(format!("        a side once resized: {}", shares(&boxes.resized_side)));
        lines.push(format!("        an image: {}", shares(&images.boxes_per_image)));
        let share = 100.0 * boxes.unmatched as f64 / boxes.measured.max(1) as f64;
        lines.push(format!(
            "anchors {} of {} boxes ({share:.1} %) fit none at IoU {} ({}, images resized to {}/{})",
            boxes.unmatched,
            boxes.measured,
            report.settings.foreground_iou,
            names.preset(),
            report.settings.min_size,
            report.settings.max_size,
        ));
    }
    lines.join("\n")
}

/// A histogram on a line: the ranges that hold something, with their shares.
fn shares(histogram: &Histogram) -> String {
    let total = histogram.count().max(1);
    let filled = histogram.bins.iter().filter(|bin| bin.count() > 0);
    let share = |bin: &Bin| format!("{} {:.0} %", range(bin), 100.0 * bin.count() as f64 / total as f64);
    filled.map(share).collect::<Vec<_>>().join(", ")
}

/// A range of values, `8-16` or `512+`.
pub(super) fn range(bin: &Bin) -> String {
    let is_count = bin.from.fract() == 0.0 && bin.to == Some(bin.from + 1.0);
    match bin.to {
        _ if is_count => format!("{}", bin.from),
        Some(to) => format!("{}-{to}", bin.from),
        None => format!("{}+", bin.from),
    }
}

fn findings(report: &CheckReport, names: &Names) -> String {
    let mut lines = Vec::new();
    for finding in &report.findings {
        lines.push(format!("{} [{}]: {}", finding.severity.name(), finding.kind, headline(finding)));
        for example in finding.examples.iter().take(EXAMPLES) {
            let place = names.place(example);
            let colon = if place.is_empty() { "" } else { ": " };
            lines.push(format!("    {place}{colon}{}", names.what(example)));
        }
        let more = finding.count.saturating_sub(finding.examples.len().min(EXAMPLES));
        if more > 0 {
            lines.push(format!("    and {more} more"));
        }
        if finding.severity != Severity::Note {
            lines.push(format!("    -> {}", finding.advice));
        }
    }
    lines.join("\n")
}

/// The last line.
pub(super) fn verdict(report: &CheckReport) -> String {
    let [errors, warnings, notes] =
        [Severity::Error, Severity::Warning, Severity::Note].map(|severity| report.num_findings(severity));
    let counts = [
        table::count(errors, "error", "errors"),
        table::count(warnings, "warning", "warnings"),
        table::count(notes, "note", "notes"),
    ];
    let counts = counts.join(", ");
    if !report.complete {
        let (done, all) = (report.images_checked, report.images);
        return format!("incomplete: interrupted after {done} of {all} images; so far {counts}");
    }
    let verdict = if report.needs_a_person() { "a person should look" } else { "nothing to mend" };
    format!("{counts}: {verdict}")
}
