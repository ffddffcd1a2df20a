//! What can be wrong with a data set, and what was found of it.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::{Serialize, Serializer};

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Worth knowing; nothing to do.
    Note,
    /// Probably wrong: a person should look.
    Warning,
    /// Training or scores are wrong until it is mended.
    Error,
}

impl Severity {
    /// Whether a person has to look: a warning or an error.
    #[must_use]
    pub const fn needs_a_person(self) -> bool {
        !matches!(self, Self::Note)
    }

    /// As it is written in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// Makes the kinds from one table, so that none lacks its name, severity, words or advice.
macro_rules! kinds {
    ($($kind:ident $name:literal $severity:ident $what:literal $advice:literal;)*) => {
        /// The kinds of findings; in JSON by [`name`](Self::name).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum FindingKind {
            $(#[doc = concat!("`", $name, "`: ", $what, ". ", $advice)] $kind,)*
        }

        impl FindingKind {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$kind),*];

            /// As it is written in JSON: `box-duplicate`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$kind => $name),* }
            }

            /// How much it matters, unless it depends on how many there are.
            #[must_use]
            pub const fn severity(self) -> Severity {
                match self { $(Self::$kind => Severity::$severity),* }
            }

            /// What is counted, as words.
            #[must_use]
            pub const fn what(self) -> &'static str {
                match self { $(Self::$kind => $what),* }
            }

            /// What to do about it, in one sentence.
            #[must_use]
            pub const fn advice(self) -> &'static str {
                match self { $(Self::$kind => $advice),* }
            }
        }
    };
}

