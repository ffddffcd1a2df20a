//! Boxes after each transform, held against objects that are rendered through it.
//!
//! `cargo test --release -p retinanet-data --test augmentation rendering -- --nocapture` prints the errors.

use retinanet_data::retinanet_anchors::BBox;
use retinanet_data::{
    Augmentation, CopyPaste, Dataset, GeneratedConfig, GeneratedDataset, Image, MixUp, Mosaic, RandomCrop, RotatedBox,
    Rotation, Sample, ScaleJitter,
};

use crate::pictures::{Samples, apply, as_box, extent_of, key};

const IMAGES: usize = 8;
const EPOCHS: u64 = 5;

/// The generated set with its objects alone: one object of the set is white, all else is black, and each has a class of its own.
struct Objects {
    /// Boxes, with classes that number all objects of the set, and black pictures.
    samples: Vec<Sample>,
    /// The image and the mask of each object.
    masks: Vec<(usize, Image)>,
}

impl Objects {
    fn new(classes: usize) -> Self {
        let config = GeneratedConfig {
            images: IMAGES,
            classes,
            max_objects: 5,
            object_size: [24.0, 144.0],
            empty: 0.0,
            ..GeneratedConfig::default()
        };
        let set = GeneratedDataset::new(config).unwrap();
        let (mut samples, mut masks) = (Vec::new(), Vec::new());
        for index in 0..IMAGES {
            let mut sample = set.sample(index).unwrap();
            sample.image.pixels.fill(0);
            sample.classes = (masks.len()..masks.len() + sample.boxes.len()).collect();
            masks.extend((0..sample.boxes.len()).map(|object| (index, set.mask(index, object).unwrap())));
            samples.push(sample);
        }
        Self { samples, masks }
    }

    /// The set with this object to be seen, or none.
    fn showing(&self, object: Option<usize>) -> Samples {
        let mut samples = self.samples.clone();
        if let Some(object) = object {
            let (index, mask) = &self.masks[object];
            samples[*index].image = mask.clone();
        }
        Samples::new(samples.into_iter().map(Some).collect())
    }
}

/// Distances of the four edges, in pixels.
#[derive(Default)]
struct Errors {
    all: Vec<f64>,
    /// Boxes that show nothing of their objects.
    empty: usize,
}

impl Errors {
    fn add(&mut self, bbox: &BBox, seen: &BBox) {
        let edges = bbox.to_array().into_iter().zip(seen.to_array());
        self.all.extend(edges.map(|(a, b)| f64::from((a - b).abs())));
    }

    fn mean(&self) -> f64 {
        self.all.iter().sum::<f64>() / self.all.len().max(1) as f64
    }

    fn most(&self) -> f64 {
        self.all.iter().copied().fold(0.0, f64::max)
    }
}

/// Renders every object that keeps its box through the transform, and compares where it is seen.
fn measure(objects: &Objects, augmentation: &Augmentation) -> Errors {
    augmentation.validate().unwrap();
    let black = objects.showing(None);
    let mut wanted: Vec<Vec<(usize, u64, BBox)>> = vec![Vec::new(); objects.masks.len()];
    for epoch in 0..EPOCHS {
        for index in 0..IMAGES {
            let changed = apply(augmentation, &black, key(1, epoch, index));
            for (bbox, &class) in changed.boxes.iter().zip(&changed.classes) {
                // One that is there twice cannot be told apart.
                if changed.classes.iter().filter(|&&other| other == class).count() == 1 {
                    wanted[class].push((index, epoch, *bbox));
                }
            }
        }
    }
    let mut errors = Errors::default();
    for (object, wanted) in wanted.into_iter().enumerate() {
        let set = objects.showing(Some(object));
        for (index, epoch, bbox) in wanted {
            let image = apply(augmentation, &set, key(1, epoch, index)).image;
            // White where at least half of a pixel is the object's.
            let white = image.pixels.iter().max().copied().unwrap_or(0);
            match extent_of(&image, |value| white > 0 && value >= white.div_ceil(2)) {
                Some(seen) => errors.add(&bbox, &as_box(seen)),
                None => errors.empty += 1,
            }
        }
    }
    errors
}

