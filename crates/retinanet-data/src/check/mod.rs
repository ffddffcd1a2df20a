//! A data set looked over before anything is trained on it: numbers, and what is wrong.
//!
//! [`check`] decodes every image once, on all threads, and keeps some hundred bytes of each. It gives a [`CheckReport`], which
//! is also a JSON document. Each [`FindingKind`] says what it is, how much it matters and what to do about it.
//!
//! ```no_run
//! use std::ops::ControlFlow;
//! use retinanet_data::check::{CheckInput, CheckOptions, check};
//! use retinanet_data::retinanet_annotations::DataRequest;
//!
//! let input = CheckInput::read(&DataRequest::new(["my-data"]), None)?;
//! let report = check(&input, &CheckOptions::default(), &|_| ControlFlow::Continue(()))?;
//! for finding in &report.findings {
//!     println!("{}: {} {}", finding.kind, finding.count, finding.what);
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod anchor_fit;
mod between;
mod boxes;
mod few_boxes;
mod finding;
mod fingerprint;
mod input;
mod look;
mod problems;
mod report;
mod shared_images;
mod statistics;

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use rayon::prelude::*;
use retinanet_anchors::{AnchorConfig, AnchorError, Matcher, PyramidLevel};
use retinanet_annotations::AnnotatedImage;

pub use anchor_fit::{AnchorFit, UnmatchedBoxes};
pub use finding::{Example, ExampleBox, Finding, FindingKind, Severity};
pub use input::{CheckInput, CheckSplit};
pub use report::{
    Bin, BoxStatistics, CheckReport, ClassStatistics, CocoSizes, FormatCount, Histogram, ImageStatistics, Settings,
    SizeCount, SplitStatistics, Spread,
};
pub use shared_images::shared_images;

use crate::{ConfigError, DecodeLimits, Preprocessing};
use boxes::BoxCheck;
use finding::Tally;
use look::{Looked, Subject, look};
use statistics::Statistics;

/// Of which form the report is.
const VERSION: u32 = 1;

/// What a check depends on besides the data.
#[derive(Clone, Debug, PartialEq)]
pub struct CheckOptions {
    /// How large the network sees the images. Default 800 pixels for the shorter side.
    pub preprocessing: Preprocessing,
    /// The anchors that boxes should fit. Default the paper's.
    pub anchors: AnchorConfig,
    /// The level of the first anchor size. Default P3.
    pub finest: PyramidLevel,
    /// IoU from which an anchor learns a box. Default 0.5.
    pub foreground_iou: f32,
    /// A box is tiny if the root of its area, in pixels of the resized image, is below this. Default 8, the stride of P3.
    pub tiny_side: f64,
    /// IoU above which a box repeats another of its class. Default 0.8: detections that overlap so are suppressed.
    pub duplicate_iou: f64,
    /// IoU above which boxes of two classes coincide. Default 0.95.
    pub conflict_iou: f64,
    /// A class with fewer boxes is rare. Default 10.
    pub rare_class_boxes: usize,
    /// Share of the boxes from which on tiny and unmatched ones are a warning, not a note. Default 0.05.
    pub warning_share: f64,
    /// Most examples of a finding; at least 1. Default 12.
    pub max_examples: usize,
    /// How large an image file may be.
    pub limits: DecodeLimits,
}

impl Default for CheckOptions {
    fn default() -> Self {
        Self {
            preprocessing: Preprocessing::default(),
            anchors: AnchorConfig::default(),
            finest: PyramidLevel::P3,
            foreground_iou: Matcher::default().foreground_iou,
            tiny_side: 8.0,
            duplicate_iou: 0.8,
            conflict_iou: 0.95,
            rare_class_boxes: 10,
            warning_share: 0.05,
            max_examples: 12,
            limits: DecodeLimits::default(),
        }
    }
}

/// Options that a check cannot work with.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum CheckError {
    /// The preprocessing.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The anchors.
    #[error(transparent)]
    Anchors(#[from] AnchorError),
}

