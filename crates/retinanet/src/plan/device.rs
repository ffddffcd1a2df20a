//! Runs on a device.

use crate::config::Config;
use crate::error::{Error, Result};
use crate::model::Network;
use crate::postprocess::{Borders, PostProcessing};
use retinanet_anchors::{Detection, ImageSize};
use retinanet_cuda::kernels;
use retinanet_cuda::network::{Detections, Inference};
use retinanet_cuda::{Device, Element};
use retinanet_ops::kernels::ImageShape;
use retinanet_ops::kernels::cpu::inference::Precision;
use retinanet_ops::network::Parameters;
use retinanet_ops::network::plan::{Output, PlannedLayer};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A network on a device, which does one run after another.
#[derive(Debug)]
pub(super) struct DeviceNetwork {
    running: Mutex<Running>,
    layers: Vec<String>,
    precision: Precision,
    num_levels: usize,
}

#[derive(Debug)]
struct Running {
    inference: Inference,
    /// None where a level has more candidates than the kernels take.
    detections: Option<Detections>,
}

/// How maps are stored in this precision.
///
/// # Errors
/// There is no such on a device.
pub(crate) fn element(precision: Precision) -> Result<Element> {
    match precision {
        Precision::F32 => Ok(Element::F32),
        Precision::Bf16 => Ok(Element::Bf16),
        Precision::F16 => Ok(Element::F16),
        Precision::Int8 => {
            let (expected, found) =
                ("f32, bf16 or f16 (8 bits run on the processor alone)".to_owned(), "a GPU".to_owned());
            Err(Error::Precision { precision: "int8", expected, found })
        }
    }
}

impl DeviceNetwork {
    pub(super) fn new(
        device: &Arc<dyn Device>,
        network: &Network,
        config: &Config,
        parameters: &Parameters,
        precision: Precision,
    ) -> Result<Self> {
        let (recorder, output) = network.record()?;
        let outputs = [output.class_logits.into_values(), output.box_deltas.into_values()].concat();
        let parameter = |name: &str| {
            crate::model::values(parameters, name).map_err(|error| retinanet_cuda::Error::Plan(error.into()))
        };
        let inference = Inference::new(device, &recorder, &outputs, element(precision)?, &parameter)?;
        let layers = network.layers().map(|layer| layer.name.clone()).collect();
        let post = &config.post_processing;
        let detections = (post.pre_nms_top_k <= kernels::MOST_CANDIDATES)
            .then(|| Detections::new(device, post_processing(post), config.box_coder, network.num_classes()));
        Ok(Self {
            running: Mutex::new(Running { inference, detections }),
            layers,
            precision,
            num_levels: network.levels().len(),
        })
    }

    pub(super) fn layers(&self) -> impl Iterator<Item = PlannedLayer<'_>> {
        self.layers.iter().map(|name| PlannedLayer { name, precision: self.precision })
    }
}

fn post_processing(post: &PostProcessing) -> kernels::PostProcessing {
    let &PostProcessing { score_threshold, pre_nms_top_k, nms_iou_threshold, max_detections, borders } = post;
    let borders = match borders {
        Borders::Torchvision => kernels::Borders::Torchvision,
        Borders::Detectron2 => kernels::Borders::Detectron2,
        Borders::Mmdetection => kernels::Borders::Mmdetection,
    };
    kernels::PostProcessing { score_threshold, pre_nms_top_k, nms_iou_threshold, max_detections, borders }
}

/// Images of one size, beside each other in a batch, and what came out.
#[derive(Debug)]
struct Group {
    images: usize,
    size: (usize, usize),
    /// Class logits, then box deltas, of all images.
    outputs: Vec<(ImageShape, Vec<f32>)>,
}

/// What goes to a network on a device and comes back.
#[derive(Debug)]
pub(super) struct DeviceSession {
    network: Arc<DeviceNetwork>,
    groups: Vec<Group>,
    pixels: Vec<f32>,
    /// Where the pixels of each image begin, and where the last end.
    starts: Vec<usize>,
    time: Duration,
}

