//! Samples kept in memory, for sets that fit.

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use retinanet_annotations::AnnotationSet;

use crate::{CacheStatistics, Dataset, Sample, SampleError};

/// A data set whose samples, once had, are kept until a number of bytes is reached; later ones are read anew each time.
///
/// Nothing is evicted: an epoch visits each sample once, so what was used last is what is needed last.
pub struct CachedDataset {
    inner: Arc<dyn Dataset>,
    slots: Vec<OnceLock<Sample>>,
    max_bytes: usize,
    used_bytes: AtomicUsize,
    hits: AtomicU64,
    misses: AtomicU64,
}

impl CachedDataset {
    /// Keeps at most `max_bytes` of pixels.
    #[must_use]
    pub fn new(inner: Arc<dyn Dataset>, max_bytes: usize) -> Self {
        Self {
            slots: (0..inner.len()).map(|_| OnceLock::new()).collect(),
            inner,
            max_bytes,
            used_bytes: AtomicUsize::new(0),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
        }
    }

    /// Bytes of pixels kept by now.
    #[must_use]
    pub fn used_bytes(&self) -> usize {
        self.used_bytes.load(Ordering::Relaxed)
    }

    fn keep(&self, slot: &OnceLock<Sample>, sample: &Sample) {
        let bytes = sample.image.pixels.len();
        let reserve = |used: usize| used.checked_add(bytes).filter(|&sum| sum <= self.max_bytes);
        let reserved = self.used_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, reserve);
        if reserved.is_ok() && slot.set(sample.clone()).is_err() {
            // Another thread was first with the same sample.
            self.used_bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
    }
}

impl Dataset for CachedDataset {
    fn len(&self) -> usize {
        self.slots.len()
    }

    fn sample(&self, index: usize) -> Result<Sample, SampleError> {
        let slot = self.slots.get(index);
        if let Some(kept) = slot.and_then(OnceLock::get) {
            self.hits.fetch_add(1, Ordering::Relaxed);
            return Ok(kept.clone());
        }
        self.misses.fetch_add(1, Ordering::Relaxed);
        let sample = self.inner.sample(index)?;
        if let Some(slot) = slot {
            self.keep(slot, &sample);
        }
        Ok(sample)
    }

    fn cache_statistics(&self) -> CacheStatistics {
        CacheStatistics {
            hits: self.hits.load(Ordering::Relaxed),
            misses: self.misses.load(Ordering::Relaxed),
            held_bytes: self.used_bytes() as u64,
            ..CacheStatistics::default()
        }
    }

    fn annotations(&self) -> &AnnotationSet {
        self.inner.annotations()
    }
}