/// What is measured of whole objects, and of all that keep a box.
fn measure_both(objects: &Objects, name: &str, augmentation: &Augmentation) -> [Errors; 2] {
    let errors = [1.0, 0.5].map(|min_visible| measure(objects, &Augmentation { min_visible, ..augmentation.clone() }));
    let [whole, all] = &errors;
    for (objects, errors) in [("whole", whole), ("half in sight or more", all)] {
        let (edges, mean, most) = (errors.all.len(), errors.mean(), errors.most());
        println!("{name:<24} {objects:<22} {edges:>5} edges, mean {mean:.2} px, most {most:>5.2} px");
    }
    assert_eq!((whole.empty, all.empty), (0, 0), "{name}: boxes around nothing");
    errors
}

fn black() -> Augmentation {
    Augmentation { fill: [0; 3], ..Augmentation::default() }
}

fn rotation(boxes: RotatedBox, reach: f64) -> Augmentation {
    let rotation = Rotation { probability: 1.0, degrees: [-reach, reach], boxes };
    Augmentation { rotation: Some(rotation), ..black() }
}

#[test]
fn boxes_are_where_objects_are_rendered() {
    let objects = Objects::new(6);
    let [none, _] = measure_both(&objects, "none", &black());
    assert!(none.mean() < 0.8 && none.most() < 4.0, "a mask's own: mean {}, most {}", none.mean(), none.most());
    let cases = [
        ("horizontal_flip", Augmentation { horizontal_flip: 1.0, ..black() }),
        ("vertical_flip", Augmentation { vertical_flip: 1.0, ..black() }),
        ("quarter_turn", Augmentation { quarter_turn: 1.0, ..black() }),
        ("scale_jitter", Augmentation { scale_jitter: Some(ScaleJitter::default()), ..black() }),
        (
            "scale_jitter, square",
            Augmentation { scale_jitter: Some(ScaleJitter { square: true, ..ScaleJitter::default() }), ..black() },
        ),
        ("crop", Augmentation { crop: Some(RandomCrop { probability: 1.0, ..RandomCrop::default() }), ..black() }),
        (
            "crop, min_iou",
            Augmentation {
                crop: Some(RandomCrop {
                    probability: 1.0,
                    min_iou: vec![0.0, 0.1, 0.3, 0.5, 0.7, 0.9],
                    ..RandomCrop::default()
                }),
                ..black()
            },
        ),
        ("mosaic", Augmentation { mosaic: Some(Mosaic { probability: 1.0, ..Mosaic::default() }), ..black() }),
        ("mixup", Augmentation { mixup: Some(MixUp { probability: 1.0, share: [0.5, 0.5] }), ..black() }),
        (
            "copy_paste",
            Augmentation { copy_paste: Some(CopyPaste { probability: 1.0, ..CopyPaste::default() }), ..black() },
        ),
    ];
    for (name, augmentation) in cases {
        let [whole, all] = measure_both(&objects, name, &augmentation);
        assert!(whole.all.len() > 200, "{name}: {} edges", whole.all.len());
        assert!(whole.mean() < none.mean() + 0.25, "{name}: mean {}", whole.mean());
        assert!(whole.most() < none.most() + 1.5, "{name}: most {}", whole.most());
        // An object that fills its box in part may end before its box does where both are cut.
        assert!(all.mean() < none.mean() + 1.5, "{name}: mean {} of all", all.mean());
    }
}

#[test]
fn ellipses_follow_turned_objects_closer_than_corners() {
    // Discs and rings alone would favour ellipses, squares alone corners: here are all shapes, then discs.
    let shapes = Objects::new(6);
    for reach in [10.0, 30.0] {
        let [[ellipse, _], [corners, _]] = [(RotatedBox::Ellipse, "ellipse"), (RotatedBox::Corners, "corners")]
            .map(|(boxes, name)| measure_both(&shapes, &format!("rotation {reach}, {name}"), &rotation(boxes, reach)));
        assert!(ellipse.mean() < corners.mean(), "{} and {}", ellipse.mean(), corners.mean());
        assert!(ellipse.mean() < 1.0 + reach / 10.0, "{}", ellipse.mean());
    }
    let discs = Objects::new(1);
    let [none, _] = measure_both(&discs, "discs, none", &black());
    let [ellipse, _] = measure_both(&discs, "discs, rotation 30", &rotation(RotatedBox::Ellipse, 30.0));
    assert!(ellipse.mean() < none.mean() + 0.25 && ellipse.most() < none.most() + 1.5, "mean {}", ellipse.mean());
}
