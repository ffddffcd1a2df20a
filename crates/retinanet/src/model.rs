//! The network: backbone, pyramid and subnets, with their parameters.

use crate::config::{Config, TrainConfig};
use crate::error::Result;
use crate::initialize::initialize;
use crate::plan::report;
use crate::weights;
use candle_core::Tensor;
use retinanet_anchors::{AnchorGenerator, BBox, ImageSize, LevelAnchors, Pyramid, PyramidLevel};
use retinanet_backbone::{Fpn, ResNet};
use retinanet_head::{Head, HeadOutput};
use retinanet_ops::network::plan::{Recorder, Value};
use retinanet_ops::network::training::TrainingOptions;
use retinanet_ops::network::{ConvLayer, Engine, InferenceEngine, ParameterSpec, Parameters, TrainingEngine};
use std::collections::BTreeMap;

/// Red, green and blue.
pub(crate) const IMAGE_CHANNELS: usize = 3;

/// A RetinaNet.
#[derive(Clone, Debug)]
pub struct Model {
    /// The description of its layers.
    pub network: Network,
    /// Their tensors.
    pub parameters: Parameters,
}

/// The description of a RetinaNet: what the paper's Figure 3 shows.
#[derive(Clone, Debug)]
pub struct Network {
    backbone: ResNet,
    fpn: Fpn,
    head: Head,
    anchor_generator: AnchorGenerator,
    num_classes: usize,
}

/// The maps before the head.
#[derive(Clone, Debug)]
pub struct Features<V> {
    /// C2..C5, `[N, H, W, C]`.
    pub stages: Pyramid<V>,
    /// The pyramid, P3..P7 in the paper, `[N, H, W, C]`.
    pub pyramid: Pyramid<V>,
}

/// Logits and deltas of a batch, level by level.
#[derive(Clone, Debug)]
pub struct Predictions {
    /// `[N, R, K]` a level, R = H * W * A.
    pub class_logits: Pyramid<Tensor>,
    /// `[N, R, 4]` a level.
    pub box_deltas: Pyramid<Tensor>,
    /// The size of each level's feature map.
    pub grids: Pyramid<ImageSize>,
}

/// The values of a parameter, in the order of its tensor.
#[cfg(feature = "cuda")]
pub(crate) fn values(parameters: &Parameters, name: &str) -> candle_core::Result<Vec<f32>> {
    parameters.detached(name)?.flatten_all()?.to_vec1()
}

impl Network {
    /// Describes the network for K classes.
    ///
    /// # Errors
    /// The configuration describes no network.
    pub fn new(config: &Config, num_classes: usize) -> Result<Self> {
        let backbone = ResNet::new(&config.backbone, "backbone.body")?;
        let fpn = Fpn::new(&config.fpn, backbone.out_channels(), "backbone.fpn")?;
        let anchor_generator = AnchorGenerator::new(&config.anchors, config.fpn.finest)?;
        // The generator's own check needs the grids; this one comes before any image is read.
        let (levels, sizes) = (fpn.levels().len(), config.anchors.sizes.len());
        if levels != sizes {
            let (field, expected, found) =
                ("anchors.sizes".to_owned(), format!("one for each of {levels} levels"), sizes.to_string());
            return Err(crate::ConfigError::Value { field, expected, found }.into());
        }
        let head = Head::new(&config.head, config.fpn.channels, anchor_generator.anchors_per_location(), num_classes)?;
        Ok(Self { backbone, fpn, head, anchor_generator, num_classes })
    }

    /// Images `[N, H, W, 3]` to class logits `[N, H, W, A * K]` and box deltas `[N, H, W, A * 4]` a level.
    ///
    /// # Errors
    /// The engine refuses a layer.
    pub fn forward<E: Engine>(&self, engine: &mut E, images: &E::Value) -> candle_core::Result<HeadOutput<E::Value>> {
        let features = self.features(engine, images)?;
        self.head.forward(engine, &features.pyramid)
    }

    /// The maps before the head, for those who want features.
    ///
    /// # Errors
    /// The engine refuses a layer.
    pub fn features<E: Engine>(&self, engine: &mut E, images: &E::Value) -> candle_core::Result<Features<E::Value>> {
        let stages = self.backbone.forward(engine, images)?; // C2..C5
        let pyramid = self.fpn.forward(engine, &stages)?; // P3..P7
        Ok(Features { stages, pyramid })
    }

    /// Anchors for images padded to this size, one list a level.
    ///
    /// # Errors
    /// The grids are not those of the network's levels.
    pub fn anchors(&self, padded: ImageSize, grids: &Pyramid<ImageSize>) -> Result<Pyramid<Vec<BBox>>> {
        Ok(self.anchor_generator.generate(padded, grids)?)
    }

