//! One run at a time, with the memory that it needs.

use super::DetectionPlan;
use super::report::RunReport;
use super::session::Session;
use crate::error::{Error, Result};
use crate::model::Predictions;
use crate::postprocess::Candidate;
use candle_core::{Device, Tensor};
use retinanet_anchors::{Detection, ImageSize, Pyramid};
use retinanet_data::{Batch, BatchImage, ImageView, PreparationScratch};
use retinanet_head::HeadOutput;
use retinanet_ops::network::plan::Output;
use std::time::Instant;

/// The memory of a run, kept from one to the next.
#[derive(Debug)]
pub(super) struct Memory {
    session: Session,
    scratch: PreparationScratch,
    /// Rows and columns of the padded images.
    sizes: Vec<(usize, usize)>,
    pub(super) report: RunReport,
}

impl Memory {
    pub(super) fn new(session: Session) -> Self {
        Self { session, scratch: PreparationScratch::default(), sizes: Vec::new(), report: RunReport::default() }
    }
}

/// Runs the network of a [`DetectionPlan`] on prepared pixels, everywhere, and shows what it gives.
///
/// ```no_run
/// # use retinanet::{Detector, InferenceOptions, retinanet_anchors::ImageSize};
/// let plan = Detector::load("runs/cells/last.safetensors")?.into_plan(&InferenceOptions::default())?;
/// let mut runner = plan.runner();
/// runner.resize(&[ImageSize::new(320, 256)])?;
/// runner.input_mut(0).fill(0.5);
/// runner.run()?;
/// println!("{:?}", runner.report().backbone);
/// # Ok::<(), retinanet::Error>(())
/// ```
#[derive(Debug)]
pub struct Runner<'a> {
    plan: &'a DetectionPlan,
    /// There until it is given back.
    memory: Option<Memory>,
}

impl<'a> Runner<'a> {
    pub(super) fn new(plan: &'a DetectionPlan, memory: Memory) -> Self {
        Self { plan, memory: Some(memory) }
    }

    fn memory(&self) -> &Memory {
        self.memory.as_ref().expect("it is given back at the end of the runner")
    }

    fn memory_mut(&mut self) -> &mut Memory {
        self.memory.as_mut().expect("it is given back at the end of the runner")
    }

    /// Prepares for images padded to these sizes, which may differ; what was computed before is lost.
    ///
    /// # Errors
    /// A size is empty, or the feature maps do not fit in memory.
    pub fn resize(&mut self, padded: &[ImageSize]) -> Result<()> {
        let memory = self.memory_mut();
        memory.sizes.clear();
        memory.sizes.extend(padded.iter().map(|size| (size.height, size.width)));
        self.lay_out()
    }

    fn lay_out(&mut self) -> Result<()> {
        let plan = self.plan;
        let memory = self.memory_mut();
        let Memory { session, sizes, .. } = memory;
        plan.install(|| session.resize(sizes))?;
        memory.report = RunReport::default();
        Ok(())
    }

    /// The normalised pixels of an image, `[H, W, 3]`, to be written before every run: what follows uses their memory.
    ///
    /// # Panics
    /// There are fewer images.
    pub fn input_mut(&mut self, image_idx: usize) -> &mut [f32] {
        self.memory_mut().session.input_mut(image_idx)
    }

    /// Computes all class logits and box deltas.
    ///
    /// # Errors
    /// A device fails; the processor does not.
    ///
    /// # Panics
    /// [`Self::resize`] was not called.
    pub fn run(&mut self) -> Result<()> {
        let plan = self.plan;
        let memory = self.memory_mut();
        plan.install(|| {
            memory.session.run_first()?;
            memory.session.run_rest();
            Ok::<_, Error>(())
        })?;
        memory.session.report(&mut memory.report);
        memory.report.box_head_share = 1.0;
        Ok(())
    }

    /// What the last run took.
    pub fn report(&self) -> RunReport {
        self.memory().report
    }

