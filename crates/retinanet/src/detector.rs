//! A trained detector: a file in, detections out.

use crate::config::Config;
use crate::error::{Error, Result};
use crate::import::{self, Origin, Toolkit};
use crate::model::{Model, Predictions};
use crate::quantization;
use crate::train::TRAINING_FORMAT;
use crate::weights::{self, WeightFile};
use candle_core::{DType, Device, Tensor};
use retinanet_anchors::{Detection, ImageSize};
use retinanet_annotations::Class;
use retinanet_data::{Batch, Image};
use retinanet_ops::network::QuantizationTable;
use std::collections::BTreeMap;
use std::path::Path;

/// A model with the configuration and the classes that it was trained with.
#[derive(Clone, Debug)]
pub struct Detector {
    /// What was trained, and how pictures come in and detections go out.
    pub config: Config,
    /// The class of each output, in order.
    pub classes: Vec<Class>,
    /// Network and weights.
    pub model: Model,
    /// The layers that run in 8 bits where [`Precision::Int8`](retinanet_ops::kernels::cpu::inference::Precision) is asked for.
    ///
    /// The model's weights are those that the integers stand for, so that all else runs as with any other detector.
    pub quantization: Option<QuantizationTable>,
    /// Who trained it.
    pub origin: Origin,
}

/// Entries of a checkpoint's metadata.
pub(crate) const FORMAT: &str = "format";
pub(crate) const CONFIG: &str = "config";
pub(crate) const CLASSES: &str = "classes";
const QUANTIZATION: &str = "quantization";
const ORIGIN: &str = "origin";

impl Detector {
    /// A detector trained here that is not quantised.
    pub fn new(config: Config, classes: Vec<Class>, model: Model) -> Self {
        Self { config, classes, model, quantization: None, origin: Origin::default() }
    }

