//! Post-processing against its definition.

mod support;

use retinanet_anchors::{BBox, BoxCoder, Detection, ImageSize, class_wise_nms};
use retinanet_cuda::kernels::{
    AnchorTable, Borders, PostProcessing, detect, detections_bytes, detections_workspace_bytes, read_detections,
};
use retinanet_cuda::{Device, Element, Memory, Span};
use std::sync::Arc;
use support::{devices, numbers, rounded, upload};

const POST: PostProcessing = PostProcessing {
    score_threshold: 0.05,
    pre_nms_top_k: 1000,
    nms_iou_threshold: 0.5,
    max_detections: 300,
    borders: Borders::Torchvision,
};

fn sigmoid(logit: f32) -> f32 {
    1.0 / (1.0 + (-logit).exp())
}

/// Predictions of two images on levels of these sizes.
struct Scene {
    num_classes: usize,
    anchors: Vec<Vec<BBox>>,
    /// `[2, R, K]` and `[2, R, 4]` of each level.
    logits: Vec<Vec<f32>>,
    deltas: Vec<Vec<f32>>,
}

const SIZES: [ImageSize; 2] = [ImageSize { width: 90, height: 70 }, ImageSize { width: 64, height: 80 }];

impl Scene {
    /// Logits come from `logit`, of a number in [0, 1).
    fn new(seed: u64, element: Element, num_classes: usize, levels: &[usize], logit: impl Fn(f32) -> f32) -> Self {
        let mut random = numbers(seed, 1 << 18).into_iter().map(|x| (x + 1.0) / 2.0);
        let mut next = || random.next().expect("enough numbers");
        let mut anchor = || {
            let (x, y) = (next() * 90.0 - 10.0, next() * 70.0);
            BBox::new(x, y, x + 1.0 + next() * 50.0, y + 1.0 + next() * 40.0)
        };
        let anchors: Vec<Vec<BBox>> = levels.iter().map(|&count| (0..count).map(|_| anchor()).collect()).collect();
        let logits = levels.iter().map(|count| {
            let logits = (0..2 * count * num_classes).map(|i| if i % 97 == 31 { f32::NAN } else { logit(next()) });
            rounded(element, &logits.collect::<Vec<f32>>())
        });
        let logits = logits.collect();
        let deltas = levels.iter().map(|count| {
            // Some are not finite, and some lead out of the image.
            let delta = |i: usize, x: f32| match i % 211 {
                100 => f32::NAN,
                150 => f32::INFINITY,
                200 => 40.0 * x,
                _ => x - 0.5,
            };
            rounded(element, &(0..2 * count * 4).map(|i| delta(i, next())).collect::<Vec<f32>>())
        });
        let deltas = deltas.collect();
        Self { num_classes, anchors, logits, deltas }
    }

    /// The definition: every pair through a sigmoid, all sorted, suppression over all of an image.
    fn expected(&self, post: &PostProcessing, coder: &BoxCoder) -> Vec<Vec<Detection>> {
        let of_image = |(image, &size): (usize, &ImageSize)| {
            let mut all = Vec::new();
            for (level, anchors) in self.anchors.iter().enumerate() {
                let pairs = anchors.len() * self.num_classes;
                let logits = self.logits[level][image * pairs..][..pairs].iter().enumerate();
                let mut passed: Vec<(usize, f32)> = logits
                    .map(|(i, &logit)| (i, logit))
                    .filter(|&(_, logit)| sigmoid(logit) > post.score_threshold)
                    .collect();
                passed.sort_by(|(_, a), (_, b)| b.partial_cmp(a).expect("no NaN is above a threshold"));
                passed.truncate(post.pre_nms_top_k);
                all.extend(passed.into_iter().map(|(i, logit)| {
                    let anchor_idx = i / self.num_classes;
                    let deltas = self.deltas[level].as_chunks::<4>().0[image * anchors.len() + anchor_idx];
                    let decoded = coder.decode(deltas, &anchors[anchor_idx]);
                    (
                        decoded,
                        Detection { bbox: decoded.clip(size), label: i % self.num_classes, score: sigmoid(logit) },
                    )
                }));
            }
            if post.borders == Borders::Mmdetection {
                all.retain(|(_, detection)| detection.bbox.area() > 0.0);
            }
            let suppressed = |(decoded, detection): &(BBox, Detection)| match post.borders {
                Borders::Detectron2 => *decoded,
                _ => detection.bbox,
            };
            let boxes: Vec<BBox> = all.iter().map(suppressed).collect();
            let scores: Vec<f32> = all.iter().map(|(_, detection)| detection.score).collect();
            let labels: Vec<usize> = all.iter().map(|(_, detection)| detection.label).collect();
            let kept = class_wise_nms(&boxes, &scores, &labels, post.nms_iou_threshold);
            let kept = kept.into_iter().take(post.max_detections).map(|i| all[i].1);
            kept.filter(|kept| post.borders != Borders::Detectron2 || kept.bbox.area() > 0.0).collect()
        };
        SIZES.iter().enumerate().map(of_image).collect()
    }

