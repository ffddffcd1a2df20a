//! Order, determinism, failures and stopping of the loader; the cache.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use retinanet_anchors::{BBox, ImageSize};
use retinanet_annotations::{AnnotatedImage, Annotation, AnnotationSet};
use retinanet_data::{
    Augmentation, CachedDataset, ClassBalance, CopyPaste, Dataset, Image, LoadedBatch, Loader, LoaderConfig, MixUp,
    Mosaic, Preprocessing, RandomCrop, Rotation, Sample, SampleError, ScaleJitter,
};

/// Pictures of one colour, some of which cannot be had.
struct Plain {
    annotations: AnnotationSet,
    bad: Vec<usize>,
    panics: Option<usize>,
    /// How often a sample was asked for.
    asked: AtomicUsize,
}

impl Plain {
    fn new(len: usize, bad: &[usize]) -> Self {
        let image = |index: usize| AnnotatedImage {
            id: index as i64,
            path: format!("{index}.png").into(),
            file_name: format!("{index}.png"),
            size: None,
            annotations: Vec::new(),
            details: None,
        };
        Self {
            annotations: AnnotationSet { images: (0..len).map(image).collect(), ..AnnotationSet::default() },
            bad: bad.to_vec(),
            panics: None,
            asked: AtomicUsize::new(0),
        }
    }
}

impl Dataset for Plain {
    fn sample(&self, index: usize) -> Result<Sample, SampleError> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        assert_ne!(self.panics, Some(index), "thrown by the data set");
        if self.bad.contains(&index) {
            let what = format!("{index}.png: expected pixels, found none");
            return Err(SampleError { index, what });
        }
        // Uneven work, so that workers overtake each other.
        std::thread::sleep(Duration::from_micros(index as u64 * 37 % 11 * 100));
        let size = ImageSize::new(8 + index % 3, 8);
        let pixels = (0..size.width * size.height * 3).map(|i| (i * index) as u8);
        Ok(Sample {
            image: Image { size, pixels: pixels.collect() },
            boxes: vec![BBox::new(1.0, 1.0, 4.0, 5.0); index % 3],
            classes: vec![index; index % 3],
        })
    }

    fn annotations(&self) -> &AnnotationSet {
        &self.annotations
    }
}

fn loader_of(dataset: impl Dataset + 'static, config: LoaderConfig) -> Loader {
    augmenting(dataset, Augmentation { copy_paste: None, mosaic: None, mixup: None, ..everything() }, config)
}

/// Every transform.
fn everything() -> Augmentation {
    Augmentation {
        horizontal_flip: 0.5,
        vertical_flip: 0.5,
        quarter_turn: 0.5,
        min_sizes: vec![8, 12],
        brightness: 0.2,
        saturation: 0.5,
        hue: 0.1,
        scale_jitter: Some(ScaleJitter::default()),
        crop: Some(RandomCrop::default()),
        rotation: Some(Rotation::default()),
        mosaic: Some(Mosaic::default()),
        mixup: Some(MixUp::default()),
        copy_paste: Some(CopyPaste::default()),
        ..Augmentation::default()
    }
}

fn augmenting(dataset: impl Dataset + 'static, augmentation: Augmentation, config: LoaderConfig) -> Loader {
    let preprocessing = Preprocessing { min_size: 8, max_size: 16, pad_to: 4, ..Preprocessing::default() };
    Loader::new(Arc::new(dataset), preprocessing, augmentation, config).unwrap()
}

fn indices(loaded: &[LoadedBatch]) -> Vec<Vec<usize>> {
    let of = |loaded: &LoadedBatch| loaded.batch.images.iter().map(|i| i.index).collect();
    loaded.iter().map(of).collect()
}

const SHUFFLED: LoaderConfig =
    LoaderConfig { batch: 4, shuffle: true, seed: 9, workers: 1, prefetch: 2, drop_last: false, class_balance: None };

