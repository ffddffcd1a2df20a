//! Annotations and image files to samples and padded batches: decoding, resizing, augmentation, loading.
//!
//! A [`Dataset`] gives decoded pictures with boxes by index: [`FileDataset`] from annotated files, [`GeneratedDataset`]
//! from nothing. A [`Loader`] augments them and, through [`Preprocessing`], makes [`Batch`]es of normalised pixels
//! `[N, H, W, 3]`. Boxes are in pixels of the displayed frame, half-open; classes are indices from 0.
//!
//! ```
//! use std::sync::Arc;
//! use retinanet_data::{Augmentation, GeneratedConfig, GeneratedDataset, Loader, LoaderConfig, Preprocessing};
//!
//! let dataset = GeneratedDataset::new(GeneratedConfig { images: 5, ..GeneratedConfig::default() })?;
//! let preprocessing = Preprocessing { min_size: 64, max_size: 96, ..Preprocessing::default() };
//! let augmentation = Augmentation { horizontal_flip: 0.5, ..Augmentation::default() };
//! let config = LoaderConfig { batch: 2, shuffle: true, seed: 7, ..LoaderConfig::default() };
//! let loader = Loader::new(Arc::new(dataset), preprocessing, augmentation, config)?;
//! let sizes: Vec<usize> = loader.epoch(0).map(|loaded| loaded.batch.images.len()).collect();
//! assert_eq!(sizes, [2, 2, 1]);
//! # Ok::<(), retinanet_data::ConfigError>(())
//! ```
//!
//! [`check`](mod@check) looks a set over before anything is trained on it.

pub mod augmentation;
mod batch;
mod cache;
pub mod check;
mod class_balance;
mod dataset;
mod decode;
mod disk_cache;
mod error;
mod files;
mod generated;
mod jpeg;
mod loader;
mod mirror;
mod picture;
mod preprocessing;
mod random;
mod reduced;
mod resample;
mod resize;
mod statistics;
mod traits;

pub use augmentation::{
    Augmentation, CopyPaste, MixUp, Mosaic, RandomCrop, RotatedBox, Rotation, SampleKey, ScaleJitter,
};
pub use batch::{Batch, BatchImage};
pub use cache::CachedDataset;
pub use class_balance::ClassBalance;
pub use dataset::{Dataset, Sample};
pub use decode::{DecodeLimits, decode_file, image_size};
pub use disk_cache::DiskCache;
pub use error::{BatchError, ConfigError, DataError, DecodeError, SampleError};
pub use files::FileDataset;
pub use generated::{GeneratedConfig, GeneratedDataset};
pub use loader::{Epoch, LoadedBatch, Loader, LoaderConfig};
pub use picture::{FloatImage, Image, ImageView, Pixels};
pub use preprocessing::{PreparedSizes, Preprocessing};
pub use reduced::{ReducedImage, decode_at_least};
pub use resample::ResizeMethod;
pub use resize::PreparationScratch;
pub use statistics::{CacheStatistics, LoaderStatistics};
pub use traits::{ImageFileFormat, ImageTraits, image_traits};
pub use {retinanet_anchors, retinanet_annotations};
