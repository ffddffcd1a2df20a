//! What can go wrong when pictures are made.

use retinanet_anchors::ImageSize;

/// Why a picture could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DrawError {
    /// The bytes are not those of an RGB picture of the size.
    #[error("picture {size}: RGB bytes: expected {expected}, found {found}")]
    ByteCount {
        /// The size the picture was said to have.
        size: ImageSize,
        /// Width times height times 3.
        expected: u128,
        /// How many bytes there are.
        found: usize,
    },
    /// The picture would be larger than this crate makes.
    #[error("{what}: pixels: expected at most {limit}, found {found}")]
    TooLarge {
        /// Which picture.
        what: &'static str,
        /// The most pixels.
        limit: u64,
        /// The pixels it would have.
        found: u64,
    },
    /// The encoder refused the picture.
    #[error("{format}: {width}x{height}: expected a picture that can be encoded, found: {source}")]
    Encode {
        /// The file format.
        format: &'static str,
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
        /// What the encoder said.
        source: image::ImageError,
    },
}
