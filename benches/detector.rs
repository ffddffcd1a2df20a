//! The whole detector: forward pass, detection with everything around it, and a training step.
#![allow(missing_docs, reason = "criterion's macros make public items")]

use candle_core::{Device, Tensor};
use criterion::{Criterion, criterion_group, criterion_main};
use retinanet::{
    Config, DetectionLoss, Detector, GroundTruth, InferenceOptions, Model, Optimizer, Targets, TrainingOptions,
    TrainingStep,
};
use retinanet_anchors::{BBox, ImageSize};
use retinanet_data::Image;

fn bench(c: &mut Criterion) {
    let mut group = c.benchmark_group("cpu/detector");
    group.sample_size(10);
    for (preset, width, height) in [("small_r18", 320, 240), ("torchvision_r50_v1", 1344, 800)] {
        let config = Config::preset(preset).expect("a preset");
        let model = Model::new(&config, 80, 0).expect("a model");
        let image = Tensor::randn(0f32, 1.0, (1, height, width, 3), &Device::Cpu).expect("an image");
        group.bench_function(format!("forward_{preset}/{height}x{width}/f32"), |b| {
            b.iter(|| model.predict(&image).expect("predictions"))
        });

        let pixels = (0..height * width * 3).map(|i| (i * 7 % 251) as u8).collect();
        let picture = Image { size: ImageSize::new(width, height), pixels };
        let detector = Detector::new(config, Vec::new(), model);
        let plan = detector.into_plan(&InferenceOptions::default()).expect("a plan");
        group.bench_function(format!("detect_{preset}/{height}x{width}/f32"), |b| {
            b.iter(|| plan.detect(&picture).expect("detections"))
        });
    }
    for (preset, images, width, height) in [("small_r18", 4, 320, 256), ("torchvision_r50_v1", 2, 512, 512)] {
        let config = Config::preset(preset).expect("a preset");
        let model = Model::new(&config, 80, 0).expect("a model");
        let pixels: Vec<f32> = (0..images * height * width * 3).map(|i| (i * 7 % 251) as f32 / 125.0 - 1.0).collect();
        let objects = GroundTruth {
            boxes: (0..8).map(|i| BBox::new(10.0 * i as f32, 20.0, 60.0 + 20.0 * i as f32, 150.0)).collect(),
            classes: vec![1; 8],
        };
        let ground_truth = vec![objects; images];
        let mut optimizer = Optimizer::new(config.train.optimizer, &model.network.parameters());
        let mut loss = DetectionLoss::new(config.loss.clone(), config.box_coder);
        let mut engine = TrainingStep::new(&model.network, &TrainingOptions::default()).expect("a training step");
        let mut step = || -> retinanet::Result<()> {
            let padded = ImageSize::new(width, height);
            engine.begin();
            let predictions = engine.forward(&model, &pixels, images, padded)?;
            let anchors = model.network.anchors(padded, &predictions.grids)?;
            let targets = Targets::new(&config.matcher, &anchors, model.network.anchors_per_location(), &ground_truth)?;
            let losses = loss.forward(&predictions, &targets, &anchors, 0)?;
            // Rate 0: every iteration does the same work on the same weights.
            engine.backward(&model, predictions, losses)?;
            optimizer.step(&model.parameters, engine.gradients(), 0.0)?;
            engine.update_running_statistics(&model)
        };
        group.bench_function(format!("train_step_{preset}/{images}x{height}x{width}/f32"), |b| {
            b.iter(|| step().expect("a step"))
        });
    }
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
