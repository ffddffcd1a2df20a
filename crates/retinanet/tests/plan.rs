//! A detector ready to run: the same detections however it is asked for them.

use candle_core::{Device, Tensor};
use retinanet::{Config, DetectionPlan, Detector, InferenceOptions, Isa, Model, Precision, Result};
use retinanet_anchors::{Detection, ImageSize};
use retinanet_annotations::Class;
use retinanet_data::Image;

const fn is_shared<T: Send + Sync>() {}
const _: () = is_shared::<DetectionPlan>();

/// Noise of this size on a gradient.
fn image(width: usize, height: usize, seed: u32) -> Image {
    let mut state = seed.wrapping_add(1);
    let pixels = (0..width * height * 3).map(|i| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (((state >> 25) as usize + i / 3 % width) % 256) as u8
    });
    Image { size: ImageSize::new(width, height), pixels: pixels.collect() }
}

/// Random weights, and a threshold that lets some locations of every image pass, not all.
fn detector(assignments: &[&str]) -> Detector {
    let small = [
        "backbone.width=8",
        "fpn.channels=20",
        "head.channels=20",
        "preprocessing.min_size=160",
        "preprocessing.max_size=256",
    ];
    let assignments: Vec<String> = small.iter().chain(assignments).map(|&a| a.to_owned()).collect();
    let config = Config::parse(Config::preset_text("small_r18").expect("a preset"), &assignments).expect("ranges");
    let classes: Vec<Class> = (0..5).map(|id| Class { category_id: id, name: id.to_string() }).collect();
    let mut detector = Detector::new(config.clone(), classes, Model::new(&config, 5, 3).expect("a model"));
    for name in ["cls_logits", "bbox_reg"] {
        let prefix = if name == "cls_logits" { "classification" } else { "regression" };
        let weight =
            detector.model.parameters.variable(&format!("head.{prefix}_head.{name}.weight")).expect("a weight");
        // A start of standard deviation .01 leaves all locations alike.
        weight.set(&(weight.as_detached_tensor() * 40.0).expect("a product")).expect("the same shape");
    }
    // The threshold that lets the best 40 pairs of the image pass that has the worst ones.
    let plan = detector.plan(&InferenceOptions::default()).expect("a plan");
    let mut runner = plan.runner();
    let threshold = images().into_iter().map(|picture| {
        let batch = detector.config.preprocessing.batch(&[picture.view()]).expect("a batch");
        runner.resize(&[batch.padded]).expect("a layout");
        runner.input_mut(0).copy_from_slice(&batch.pixels);
        runner.run().expect("outputs");
        let mut logits: Vec<f32> = (0..5).flat_map(|level| runner.class_logits(level, 0).values.to_vec()).collect();
        logits.sort_unstable_by(f32::total_cmp);
        logits[logits.len() - 40]
    });
    let threshold = threshold.fold(f32::INFINITY, f32::min);
    drop(runner);
    detector.config.post_processing.score_threshold = 1.0 / (1.0 + (-threshold).exp());
    detector.config.post_processing.nms_iou_threshold = 0.9;
    detector
}

const SIZES: [(usize, usize); 4] = [(300, 200), (90, 160), (257, 255), (300, 200)];

fn images() -> Vec<Image> {
    (1..).zip(SIZES).map(|(seed, (width, height))| image(width, height, seed)).collect()
}

fn options() -> Vec<InferenceOptions> {
    let precisions = [Precision::F32, Precision::Bf16];
    let usable = precisions.into_iter().filter(|&p| p == Precision::F32 || Isa::detect().has_bf16_products());
    usable.map(|precision| InferenceOptions { precision, ..InferenceOptions::default() }).collect()
}

#[test]
fn the_sparse_head_the_batch_and_the_threads_change_nothing() -> Result<()> {
    for assignments in [&[][..], &["head.group_norm=4"]] {
        let (detector, images) = (detector(assignments), images());
        let images: Vec<&Image> = images.iter().collect();
        for options in options() {
            let dense = detector.plan(&InferenceOptions { sparse_head: false, ..options.clone() })?;
            let expected: Vec<Vec<Detection>> =
                images.iter().map(|image| dense.detect(image)).collect::<Result<_>>()?;
            assert_eq!(dense.last_run().box_head_share, 1.0);
            assert!(expected.iter().all(|found| !found.is_empty()), "nothing is found, so nothing is compared");

            for threads in [None, Some(1), Some(2), Some(3)] {
                let plan = detector.plan(&InferenceOptions { threads, ..options.clone() })?;
                assert_eq!(plan.detect_batch(&images)?, expected, "{threads:?}");
                let share = plan.last_run().box_head_share;
                assert!(share > 0.0 && share < 1.0, "share of the box subnet {share}");
                for (image, expected) in images.iter().zip(&expected) {
                    assert_eq!(plan.detect(image)?, *expected, "{threads:?}");
                }
            }
        }
    }
    Ok(())
}