    fn found(
        &self,
        device: &Arc<dyn Device>,
        element: Element,
        post: &PostProcessing,
        coder: &BoxCoder,
    ) -> Vec<Vec<Detection>> {
        let table = AnchorTable::new(device, self.anchors.iter().map(Vec::as_slice)).expect("anchors");
        let on_device = |maps: &[Vec<f32>]| maps.iter().map(|map| upload(device, element, map)).collect::<Vec<_>>();
        let (logits, deltas) = (on_device(&self.logits), on_device(&self.deltas));
        let logits: Vec<Span<'_>> = logits.iter().map(Memory::span).collect();
        let deltas: Vec<Span<'_>> = deltas.iter().map(Memory::span).collect();
        let sizes = SIZES.map(|size| [size.width as f32, size.height as f32]).concat();
        let sizes = upload(device, Element::F32, &sizes);
        let results = Memory::new(device, detections_bytes(post, 2)).expect("memory");
        let bytes = detections_workspace_bytes(post, 2, self.anchors.len());
        let workspace = Memory::new(device, bytes).expect("memory");
        let (sizes, results, workspace) = (sizes.span(), results.span(), workspace.span());
        let shape = (2, self.num_classes);
        detect(post, coder, element, shape, &table, (&logits, &deltas), sizes, results, workspace).expect("detections");
        read_detections(post, 2, results).expect("detections")
    }

    #[track_caller]
    fn check(&self, element: Element, post: &PostProcessing) {
        let coder = BoxCoder { weights: [1.0, 1.0, 2.0, 0.5], ..BoxCoder::default() };
        let expected = self.expected(post, &coder);
        for device in devices() {
            let found = self.found(&device, element, post, &coder);
            assert_eq!(found.len(), expected.len());
            for (found, expected) in found.iter().zip(&expected) {
                assert_eq!(found.len(), expected.len(), "{post:?}");
                for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
                    // The exponential may round differently, and nothing else.
                    let is_next = |a: f32, b: f32| (a - b).abs() <= 4.0 * f32::EPSILON * a.abs().max(b.abs());
                    let mut sides = found.bbox.to_array().into_iter().zip(expected.bbox.to_array());
                    assert!(
                        found.label == expected.label
                            && is_next(found.score, expected.score)
                            && sides.all(|(a, b)| (a - b).abs() <= 2e-5),
                        "{post:?}: detection {i}: expected {expected:?}, found {found:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn detections_are_those_of_the_processor() {
    // Logits on a grid of eighths, far above 17, where the sigmoid is 1: ties within levels and between them; and fine ones.
    let coarse = |x: f32| (x * 200.0).floor() / 8.0 - 5.0;
    let fine = |x: f32| x * 9.0 - 7.0;
    let base = PostProcessing { score_threshold: 0.3, ..POST };
    for element in Element::ALL {
        let scenes =
            [Scene::new(1, element, 4, &[300, 75, 0, 7], coarse), Scene::new(2, element, 3, &[299, 101], fine)];
        for scene in &scenes {
            for borders in [Borders::Torchvision, Borders::Detectron2, Borders::Mmdetection] {
                scene.check(element, &PostProcessing { borders, ..base });
                scene.check(element, &PostProcessing { borders, pre_nms_top_k: 50, max_detections: 20, ..base });
            }
            scene.check(element, &PostProcessing { pre_nms_top_k: 0, ..base });
            scene.check(element, &PostProcessing { max_detections: 0, ..base });
            scene.check(element, &PostProcessing { pre_nms_top_k: 1, nms_iou_threshold: 0.0, ..base });
            scene.check(element, &PostProcessing { score_threshold: 0.0, nms_iou_threshold: 1.0, ..base });
            scene.check(element, &PostProcessing { score_threshold: 0.999, ..base });
        }
    }
}

#[test]
fn the_best_of_more_candidates_than_there_is_room_for_are_found() {
    let post = PostProcessing { score_threshold: 0.05, pre_nms_top_k: 900, max_detections: 1000, ..POST };
    // All pass; all are equal, so that the lower anchors are taken; few values, so that the last one taken is one of many.
    let rising = |x: f32| x + 1.0;
    let equal = |_: f32| 1.0;
    let few = |x: f32| (x * 3.0).floor();
    for element in Element::ALL {
        Scene::new(3, element, 8, &[5000, 10], rising).check(element, &post);
        Scene::new(4, element, 8, &[5000], equal).check(element, &post);
        Scene::new(5, element, 7, &[5001], few).check(element, &post);
    }
}

#[test]
fn more_candidates_than_a_block_sorts_are_refused() {
    for device in devices() {
        let post = PostProcessing { pre_nms_top_k: 5000, ..POST };
        let table = AnchorTable::new(&device, []).expect("no anchors");
        let memory = Memory::new(&device, 1).expect("memory");
        let (span, coder) = (memory.span(), BoxCoder::default());
        let refused =
            detect(&post, &coder, Element::F32, (1, 1), &table, (&[], &[]), span, span, span).expect_err("it");
        assert_eq!(refused.to_string(), "detections: pre_nms_top_k: expected at most 4096, found 5000");
    }
}