    /// The same anchors, each worked out when it is asked for.
    ///
    /// # Errors
    /// As [`anchors`](Self::anchors).
    pub fn level_anchors(&self, padded: ImageSize, grids: &Pyramid<ImageSize>) -> Result<Pyramid<LevelAnchors<'_>>> {
        Ok(self.anchor_generator.on_grids(padded, grids)?)
    }

    /// How the network is trained: in this precision, and with this much of it run again instead of kept.
    pub fn training_options(&self, config: &TrainConfig) -> TrainingOptions {
        let recompute = self.backbone.block_prefixes(config.recompute_stages);
        TrainingOptions { precision: config.dtype, recompute, ..TrainingOptions::default() }
    }

    /// What makes the anchors.
    pub(crate) fn anchor_generator(&self) -> &AnchorGenerator {
        &self.anchor_generator
    }

    /// The levels of the pyramid, fine to coarse.
    pub fn levels(&self) -> Vec<PyramidLevel> {
        self.fpn.levels()
    }

    /// The sizes of the levels' maps, in the order of the levels.
    pub(crate) fn grids(&self, sizes: impl IntoIterator<Item = ImageSize>) -> Pyramid<ImageSize> {
        Pyramid::new(self.levels()[0], sizes.into_iter().collect()).expect("a network has a pyramid")
    }

    /// A.
    pub fn anchors_per_location(&self) -> usize {
        self.anchor_generator.anchors_per_location()
    }

    /// Writes down what [`Self::forward`] does, by part.
    pub(crate) fn record(&self) -> candle_core::Result<(Recorder, HeadOutput<Value>)> {
        let (mut recorder, images) = Recorder::new(IMAGE_CHANNELS);
        recorder.begin_part(report::BACKBONE);
        let stages = self.backbone.forward(&mut recorder, &images)?;
        recorder.begin_part(report::FPN);
        let pyramid = self.fpn.forward(&mut recorder, &stages)?;
        recorder.begin_part(report::HEAD);
        let output = self.head.forward(&mut recorder, &pyramid)?;
        Ok((recorder, output))
    }

    /// Every layer, backbone first.
    pub fn layers(&self) -> impl Iterator<Item = &ConvLayer> {
        self.backbone.layers().chain(self.fpn.layers()).chain(self.head.layers())
    }

    /// Every parameter, in the order of the layers.
    pub fn parameters(&self) -> Vec<ParameterSpec> {
        self.layers().flat_map(ConvLayer::parameters).collect()
    }

    /// Name and shape of every tensor.
    pub fn expected_shapes(&self) -> BTreeMap<String, Vec<usize>> {
        self.parameters().into_iter().map(|spec| (spec.name, spec.shape)).collect()
    }

    /// K.
    pub fn num_classes(&self) -> usize {
        self.num_classes
    }

    pub(crate) fn predictions(&self, output: HeadOutput<Tensor>) -> candle_core::Result<Predictions> {
        let grids = output.class_logits.try_map(|_, logits| {
            let (_, height, width, _) = logits.dims4()?;
            Ok::<_, candle_core::Error>(ImageSize::new(width, height))
        })?;
        // Channels-last makes the anchors of a level consecutive rows: a reshape, no copy.
        let rows = |pyramid: &Pyramid<Tensor>, columns: usize| {
            pyramid.try_map(|_, level| {
                let (images, height, width, channels) = level.dims4()?;
                level.reshape((images, height * width * channels / columns, columns))
            })
        };
        Ok(Predictions {
            class_logits: rows(&output.class_logits, self.num_classes)?,
            box_deltas: rows(&output.box_deltas, 4)?,
            grids,
        })
    }
}

impl Model {
    /// A network with new weights; equal seeds give equal weights.
    ///
    /// # Errors
    /// The configuration describes no network.
    pub fn new(config: &Config, num_classes: usize, seed: u64) -> Result<Self> {
        let network = Network::new(config, num_classes)?;
        let tensors = network.parameters().into_iter().map(|spec| Ok((spec.name.clone(), initialize(&spec, seed)?)));
        let parameters = Parameters::new(tensors.collect::<candle_core::Result<Vec<_>>>()?)?;
        Ok(Self { network, parameters })
    }

    /// A network with these tensors: all that it needs, in its shapes, and no other.
    ///
    /// # Errors
    /// The configuration describes no network, or tensors are missing, unexpected or mis-shaped: all are named.
    pub fn with_tensors(config: &Config, num_classes: usize, tensors: BTreeMap<String, Tensor>) -> Result<Self> {
        let network = Network::new(config, num_classes)?;
        weights::check(&network.expected_shapes(), &tensors)?;
        Ok(Self { network, parameters: Parameters::new(tensors)? })
    }

    /// Predictions for images `[N, H, W, 3]`, everything fused, no graph.
    ///
    /// # Errors
    /// The images have another shape.
    pub fn predict(&self, images: &Tensor) -> Result<Predictions> {
        let output = self.network.forward(&mut InferenceEngine::new(&self.parameters), images)?;
        Ok(self.network.predictions(output)?)
    }

    /// Predictions with the graph for their gradients, and the engine that holds the batch statistics.
    ///
    /// # Errors
    /// The images have another shape.
    pub fn predict_for_training(&self, images: &Tensor) -> Result<(Predictions, TrainingEngine<'_>)> {
        let mut engine = TrainingEngine::new(&self.parameters);
        let output = self.network.forward(&mut engine, images)?;
        Ok((self.network.predictions(output)?, engine))
    }
}
