//! Generated pictures: pure, varied, with boxes that fit their objects.

use retinanet_anchors::ImageSize;
use retinanet_data::{Dataset, GeneratedConfig, GeneratedDataset, Sample};

fn dataset(config: GeneratedConfig) -> GeneratedDataset {
    GeneratedDataset::new(config).unwrap()
}

#[test]
fn a_picture_depends_on_seed_and_index_alone() {
    let config = GeneratedConfig { images: 3, seed: 5, ..GeneratedConfig::default() };
    let (a, b) = (dataset(config), dataset(GeneratedConfig { images: 40, ..config }));
    assert_eq!(a.sample(2), b.sample(2));
    assert_eq!(a.annotations().images[..], b.annotations().images[..3]);
    assert_ne!(a.sample(0).unwrap().image, a.sample(1).unwrap().image);
    let other = dataset(GeneratedConfig { seed: 6, ..config });
    assert_ne!(a.sample(0).unwrap().image, other.sample(0).unwrap().image);
    let error = a.sample(3).unwrap_err();
    assert_eq!(error.to_string(), "sample: index: expected below 3, found 3");
}

#[test]
fn boxes_lie_inside_and_cover_every_size() {
    let set = dataset(GeneratedConfig { images: 300, ..GeneratedConfig::default() });
    let (mut empty, mut small, mut large, mut per_class) = (0, 0, 0, [0; 6]);
    for image in &set.annotations().images {
        empty += usize::from(image.annotations.is_empty());
        for annotation in &image.annotations {
            let [x, y, width, height] = annotation.xywh;
            assert!(x >= 0.0 && y >= 0.0 && x + width <= 320.0 + 1e-9 && y + height <= 240.0 + 1e-9);
            let longest = width.max(height);
            assert!((16.0 - 1e-9..=144.0 + 1e-9).contains(&longest), "{longest}");
            small += usize::from(longest < 32.0);
            large += usize::from(longest > 90.0);
            per_class[annotation.class_idx] += 1;
        }
    }
    let total = set.annotations().num_annotations();
    assert!((3..40).contains(&empty), "{empty} empty");
    assert!(total > 900 && small > total / 6 && large > total / 20, "{total} {small} {large}");
    assert!(per_class.iter().all(|&n| n > 100), "{per_class:?}");
}

/// An object drawn on its ground changes pixels up to its box's border, and none beyond.
#[test]
fn boxes_fit_their_objects() {
    let config = GeneratedConfig {
        images: 60,
        max_objects: 1,
        empty: 0.0,
        object_size: [30.0, 90.0],
        ..GeneratedConfig::default()
    };
    let with = dataset(config);
    // The same draws up to the number of objects: the same ground without any.
    let without = dataset(GeneratedConfig { empty: 1.0, ..config });
    for index in 0..config.images {
        let (a, b) = (with.sample(index).unwrap(), without.sample(index).unwrap());
        let class = a.classes[0];
        let bbox = a.boxes[0];
        let [x0, y0, x1, y1] = changed(&a, &b);
        for (found, exact) in [(x0, bbox.x0), (y0, bbox.y0), (x1, bbox.x1), (y1, bbox.y1)] {
            // A tip may be too thin to show in its last pixels.
            assert!((found - exact).abs() <= 4.0, "{index}, class {class}: {found} for {exact}");
        }
        assert!(x0 >= bbox.x0.floor() && y0 >= bbox.y0.floor());
        assert!(x1 <= bbox.x1.ceil() && y1 <= bbox.y1.ceil());
    }
}

fn changed(a: &Sample, b: &Sample) -> [f32; 4] {
    let width = a.image.size.width;
    let [a, b] = [a, b].map(|sample| sample.image.pixels.as_chunks::<3>().0);
    let differs = a.iter().zip(b).enumerate().filter(|(_, (a, b))| a != b);
    let places = differs.map(|(idx, _)| ((idx % width) as f32, (idx / width) as f32));
    places.fold([f32::MAX, f32::MAX, 0.0, 0.0], |[x0, y0, x1, y1], (x, y)| {
        [x0.min(x), y0.min(y), x1.max(x + 1.0), y1.max(y + 1.0)]
    })
}

#[test]
fn settings_out_of_range_are_named() {
    let good = GeneratedConfig::default();
    for (field, config) in [
        ("generated.size", GeneratedConfig { size: ImageSize::new(0, 9), ..good }),
        ("generated.classes", GeneratedConfig { classes: 7, ..good }),
        ("generated.max_objects", GeneratedConfig { max_objects: 0, ..good }),
        ("generated.empty", GeneratedConfig { empty: -0.1, ..good }),
        ("generated.object_size", GeneratedConfig { object_size: [20.0, 240.0], ..good }),
        ("generated.object_size", GeneratedConfig { object_size: [f64::NAN, 9.0], ..good }),
    ] {
        assert_eq!(GeneratedDataset::new(config).err().unwrap().field, field);
    }
    assert!(dataset(GeneratedConfig { images: 0, ..good }).is_empty());
}
