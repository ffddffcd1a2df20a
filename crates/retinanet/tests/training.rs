//! Training from end to end: a tiny network learns two images, bad samples are survived, checkpoints come back whole.

use retinanet::{Config, Detector, Event, InferenceOptions, InitialWeights, Training, evaluate, start};
use retinanet_anchors::{BBox, ImageSize};
use retinanet_annotations::{AnnotatedImage, Annotation, AnnotationSet, Class};
use retinanet_data::{Dataset, Image, Sample, SampleError};
use std::ops::ControlFlow;
use std::sync::Arc;

/// Bright squares on a dark ground, drawn in memory.
struct Squares {
    set: AnnotationSet,
}

const SIDE: usize = 64;

impl Squares {
    /// One image for each list of squares (left, top, side, class).
    fn new(images: &[&[(usize, usize, usize, usize)]]) -> Self {
        let annotation = |&(x, y, side, class_idx): &(usize, usize, usize, usize)| {
            Annotation::new(class_idx, [x, y, side, side].map(|v| v as f64))
        };
        let image = |(i, squares): (usize, &&[(usize, usize, usize, usize)])| AnnotatedImage {
            id: i as i64,
            path: format!("{i}").into(),
            file_name: format!("squares-{i}"),
            size: Some(ImageSize::new(SIDE, SIDE)),
            annotations: squares.iter().map(annotation).collect(),
            details: None,
        };
        let classes = ["light", "dark"]
            .iter()
            .enumerate()
            .map(|(i, name)| Class { category_id: 10 + i as i64, name: (*name).to_owned() });
        let set = AnnotationSet {
            classes: classes.collect(),
            images: images.iter().enumerate().map(image).collect(),
            ..AnnotationSet::default()
        };
        Self { set }
    }
}

impl Dataset for Squares {
    fn len(&self) -> usize {
        self.set.images.len()
    }

    fn classes(&self) -> &[Class] {
        &self.set.classes
    }

    fn sample(&self, index: usize) -> Result<Sample, SampleError> {
        let annotations = &self.set.images[index].annotations;
        let mut pixels = vec![110; SIDE * SIDE * 3];
        for annotation in annotations {
            let [x, y, width, height] = annotation.xywh.map(|v| v as usize);
            for row in y..y + height {
                pixels[(row * SIDE + x) * 3..(row * SIDE + x + width) * 3].fill(if annotation.class_idx == 0 {
                    255
                } else {
                    0
                });
            }
        }
        let corners = |a: &Annotation| {
            let [x, y, w, h] = a.xywh.map(|v| v as f32);
            BBox::new(x, y, x + w, y + h)
        };
        Ok(Sample {
            image: Image { size: ImageSize::new(SIDE, SIDE), pixels },
            boxes: annotations.iter().map(corners).collect(),
            classes: annotations.iter().map(|a| a.class_idx).collect(),
        })
    }

    fn annotations(&self) -> &AnnotationSet {
        &self.set
    }
}

fn tiny(assignments: &[&str]) -> Config {
    let tiny = [
        "backbone.width=8",
        "backbone.norm={ group = { groups = 4, epsilon = 1e-5 } }",
        "fpn.channels=32",
        "head.channels=32",
        "head.depth=1",
        "preprocessing.min_size=64",
        "preprocessing.max_size=64",
        "train.batch=2",
        "train.reference_batch=2",
        "train.learning_rate=0.02",
        "train.schedule.warmup.steps=5",
        "train.augmentation={}",
    ];
    let assignments: Vec<String> = tiny.iter().chain(assignments).map(|&a| a.to_owned()).collect();
    Config::parse(Config::preset_text("small_r18").expect("a preset"), &assignments).expect("a configuration")
}

fn training(config: Config, train: Squares, output: &std::path::Path) -> Training {
    Training { config, train: Arc::new(train), validation: None, output: output.to_owned(), workers: 1 }
}

