//! The report as a page with pictures.

use super::pictures::Tile;
use super::tables::{range, verdict};
use super::{Names, headline};
use crate::table;
use retinanet_data::check::{CheckReport, Example, Finding, Histogram, Severity, Spread};
use retinanet_draw::page::{Bars, Block, Cell, Facts, Page, Picture, Section, Table, Tone};

/// The whole page; `tiles` are the pictures of each finding.
pub(super) fn page(report: &CheckReport, tiles: &[Vec<Tile>], names: &Names) -> anyhow::Result<Page> {
    let boxes: usize = report.splits.iter().map(|split| split.boxes).sum();
    let counts = [
        table::count(report.images, "image", "images"),
        table::count(boxes, "box", "boxes"),
        table::count(report.classes.len(), "class", "classes"),
    ];
    let mut page = Page::new(format!("Data check: {}", names.sets())).lead(counts.join(", "));
    page = page.section(summary(report));
    for (finding, tiles) in report.findings.iter().zip(tiles) {
        page = page.section(of_finding(finding, tiles, names)?);
    }
    page = page.section(splits(report));
    if !report.classes.is_empty() {
        page = page.section(classes(report));
    }
    page = page.section(images(report));
    if report.box_statistics.side.count() > 0 {
        page = page.section(boxes_section(report, names));
    }
    let version = env!("CARGO_PKG_VERSION");
    Ok(page.footer(format!("retinanet {version}, data check, {}", names.preset())))
}

fn tone(severity: Severity) -> Tone {
    match severity {
        Severity::Error => Tone::Error,
        Severity::Warning => Tone::Warning,
        Severity::Note => Tone::Note,
    }
}

fn summary(report: &CheckReport) -> Section {
    let is_good = !report.needs_a_person();
    let worst = report.findings.first().map_or(Tone::Good, |finding| tone(finding.severity));
    let tone_of_all = if !report.complete {
        Tone::Error
    } else if is_good {
        Tone::Good
    } else {
        worst
    };
    let mut section = Section::new("Findings").with(Block::Callout(tone_of_all, verdict(report)));
    if !report.findings.is_empty() {
        let row = |finding: &Finding| {
            let severity = Cell::text(finding.severity.name()).tone(tone(finding.severity));
            vec![severity, Cell::number(finding.count), Cell::text(finding.what), Cell::text(finding.kind.name())]
        };
        let headings = ["severity", "count", "what", "kind"];
        section.push(Table::new(headings).rows(report.findings.iter().map(row)));
    }
    section
}

fn of_finding(finding: &Finding, tiles: &[Tile], names: &Names) -> anyhow::Result<Section> {
    let title = headline(finding);
    let section = if finding.severity == Severity::Note { Section::closed(title) } else { Section::open(title) };
    let mut section =
        section.tag(tone(finding.severity), finding.severity.name()).tag(Tone::Plain, finding.kind.name());
    section.push(finding.advice);
    let mut gallery = Vec::new();
    for tile in tiles {
        let example = &finding.examples[tile.example];
        let place = example.image.as_deref().map_or_else(String::new, |image| names.path(image));
        gallery.push(Picture::photo(&tile.picture, format!("{place}: {}", names.what(example)))?);
    }
    if !gallery.is_empty() {
        section.push(Block::Gallery(gallery));
    }
    let row = |example: &Example| {
        let split = example.split.clone().unwrap_or_default();
        vec![Cell::text(split), Cell::text(names.place(example)), Cell::text(names.what(example))]
    };
    let table = Table::new(["split", "where", "what"]).rows(finding.examples.iter().map(row));
    // Beside pictures, the table mostly says the same again.
    if tiles.len() == finding.count {
        section.push(Section::closed("As a list").with(table));
    } else {
        section.push(table);
    }
    let more = finding.count.saturating_sub(finding.examples.len());
    if more > 0 {
        section.push(format!("And {more} more; --examples N lists more of them."));
    }
    Ok(section)
}

fn splits(report: &CheckReport) -> Section {
    let headings =
        ["split", "images", "readable", "without boxes", "boxes", "crowd", "difficult", "classes", "boxes an image"];
    let mut table = Table::new(headings);
    for split in &report.splits {
        let numbers = [
            split.images,
            split.readable_images,
            split.images_without_boxes,
            split.boxes,
            split.crowd_boxes,
            split.difficult_boxes,
            split.classes,
        ];
        let mut row = vec![Cell::text(split.name.clone())];
        row.extend(numbers.map(Cell::number));
        row.push(Cell::number(split.boxes_per_image.map_or_else(|| "-".to_owned(), spread)));
        table.push(row);
    }
    Section::open("Splits").with(table)
}

