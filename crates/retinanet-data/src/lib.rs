//! Annotations and image files to samples and padded batches: decoding, resizing, augmentation, loading.

mod batch;
mod dataset;
mod decode;
mod error;
mod picture;
mod preprocessing;
mod resize;

pub use batch::{Batch, BatchImage};
pub use dataset::{Dataset, Sample};
pub use decode::{DecodeLimits, decode_file, image_size};
pub use error::{BatchError, ConfigError, DataError, DecodeError, SampleError};
pub use picture::{FloatImage, Image, ImageView, Pixels};
pub use preprocessing::Preprocessing;
pub use {retinanet_anchors, retinanet_annotations};