kinds! {
    NoAnnotations "no-annotations" Note
        "images with no annotations of any format beside them"
        "Nothing can be trained or scored on them; point at the folder or file that holds the annotations if there is one.";
    SetDescription "set-description" Warning
        "places where the set is not as its own files say"
        "Mend the file that describes the set: other programs take it at its word.";
    SplitEmpty "split-empty" Warning
        "splits without a single image"
        "Fill the split, or remove it from the set.";
    SplitDerived "split-derived" Note
        "lists made of images of other splits, which were left out of this report"
        "Nothing to do; do not train on such a list and validate on a part of it.";
    SplitDrawn "split-drawn" Note
        "splits drawn out of the set by a seed, as it has none of their name"
        "Nothing to do; give the same fraction and seed to every command.";
    SplitOverlap "split-overlap" Error
        "image files listed in more than one split"
        "Keep each image in one split: scores on images that were trained on mean nothing.";
    ClassNamesAlike "class-names-alike" Warning
        "class names that differ from another only by case, spaces or punctuation"
        "Merge the classes if they mean the same, by renaming one onto the other.";
    ClassUnused "class-unused" Warning
        "classes without a single box"
        "Remove the class, or find its boxes: a detector can only learn not to find it.";
    CategoryIdsSparse "category-ids-sparse" Note
        "category ids left out between the first and the last"
        "Nothing to do here, where classes are numbered by position; programs that take the id for the position need a map.";
    ClassRare "class-rare" Warning
        "classes with too few boxes to learn from"
        "Annotate more of them, or leave the class out.";
    ClassMissingInSplit "class-missing-in-split" Warning
        "classes that a split lacks though another has them"
        "Divide the set anew, stratified by class: what validation lacks is not measured, and what training lacks is not learned.";
    UnknownClass "unknown-class" Error
        "boxes of a class that the set does not list"
        "Add the class to the set's list, or correct the id.";
    UnknownImage "unknown-image" Error
        "boxes of an image that the set does not list"
        "Add the image to the file, or remove the box.";
    DuplicateId "duplicate-id" Warning
        "ids used more than once"
        "Number the entries anew: of two with one id, programs keep one or the other.";
    LabelUnreadable "label-unreadable" Error
        "label files that cannot be read"
        "Repair or remove the file: its image is left out.";
    LabelMalformed "label-malformed" Error
        "boxes that are not written as their format wants"
        "Correct the line: the box is left out.";
    LabelWithoutImage "label-without-image" Warning
        "label files without an image"
        "Find the image, or remove the label file.";
    ImageWithoutLabelFile "image-without-label-file" Warning
        "images listed without a label file"
        "Add an empty label file if the image shows no objects; else annotate it, since it teaches that its objects are background.";
    ImageUnlisted "image-unlisted" Note
        "image files beside the others that no split lists"
        "Annotate and list them if they should be used.";
    ImageListedTwice "image-listed-twice" Warning
        "images listed again in one split"
        "Remove the line: the image is used once.";
    ImageMissing "image-missing" Error
        "image files that are not there"
        "Restore the file, or remove it from the annotations.";
    ImageUnreadable "image-unreadable" Error
        "image files that cannot be decoded"
        "Restore or remove the file: the run goes on without it, and its objects count as missed when scored.";
    ImageTruncated "image-truncated" Warning
        "JPEG files without an end, probably cut short"
        "Copy the file anew: the missing part is shown as flat gray.";
    ImageSizeMismatch "image-size-mismatch" Error
        "images of another size than their annotations state"
        "Find out which picture was annotated: the boxes belong to another size or crop.";
    ExifOrientationIgnored "exif-orientation-ignored" Error
        "images whose stated size fits only the frame before their EXIF orientation"
        "Turn the boxes with the image, or store the image upright without the tag: the boxes lie in the unrotated frame.";
    ExifOrientation "exif-orientation" Note
        "images that an EXIF tag turns or mirrors"
        "Nothing to do if they were annotated as displayed; programs that ignore the tag see them turned.";
    ImageGrayscale "image-grayscale" Note
        "images without colour"
        "Nothing to do; they are read as RGB with three equal channels.";
    ImageCmyk "image-cmyk" Note
        "images in CMYK"
        "Nothing to do here; they become RGB without a colour profile, and other programs may show other colours.";
    ImageDeep "image-16-bit" Note
        "images of more than 8 bits a channel"
        "Nothing to do; they are rounded to 8 bits, so stretch them first if their values fill a small part of the range.";
    ImageWithoutBoxes "image-without-boxes" Note
        "images with no boxes"
        "Nothing to do if they show no objects: they teach what is background.";
    ImageFewBoxes "image-few-boxes" Warning
        "images with far fewer boxes of a class than their like"
        "Look whether objects were left unmarked: each teaches that it is background.";
    DuplicateAcrossSplits "duplicate-image-across-splits" Error
        "images with the very pixels of an image of another split"
        "Keep one of them: scores on images that were trained on mean nothing.";
    DuplicateImage "duplicate-image" Warning
        "images with the very pixels of an earlier one of their split"
        "Keep one of them, with all of its boxes.";
    NearDuplicateAcrossSplits "near-duplicate-across-splits" Warning
        "images that nearly repeat one of another split"
        "Put frames of one scene into one split: scores on images like those trained on are too good.";
    NearDuplicateImage "near-duplicate-image" Note
        "images that nearly repeat an earlier one of their split"
        "Nothing to do if they are frames of one scene; they add little to a training.";
    BoxWithoutArea "box-without-area" Warning
        "boxes with a side of 0 or less"
        "Draw the box anew or remove it: it is not trained on, and counts as missed when scored in COCO form.";
    BoxOutside "box-outside-image" Warning
        "boxes entirely outside of their image"
        "Draw the box anew or remove it: it is not trained on.";
    BoxPartlyOutside "box-partly-outside" Warning
        "boxes that reach more than a pixel beyond their image"
        "Check that the boxes belong to this image and size; they are cut at its border for training.";
    BoxTiny "box-tiny" Note
        "boxes that are tiny once the image is resized"
        "Raise preprocessing.min_size, cut the images into tiles, or leave such boxes out.";
    BoxUnmatched "box-unmatched" Note
        "boxes that no anchor fits"
        "Change anchors.sizes and anchors.aspect_ratios, or preprocessing.min_size, to fit the boxes.";
    BoxDuplicate "box-duplicate" Warning
        "boxes that repeat another box of their class"
        "Remove one of the two, unless both objects are really there.";
    BoxClassConflict "box-class-conflict" Warning
        "boxes that coincide with one of another class"
        "Decide for one class: the detector is taught both for the same object.";
}

impl Serialize for FindingKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl fmt::Display for FindingKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// All that was found of one kind.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// Which kind.
    pub kind: FindingKind,
    /// How much it matters.
    pub severity: Severity,
    /// What is counted, as words.
    pub what: &'static str,
    /// What to do about it.
    pub advice: &'static str,
    /// How many there are.
    pub count: usize,
    /// The worst of them, and of equally bad ones the first; at most [`max_examples`](super::CheckOptions::max_examples).
    pub examples: Vec<Example>,
}

/// One of a finding.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Example {
    /// What it is, with the numbers.
    pub what: String,
    /// The split; none where it is about the whole set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub split: Option<String>,
    /// The file to look at: of annotations where it is about these, else of the image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
    /// The line in it, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    /// The id in it, of an annotation, image or category in COCO form.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<i64>,
    /// The image that shows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<PathBuf>,
    /// Another image to compare with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub other_image: Option<PathBuf>,
    /// The boxes in question.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub boxes: Vec<ExampleBox>,
}

/// A box in question.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ExampleBox {
    /// Its number among the boxes of the image that were read, from 1, in the order of the file.
    pub number: usize,
    /// The name of its class.
    pub class: String,
    /// Left, top, width and height in pixels of the image.
    pub xywh: [f64; 4],
}