impl DeviceSession {
    pub(super) fn new(network: Arc<DeviceNetwork>) -> Self {
        Self { network, groups: Vec::new(), pixels: Vec::new(), starts: vec![0], time: Duration::ZERO }
    }

    pub(super) fn resize(&mut self, sizes: &[(usize, usize)]) -> Result<()> {
        let groups = sizes.chunk_by(|one, other| one == other);
        self.groups = groups.map(|group| Group { images: group.len(), size: group[0], outputs: Vec::new() }).collect();
        self.starts.truncate(1);
        let mut end = 0;
        self.starts.extend(sizes.iter().map(|(height, width)| {
            end += height * width * crate::model::IMAGE_CHANNELS;
            end
        }));
        self.pixels.resize(end, 0.0);
        Ok(())
    }

    pub(super) fn input_mut(&mut self, image: usize) -> &mut [f32] {
        &mut self.pixels[self.starts[image]..self.starts[image + 1]]
    }

    /// Computes everything, and takes it from the device.
    pub(super) fn run(&mut self) -> Result<()> {
        let start = Instant::now();
        // What a run that failed leaves behind is overwritten by the next.
        let mut running = self.network.running.lock().unwrap_or_else(PoisonError::into_inner);
        let inference = &mut running.inference;
        let mut first = 0;
        for group in &mut self.groups {
            let pixels = &self.pixels[self.starts[first]..self.starts[first + group.images]];
            first += group.images;
            inference.run(pixels, (group.images, group.size.0, group.size.1))?;
            let outputs = (0..2 * self.network.num_levels).map(|idx| {
                let output = inference.output(idx);
                Ok((output.shape, output.read()?))
            });
            group.outputs = outputs.collect::<Result<_>>()?;
        }
        self.time = start.elapsed();
        Ok(())
    }

    /// The detections of the images, each in the frame of its resized image, whose size `sizes` gives; none where that is the
    /// processor's to find, from the outputs of a [`Self::run`].
    pub(super) fn detect(&mut self, network: &Network, sizes: &[ImageSize]) -> Result<Option<Vec<Vec<Detection>>>> {
        let start = Instant::now();
        let mut running = self.network.running.lock().unwrap_or_else(PoisonError::into_inner);
        let Running { inference, detections: Some(detections) } = &mut *running else { return Ok(None) };
        let mut found = Vec::with_capacity(sizes.len());
        for Group { images, size: (height, width), .. } in &self.groups {
            let (first, last) = (found.len(), found.len() + images);
            inference.run(&self.pixels[self.starts[first]..self.starts[last]], (*images, *height, *width))?;
            let padded = ImageSize::new(*width, *height);
            if !detections.has_anchors(padded) {
                let shapes = (0..self.network.num_levels).map(|level_idx| inference.output(level_idx).shape);
                let grids = network.grids(shapes.map(|shape| ImageSize::new(shape.width, shape.height)));
                detections.set_anchors(padded, network.anchors(padded, &grids)?.values())?;
            }
            found.extend(detections.find(inference, padded, &sizes[first..last])?);
        }
        self.time = start.elapsed();
        Ok(Some(found))
    }

    pub(super) fn first_output(&self, level: usize, image: usize) -> Output<'_> {
        self.output(level, image)
    }

    pub(super) fn rest_output(&self, level: usize, image: usize) -> Output<'_> {
        self.output(self.network.num_levels + level, image)
    }

    fn output(&self, idx: usize, mut image: usize) -> Output<'_> {
        let mut groups = self.groups.iter();
        let group = groups.find(|group| {
            let is_inside = image < group.images;
            image -= if is_inside { 0 } else { group.images };
            is_inside
        });
        let (ImageShape { height, width, channels, .. }, values) = &group.expect("an image of the batch").outputs[idx];
        let len = height * width * channels;
        Output { height: *height, width: *width, values: &values[image * len..(image + 1) * len] }
    }

    /// What the last [`Self::run`] or [`Self::detect`] took.
    pub(super) fn time(&self) -> Duration {
        self.time
    }
}
