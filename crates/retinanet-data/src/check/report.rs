//! The report: its JSON is the form that programs read.

use retinanet_anchors::ImageSize;
use serde::Serialize;

use super::finding::{Finding, Severity};
use crate::traits::ImageFileFormat;

/// All that a check found: in JSON one object with these fields.
///
/// Lists with a number for each split are in the order of [`splits`](Self::splits). Fields are added in later versions, and
/// never change their meaning within one [`version`](Self::version).
#[derive(Clone, Debug, Serialize)]
pub struct CheckReport {
    /// Of this form: 1.
    pub version: u32,
    /// Whether every image was looked at; false after an interruption, when all numbers are of a part.
    pub complete: bool,
    /// Images that the annotations have.
    pub images: usize,
    /// How many of them were looked at.
    pub images_checked: usize,
    /// The numbers that findings depend on.
    pub settings: Settings,
    /// The splits.
    pub splits: Vec<SplitStatistics>,
    /// The classes, in the order of the set.
    pub classes: Vec<ClassStatistics>,
    /// Of the image files.
    pub image_statistics: ImageStatistics,
    /// Of the boxes.
    pub box_statistics: BoxStatistics,
    /// What is wrong or worth knowing, the most severe first; a kind that was not found is not in the list.
    pub findings: Vec<Finding>,
}

impl CheckReport {
    /// How many kinds of findings are of this severity.
    #[must_use]
    pub fn num_findings(&self, severity: Severity) -> usize {
        self.findings.iter().filter(|finding| finding.severity == severity).count()
    }

    /// Whether a person has to look: there is a warning or an error, or images are left to look at.
    #[must_use]
    pub fn needs_a_person(&self) -> bool {
        !self.complete || self.findings.iter().any(|finding| finding.severity.needs_a_person())
    }
}

/// The numbers that findings depend on.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Settings {
    /// Pixels of an image's shorter side after resizing, unless the longer would pass `max_size`.
    pub min_size: usize,
    /// Most pixels of the longer side after resizing.
    pub max_size: usize,
    /// IoU from which an anchor learns a box.
    pub foreground_iou: f32,
    /// Side in pixels of the resized image below which a box is tiny: the root of its area.
    pub tiny_side: f64,
    /// IoU above which a box repeats another of its class.
    pub duplicate_iou: f64,
    /// IoU above which boxes of two classes coincide.
    pub conflict_iou: f64,
    /// Boxes below which a class is rare.
    pub rare_class_boxes: usize,
}

/// What a split has.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SplitStatistics {
    /// Its name.
    pub name: String,
    /// Images listed.
    pub images: usize,
    /// Images that could be decoded.
    pub readable_images: usize,
    /// Images with no boxes.
    pub images_without_boxes: usize,
    /// Boxes, all that were read.
    pub boxes: usize,
    /// Regions of many objects among them (COCO).
    pub crowd_boxes: usize,
    /// Boxes of objects that are hard to tell among them (Pascal VOC).
    pub difficult_boxes: usize,
    /// Classes with a box.
    pub classes: usize,
    /// Boxes in an image; none without images.
    pub boxes_per_image: Option<Spread>,
}

/// What there is of a class.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ClassStatistics {
    /// Its name.
    pub name: String,
    /// Boxes, crowd regions left out.
    pub boxes: usize,
    /// Images that have one.
    pub images: usize,
    /// Boxes in each split.
    pub boxes_by_split: Vec<usize>,
    /// Side of a box (the root of its area) once the image is resized, in pixels; none without boxes.
    pub resized_side: Option<Spread>,
    /// Boxes whose best anchor is below `foreground_iou`.
    pub unmatched_boxes: usize,
}

/// The least, the middle and the greatest of some numbers, and their mean.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// The least.
    pub min: f64,
    /// Half of the numbers are at most this.
    pub median: f64,
    /// The sum by the count.
    pub mean: f64,
    /// The greatest.
    pub max: f64,
}

impl Spread {
    pub(super) fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_unstable_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        Some(Self { min, median: median_of_sorted(&values), mean, max })
    }
}

/// The lower of the two middle ones where the count is even, so that a median of counts is a count; 0 of none.
pub(super) fn median_of_sorted(sorted: &[f64]) -> f64 {
    sorted.get(sorted.len().saturating_sub(1) / 2).copied().unwrap_or(0.0)
}