/// `least to greatest, median m`.
fn spread(values: Spread) -> String {
    format!("{:.0} to {:.0}, median {:.0}", values.min, values.max, values.median)
}

fn split_names(report: &CheckReport) -> Vec<String> {
    report.splits.iter().map(|split| split.name.clone()).collect()
}

fn classes(report: &CheckReport) -> Section {
    let mut sorted: Vec<_> = report.classes.iter().collect();
    sorted.sort_by_key(|class| std::cmp::Reverse(class.boxes));
    let mut bars = Bars::new("boxes of each class, by split").parts(split_names(report));
    let mut headings = vec!["class".to_owned(), "boxes".to_owned(), "images".to_owned()];
    headings.extend(split_names(report));
    headings.extend(["median side, resized".to_owned(), "no anchor".to_owned()]);
    let mut table = Table::new(headings);
    for class in sorted {
        bars.push(class.name.clone(), class.boxes_by_split.iter().map(|&boxes| boxes as f64));
        let mut row = vec![Cell::text(class.name.clone()), Cell::number(class.boxes), Cell::number(class.images)];
        row.extend(class.boxes_by_split.iter().map(Cell::number));
        row.push(Cell::number(class.resized_side.map_or_else(|| "-".to_owned(), |side| format!("{:.0}", side.median))));
        row.push(Cell::number(class.unmatched_boxes));
        table.push(row);
    }
    Section::open("Classes").with(bars).with(Section::closed("As a table").with(table))
}

fn histogram(title: &str, histogram: &Histogram, report: &CheckReport) -> Block {
    let mut bars = Bars::new(title).parts(split_names(report));
    for bin in &histogram.bins {
        bars.push(range(bin), bin.counts.iter().map(|&count| count as f64));
    }
    bars.into()
}

fn images(report: &CheckReport) -> Section {
    let images = &report.image_statistics;
    let mut facts = Facts::new();
    for count in &images.formats {
        facts.push(format!("{:?}", count.format), table::count(count.images, "file", "files"));
    }
    facts.push("distinct sizes", images.distinct_sizes);
    for (name, side) in [("width", images.width), ("height", images.height)] {
        if let Some(side) = side {
            facts.push(name, spread(side));
        }
    }
    let shown: Vec<String> =
        images.sizes.iter().take(5).map(|count| format!("{} ({})", count.size, count.images)).collect();
    facts.push("most frequent", shown.join(", "));
    Section::open("Images").with(facts).with(Block::Side(vec![
        histogram("longer side, pixels", &images.longer_side, report),
        histogram("width over height", &images.aspect_ratio, report),
        histogram("boxes in an image", &images.boxes_per_image, report),
    ]))
}

fn boxes_section(report: &CheckReport, names: &Names) -> Section {
    let boxes = &report.box_statistics;
    let mut coco = Bars::new("by COCO's sizes (area below 32², up to 96², above)").parts(split_names(report));
    for (name, counts) in
        [("small", &boxes.coco_sizes.small), ("medium", &boxes.coco_sizes.medium), ("large", &boxes.coco_sizes.large)]
    {
        coco.push(name, counts.iter().map(|&count| count as f64));
    }
    let share = 100.0 * boxes.unmatched as f64 / boxes.measured.max(1) as f64;
    let settings = &report.settings;
    let text = format!(
        "{} of {} boxes ({share:.1} %) have no anchor with an IoU of at least {} ({}; images resized to {} pixels for the shorter side, {} at most for the longer). The side of a box is the root of its area.",
        boxes.unmatched,
        boxes.measured,
        settings.foreground_iou,
        names.preset(),
        settings.min_size,
        settings.max_size
    );
    Section::open("Boxes").with(text).with(Block::Side(vec![
        coco.into(),
        histogram("side, pixels of the image", &boxes.side, report),
        histogram("side once the image is resized, pixels", &boxes.resized_side, report),
        histogram("area as a share of the image", &boxes.relative_area, report),
        histogram("width over height", &boxes.aspect_ratio, report),
        histogram("IoU with the best anchor", &boxes.best_anchor_iou, report),
    ]))
}
