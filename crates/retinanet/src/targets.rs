//! What each anchor is trained toward.

use crate::loss::ForegroundAnchor;
use candle_core::{Device, Result, Tensor};
use rayon::prelude::*;
use retinanet_anchors::{Assignment, BBox, Matching, Pyramid};
use retinanet_focal::{BACKGROUND, IGNORE};
use std::ops::Range;

/// The objects of one image, in the frame of the batch.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GroundTruth {
    /// In pixels.
    pub boxes: Vec<BBox>,
    /// The class of each, 0..K.
    pub classes: Vec<usize>,
}

/// Targets of a batch, level by level.
#[derive(Clone, Debug)]
pub struct Targets {
    /// `[N, R]` i64 a level: the class of each anchor, or [`BACKGROUND`], or [`IGNORE`].
    pub classes: Pyramid<Tensor>,
    /// The anchors of each level that have a box to learn.
    pub foreground: Pyramid<Vec<ForegroundAnchor>>,
    /// How many an image has.
    pub num_foreground: Vec<usize>,
}

impl Targets {
    /// Assigns every anchor of every image; A consecutive ones, `anchors_per_location`, share a centre.
    ///
    /// # Errors
    /// candle cannot hold the classes.
    pub fn new(
        matching: &Matching,
        anchors: &Pyramid<Vec<BBox>>,
        anchors_per_location: usize,
        ground_truth: &[GroundTruth],
    ) -> Result<Self> {
        let joined: Vec<BBox> = anchors.values().concat();
        let assign = |objects: &GroundTruth| match matching {
            Matching::Iou(matcher) => matcher.assign(&joined, &objects.boxes),
            Matching::Atss(atss) => atss.assign(anchors, anchors_per_location, &objects.boxes),
        };
        // Images are independent of each other, and their order is kept.
        let assignments: Vec<Vec<Assignment>> = ground_truth.par_iter().map(assign).collect();

        let is_foreground = |assignment: &&Assignment| matches!(assignment, Assignment::Foreground { .. });
        let num_foreground = assignments.iter().map(|image| image.iter().filter(is_foreground).count()).collect();
        let mut first = 0;
        let levels = anchors.try_map(|_, level| {
            let range = first..first + level.len();
            first = range.end;
            let mut foreground = Vec::new();
            let mut classes = Vec::with_capacity(assignments.len() * level.len());
            for (image_idx, image) in assignments.iter().enumerate() {
                let objects = &ground_truth[image_idx];
                for (anchor_idx, assignment) in image[range.clone()].iter().enumerate() {
                    classes.push(match *assignment {
                        Assignment::Foreground { ground_truth_idx } => {
                            let (anchor, ground_truth) = (level[anchor_idx], objects.boxes[ground_truth_idx]);
                            foreground.push(ForegroundAnchor { image_idx, anchor_idx, anchor, ground_truth });
                            objects.classes[ground_truth_idx] as i64
                        }
                        Assignment::Background => BACKGROUND,
                        Assignment::Ignore => IGNORE,
                    });
                }
            }
            Ok::<_, candle_core::Error>((
                Tensor::from_vec(classes, (assignments.len(), level.len()), &Device::Cpu)?,
                foreground,
            ))
        })?;
        Ok(Self {
            classes: levels.map(|_, (classes, _)| classes.clone()),
            foreground: levels.map(|_, (_, foreground)| foreground.clone()),
            num_foreground,
        })
    }

    /// Those of some images, which are counted from 0 again.
    ///
    /// # Errors
    /// There are fewer images.
    pub fn of_images(&self, images: Range<usize>) -> Result<Self> {
        let classes = self.classes.try_map(|_, classes| classes.narrow(0, images.start, images.len())?.contiguous())?;
        let foreground = self.foreground.map(|_, foreground| {
            let of_images = foreground.iter().filter(|anchor| images.contains(&anchor.image_idx));
            let counted_anew =
                |anchor: &ForegroundAnchor| ForegroundAnchor { image_idx: anchor.image_idx - images.start, ..*anchor };
            of_images.map(counted_anew).collect()
        });
        let num_foreground = self.num_foreground.get(images).unwrap_or_default().to_vec();
        Ok(Self { classes, foreground, num_foreground })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use retinanet_anchors::{Atss, PyramidLevel};

    #[test]
    fn the_rule_of_matching_decides() -> Result<()> {
        let square = |x0: f32, side: f32| BBox::new(x0, 0.0, x0 + side, side);
        let levels = vec![vec![square(2.0, 10.0), square(40.0, 10.0)], vec![square(-4.0, 20.0)]];
        let anchors = Pyramid::new(PyramidLevel::P3, levels).expect("two levels");
        let ground_truth = [GroundTruth { boxes: vec![square(0.0, 10.0)], classes: vec![3] }];
        // IoU 2/3, 0 and 1/4. By thresholds the first alone learns the box; of one candidate a level, 2/3 and 1/4, none
        // reaches mean + deviation, .753; with both of the first level as candidates the threshold is .642.
        let of = |matching: Matching| -> Result<Vec<i64>> {
            let targets = Targets::new(&matching, &anchors, 1, &ground_truth)?;
            let levels = targets.classes.values().iter().map(|level| level.flatten_all()?.to_vec1::<i64>());
            Ok(levels.collect::<Result<Vec<_>>>()?.concat())
        };
        let atss = |candidates| Matching::Atss(Atss { candidates });
        assert_eq!(of(Matching::default())?, [3, BACKGROUND, BACKGROUND]);
        assert_eq!(of(atss(1))?, [BACKGROUND; 3]);
        assert_eq!(of(atss(2))?, [3, BACKGROUND, BACKGROUND]);
        Ok(())
    }

    #[test]
    fn anchors_of_two_levels_share_one_assignment() -> Result<()> {
        let square = |x0: f32, side: f32| BBox::new(x0, 0.0, x0 + side, side);
        let anchors = Pyramid::new(
            PyramidLevel::P3,
            vec![vec![square(0.0, 10.0), square(50.0, 10.0)], vec![square(0.0, 12.0), square(0.0, 40.0)]],
        )
        .expect("two levels");
        let ground_truth = [GroundTruth { boxes: vec![square(0.0, 10.0)], classes: vec![7] }, GroundTruth::default()];
        let targets = Targets::new(&Matching::default(), &anchors, 1, &ground_truth)?;
        // IoU of the first image's box: 1, 0 | 100 / 144 = .69, 100 / 1600; an image with no boxes is all background.
        assert_eq!(targets.classes.values()[0].to_vec2::<i64>()?, [[7, BACKGROUND], [BACKGROUND, BACKGROUND]]);
        assert_eq!(targets.classes.values()[1].to_vec2::<i64>()?, [[7, BACKGROUND], [BACKGROUND, BACKGROUND]]);
        assert_eq!(targets.num_foreground, [2, 0]);
        let foreground = &targets.foreground.values()[1];
        assert_eq!(foreground.len(), 1);
        assert_eq!(
            (foreground[0].image_idx, foreground[0].anchor_idx, foreground[0].anchor),
            (0, 0, square(0.0, 12.0))
        );
        Ok(())
    }
}
