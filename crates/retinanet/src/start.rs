//! The weights that a training starts from.

use crate::classes::{ClassLayer, class_layer, reorder};
use crate::config::Config;
use crate::detector::{CLASSES, refuse_training};
use crate::error::{Error, Result};
use crate::import::{self, Foundation, Trained};
use crate::initialize::initialize;
use crate::model::{Model, Network};
use crate::weights::{self, WeightFile};
use candle_core::{Device, Tensor};
use retinanet_annotations::Class;
use retinanet_ops::network::Parameters;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Where a training's weights come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InitialWeights {
    /// Drawn, from the configuration's seed.
    New,
    /// The backbone of this file (an ImageNet ResNet of torchvision, Caffe2, Detectron2 or MMDetection, or a whole detector);
    /// the rest drawn.
    Backbone(PathBuf),
    /// This detector; its class layer is drawn anew where the classes differ.
    Detector(PathBuf),
}

/// A model to train, and what a person should know of how it came to be.
#[derive(Debug)]
pub struct Start {
    /// Network and weights.
    pub model: Model,
    /// One sentence for each thing that was taken from the file, left in it or drawn anew.
    pub notes: Vec<String>,
}

/// Names that hold the last layer of the class subnet.
const CLASS_LAYER: &str = "head.classification_head.cls_logits.";
const BACKBONE: &str = "backbone.body.";
const STEM: &str = "backbone.body.conv1.weight";

/// Makes the model that a training starts from.
///
/// # Errors
/// A per-class alpha is not of these classes; or a file cannot be read, or lacks a tensor that it is asked for, or has it in
/// another shape: all are named.
pub fn start(config: &Config, classes: &[Class], weights: &InitialWeights) -> Result<Start> {
    config.loss.class.validate_for(classes.len())?;
    let mut start = with_weights(config, classes, weights)?;
    if config.train.ema.is_some() {
        start
            .notes
            .push("weights: the running average over the steps is what is scored and saved (train.ema)".to_owned());
    }
    Ok(start)
}

fn with_weights(config: &Config, classes: &[Class], weights: &InitialWeights) -> Result<Start> {
    match weights {
        InitialWeights::New => {
            let notes = vec![format!("weights: new, seed {}", config.train.seed)];
            Ok(Start { model: Model::new(config, classes.len(), config.train.seed)?, notes })
        }
        InitialWeights::Backbone(path) => {
            let file = read_model(path)?;
            let is_quantized = file.quantization.is_some();
            let (tensors, trained_notes) = adapted(import::foundation(file)?, config, path)?;
            let (backbone, rest): (BTreeMap<_, _>, BTreeMap<_, _>) =
                tensors.into_iter().partition(|(name, _)| name.starts_with(BACKBONE));
            let mut notes = vec![format!("weights: backbone from {}, the rest new", path.display())];
            notes.extend(quantized_note(path, is_quantized));
            notes.extend(trained_notes);
            if !rest.is_empty() {
                notes.push(format!(
                    "weights: {} tensors of {} beside the backbone are not used",
                    rest.len(),
                    path.display()
                ));
            }
            Ok(Start {
                model: complete(config, Network::new(config, classes.len())?, path, backbone, |name| {
                    !name.starts_with(BACKBONE)
                })?,
                notes,
            })
        }
        InitialWeights::Detector(path) => {
            let file = read_model(path)?;
            let named: Option<Vec<Class>> = file.metadata.get(CLASSES).and_then(|text| serde_json::from_str(text).ok());
            let is_quantized = file.quantization.is_some();
            let (mut tensors, trained_notes) = adapted(import::foundation(file)?, config, path)?;
            let mut notes = vec![format!("weights: from {}", path.display())];
            notes.extend(quantized_note(path, is_quantized));
            notes.extend(trained_notes);

            let network = Network::new(config, classes.len())?;
            let bias = format!("{CLASS_LAYER}bias");
            let shape_fits = tensors
                .get(&bias)
                .is_some_and(|t| Some(t.dims()) == network.expected_shapes().get(&bias).map(Vec::as_slice));
            let layer = class_layer(named.as_deref(), classes, shape_fits);
            let is_new = matches!(layer, ClassLayer::New(_));
            match layer {
                ClassLayer::Kept(note) => notes.extend(note),
                ClassLayer::Reordered(order, note) => {
                    reorder(&mut tensors, CLASS_LAYER, &order)?;
                    notes.push(note);
                }
                ClassLayer::New(note) => {
                    tensors.retain(|name, _| !name.starts_with(CLASS_LAYER));
                    notes.push(note);
                }
            }
            Ok(Start {
                model: complete(config, network, path, tensors, |name| is_new && name.starts_with(CLASS_LAYER))?,
                notes,
            })
        }
    }
}

