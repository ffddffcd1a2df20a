//! The numbers of a report, from the annotations and what was kept of the images.

use std::collections::{BTreeMap, HashMap, HashSet};

use retinanet_anchors::ImageSize;

use super::boxes::ratios;
use super::look::Looked;
use super::report::{
    BoxStatistics, ClassStatistics, CocoSizes, FormatCount, Histogram, ImageStatistics, SizeCount, SplitStatistics,
    Spread,
};
use super::{CheckOptions, Joined};

/// Where the ranges of the histograms begin.
const LONGER_SIDE: [f64; 9] = [0.0, 128.0, 256.0, 512.0, 768.0, 1024.0, 1536.0, 2048.0, 4096.0];
const IMAGE_ASPECT: [f64; 9] = [0.0, 0.5, 0.66, 0.8, 0.95, 1.05, 1.25, 1.5, 2.0];
const BOXES_PER_IMAGE: [f64; 10] = [0.0, 1.0, 2.0, 3.0, 5.0, 10.0, 20.0, 50.0, 100.0, 500.0];
const BOX_SIDE: [f64; 13] = [0.0, 4.0, 8.0, 16.0, 24.0, 32.0, 48.0, 64.0, 96.0, 128.0, 192.0, 256.0, 512.0];
const RELATIVE_AREA: [f64; 9] = [0.0, 0.001, 0.0025, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5];
const BOX_ASPECT: [f64; 11] = [0.0, 0.2, 0.33, 0.5, 0.66, 0.8, 1.25, 1.5, 2.0, 3.0, 5.0];
const BEST_IOU: [f64; 8] = [0.0, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8];

/// The areas that divide COCO's small, medium and large.
const COCO_AREAS: [f64; 2] = [32.0 * 32.0, 96.0 * 96.0];

/// Sizes of images that are listed.
const MAX_SIZES: usize = 20;

/// All statistics of a report.
pub(super) struct Statistics {
    pub(super) splits: Vec<SplitStatistics>,
    pub(super) classes: Vec<ClassStatistics>,
    pub(super) images: ImageStatistics,
    pub(super) boxes: BoxStatistics,
}

impl Statistics {
    pub(super) fn of(joined: &Joined, looked: &[Looked], options: &CheckOptions) -> Self {
        Self {
            splits: splits(joined, looked),
            classes: classes(joined, looked, options),
            images: images(joined, looked),
            boxes: boxes(joined, looked, options),
        }
    }
}

fn splits(joined: &Joined, looked: &[Looked]) -> Vec<SplitStatistics> {
    let of_split = |(split_idx, split): (usize, &super::CheckSplit)| {
        let images = &split.annotations.images;
        let annotations = || images.iter().flat_map(|image| &image.annotations);
        let classes: HashSet<usize> = annotations().map(|annotation| annotation.class_idx).collect();
        let readable = joined
            .images
            .iter()
            .zip(looked)
            .filter(|(image, looked)| image.split == split_idx && looked.size.is_some());
        SplitStatistics {
            name: split.name.clone(),
            images: images.len(),
            readable_images: readable.count(),
            images_without_boxes: images.iter().filter(|image| image.annotations.is_empty()).count(),
            boxes: annotations().count(),
            crowd_boxes: annotations().filter(|annotation| annotation.is_crowd).count(),
            difficult_boxes: annotations().filter(|annotation| annotation.is_difficult).count(),
            classes: classes.len(),
            boxes_per_image: Spread::of(images.iter().map(|image| image.annotations.len() as f64).collect()),
        }
    };
    joined.splits.iter().enumerate().map(of_split).collect()
}

fn classes(joined: &Joined, looked: &[Looked], options: &CheckOptions) -> Vec<ClassStatistics> {
    let mut classes: Vec<ClassStatistics> = joined
        .classes
        .iter()
        .map(|name| ClassStatistics {
            name: name.clone(),
            boxes: 0,
            images: 0,
            boxes_by_split: vec![0; joined.splits.len()],
            resized_side: None,
            unmatched_boxes: 0,
        })
        .collect();
    let mut sides = vec![Vec::new(); classes.len()];
    for (image, looked) in joined.images.iter().zip(looked) {
        let scale = looked.size.or(image.annotated.size).map(|size| ratios(&options.preprocessing, size));
        let mut seen = HashSet::new();
        for (idx, annotation) in image.annotated.annotations.iter().enumerate() {
            let class_idx = joined.class_idx(image.split, annotation.class_idx);
            let (Some(class), false) = (classes.get_mut(class_idx), annotation.is_crowd) else { continue };
            class.boxes += 1;
            class.boxes_by_split[image.split] += 1;
            class.images += usize::from(seen.insert(class_idx));
            if looked.best_ious.get(idx).copied().flatten().is_some_and(|iou| iou < options.foreground_iou) {
                class.unmatched_boxes += 1;
            }
            if let (Some((sx, sy)), true) = (scale, annotation.has_extent()) {
                let [_, _, width, height] = annotation.xywh;
                sides[class_idx].push((width * sx * height * sy).sqrt());
            }
        }
    }
    for (class, sides) in classes.iter_mut().zip(sides) {
        class.resized_side = Spread::of(sides);
    }
    classes
}