#[test]
fn a_tiny_network_learns_two_images_and_comes_back_from_its_file() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let config = tiny(&["train.epochs=120"]);
    let squares = || Squares::new(&[&[(8, 8, 24, 0), (36, 34, 20, 1)], &[(30, 4, 28, 1)]]);
    let start = start(&config, squares().classes(), &InitialWeights::New)?;
    let mut losses = Vec::new();
    let outcome = training(config, squares(), folder.path()).run(start.model, &mut |event| {
        if let Event::Step(step) = event {
            losses.push(step.class_loss + step.box_loss);
        }
        ControlFlow::Continue(())
    })?;
    assert_eq!(losses.len(), 120);
    assert!(losses[119] < 0.2 * losses[0], "loss went from {} to {}", losses[0], losses[119]);

    let plan = outcome.detector.plan(&InferenceOptions::default())?;
    let evaluation = evaluate(&plan, &squares(), &mut |_| ControlFlow::Continue(()))?;
    let evaluation = evaluation.expect("not interrupted");
    let summary = &evaluation.metrics.summary;
    assert!(summary.ap50 > 0.99 && summary.ap > 0.6, "AP50 {} AP {}", summary.ap50, summary.ap);

    // The file alone is enough to detect with, to the bit.
    let loaded = Detector::load(folder.path().join("last.safetensors"))?;
    let image = squares().sample(0)?.image;
    assert_eq!(loaded.classes[1], Class { category_id: 11, name: "dark".to_owned() });
    assert_eq!(loaded.config, outcome.detector.config);
    assert_eq!(loaded.into_plan(&InferenceOptions::default())?.detect(&image)?, plan.detect(&image)?);
    Ok(())
}

#[test]
fn images_with_no_boxes_train_and_equal_seeds_give_equal_weights() -> Result<(), Box<dyn std::error::Error>> {
    let run = |seed: u64, threads: usize| -> Result<Vec<f32>, retinanet::Error> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let config = tiny(&["train.epochs=2", &format!("train.seed={seed}")]);
        let train = Squares::new(&[&[], &[(8, 8, 24, 0)], &[]]);
        let model = start(&config, train.classes(), &InitialWeights::New)?.model;
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
        let outcome =
            pool.install(|| training(config, train, folder.path()).run(model, &mut |_| ControlFlow::Continue(())))?;
        let weight = outcome.detector.model.parameters.variable("backbone.body.conv1.weight")?;
        Ok(weight.flatten_all()?.to_vec1()?)
    };
    let first = run(1, 1)?;
    assert!(first.iter().all(|w| w.is_finite()));
    assert_eq!(first, run(1, 3)?);
    assert_ne!(first, run(2, 1)?);
    Ok(())
}

#[test]
fn an_interrupted_run_keeps_its_weights() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let config = tiny(&["train.epochs=50"]);
    let squares = Squares::new(&[&[(8, 8, 24, 0)]]);
    let model = start(&config, squares.classes(), &InitialWeights::New)?.model;
    let mut steps = 0;
    let outcome = training(config, squares, folder.path()).run(model, &mut |event| {
        steps += usize::from(matches!(event, Event::Step(_)));
        if steps == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    assert!(outcome.interrupted);
    assert_eq!(steps, 3);
    let detector = Detector::load(folder.path().join("last.safetensors"))?;
    for (name, variable) in outcome.detector.model.parameters.iter() {
        let (saved, last) = (detector.model.parameters.variable(name)?, variable);
        assert_eq!(saved.flatten_all()?.to_vec1::<f32>()?, last.flatten_all()?.to_vec1::<f32>()?, "{name}");
    }
    Ok(())
}

#[test]
fn validation_can_be_interrupted() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let config = tiny(&["train.epochs=2", "train.validate_every=1"]);
    let squares = || Squares::new(&[&[(8, 8, 24, 0)], &[(36, 34, 20, 1)], &[]]);
    let model = start(&config, squares().classes(), &InitialWeights::New)?.model;
    let validation: Option<Arc<dyn Dataset>> = Some(Arc::new(squares()));
    let training = Training { validation, ..training(config, squares(), folder.path()) };
    let (mut validated, mut scores) = (Vec::new(), 0);
    let outcome = training.run(model, &mut |event| match event {
        Event::Validating { images } => {
            validated.push(images);
            if images == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        }
        Event::Validation { .. } => {
            scores += 1;
            ControlFlow::Continue(())
        }
        _ => ControlFlow::Continue(()),
    })?;
    assert!(outcome.interrupted);
    assert_eq!((validated, scores, outcome.best), (vec![1, 2], 0, None));
    assert!(folder.path().join("last.safetensors").is_file());
    let metrics = std::fs::read_to_string(folder.path().join("metrics.jsonl"))?;
    assert!(metrics.lines().count() == 1 && metrics.contains("\"AP\":null"), "{metrics}");
    Ok(())
}