    /// The class logits of a level of an image, `[H, W, A * K]`.
    ///
    /// # Panics
    /// There are fewer levels or images, or [`Self::resize`] was not called.
    pub fn class_logits(&self, level_idx: usize, image_idx: usize) -> Output<'_> {
        self.memory().session.first_output(level_idx, image_idx)
    }

    /// The box deltas of a level of an image, `[H, W, A * 4]`.
    ///
    /// # Panics
    /// As for [`Self::class_logits`].
    pub fn box_deltas(&self, level_idx: usize, image_idx: usize) -> Output<'_> {
        self.memory().session.rest_output(level_idx, image_idx)
    }

    /// What [`Self::run`] has computed, copied to tensors.
    ///
    /// # Errors
    /// The images differ in size.
    pub fn predictions(&self) -> Result<Predictions> {
        let memory = self.memory();
        if memory.sizes.windows(2).any(|pair| pair[0] != pair[1]) {
            return Err(Error::Data(format!("images: expected one size, found {:?}", memory.sizes)));
        }
        let network = &self.plan.network;
        let pyramid = |output: fn(&Session, usize, usize) -> Output<'_>| {
            let levels = network.levels().into_iter().enumerate().map(|(level_idx, _)| {
                let images = (0..memory.sizes.len()).map(|image_idx| {
                    let Output { height, width, values } = output(&memory.session, level_idx, image_idx);
                    Tensor::from_slice(values, (height, width, values.len() / (height * width)), &Device::Cpu)
                });
                Tensor::stack(&images.collect::<candle_core::Result<Vec<_>>>()?, 0)
            });
            let levels = levels.collect::<candle_core::Result<Vec<_>>>()?;
            Ok::<_, candle_core::Error>(Pyramid::new(network.levels()[0], levels).expect("a network has a pyramid"))
        };
        let output =
            HeadOutput { class_logits: pyramid(Session::first_output)?, box_deltas: pyramid(Session::rest_output)? };
        Ok(network.predictions(output)?)
    }

    /// Detections of pictures that differ in size, each in its own pixels.
    pub(super) fn detect(&mut self, images: &[ImageView<'_>]) -> Result<Vec<Vec<Detection>>> {
        let (plan, start) = (self.plan, Instant::now());
        let preprocessing = &plan.config.preprocessing;
        let memory = self.memory_mut();
        memory.sizes.clear();
        memory.sizes.extend(images.iter().map(|image| {
            let padded = preprocessing.sizes(image.size).padded;
            (padded.height, padded.width)
        }));
        self.lay_out()?;
        let Memory { session, scratch, .. } = self.memory_mut();
        let prepare = |(image_idx, image): (usize, &ImageView<'_>)| {
            Ok(preprocessing.prepare_into(image, scratch, session.input_mut(image_idx))?)
        };
        let prepared = images.iter().enumerate().map(prepare).collect::<Result<Vec<BatchImage>>>()?;
        self.memory_mut().report.preprocess = start.elapsed();
        self.detect_laid_out(&prepared)
    }

    /// Detections of a batch, whose pixels are copied.
    pub(super) fn detect_prepared(&mut self, batch: &Batch) -> Result<Vec<Vec<Detection>>> {
        let start = Instant::now();
        let padded = vec![batch.padded; batch.images.len()];
        self.resize(&padded)?;
        let memory = self.memory_mut();
        let image_len = batch.pixels.len() / batch.images.len();
        for (image_idx, pixels) in batch.pixels.chunks_exact(image_len).enumerate() {
            memory.session.input_mut(image_idx).copy_from_slice(pixels);
        }
        memory.report.preprocess = start.elapsed();
        self.detect_laid_out(&batch.images)
    }

    /// Detections of the images whose pixels are in place, in the pixels of the original pictures.
    fn detect_laid_out(&mut self, images: &[BatchImage]) -> Result<Vec<Vec<Detection>>> {
        let plan = self.plan;
        let post = &plan.config.post_processing;
        let num_levels = plan.network.levels().len();
        let num_classes = plan.network.num_classes();
        let Memory { session, sizes, report, .. } = self.memory_mut();
        #[cfg(feature = "cuda")]
        if let Session::Device(device) = session {
            let resized: Vec<ImageSize> = images.iter().map(|image| image.resized).collect();
            if let Some(mut detections) = device.detect(&plan.network, &resized)? {
                for (image, found) in images.iter().zip(&mut detections) {
                    found.iter_mut().for_each(|detection| detection.bbox = image.to_original(&detection.bbox));
                }
                session.report(report);
                report.box_head_share = 1.0;
                return Ok(detections);
            }
        }
        session.run_first()?;

        let start = Instant::now();
        let level = |image_idx: usize, level_idx: usize| {
            post.candidates(session.first_output(level_idx, image_idx).values, num_classes)
        };
        let image = |image_idx: usize| (0..num_levels).map(|level_idx| level(image_idx, level_idx)).collect();
        let candidates: Vec<Vec<Vec<Candidate>>> = (0..images.len()).map(image).collect();
        report.post_process = start.elapsed();

        if let (true, Session::Cpu(session)) = (plan.sparse_head, &mut *session) {
            let start = Instant::now();
            let anchors_per_location = plan.network.anchors_per_location();
            session.clear_wanted();
            for (image_idx, levels) in candidates.iter().enumerate() {
                for (level_idx, level) in levels.iter().enumerate() {
                    let wanted = session.wanted_mut(level_idx, image_idx);
                    level.iter().for_each(|candidate| wanted[candidate.anchor_idx / anchors_per_location] = 1);
                }
            }
            report.post_process += start.elapsed();
            report.box_head_share = session.run_rest_where_wanted();
        } else {
            session.run_rest();
            report.box_head_share = 1.0;
        }
        session.report(report);

        let start = Instant::now();
        let mut detections = Vec::with_capacity(images.len());
        for (image_idx, (image, levels)) in images.iter().zip(&candidates).enumerate() {
            let (height, width) = sizes[image_idx];
            let deltas: Vec<Output<'_>> =
                (0..num_levels).map(|level_idx| session.rest_output(level_idx, image_idx)).collect();
            let grids = plan.network.grids(deltas.iter().map(|output| ImageSize::new(output.width, output.height)));
            let anchors = plan.network.level_anchors(ImageSize::new(width, height), &grids)?;
            let bbox_of = |level_idx: usize, anchor_idx: usize| {
                let anchor = anchors.values()[level_idx].get(anchor_idx).expect("a candidate is of an anchor");
                plan.config.box_coder.decode(deltas[level_idx].values.as_chunks::<4>().0[anchor_idx], &anchor)
            };
            let mut found = post.finish(levels, bbox_of, image.resized);
            found.iter_mut().for_each(|detection| detection.bbox = image.to_original(&detection.bbox));
            detections.push(found);
        }
        report.post_process += start.elapsed();
        Ok(detections)
    }
}

impl Drop for Runner<'_> {
    fn drop(&mut self) {
        if let Some(memory) = self.memory.take() {
            self.plan.give_back(memory);
        }
    }
}