/// Looks at every image and box.
///
/// `on_image` is called with the number of images done, from any thread, and may end the check: the report then says that it
/// is not complete, and findings between images are of those that were looked at. Memory grows by less than a kilobyte an
/// image beside the annotations; as many images are decoded at a time as there are threads. The report does not depend on
/// the number of threads.
///
/// # Errors
/// The preprocessing or the anchors cannot be worked with. All that is wrong with the data is in the report.
pub fn check(
    input: &CheckInput,
    options: &CheckOptions,
    on_image: &(dyn Fn(usize) -> ControlFlow<()> + Sync),
) -> Result<CheckReport, CheckError> {
    let boxes = BoxCheck { options, fit: AnchorFit::new(options.preprocessing, &options.anchors, options.finest)? };
    let options = &CheckOptions { max_examples: options.max_examples.max(1), ..options.clone() };
    let joined = Joined::new(input);

    let limit = options.max_examples;
    let mut tally = Tally::default();
    for (kind, example) in &input.remarks {
        tally.add(limit, *kind, 0.0, || example.clone());
        if *kind == FindingKind::NoAnnotations {
            tally.count_more(*kind, joined.images.len().saturating_sub(1));
        }
    }
    tally.merge(limit, problems::tally(&input.splits, limit));

    let (is_over, done, tally) = (AtomicBool::new(false), AtomicUsize::new(0), Mutex::new(tally));
    let look_at = |(position, image): (usize, &JoinedImage)| {
        if is_over.load(Ordering::Relaxed) {
            return None;
        }
        let mut of_image = Tally::at(position);
        let subject = Subject { joined: &joined, split: image.split, image: image.annotated };
        let looked = look(&subject, options, &boxes, &mut of_image);
        // At once, so that no more examples are held than are kept.
        tally.lock().unwrap_or_else(PoisonError::into_inner).merge(limit, of_image);
        if on_image(done.fetch_add(1, Ordering::Relaxed) + 1).is_break() {
            is_over.store(true, Ordering::Relaxed);
        }
        Some(looked)
    };
    let looked: Vec<Option<Looked>> = joined.images.par_iter().enumerate().map(look_at).collect();
    let images_checked = looked.iter().flatten().count();
    let looked: Vec<Looked> = looked.into_iter().map(Option::unwrap_or_default).collect();
    let mut tally = tally.into_inner().unwrap_or_else(PoisonError::into_inner);

    let statistics = Statistics::of(&joined, &looked, options);
    tally.merge(limit, between::tally(&joined, &looked, &statistics.classes, options));

    let measured = statistics.boxes.measured;
    let severity = |kind: FindingKind, count: usize| {
        let by_share = matches!(kind, FindingKind::BoxTiny | FindingKind::BoxUnmatched);
        let is_many = by_share && count as f64 >= options.warning_share * measured as f64;
        if is_many { Severity::Warning } else { kind.severity() }
    };
    Ok(CheckReport {
        version: VERSION,
        complete: images_checked == joined.images.len(),
        images: joined.images.len(),
        images_checked,
        settings: Settings {
            min_size: options.preprocessing.min_size,
            max_size: options.preprocessing.max_size,
            foreground_iou: options.foreground_iou,
            tiny_side: options.tiny_side,
            duplicate_iou: options.duplicate_iou,
            conflict_iou: options.conflict_iou,
            rare_class_boxes: options.rare_class_boxes,
        },
        splits: statistics.splits,
        classes: statistics.classes,
        image_statistics: statistics.images,
        box_statistics: statistics.boxes,
        findings: tally.into_findings(severity),
    })
}

/// What an index past the classes is called.
const UNKNOWN_CLASS: &str = "unknown class";

/// The images of all splits in a row, with classes that are the same in all of them.
struct Joined<'a> {
    splits: &'a [CheckSplit],
    is_whole: bool,
    images: Vec<JoinedImage<'a>>,
    /// The names of all classes, each once.
    classes: Vec<String>,
    /// For each split the names by its own class index.
    class_names: Vec<Vec<String>>,
    /// For each split the position in `classes` by its own class index.
    class_positions: Vec<Vec<usize>>,
}

struct JoinedImage<'a> {
    split: usize,
    annotated: &'a AnnotatedImage,
}

impl<'a> Joined<'a> {
    fn new(input: &'a CheckInput) -> Self {
        let mut classes: Vec<String> = Vec::new();
        let mut positions: HashMap<String, usize> = HashMap::new();
        let mut joined = Self {
            splits: &input.splits,
            is_whole: input.is_whole,
            images: Vec::new(),
            classes: Vec::new(),
            class_names: Vec::new(),
            class_positions: Vec::new(),
        };
        for (split, in_split) in input.splits.iter().enumerate() {
            let names: Vec<String> = in_split.annotations.classes.iter().map(|class| class.name.clone()).collect();
            let position = |name: &String| {
                *positions.entry(name.clone()).or_insert_with(|| {
                    classes.push(name.clone());
                    classes.len() - 1
                })
            };
            joined.class_positions.push(names.iter().map(position).collect());
            joined.class_names.push(names);
            joined.images.extend(in_split.annotations.images.iter().map(|annotated| JoinedImage { split, annotated }));
        }
        joined.classes = classes;
        joined
    }

    /// The position in `classes` of a split's class; past them where the split has no such class.
    fn class_idx(&self, split: usize, class_idx: usize) -> usize {
        self.class_positions[split].get(class_idx).copied().unwrap_or(usize::MAX)
    }

    /// The name of a split's class.
    fn class_name(&self, split: usize, class_idx: usize) -> &str {
        self.class_names[split].get(class_idx).map_or(UNKNOWN_CLASS, String::as_str)
    }
}