#[test]
fn a_score_that_is_not_defined_is_no_best() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let config = tiny(&["train.epochs=1"]);
    let squares = Squares::new(&[&[(8, 8, 24, 0)]]);
    let model = start(&config, squares.classes(), &InitialWeights::New)?.model;
    let validation: Option<Arc<dyn Dataset>> = Some(Arc::new(Squares::new(&[&[], &[]])));
    let outcome = Training { validation, ..training(config, squares, folder.path()) }
        .run(model, &mut |_| ControlFlow::Continue(()))?;
    assert_eq!(outcome.best, None);
    assert!(!folder.path().join("best.safetensors").exists());
    Ok(())
}

#[test]
fn a_loss_that_is_no_number_names_its_images() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let config = tiny(&["train.learning_rate=1e30", "train.schedule.warmup.steps=0", "train.epochs=10"]);
    let squares = Squares::new(&[&[(8, 8, 24, 0)]]);
    let model = start(&config, squares.classes(), &InitialWeights::New)?.model;
    let error = training(config, squares, folder.path())
        .run(model, &mut |_| ControlFlow::Continue(()))
        .expect_err("a rate of 1e30");
    let message = error.to_string();
    assert!(message.contains("squares-0") && message.contains("learning_rate"), "{message}");
    Ok(())
}

#[test]
fn fine_tuning_with_other_classes_starts_the_class_layer_anew() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("two.safetensors");
    let config = tiny(&[]);
    let class = |name: &str| Class { category_id: 1, name: name.to_owned() };
    let two = [class("light"), class("dark")];
    let model = start(&config, &two, &InitialWeights::New)?.model;
    Detector::new(config.clone(), two.to_vec(), model).save(&path)?;

    let other_seed = tiny(&["train.seed=9"]);
    let values =
        |model: &retinanet::Model, name: &str| model.parameters.variable(name)?.flatten_all()?.to_vec1::<f32>();
    let weights = InitialWeights::Detector(path.clone());
    let original = start(&config, &two, &InitialWeights::New)?.model;
    for (classes, keeps) in [
        (vec![class("light"), class("dark")], true),
        (vec![class("cat"), class("dog")], false),
        (vec![class("light")], false),
    ] {
        let started = start(&other_seed, &classes, &weights)?;
        let said = started.notes.iter().any(|note| note.contains("class layer starts anew"));
        assert_eq!(said, !keeps, "{:?}", started.notes);
        let name = "head.classification_head.cls_logits.weight";
        assert_eq!(values(&started.model, name)? == values(&original, name)?, keeps);
        let name = "backbone.body.conv1.weight";
        assert_eq!(values(&started.model, name)?, values(&original, name)?);
    }

    // The backbone alone: the head is drawn from the new seed.
    let started = start(&other_seed, &two, &InitialWeights::Backbone(path))?;
    let name = "head.regression_head.bbox_reg.weight";
    assert_ne!(values(&started.model, name)?, values(&original, name)?);
    Ok(())
}