/// Reads the weights of a model, which a training's state is not.
fn read_model(path: &Path) -> Result<WeightFile> {
    let file = weights::read(path)?;
    refuse_training(path, &file)?;
    Ok(file)
}

/// The tensors of another training for pictures prepared as the configuration says, and a note for each thing in which the
/// configuration leaves what they were trained with.
fn adapted(foundation: Foundation, config: &Config, path: &Path) -> Result<(BTreeMap<String, Tensor>, Vec<String>)> {
    let Foundation { mut tensors, trained } = foundation;
    let Some(Trained { toolkit, mean, std, stride_in_1x1, relu_before_p7 }) = trained else {
        return Ok((tensors, Vec::new()));
    };
    // A hundredth of a grey level.
    let is_same = |a: [f32; 3], b: [f32; 3]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 4e-5);
    if !is_same(mean, config.preprocessing.mean) {
        let (path, found) = (path.display(), config.preprocessing.mean);
        let message = format!(
            "{path}: preprocessing.mean: expected {mean:?} as the weights were trained with (--set \"preprocessing.mean={mean:?}\"), \
             found {found:?}"
        );
        return Err(Error::Data(message));
    }
    // The stem of pictures that are divided by another deviation: its weights are multiplied instead, which padding with
    // zeros does not see.
    let scales: Vec<f32> = config.preprocessing.std.iter().zip(std).map(|(ours, theirs)| ours / theirs).collect();
    let stem = tensors.get_mut(STEM).filter(|stem| stem.dims().get(1) == Some(&scales.len()));
    if let Some(stem) = stem.filter(|_| std != config.preprocessing.std) {
        *stem = stem.broadcast_mul(&Tensor::from_vec(scales, (1, 3, 1, 1), &Device::Cpu)?)?;
    }
    let mut notes = Vec::new();
    let mut differs = |field: &str, theirs: bool, ours: bool| {
        if theirs != ours {
            notes.push(format!("weights: {toolkit} trained them with {field}={theirs}; the configuration has {ours}"));
        }
    };
    if config.backbone.depth.is_bottleneck() {
        differs("backbone.stride_in_1x1", stride_in_1x1, config.backbone.stride_in_1x1);
    }
    if tensors.keys().any(|name| name.starts_with("head.")) {
        differs("fpn.relu_before_p7", relu_before_p7, config.fpn.relu_before_p7);
    }
    Ok((tensors, notes))
}

/// What to know of a training that starts from 8 bits.
fn quantized_note(path: &Path, is_quantized: bool) -> Option<String> {
    is_quantized.then(|| {
        format!(
            "weights: {} is quantised: training goes on in f32 from what its 8-bit weights stand for; the model it was \
             made from starts better",
            path.display()
        )
    })
}

/// The file's tensors, completed by new ones where `is_new` allows it.
fn complete(
    config: &Config,
    network: Network,
    path: &Path,
    mut tensors: BTreeMap<String, Tensor>,
    is_new: impl Fn(&str) -> bool,
) -> Result<Model> {
    let expected = network.expected_shapes().into_iter().filter(|(name, _)| !is_new(name)).collect();
    if tensors.is_empty() {
        let message = format!(
            "{}: expected {} tensors of a detector or a backbone, found none with such names",
            path.display(),
            network.expected_shapes().len()
        );
        return Err(Error::Data(message));
    }
    weights::check(&expected, &tensors)?;
    for spec in network.parameters().iter().filter(|spec| is_new(&spec.name)) {
        tensors.insert(spec.name.clone(), initialize(spec, config.train.seed)?);
    }
    Ok(Model { network, parameters: Parameters::new(tensors)? })
}