fn images(joined: &Joined, looked: &[Looked]) -> ImageStatistics {
    let splits = joined.splits.len();
    let mut longer_side = Histogram::new(&LONGER_SIDE, splits);
    let mut aspect_ratio = Histogram::new(&IMAGE_ASPECT, splits);
    let mut boxes_per_image = Histogram::new(&BOXES_PER_IMAGE, splits);
    let mut formats = BTreeMap::new();
    let mut sizes: HashMap<ImageSize, usize> = HashMap::new();
    let (mut widths, mut heights) = (Vec::new(), Vec::new());
    for (image, looked) in joined.images.iter().zip(looked) {
        boxes_per_image.add(image.annotated.annotations.len() as f64, image.split);
        if let Some(format) = looked.format {
            *formats.entry(format).or_insert(0) += 1;
        }
        let Some(size) = looked.size else { continue };
        let (width, height) = (size.width as f64, size.height as f64);
        longer_side.add(width.max(height), image.split);
        aspect_ratio.add(width / height, image.split);
        *sizes.entry(size).or_insert(0) += 1;
        widths.push(width);
        heights.push(height);
    }
    let distinct_sizes = sizes.len();
    let mut sizes: Vec<SizeCount> = sizes.into_iter().map(|(size, images)| SizeCount { size, images }).collect();
    sizes.sort_by_key(|count| (std::cmp::Reverse(count.images), count.size.width, count.size.height));
    sizes.truncate(MAX_SIZES);
    ImageStatistics {
        formats: formats.into_iter().map(|(format, images)| FormatCount { format, images }).collect(),
        distinct_sizes,
        sizes,
        width: Spread::of(widths),
        height: Spread::of(heights),
        longer_side,
        aspect_ratio,
        boxes_per_image,
    }
}

fn boxes(joined: &Joined, looked: &[Looked], options: &CheckOptions) -> BoxStatistics {
    let splits = joined.splits.len();
    let mut coco_sizes = CocoSizes { small: vec![0; splits], medium: vec![0; splits], large: vec![0; splits] };
    let mut side = Histogram::new(&BOX_SIDE, splits);
    let mut resized_side = Histogram::new(&BOX_SIDE, splits);
    let mut relative_area = Histogram::new(&RELATIVE_AREA, splits);
    let mut aspect_ratio = Histogram::new(&BOX_ASPECT, splits);
    let mut best_anchor_iou = Histogram::new(&BEST_IOU, splits);
    let mut unmatched = 0;
    for (image, looked) in joined.images.iter().zip(looked) {
        let size = looked.size.or(image.annotated.size);
        let trained = |annotation: &&retinanet_annotations::Annotation| !annotation.is_crowd && annotation.has_extent();
        for annotation in image.annotated.annotations.iter().filter(trained) {
            let by_area = match annotation.area {
                area if area < COCO_AREAS[0] => &mut coco_sizes.small,
                area if area <= COCO_AREAS[1] => &mut coco_sizes.medium,
                _ => &mut coco_sizes.large,
            };
            by_area[image.split] += 1;
            let [_, _, width, height] = annotation.xywh;
            side.add((width * height).sqrt(), image.split);
            aspect_ratio.add(width / height, image.split);
            if let Some(size) = size {
                let (sx, sy) = ratios(&options.preprocessing, size);
                resized_side.add((width * sx * height * sy).sqrt(), image.split);
                relative_area.add(width * height / (size.width as f64 * size.height as f64), image.split);
            }
        }
        for iou in looked.best_ious.iter().flatten() {
            best_anchor_iou.add(f64::from(*iou), image.split);
            unmatched += usize::from(*iou < options.foreground_iou);
        }
    }
    let measured = best_anchor_iou.count();
    BoxStatistics { coco_sizes, side, resized_side, relative_area, aspect_ratio, best_anchor_iou, unmatched, measured }
}
