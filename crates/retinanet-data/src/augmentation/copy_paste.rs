//! Objects of another picture pasted into this one.

use rand::Rng;
use rand::seq::SliceRandom;
use retinanet_anchors::{BBox, ImageSize};
use serde::{Deserialize, Serialize};

use super::boxes::{Border, carry, uncovered};
use super::mosaic::fitted;
use super::partners::Partners;
use super::placement::{Window, draw as draw_picture, mapping};
use super::ranges::{check_range, check_share, draw, draw_up_to};
use crate::{ConfigError, Sample};

/// Pastes objects of another picture of the set in random places, as the rectangles of their boxes.
///
/// An object hidden behind what is pasted keeps the box around what is left in sight of its old one, or goes.
///
/// Source: Ghiasi et al. 2021, "Simple Copy-Paste", which cuts along masks; boxes alone bring some of their ground along.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CopyPaste {
    /// Chance that it happens, 0..=1. Default 0.5.
    pub probability: f64,
    /// Most objects that are pasted, 1..=100; each number from 1 is as likely. Default 4.
    pub max_objects: usize,
    /// Scale of the objects, drawn evenly from `[least, most]` for each, within 0.1..=4: at 1 they are as large as if the other
    /// picture were fitted into this one. Default 0.7 to 1.3.
    pub scale: [f64; 2],
}

impl Default for CopyPaste {
    fn default() -> Self {
        Self { probability: 0.5, max_objects: 4, scale: [0.7, 1.3] }
    }
}

impl CopyPaste {
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        check_share("augmentation.copy_paste.probability", self.probability)?;
        if !(1..=100).contains(&self.max_objects) {
            let (field, found) = ("augmentation.copy_paste.max_objects", self.max_objects.to_string());
            return Err(ConfigError { field, expected: "1..=100", found });
        }
        check_range("augmentation.copy_paste.scale", self.scale, 0.1..=4.0, "[least, most] within 0.1..=4")
    }

    /// The sample with objects of another; as it is where no other can be had.
    pub(super) fn apply(
        &self,
        sample: Sample,
        partners: &mut Partners<'_>,
        rng: &mut impl Rng,
        border: Border,
    ) -> Sample {
        let count = 1 + draw_up_to(self.max_objects - 1, rng);
        let Some(other) = partners.draw(rng) else { return sample };
        let mut objects: Vec<usize> = (0..other.boxes.len()).collect();
        objects.shuffle(rng);
        objects.truncate(count);
        let pieces = objects.into_iter().filter_map(|object| {
            let placed = fitted(other.image.size, sample.image.size, draw(self.scale, rng));
            let place = [draw([0.0, 1.0], rng), draw([0.0, 1.0], rng)];
            Piece::new(&other, object, placed, sample.image.size, place)
        });
        let pieces: Vec<Piece> = pieces.collect();
        paste(sample, &other, &pieces, border)
    }
}

/// A rectangle of one picture on its way into another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Where the whole of the other picture would lie.
    place: Window,
    /// What is seen of it.
    within: Window,
}

impl Piece {
    /// The box of an object of `from`, after that was resized to `resized`, somewhere in a picture of size `onto`.
    ///
    /// `place` says where, across and down, 0..=1. The rectangle begins and ends with whole pixels around the box. None where it
    /// is larger than the picture.
    #[must_use]
    pub fn new(from: &Sample, object: usize, resized: ImageSize, onto: ImageSize, place: [f64; 2]) -> Option<Self> {
        let bbox = from.boxes.get(object)?;
        let bbox = mapping(from.image.size, Window::whole(resized))(bbox).clip(resized);
        let (x0, y0) = (bbox.x0.floor() as usize, bbox.y0.floor() as usize);
        let size = ImageSize::new(bbox.x1.ceil() as usize - x0, bbox.y1.ceil() as usize - y0);
        let offset = |onto: usize, side: usize, place: f64| {
            onto.checked_sub(side).filter(|_| side > 0).map(|rest| (rest as f64 * place).round() as isize)
        };
        let left = offset(onto.width, size.width, place[0])?;
        let top = offset(onto.height, size.height, place[1])?;
        let within = Window { left, top, size };
        let place = Window { left: left - x0 as isize, top: top - y0 as isize, size: resized };
        Some(Self { place, within })
    }
}

/// The sample with pieces of another over it, the later ones above the earlier.
///
/// What a piece shows of the other sample's boxes comes with it, by the same rule as at a border. Then each box that is
/// hidden in part is put around what is left of it in sight, and left out with its class where that is less than the border's
/// share.
#[must_use]
pub fn paste(mut sample: Sample, other: &Sample, pieces: &[Piece], border: Border) -> Sample {
    let regions: Vec<BBox> = pieces.iter().map(|piece| piece.within.region()).collect();
    let mut objects: Vec<(BBox, usize)> = Vec::new();
    let mut add = |boxes: Vec<BBox>, classes: Vec<usize>, covers: &[BBox]| {
        let seen = |(bbox, class)| Some((uncovered(&bbox, covers, border.min_visible)?, class));
        objects.extend(boxes.into_iter().zip(classes).filter_map(seen));
    };
    add(std::mem::take(&mut sample.boxes), std::mem::take(&mut sample.classes), &regions);
    for (number, piece) in pieces.iter().enumerate() {
        draw_picture(&other.image, piece.place, &mut sample.image, piece.within);
        let map = mapping(other.image.size, piece.place);
        let (boxes, classes) = carry(other, &regions[number], border.min_visible, map);
        add(boxes, classes, &regions[number + 1..]);
    }
    (sample.boxes, sample.classes) = objects.into_iter().unzip();
    sample
}
