//! What goes wrong with one file, one sample, or a configuration.

use std::path::PathBuf;

use retinanet_annotations::AnnotationError;

/// A file that gives no picture.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The content is of no format that is read here, or a variant that the decoder lacks.
    #[error("{}: image format: expected {expected}, found {found}", path.display())]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// What is read.
        expected: &'static str,
        /// What the file holds.
        found: String,
    },
    /// The header asks for more than the caller allows; nothing was allocated for it.
    #[error("{}: {what}: expected at most {expected}, found {found}", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Which quantity.
        what: &'static str,
        /// The limit.
        expected: u64,
        /// What the file asks for.
        found: String,
    },
    /// Cut short or damaged.
    #[error("{}: image data: expected a whole image, found {found}", path.display())]
    Broken {
        /// The file.
        path: PathBuf,
        /// The decoder's words.
        found: String,
    },
}

/// A sample that cannot be had. The run goes on without it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct SampleError {
    /// Which sample of the data set.
    pub index: usize,
    /// What went wrong, with the file's name.
    pub what: String,
}

/// A field of a configuration that cannot be worked with.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{field}: expected {expected}, found {found}")]
pub struct ConfigError {
    /// The field, such as `preprocessing.pad_to`.
    pub field: &'static str,
    /// What it may be.
    pub expected: &'static str,
    /// What it is.
    pub found: String,
}

/// Why pictures do not become a batch.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum BatchError {
    /// The preprocessing cannot be worked with.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// No picture was given.
    #[error("batch: number of images: expected at least 1, found 0")]
    Empty,
    /// A picture has no pixels, or not three values for each.
    #[error("image {position}: number of values: expected {expected} (width x height x 3, above 0), found {found}")]
    WrongLength {
        /// Position in the slice that was given.
        position: usize,
        /// Three times width times height.
        expected: usize,
        /// The values that there are.
        found: usize,
    },
    /// The memory for a prepared picture is not as large as the picture.
    #[error("prepared image: number of values: expected {expected} ({padded}, 3 each), found {found}")]
    WrongOutput {
        /// The picture's padded size.
        padded: retinanet_anchors::ImageSize,
        /// Three times its width times its height.
        expected: usize,
        /// The values that there is room for.
        found: usize,
    },
    /// The batch does not fit into any memory.
    #[error("batch: number of values: expected at most {max}, found {images} images of {padded}")]
    TooLarge {
        /// The most that can be addressed.
        max: usize,
        /// Images in the batch.
        images: usize,
        /// The padded size of each.
        padded: retinanet_anchors::ImageSize,
    },
}

/// A data set that cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// The annotations cannot be read.
    #[error(transparent)]
    Annotations(#[from] AnnotationError),
    /// A configuration cannot be worked with.
    #[error(transparent)]
    Config(#[from] ConfigError),
}
