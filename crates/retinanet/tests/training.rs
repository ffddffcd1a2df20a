//! Training from end to end: a tiny network learns two images, bad samples are survived, checkpoints come back whole.

mod squares;

use retinanet::{
    Checkpoint, CheckpointInterval, ComputeDevice, Config, Detector, Error, Event, InferenceOptions, InitialWeights,
    Training, evaluate, start,
};
use retinanet_annotations::{AnnotationSet, Class};
use retinanet_data::{Dataset, Sample, SampleError};
use squares::{Squares, tiny};
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};

fn training(config: Config, train: Squares, output: &std::path::Path) -> Training {
    Training {
        config,
        train: Arc::new(train),
        validation: None,
        output: output.to_owned(),
        workers: 1,
        checkpoint_every: CheckpointInterval::Epoch,
        device: ComputeDevice::Cpu,
    }
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
fn parts_of_a_batch_make_the_step_of_the_whole() -> Result<(), Box<dyn std::error::Error>> {
    // The tiny network has group norms; the statistics of a batch would be those of a part.
    let run = |assignment: &str| -> Result<(f32, Vec<f32>), retinanet::Error> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let config = tiny(&["train.epochs=1", "train.batch=5", assignment]);
        let train = Squares::new(&[&[], &[(8, 8, 24, 0)], &[(30, 4, 28, 1)], &[], &[(36, 34, 20, 1), (4, 4, 20, 0)]]);
        let model = start(&config, train.classes(), &InitialWeights::New)?.model;
        let mut loss = 0.0;
        let outcome = training(config, train, folder.path()).run(model, &mut |event| {
            if let Event::Step(step) = event {
                loss += step.class_loss + step.box_loss;
            }
            ControlFlow::Continue(())
        })?;
        let weight = outcome.detector.model.parameters.variable("backbone.body.conv1.weight")?;
        Ok((loss, weight.flatten_all()?.to_vec1()?))
    };
    let (loss, whole) = run("train.micro_batch=5")?;
    for micro_batch in [1, 2] {
        let (found_loss, found) = run(&format!("train.micro_batch={micro_batch}"))?;
        assert!((found_loss / loss - 1.0).abs() < 1e-5, "losses {found_loss} and {loss}");
        let largest = found.iter().zip(&whole).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(largest < 1e-6, "{micro_batch}: weights differ by {largest}");
    }
    Ok(())
}

#[test]
fn a_tiny_network_learns_in_bfloat16() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let config = tiny(&["train.epochs=120", "train.dtype=bf16"]);
    let squares = Squares::new(&[&[(8, 8, 24, 0), (36, 34, 20, 1)], &[(30, 4, 28, 1)]]);
    let start = start(&config, squares.classes(), &InitialWeights::New)?;
    let mut losses = Vec::new();
    training(config, squares, folder.path()).run(start.model, &mut |event| {
        if let Event::Step(step) = event {
            losses.push(step.class_loss + step.box_loss);
        }
        ControlFlow::Continue(())
    })?;
    assert!(losses[119] < 0.2 * losses[0], "loss went from {} to {}", losses[0], losses[119]);
    Ok(())
}

/// Writes down in which order samples are asked for.
struct Watched {
    squares: Squares,
    order: Mutex<Vec<usize>>,
}

impl Dataset for Watched {
    fn sample(&self, index: usize) -> Result<Sample, SampleError> {
        self.order.lock().expect("no thread panics").push(index);
        self.squares.sample(index)
    }

    fn annotations(&self) -> &AnnotationSet {
        self.squares.annotations()
    }
}