    /// Reads a checkpoint of ours, or the weights of a RetinaNet of torchvision (v1 or v2), Detectron2 or MMDetection: `.pth`,
    /// `.pkl` or `.safetensors`, recognised by content.
    ///
    /// A checkpoint carries configuration and classes. Of other toolkits' files the architecture is inferred from names and
    /// shapes, and the rest is as the toolkit has it: [`origin`](Self::origin) says what was assumed. Colours and anchors are
    /// put into our order.
    ///
    /// Output i of torchvision's files is category id i, named after the number unless the file is one of the released COCO
    /// ones. 80 outputs of Detectron2 or MMDetection are COCO's classes, unless the file names others.
    ///
    /// # Errors
    /// The file cannot be read, or what it holds is no RetinaNet; see [`weights::read`] for hostile files.
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let file = weights::read(path)?;
        if file.metadata.contains_key(CONFIG) {
            Self::from_checkpoint(path, file)
        } else {
            weights::sha256(path).map_err(Error::from).and_then(|sha256| Self::from_toolkit(file, &sha256))
        }
        .map_err(|source| match source {
            Error::Metadata { .. } => source,
            _ => Error::Model { path: path.to_owned(), source: Box::new(source) },
        })
    }

    fn from_checkpoint(path: &Path, file: WeightFile) -> Result<Self> {
        let metadata = |key: &'static str, message: String| Error::Metadata { path: path.to_owned(), key, message };
        refuse_training(path, &file)?;
        let text = file.metadata.get(CONFIG).map(String::as_str).unwrap_or_default();
        let config = Config::parse(text, &[]).map_err(|e| metadata(CONFIG, e.to_string()))?;
        let classes = file
            .metadata
            .get(CLASSES)
            .ok_or_else(|| metadata(CLASSES, "expected a list of classes, found none".to_owned()))?;
        let classes: Vec<Class> = serde_json::from_str(classes).map_err(|e| metadata(CLASSES, e.to_string()))?;
        let model = Model::with_tensors(&config, classes.len(), file.tensors)?;
        if let Some(table) = &file.quantization {
            quantization::check(&model.network, table)?.map_err(|message| metadata(QUANTIZATION, message))?;
        }
        let origin = file.metadata.get(ORIGIN).map(|text| serde_json::from_str(text)).transpose();
        let origin = origin.map_err(|e| metadata(ORIGIN, e.to_string()))?.unwrap_or_default();
        Ok(Self { config, classes, model, quantization: file.quantization, origin })
    }

    fn from_toolkit(file: WeightFile, sha256: &str) -> Result<Self> {
        let import::Imported { config, classes, tensors, origin } = import::import(file, sha256)?;
        config.validate()?;
        let model = Model::with_tensors(&config, classes.len(), tensors)?;
        Ok(Self { config, classes, model, quantization: None, origin })
    }

    /// Writes a checkpoint: the tensors under torchvision's names, with configuration and classes, whole or not at all.
    ///
    /// The layers of a quantised detector are written as 8-bit integers with their scales: the same bytes as were loaded.
    ///
    /// # Errors
    /// The file cannot be written, or the weight of a quantised layer has changed since.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        self.save_as(path, DType::F32)
    }

    /// As [`save`](Self::save), with tensors of f32, f16 or bf16, rounded to the nearest; what is loaded is f32 again.
    ///
    /// # Errors
    /// As of [`save`](Self::save), or a number is out of the range of f16, or the detector is quantised and the tensors are
    /// not to be f32.
    pub fn save_as(&self, path: impl AsRef<Path>, dtype: DType) -> Result<()> {
        let classes = serde_json::to_string(&self.classes).expect("numbers and strings have a form in JSON");
        let mut metadata = BTreeMap::from([
            (FORMAT.to_owned(), "retinanet".to_owned()),
            (CONFIG.to_owned(), self.config.to_toml()?),
            (CLASSES.to_owned(), classes),
        ]);
        if self.origin.toolkit != Toolkit::Retinanet {
            let origin = serde_json::to_string(&self.origin).expect("strings have a form in JSON");
            metadata.insert(ORIGIN.to_owned(), origin);
        }
        match &self.quantization {
            None => weights::write(path.as_ref(), &weights::cast(self.tensors(), dtype)?, &metadata)?,
            Some(table) if dtype == DType::F32 => {
                weights::write_quantized(path.as_ref(), &self.tensors(), table, &metadata)?;
            }
            Some(_) => {
                let (expected, found) = ("f32 beside the 8-bit integers of a quantised model", format!("{dtype:?}"));
                let what = "type of the tensors".to_owned();
                return Err(weights::WeightsError::Layout { what, expected: expected.to_owned(), found }.into());
            }
        }
        Ok(())
    }

    /// The weights by name.
    pub(crate) fn tensors(&self) -> BTreeMap<String, Tensor> {
        let parameters = self.model.parameters.iter();
        parameters.map(|(name, variable)| (name.to_owned(), variable.as_detached_tensor())).collect()
    }

    /// Predictions for images `[N, H, W, 3]` as the 8-bit network makes them, its rounding simulated in f32: slow, to compare
    /// with.
    ///
    /// What is not quantised runs in f32, as does all of a detector that is not quantised.
    ///
    /// # Errors
    /// The images have another shape.
    pub fn predict_simulated(&self, images: &Tensor) -> Result<Predictions> {
        let table = self.quantization.clone().unwrap_or_default();
        quantization::predict_simulated(&self.model, &table, images)
    }

    /// Detections of one picture that [`Self::predict_simulated`] leads to.
    ///
    /// # Errors
    /// A tensor operation fails.
    pub fn detect_simulated(&self, image: &Image) -> Result<Vec<Detection>> {
        let batch = self.config.preprocessing.batch(&[image.view()])?;
        let predictions = self.predict_simulated(&batch_tensor(&batch)?)?;
        Ok(self.detections(&predictions, &batch)?.pop().unwrap_or_default())
    }

    /// What the predictions say, in the pixels of the original pictures.
    fn detections(&self, predictions: &Predictions, batch: &Batch) -> Result<Vec<Vec<Detection>>> {
        let anchors = self.model.network.level_anchors(batch.padded, &predictions.grids)?;
        let sizes: Vec<ImageSize> = batch.images.iter().map(|image| image.resized).collect();
        let mut detections =
            self.config.post_processing.detections(predictions, &anchors, &self.config.box_coder, &sizes)?;
        for (image, detections) in batch.images.iter().zip(&mut detections) {
            for detection in detections {
                detection.bbox = image.to_original(&detection.bbox);
            }
        }
        Ok(detections)
    }
}

/// Refuses the state of a training, whose weights are not yet a model: they may not be those that detect.
pub(crate) fn refuse_training(path: &Path, file: &WeightFile) -> Result<()> {
    if file.metadata.get(FORMAT).is_none_or(|format| format != TRAINING_FORMAT) {
        return Ok(());
    }
    let message = "expected a model, found the state of a training; its model is last.safetensors".to_owned();
    Err(Error::Metadata { path: path.to_owned(), key: FORMAT, message })
}

/// The batch's pixels as a tensor `[N, H, W, 3]`.
pub(crate) fn batch_tensor(batch: &Batch) -> candle_core::Result<Tensor> {
    let shape = (batch.images.len(), batch.padded.height, batch.padded.width, 3);
    Tensor::from_slice(&batch.pixels, shape, &Device::Cpu)
}
