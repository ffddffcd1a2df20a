//! Annotations and image files to samples and padded batches: decoding, resizing, augmentation, loading.