#[test]
fn each_epoch_has_an_order_of_its_own_that_the_seed_decides() -> Result<(), Box<dyn std::error::Error>> {
    let order = |seed: u64| -> Result<Vec<usize>, retinanet::Error> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let config = tiny(&["train.epochs=3", &format!("train.seed={seed}")]);
        let watched = Arc::new(Watched { squares: Squares::new(&[&[] as &[_]; 8]), order: Mutex::default() });
        let model = start(&config, watched.classes(), &InitialWeights::New)?.model;
        let train: Arc<dyn Dataset> = watched.clone();
        let training = Training {
            config,
            train,
            validation: None,
            output: folder.path().to_owned(),
            workers: 1,
            checkpoint_every: CheckpointInterval::Epoch,
            device: ComputeDevice::Cpu,
        };
        training.run(model, &mut |_| ControlFlow::Continue(()))?;
        Ok(std::mem::take(&mut *watched.order.lock().expect("no thread panics")))
    };
    let first = order(1)?;
    let epochs: Vec<&[usize]> = first.chunks(8).collect();
    for epoch in &epochs {
        let mut sorted = epoch.to_vec();
        sorted.sort_unstable();
        assert_eq!(sorted, [0, 1, 2, 3, 4, 5, 6, 7]);
    }
    assert!(epochs[0] != epochs[1] && epochs[1] != epochs[2] && epochs[0] != [0, 1, 2, 3, 4, 5, 6, 7], "{epochs:?}");
    assert_eq!(first, order(1)?);
    assert_ne!(first, order(2)?);
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
    let (mut validated, mut scores, mut epochs) = (Vec::new(), 0, Vec::new());
    let outcome = training.run(model, &mut |event| match event {
        Event::Validating { images } => {
            validated.push(images);
            if images == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        }
        Event::Validation { .. } => {
            scores += 1;
            ControlFlow::Continue(())
        }
        Event::Epoch(summary) => {
            epochs.push((summary.epoch, summary.step, summary.images, summary.score));
            ControlFlow::Continue(())
        }
        _ => ControlFlow::Continue(()),
    })?;
    assert!(outcome.interrupted);
    assert_eq!((validated, scores, outcome.best), (vec![1, 2], 0, None));
    assert!(folder.path().join("last.safetensors").is_file());
    assert_eq!(epochs, [(1, 2, 3, None)]);
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
fn a_loss_that_is_no_number_says_where_and_why_and_keeps_the_checkpoint() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    // The rate leaps after the first of two epochs.
    let leap = "train.schedule={ warmup = { steps = 0, factor = 1.0 }, decay = { step = { milestones = [0.5], factor = 1e12 } } }";
    let config = tiny(&["train.epochs=2", leap]);
    let squares = || Squares::new(&[&[(8, 8, 24, 0)], &[(30, 4, 28, 1)], &[], &[]]);
    let model = start(&config, squares().classes(), &InitialWeights::New)?.model;
    let error = training(config, squares(), folder.path())
        .run(model, &mut |_| ControlFlow::Continue(()))
        .expect_err("a rate of 1e10");
    let Error::LossNotFinite(found) = &error else { panic!("{error}") };
    assert_eq!((found.step, found.images.len(), found.gradients.len()), (3, 2, 5));
    assert!(found.images.iter().all(|name| name.starts_with("squares-")), "{found:?}");
    assert!(found.gradients.iter().all(|(name, norm)| name.contains('.') && !norm.is_finite()), "{found:?}");
    assert!(error.to_string().contains("train.schedule.warmup.steps=0"), "{error}");
    let checkpoint = Checkpoint::read(folder.path().join("state.safetensors"))?;
    assert_eq!((checkpoint.state.epoch, checkpoint.state.step), (1, 2));
    let detector = Detector::load(folder.path().join("last.safetensors"))?;
    assert!(detector.model.parameters.iter().all(|(_, variable)| is_finite(variable).expect("f32")));
    Ok(())
}

#[test]
fn a_loss_that_grows_is_told_once() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    // A normaliser that comes from afar makes losses grow a millionfold, whatever is learned.
    let normalizer = "loss.normalizer={ moving_average = { start = 1e6, momentum = 0.5 } }";
    let config = tiny(&["train.epochs=30", normalizer]);
    let squares = Squares::new(&[&[(8, 8, 24, 0), (36, 34, 20, 1)], &[(30, 4, 28, 1)]]);
    let start = start(&config, squares.classes(), &InitialWeights::New)?;
    let mut told = Vec::new();
    training(config, squares, folder.path()).run(start.model, &mut |event| {
        if let Event::Diverging(divergence) = event {
            told.push(divergence.to_string());
        }
        ControlFlow::Continue(())
    })?;
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("it learns nothing more; usual causes: a learning rate too high: "), "{}", told[0]);
    Ok(())
}

/// No picture can be had.
struct Unreadable(Squares);