#[test]
fn any_number_of_workers_makes_the_same_batches() {
    let of = |workers, epoch| -> Vec<LoadedBatch> {
        let config = LoaderConfig { workers, ..SHUFFLED };
        loader_of(Plain::new(38, &[5, 20]), config).epoch(epoch).collect()
    };
    let one = of(1, 3);
    assert_eq!(one.len(), 10);
    for workers in [2, 3, 16] {
        assert!(one == of(workers, 3), "{workers} workers differ");
    }
    // Every sample once; another epoch in another order and with other draws.
    let mut all: Vec<usize> = indices(&one).concat();
    let next = indices(&of(3, 4)).concat();
    assert_ne!(all, next);
    all.sort_unstable();
    assert_eq!(all, (0..38).filter(|i| ![5, 20].contains(i)).collect::<Vec<_>>());
    // Sizes differ from batch to batch.
    assert!(one.iter().any(|b| b.batch.padded != one[0].batch.padded));
}

#[test]
fn pictures_put_together_are_the_same_for_any_number_of_workers_and_from_any_batch_on() {
    let of = |workers, from| -> Vec<LoadedBatch> {
        let config = LoaderConfig { workers, ..SHUFFLED };
        augmenting(Plain::new(30, &[5, 20]), everything(), config).epoch_from(2, from).collect()
    };
    let one = of(1, 0);
    assert!(one.iter().flat_map(|loaded| &loaded.batch.images).any(|image| {
        // A box of another picture of the set.
        image.classes.iter().any(|&class| class != image.index)
    }));
    for workers in [2, 3, 16] {
        assert!(one == of(workers, 0), "{workers} workers differ");
    }
    let batches = |loaded: &[LoadedBatch]| loaded.iter().map(|loaded| loaded.batch.clone()).collect::<Vec<_>>();
    assert!(batches(&one[3..]) == batches(&of(2, 3)), "what came before an interruption does not matter");
}

#[test]
fn a_partner_that_cannot_be_read_is_told_once_an_epoch() {
    let bad = [1, 3, 4, 8];
    let loader = augmenting(Plain::new(24, &bad), everything(), LoaderConfig { workers: 3, ..SHUFFLED });
    for epoch in 0..3 {
        let mut epoch = loader.epoch(epoch);
        let loaded: Vec<LoadedBatch> = epoch.by_ref().collect();
        let mut told: Vec<usize> = loaded.iter().flat_map(|loaded| &loaded.failures).map(|f| f.index).collect();
        told.extend(epoch.take_failures().iter().map(|failure| failure.index));
        told.sort_unstable();
        assert_eq!(told, bad, "each once");
        assert_eq!(epoch.statistics().failures, bad.len(), "counted as told");
        let samples: usize = loaded.iter().map(|loaded| loaded.batch.images.len()).sum();
        assert_eq!(samples, 24 - bad.len());
    }
}

#[test]
fn the_order_depends_on_seed_and_epoch_alone() {
    let order = |seed, epoch, config: LoaderConfig| {
        loader_of(Plain::new(50, &[]), LoaderConfig { seed, ..config }).order(epoch)
    };
    let bigger = LoaderConfig { batch: 7, workers: 3, prefetch: 9, ..SHUFFLED };
    assert_eq!(order(1, 2, SHUFFLED), order(1, 2, bigger));
    assert_ne!(order(1, 2, SHUFFLED), order(1, 3, SHUFFLED));
    assert_ne!(order(1, 2, SHUFFLED), order(2, 2, SHUFFLED));
    let plain = LoaderConfig { shuffle: false, ..SHUFFLED };
    assert_eq!(order(1, 2, plain), (0..50).collect::<Vec<_>>());
    // Pinned: a run that is resumed with a later version must see the same order.
    let mut first: Vec<usize> = order(1, 2, SHUFFLED);
    first.truncate(6);
    assert_eq!(first, [34, 38, 25, 16, 43, 37]);
}