/// Counts by kind, with a bounded number of examples each.
///
/// Tallies of several images give the same, merged in any order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    /// The position of what it is about: of equally bad examples the first is kept.
    position: usize,
    found: BTreeMap<FindingKind, Found>,
}

#[derive(Clone, Debug, Default)]
struct Found {
    count: usize,
    /// The worst first, and of equally bad ones by position.
    examples: Vec<Kept>,
}

#[derive(Clone, Debug)]
struct Kept {
    badness: f64,
    position: usize,
    example: Example,
}

impl Tally {
    /// Nothing yet, about the image at a position.
    pub(crate) fn at(position: usize) -> Self {
        Self { position, ..Self::default() }
    }

    /// Counts one; the example is made only if it is among the worst. `badness` orders those of a kind.
    pub(crate) fn add(&mut self, limit: usize, kind: FindingKind, badness: f64, example: impl FnOnce() -> Example) {
        let found = self.found.entry(kind).or_default();
        found.count += 1;
        found.keep(limit, badness, self.position, example);
    }

    /// Counts some more of a kind, beyond those that were added one by one.
    pub(crate) fn count_more(&mut self, kind: FindingKind, count: usize) {
        if count > 0 {
            let found = self.found.entry(kind).or_default();
            found.count = found.count.saturating_add(count);
        }
    }

    /// Takes over what another one counted.
    pub(crate) fn merge(&mut self, limit: usize, other: Self) {
        for (kind, theirs) in other.found {
            let found = self.found.entry(kind).or_default();
            found.count = found.count.saturating_add(theirs.count);
            for Kept { badness, position, example } in theirs.examples {
                found.keep(limit, badness, position, || example);
            }
        }
    }

    /// The findings, the most severe first; `severity` may raise or lower one by its count.
    pub(crate) fn into_findings(self, severity: impl Fn(FindingKind, usize) -> Severity) -> Vec<Finding> {
        let finding = |(kind, found): (FindingKind, Found)| Finding {
            kind,
            severity: severity(kind, found.count),
            what: kind.what(),
            advice: kind.advice(),
            count: found.count,
            examples: found.examples.into_iter().map(|kept| kept.example).collect(),
        };
        let mut findings: Vec<Finding> = self.found.into_iter().map(finding).collect();
        findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
        findings
    }
}

impl Found {
    fn keep(&mut self, limit: usize, badness: f64, position: usize, example: impl FnOnce() -> Example) {
        let is_before = |kept: &Kept| match kept.badness.total_cmp(&badness) {
            Ordering::Equal => kept.position <= position,
            order => order.is_gt(),
        };
        let place = self.examples.partition_point(is_before);
        if place < limit {
            self.examples.truncate(limit - 1);
            self.examples.insert(place, Kept { badness, position, example: example() });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str) -> Example {
        Example { what: name.to_owned(), ..Example::default() }
    }

    #[test]
    fn the_worst_are_kept_and_all_are_counted() {
        let mut first = Tally::at(2);
        for (badness, name) in [(1.0, "a"), (3.0, "b"), (1.0, "c"), (2.0, "d"), (3.0, "e"), (f64::NAN, "n")] {
            first.add(3, FindingKind::BoxTiny, badness, || named(name));
        }
        let mut second = Tally::at(1);
        second.add(3, FindingKind::BoxTiny, 3.0, || named("f"));
        second.add(3, FindingKind::ImageMissing, 0.0, || named("g"));
        second.add(3, FindingKind::BoxTiny, 0.0, || named("h"));
        for (a, b) in [(&first, &second), (&second, &first)] {
            let mut merged = Tally::default();
            merged.merge(3, a.clone());
            merged.merge(3, b.clone());
            merged.count_more(FindingKind::BoxTiny, 10);
            let findings = merged.into_findings(|kind, _| kind.severity());
            let kinds: Vec<&str> = findings.iter().map(|finding| finding.kind.name()).collect();
            assert_eq!(kinds, ["image-missing", "box-tiny"]);
            assert_eq!(findings[1].count, 18);
            let names: Vec<&str> = findings[1].examples.iter().map(|example| example.what.as_str()).collect();
            assert_eq!(names, ["n", "f", "b"]);
        }
    }

    #[test]
    fn names_are_kebab_case_and_differ() {
        let mut names: Vec<&str> = FindingKind::ALL.iter().map(|kind| kind.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), FindingKind::ALL.len());
        let is_kebab = |name: &&str| name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
        assert!(names.iter().all(is_kebab), "{names:?}");
        assert!(FindingKind::ALL.iter().all(|kind| kind.advice().ends_with('.')));
    }
}
