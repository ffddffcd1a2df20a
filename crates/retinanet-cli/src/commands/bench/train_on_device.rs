//! Steps of a training on a device, as `retinanet train` makes them, on pictures of noise.

use super::Measured;
use super::clock::Run;
use super::random::picture;
use super::report::rounded;
use super::subject::Subject;
use super::train::{all_trained, objects};
use crate::args::BenchArgs;
use anyhow::Context;
use retinanet::{CheckpointInterval, ComputeDevice, Event, GroundTruth, Training};
use retinanet_annotations::{AnnotatedImage, Annotation, AnnotationSet, Class};
use retinanet_data::{Augmentation, Dataset, Image, Sample, SampleError};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;

/// Steps that are not timed: in the first, kernels are compiled, convolutions chosen and the work recorded.
const WARM_UP: usize = 2;

/// Threads that make batches; what a step waits for them is no part of its time.
const WORKERS: usize = 4;

/// Times whole steps, without what they wait for images; they begin with the images in the memory of the host.
pub(super) fn measure(subject: &Subject, args: &BenchArgs, device: ComputeDevice) -> anyhow::Result<Measured> {
    let (mut config, model) = all_trained(subject)?;
    let dtype = args.inference.precision(&subject.detector, &device).name();
    let train = &mut config.train;
    (train.epochs, train.batch, train.reference_batch) = (1, args.batch, args.batch);
    // The weights do not go where a loss is no number.
    train.learning_rate = 1e-8;
    train.augmentation = Augmentation::default();
    train.class_balance = None;
    let config = retinanet::Config::parse(&config.to_toml()?, &[format!("train.dtype={dtype}")])?;
    let classes = subject.detector.classes.clone();
    let noise = Noise::new(subject, classes, args.batch * (args.repeat + WARM_UP));
    let output = Output::new();
    let training = Training {
        config,
        train: Arc::new(noise),
        validation: None,
        output: output.0.clone(),
        device,
        workers: WORKERS,
        checkpoint_every: CheckpointInterval::Epoch,
    };
    let (mut runs, mut waited) = (Vec::new(), 0.0);
    training
        .run(model, &mut |event| {
            if let Event::Step(step) = event {
                let total = (step.duration.saturating_sub(step.waited)).as_secs_f64() * 1e3;
                runs.push(Run { total, stages: Vec::new() });
                waited += step.waited.as_secs_f64() * 1e3;
            }
            ControlFlow::Continue(())
        })
        .context("--mode train")?;
    let waited = rounded(waited / runs.len().max(1) as f64);
    let details = serde_json::Map::from_iter([("waited_for_images_ms".to_owned(), waited.into())]);
    runs.drain(..WARM_UP.min(runs.len()));
    anyhow::ensure!(!runs.is_empty(), "--mode train: expected at least 1 timed step, found 0");
    Ok(Measured { runs, images_per_run: args.batch, size: Some(subject.padded()), details, failures: Vec::new() })
}

/// One picture, again and again, with other objects each time.
struct Noise {
    image: Image,
    annotations: AnnotationSet,
    objects: Vec<GroundTruth>,
}

impl Noise {
    fn new(subject: &Subject, classes: Vec<Class>, count: usize) -> Self {
        let objects: Vec<GroundTruth> = (0..count).map(|i| objects(i, subject.size, classes.len())).collect();
        let images = objects.iter().enumerate().map(|(i, objects)| {
            let pairs = objects.boxes.iter().zip(&objects.classes);
            let annotation = |(bbox, class): (&retinanet_anchors::BBox, &usize)| {
                let [x0, y0, x1, y1] = [bbox.x0, bbox.y0, bbox.x1, bbox.y1].map(f64::from);
                Annotation::new(*class, [x0, y0, x1 - x0, y1 - y0])
            };
            let (id, annotations) = (i as i64 + 1, pairs.map(annotation).collect());
            AnnotatedImage { id, file_name: format!("{id}"), annotations, ..AnnotatedImage::default() }
        });
        let annotations = AnnotationSet { images: images.collect(), classes, ..AnnotationSet::default() };
        Self { image: picture(subject.size, 0), annotations, objects }
    }
}

impl Dataset for Noise {
    fn sample(&self, index: usize) -> Result<Sample, SampleError> {
        let GroundTruth { boxes, classes } = self.objects[index].clone();
        Ok(Sample { image: self.image.clone(), boxes, classes })
    }

    fn annotations(&self) -> &AnnotationSet {
        &self.annotations
    }
}

/// A folder for the models that a training writes, of which nothing is kept.
struct Output(PathBuf);

impl Output {
    fn new() -> Self {
        Self(std::env::temp_dir().join(format!("retinanet-bench-{}", std::process::id())))
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        // It may never have been made.
        _ = std::fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::Cli;
    use clap::Parser;

    /// Of so small a network that it takes seconds, on the processor and, with its engines, on the twin of a GPU.
    #[test]
    fn so_many_steps_are_timed_as_asked_for() {
        let devices = [
            Some(ComputeDevice::Cpu),
            #[cfg(feature = "cuda")]
            retinanet_cuda::Twin::new().ok().map(|twin| ComputeDevice::Cuda(Arc::new(twin))),
        ];
        for device in devices.into_iter().flatten() {
            let line = "retinanet bench --mode train --preset small_r18 --set backbone.width=8 --set fpn.channels=16 \
                --set head.channels=16 --num-classes 3 --size 64x96 --batch 2 --repeat 2";
            let cli = Cli::try_parse_from(line.split_whitespace()).expect("arguments");
            let crate::args::Command::Bench(args) = cli.command else { panic!("bench") };
            let subject = Subject::new(&args).expect("a network");
            let measured = measure(&subject, &args, device).expect("steps");
            assert_eq!((measured.runs.len(), measured.images_per_run), (2, 2));
            assert!(measured.runs.iter().all(|run| run.total > 0.0), "{:?}", measured.runs);
        }
        assert!(!Output::new().0.exists());
    }
}