#[test]
fn a_prepared_batch_gives_what_its_pictures_give() -> Result<()> {
    let detector = detector(&[]);
    let picture = image(300, 200, 1);
    let batch = detector.config.preprocessing.batch(&[picture.view(), picture.view()])?;
    let plan = detector.into_plan(&InferenceOptions::default())?;
    let expected = plan.detect(&picture)?;
    assert_eq!(plan.detect_prepared(&batch)?, [expected.clone(), expected]);
    assert!(plan.detect_batch(&[])?.is_empty());
    Ok(())
}

#[test]
fn predictions_are_those_of_the_plain_path() -> Result<()> {
    let detector = detector(&["head.group_norm=4"]);
    let values: Vec<f32> = (0..2 * 96 * 128 * 3).map(|i| (i * 37 % 101) as f32 / 50.0 - 1.0).collect();
    let pixels = Tensor::from_vec(values, (2, 96, 128, 3), &Device::Cpu)?;
    let expected = detector.model.predict(&pixels)?;
    let plan = detector.into_plan(&InferenceOptions::default())?;
    let found = plan.predict(&pixels)?;
    assert_eq!(found.grids, expected.grids);
    let pairs = |found: &retinanet_anchors::Pyramid<Tensor>, expected: &retinanet_anchors::Pyramid<Tensor>| {
        found.values().iter().cloned().zip(expected.values().iter().cloned()).collect::<Vec<_>>()
    };
    let levels = [pairs(&found.class_logits, &expected.class_logits), pairs(&found.box_deltas, &expected.box_deltas)];
    for (found, expected) in levels.concat() {
        assert_eq!(found.dims(), expected.dims());
        let difference = (&found - &expected)?.sqr()?.sum_all()?.to_scalar::<f32>()?.sqrt();
        let norm = expected.sqr()?.sum_all()?.to_scalar::<f32>()?.sqrt();
        assert!(difference <= 1e-5 * norm, "{difference} of {norm}");
    }
    let wrong = plan.predict(&Tensor::zeros((1, 32, 32, 4), candle_core::DType::F32, &Device::Cpu)?);
    assert!(wrong.expect_err("four channels").to_string().contains("[1, 32, 32, 4]"));
    Ok(())
}

#[test]
fn one_plan_serves_many_threads() -> Result<()> {
    let plan = detector(&[]).into_plan(&InferenceOptions::default())?;
    let images = images();
    let expected: Vec<_> = images.iter().map(|image| plan.detect(image)).collect::<Result<_>>()?;
    std::thread::scope(|scope| {
        for (image, expected) in images.iter().zip(&expected) {
            let plan = &plan;
            scope.spawn(move || (0..4).for_each(|_| assert_eq!(plan.detect(image).expect("detections"), *expected)));
        }
    });
    Ok(())
}

#[test]
fn what_cannot_be_run_says_what_to_do() {
    let detector = detector(&[]);
    let with = |precision, isa| InferenceOptions { precision, isa, ..InferenceOptions::default() };
    let error = detector.plan(&with(Precision::Bf16, Some(Isa::Portable))).expect_err("no bf16").to_string();
    assert!(error.contains("bf16") && error.contains("AVX512-BF16") && error.contains("f32"), "{error}");
    let error = detector.plan(&with(Precision::F16, None)).expect_err("no GPU").to_string();
    assert_eq!(error, "precision f16: expected a GPU (f32 runs on any processor), found the processor");
    let error = detector.plan(&with(Precision::Int8, None)).expect_err("not quantised").to_string();
    assert!(error.contains("int8") && error.contains("quantised model"), "{error}");

    let plan = detector.plan(&InferenceOptions::default()).expect("a plan");
    let broken = Image { size: ImageSize::new(20, 20), pixels: vec![0; 7] };
    assert!(plan.detect(&broken).expect_err("too few pixels").to_string().contains("found 7"));
    let empty = Image { size: ImageSize::new(0, 20), pixels: Vec::new() };
    assert!(plan.detect(&empty).expect_err("no pixels").to_string().contains("image"));
}