impl Dataset for Unreadable {
    fn sample(&self, index: usize) -> Result<Sample, SampleError> {
        Err(SampleError { index, what: format!("squares-{index}: torn") })
    }

    fn annotations(&self) -> &AnnotationSet {
        self.0.annotations()
    }
}

#[test]
fn pictures_of_which_none_can_be_had_are_no_training() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let squares = Squares::new(&[&[(8, 8, 24, 0)], &[(30, 4, 28, 1)]]);
    let model = start(&tiny(&[]), squares.classes(), &InitialWeights::New)?.model;
    let train = Arc::new(Unreadable(squares));
    let training = Training { train, ..training(tiny(&[]), Squares::new(&[]), folder.path()) };
    let mut failures = 0;
    let error = training.run(model, &mut |event| {
        failures += usize::from(matches!(event, Event::Failure(_)));
        ControlFlow::Continue(())
    });
    let message = error.expect_err("nothing to learn from").to_string();
    assert!(message.contains("epoch 1: expected at least 1 image that can be read, found none of 2"), "{message}");
    assert!(failures == 2 && !folder.path().join("last.safetensors").exists());
    Ok(())
}

fn is_finite(tensor: &candle_core::Tensor) -> Result<bool, candle_core::Error> {
    Ok(tensor.flatten_all()?.to_vec1::<f32>()?.iter().all(|value| value.is_finite()))
}

#[test]
fn weights_that_are_no_numbers_replace_none_that_are() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let config = tiny(&["train.learning_rate=1e39", "train.schedule.warmup.steps=0", "train.epochs=1"]);
    let squares = Squares::new(&[&[(8, 8, 24, 0)]]);
    let model = start(&config, squares.classes(), &InitialWeights::New)?.model;
    let error = training(config, squares, folder.path())
        .run(model, &mut |_| ControlFlow::Continue(()))
        .expect_err("a rate of infinity");
    assert!(matches!(error, Error::WeightsNotFinite { step: 1, .. }), "{error}");
    assert!(!folder.path().join("last.safetensors").exists());
    assert_eq!(Checkpoint::read(folder.path().join("state.safetensors"))?.state.step, 0);
    Ok(())
}

#[test]
fn a_checkpoint_that_cannot_be_written_ends_the_training_and_the_last_one_stays()
-> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let config = tiny(&["train.epochs=3"]);
    let squares = Squares::new(&[&[(8, 8, 24, 0)]]);
    let model = start(&config, squares.classes(), &InitialWeights::New)?.model;
    let (last, state) = (folder.path().join("last.safetensors"), folder.path().join("state.safetensors"));
    let mut before = Vec::new();
    let error = training(config, squares, folder.path())
        .run(model, &mut |event| {
            if let Event::Step(step) = event
                && step.step == 1
            {
                before = std::fs::read(&state).expect("a checkpoint");
                // A folder that no file can replace.
                std::fs::remove_file(&last).expect("a model");
                std::fs::create_dir_all(last.join("in the way")).expect("a folder");
            }
            ControlFlow::Continue(())
        })
        .expect_err("no place for the model");
    assert!(error.to_string().contains("last.safetensors: "), "{error}");
    assert!(!before.is_empty() && std::fs::read(&state)? == before);
    assert_eq!(std::fs::read_dir(folder.path())?.count(), 2, "nothing half-written is left");
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

    // The same classes in another order: their outputs change places, and nothing is lost.
    let swapped = [class("dark"), class("light")];
    let started = start(&other_seed, &swapped, &weights)?;
    assert!(started.notes.iter().any(|note| note.contains("class layer reordered")), "{:?}", started.notes);
    let name = "head.classification_head.cls_logits.weight";
    let (found, original_values) = (values(&started.model, name)?, values(&original, name)?);
    let per_output = found.len() / (2 * started.model.network.anchors_per_location());
    for (pair, original_pair) in found.chunks(2 * per_output).zip(original_values.chunks(2 * per_output)) {
        assert!(pair[..per_output] == original_pair[per_output..] && pair[per_output..] == original_pair[..per_output]);
    }

    // The backbone alone: the head is drawn from the new seed.
    let started = start(&other_seed, &two, &InitialWeights::Backbone(path))?;
    let name = "head.regression_head.bbox_reg.weight";
    assert_ne!(values(&started.model, name)?, values(&original, name)?);
    Ok(())
}
