//! A trained detector: a file in, detections out.

use crate::config::Config;
use crate::error::{Error, Result};
use crate::model::{Model, Predictions};
use crate::quantization;
use crate::torchvision;
use crate::weights::{self, WeightFile};
use candle_core::{Device, Tensor};
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
}

/// Entries of a checkpoint's metadata.
pub(crate) const CONFIG: &str = "config";
pub(crate) const CLASSES: &str = "classes";
const QUANTIZATION: &str = "quantization";

impl Detector {
    /// A detector that is not quantised.
    pub fn new(config: Config, classes: Vec<Class>, model: Model) -> Self {
        Self { config, classes, model, quantization: None }
    }

    /// Reads a checkpoint of ours, or torchvision's weights (`.pth` or `.safetensors`, RetinaNet v1 or v2), recognised by content.
    ///
    /// A checkpoint carries configuration and classes. Of torchvision's files the architecture is inferred from names and
    /// shapes; output i is category id i, named after the number unless the file is one of the released COCO ones.
    ///
    /// # Errors
    /// The file cannot be read, or what it holds is no RetinaNet; see [`weights::read`] for hostile files.
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let file = weights::read(path)?;
        if file.metadata.contains_key(CONFIG) {
            Self::from_checkpoint(path, file)
        } else {
            weights::sha256(path).map_err(Error::from).and_then(|sha256| Self::from_torchvision(file, &sha256))
        }
        .map_err(|source| match source {
            Error::Metadata { .. } => source,
            _ => Error::Model { path: path.to_owned(), source: Box::new(source) },
        })
    }

    fn from_checkpoint(path: &Path, file: WeightFile) -> Result<Self> {
        let metadata = |key: &'static str, message: String| Error::Metadata { path: path.to_owned(), key, message };
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
        Ok(Self { config, classes, model, quantization: file.quantization })
    }

    fn from_torchvision(file: WeightFile, sha256: &str) -> Result<Self> {
        let imported = torchvision::import(file, sha256)?;
        let model = Model::with_tensors(&imported.config, imported.classes.len(), imported.tensors)?;
        Ok(Self::new(imported.config, imported.classes, model))
    }

    /// Writes a checkpoint: the tensors under torchvision's names, with configuration and classes, whole or not at all.
    ///
    /// The layers of a quantised detector are written as 8-bit integers with their scales: the same bytes as were loaded.
    ///
    /// # Errors
    /// The file cannot be written, or the weight of a quantised layer has changed since.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let tensors: BTreeMap<String, Tensor> = self
            .model
            .parameters
            .iter()
            .map(|(name, variable)| (name.to_owned(), variable.as_detached_tensor()))
            .collect();
        let classes = serde_json::to_string(&self.classes).expect("numbers and strings have a form in JSON");
        let metadata = BTreeMap::from([
            ("format".to_owned(), "retinanet".to_owned()),
            (CONFIG.to_owned(), self.config.to_toml()?),
            (CLASSES.to_owned(), classes),
        ]);
        match &self.quantization {
            None => weights::write(path.as_ref(), &tensors, &metadata)?,
            Some(table) => weights::write_quantized(path.as_ref(), &tensors, table, &metadata)?,
        }
        Ok(())
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

/// The batch's pixels as a tensor `[N, H, W, 3]`.
pub(crate) fn batch_tensor(batch: &Batch) -> candle_core::Result<Tensor> {
    let shape = (batch.images.len(), batch.padded.height, batch.padded.width, 3);
    Tensor::from_slice(&batch.pixels, shape, &Device::Cpu)
}