/// How often values are in ranges.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Histogram {
    /// The ranges, ascending; each begins where the one before ends.
    pub bins: Vec<Bin>,
}

/// A range of values.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Bin {
    /// The least value in it.
    pub from: f64,
    /// The first value beyond it; none where it has no end.
    pub to: Option<f64>,
    /// How many values there are, in each split.
    pub counts: Vec<usize>,
}

impl Bin {
    /// How many values there are in all splits.
    #[must_use]
    pub fn count(&self) -> usize {
        self.counts.iter().sum()
    }
}

impl Histogram {
    /// Ranges that begin at these values, ascending; what is below the first counts there.
    pub(super) fn new(starts: &[f64], splits: usize) -> Self {
        let bin =
            |(idx, from): (usize, &f64)| Bin { from: *from, to: starts.get(idx + 1).copied(), counts: vec![0; splits] };
        Self { bins: starts.iter().enumerate().map(bin).collect() }
    }

    pub(super) fn add(&mut self, value: f64, split: usize) {
        let idx = self.bins.partition_point(|bin| bin.from <= value).saturating_sub(1);
        self.bins[idx].counts[split] += 1;
    }

    /// How many values there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.bins.iter().map(Bin::count).sum()
    }
}

/// What the image files are like.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ImageStatistics {
    /// How many files of each format.
    pub formats: Vec<FormatCount>,
    /// How many sizes there are, as displayed.
    pub distinct_sizes: usize,
    /// The most frequent sizes, at most 20.
    pub sizes: Vec<SizeCount>,
    /// Columns, in pixels.
    pub width: Option<Spread>,
    /// Rows, in pixels.
    pub height: Option<Spread>,
    /// Of the longer side, in pixels.
    pub longer_side: Histogram,
    /// Of width over height.
    pub aspect_ratio: Histogram,
    /// Of the boxes in an image.
    pub boxes_per_image: Histogram,
}

/// How many files have a format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct FormatCount {
    /// The format of the content.
    pub format: ImageFileFormat,
    /// How many files.
    pub images: usize,
}

/// How many images have a size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct SizeCount {
    /// Columns and rows.
    pub size: ImageSize,
    /// How many images.
    pub images: usize,
}

/// What the boxes are like; crowd regions and boxes without extent are left out.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BoxStatistics {
    /// By COCO's areas, in each split.
    pub coco_sizes: CocoSizes,
    /// Of the side (the root of the area) in pixels of the image.
    pub side: Histogram,
    /// Of the side in pixels of the resized image: what the network sees.
    pub resized_side: Histogram,
    /// Of the area as a share of the image's.
    pub relative_area: Histogram,
    /// Of width over height.
    pub aspect_ratio: Histogram,
    /// Of the IoU with the anchor that fits best.
    pub best_anchor_iou: Histogram,
    /// Boxes whose best anchor is below `foreground_iou`.
    pub unmatched: usize,
    /// Boxes that anchors were looked up for.
    pub measured: usize,
}

/// Boxes by COCO's three ranges of area, by the area that the annotations state; in each split.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CocoSizes {
    /// Below 32 x 32 pixels.
    pub small: Vec<usize>,
    /// From there up to 96 x 96 pixels.
    pub medium: Vec<usize>,
    /// Above.
    pub large: Vec<usize>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bins_hold_their_start_and_not_their_end() {
        let mut histogram = Histogram::new(&[0.0, 8.0, 16.0], 2);
        for value in [-1.0, 0.0, 7.9, 8.0, 16.0, 1e9, f64::INFINITY] {
            histogram.add(value, 1);
        }
        let counts: Vec<_> = histogram.bins.iter().map(|bin| (bin.counts[0], bin.counts[1])).collect();
        assert_eq!(counts, [(0, 3), (0, 1), (0, 3)]);
        assert_eq!((histogram.bins[2].to, histogram.count()), (None, 7));
    }

    #[test]
    fn spreads() {
        assert_eq!(Spread::of(vec![]), None);
        assert_eq!(Spread::of(vec![4.0, 1.0, 2.0, 5.0]), Some(Spread { min: 1.0, median: 2.0, mean: 3.0, max: 5.0 }));
    }
}