#[test]
fn images_of_a_rare_class_are_seen_more_often_and_differently() {
    // Class 1 is in one of 16 images: sqrt(.5 / (1/16)) = 2.83; class 0 in all.
    let mut dataset = Plain::new(16, &[]);
    for (index, image) in dataset.annotations.images.iter_mut().enumerate() {
        let classes = if index == 5 { vec![0, 1, 1] } else { vec![0] };
        image.annotations = classes.into_iter().map(|class| Annotation::new(class, [0.0, 0.0, 4.0, 4.0])).collect();
    }
    let config = LoaderConfig { workers: 3, class_balance: Some(ClassBalance { threshold: 0.5 }), ..SHUFFLED };
    let loader = loader_of(dataset, config);
    // 2.83 rounded.
    assert_eq!(loader.num_batches(), 18usize.div_ceil(4));
    let loaded: Vec<LoadedBatch> = loader.epoch(1).collect();
    assert_eq!(indices(&loaded).concat(), loader.order(1));
    let order = loader.order(1);
    assert_eq!((order.len(), order.iter().filter(|&&index| index == 5).count()), (18, 3));
    assert!((0..16).all(|index| order.contains(&index)));
    assert_ne!(order, loader.order(2));
    assert!(loaded[2..] == loader.epoch_from(1, 2).collect::<Vec<_>>());
    // The three showings of image 5 are augmented each in its own way.
    let shown: Vec<_> =
        loaded.iter().flat_map(|loaded| &loaded.batch.images).filter(|image| image.index == 5).collect();
    assert!(shown.windows(2).any(|pair| pair[0].boxes != pair[1].boxes), "{shown:?}");
}

#[test]
fn a_bad_sample_costs_itself_alone() {
    let config = LoaderConfig { batch: 3, shuffle: false, workers: 2, ..SHUFFLED };
    // The second batch has nothing left, neither has the last.
    let loader = loader_of(Plain::new(10, &[1, 3, 4, 5, 9]), config);
    assert_eq!(loader.num_batches(), 4);
    let mut epoch = loader.epoch(0);
    let loaded: Vec<LoadedBatch> = epoch.by_ref().collect();
    assert_eq!(indices(&loaded), [vec![0, 2], vec![6, 7, 8]]);
    let failed = |failures: &[SampleError]| failures.iter().map(|f| f.index).collect::<Vec<_>>();
    assert_eq!(failed(&loaded[0].failures), [1]);
    assert_eq!(failed(&loaded[1].failures), [3, 4, 5]);
    assert_eq!(failed(&epoch.take_failures()), [9]);
    assert!(loaded[0].failures[0].to_string().starts_with("1.png: "));
    assert!(epoch.next().is_none());
}

#[test]
fn the_last_batch_may_be_left_out() {
    for (len, drop_last, expected) in [
        (10, false, vec![4, 4, 2]),
        (10, true, vec![4, 4]),
        (8, true, vec![4, 4]),
        (3, true, vec![]),
        (0, false, vec![]),
    ] {
        let loader = loader_of(Plain::new(len, &[]), LoaderConfig { drop_last, ..SHUFFLED });
        let sizes: Vec<usize> = loader.epoch(0).map(|b| b.batch.images.len()).collect();
        assert_eq!(sizes, expected, "{len} {drop_last}");
        assert_eq!(loader.num_batches(), expected.len());
    }
}

#[test]
fn an_epoch_goes_on_from_a_batch() {
    let loader = loader_of(Plain::new(21, &[]), LoaderConfig { workers: 2, ..SHUFFLED });
    let whole: Vec<LoadedBatch> = loader.epoch(5).collect();
    let rest: Vec<LoadedBatch> = loader.epoch_from(5, 4).collect();
    assert!(rest == whole[4..]);
    assert_eq!(loader.epoch_from(5, 99).count(), 0);
}

#[test]
fn workers_stay_within_their_lead_and_stop_when_dropped() {
    let dataset = Arc::new(Plain::new(1000, &[]));
    let config = LoaderConfig { batch: 2, workers: 2, prefetch: 3, ..SHUFFLED };
    let none = Augmentation::default();
    let loader = Loader::new(dataset.clone(), Preprocessing::default(), none, config).unwrap();
    let mut epoch = loader.epoch(0);
    assert!(epoch.next().is_some());
    std::thread::sleep(Duration::from_millis(50));
    // One batch given, three ahead of it.
    assert!(dataset.asked.load(Ordering::Relaxed) <= 2 * 4);
    assert!(epoch.waited() > Duration::ZERO);
    drop(epoch);
    let asked = dataset.asked.load(Ordering::Relaxed);
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!(dataset.asked.load(Ordering::Relaxed), asked);
}

#[test]
#[should_panic = "thrown by the data set"]
fn a_panic_of_the_data_set_reaches_the_caller() {
    let mut dataset = Plain::new(9, &[]);
    dataset.panics = Some(6);
    loader_of(dataset, SHUFFLED).epoch(0).for_each(drop);
}

#[test]
fn the_cache_keeps_what_fits() {
    let dataset = Arc::new(Plain::new(6, &[2]));
    // Room for three pictures of at most 10 x 8.
    let cached = CachedDataset::new(dataset.clone(), 3 * 240);
    let read = || (0..6).map(|i| cached.sample(i)).collect::<Vec<_>>();
    let first = read();
    assert_eq!(dataset.asked.load(Ordering::Relaxed), 6);
    assert!((480..=720).contains(&cached.used_bytes()));
    assert_eq!(read(), first);
    // The bad one and those without room are asked for again.
    assert_eq!(dataset.asked.load(Ordering::Relaxed), 6 + 3);
    assert_eq!((cached.len(), first[2].is_err()), (6, true));
    let statistics = cached.cache_statistics();
    assert_eq!((statistics.hits, statistics.misses), (3, 6 + 3));
    assert_eq!(statistics.held_bytes, cached.used_bytes() as u64);
}

#[test]
fn an_epoch_says_what_it_did() {
    let cached = CachedDataset::new(Arc::new(Plain::new(10, &[1, 3, 4, 5, 9])), 1 << 20);
    let loader = loader_of(cached, LoaderConfig { batch: 3, shuffle: false, workers: 2, ..SHUFFLED });
    for (epoch_idx, (hits, misses)) in [(0, 10), (5, 5)].into_iter().enumerate() {
        let mut epoch = loader.epoch(epoch_idx);
        assert_eq!(epoch.statistics().images, 0);
        let images: usize = epoch.by_ref().map(|loaded| loaded.batch.images.len()).sum();
        let statistics = epoch.statistics();
        assert_eq!((statistics.images, statistics.failures), (images, 5));
        // Pictures of 8, 9 and 10 x 8 by turns: samples 0, 2, 6, 7 and 8.
        assert_eq!(statistics.decoded_bytes, 3 * 8 * (8 + 10 + 8 + 9 + 10));
        assert!(statistics.decoding > Duration::ZERO && statistics.preparing > Duration::ZERO);
        assert!(statistics.waited == epoch.waited() && statistics.waited <= statistics.elapsed);
        assert!(statistics.images_per_second() > 0.0 && statistics.images_per_worker_second() > 0.0);
        assert_eq!((statistics.cache.hits, statistics.cache.misses), (hits, misses));
    }
}

#[test]
fn counts_of_zero_are_named() {
    for (field, config) in [
        ("loader.batch", LoaderConfig { batch: 0, ..SHUFFLED }),
        ("loader.workers", LoaderConfig { workers: 0, ..SHUFFLED }),
        ("loader.prefetch", LoaderConfig { prefetch: 0, ..SHUFFLED }),
    ] {
        assert_eq!(config.validate().unwrap_err().field, field);
    }
    for threshold in [0.0, -1.0, 1.5, f64::NAN] {
        let class_balance = Some(ClassBalance { threshold });
        let error = LoaderConfig { class_balance, ..SHUFFLED }.validate().unwrap_err();
        assert_eq!(error.field, "class_balance.threshold");
    }
}
