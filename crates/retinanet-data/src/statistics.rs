//! What loading did, and what it took.

use serde::{Deserialize, Serialize};
use std::time::Duration;

/// What the loading of an epoch has done so far: the sums over the batches that were handed over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LoaderStatistics {
    /// Images of the batches.
    pub images: usize,
    /// Samples that could not be had, each counted once an epoch.
    pub failures: usize,
    /// Bytes of the images as they were decoded, three a pixel.
    pub decoded_bytes: u64,
    /// Time of the workers, summed, for having samples: reading and decoding files, or asking a cache.
    pub decoding: Duration,
    /// Time of the workers, summed, for augmentation.
    pub augmenting: Duration,
    /// Time of the workers, summed, for normalising, resizing and padding.
    pub preparing: Duration,
    /// Time for which the caller waited for batches that were not ready: what faster loading could save.
    pub waited: Duration,
    /// Time since the epoch began, until its end.
    pub elapsed: Duration,
    /// What the data set's cache did meanwhile, where it has one.
    pub cache: CacheStatistics,
}

impl LoaderStatistics {
    /// Images a second, as the caller took them; 0 before any time has passed.
    #[must_use]
    pub fn images_per_second(&self) -> f64 {
        per_second(self.images, self.elapsed)
    }

    /// Images that one worker makes in a second of its own time; 0 where none was made.
    ///
    /// Times the number of workers, this is what loading can keep up with while the caller takes its time.
    #[must_use]
    pub fn images_per_worker_second(&self) -> f64 {
        per_second(self.images, self.decoding + self.augmenting + self.preparing)
    }

    /// Takes what the making of a batch counts; what failed is told apart by [`Epoch`](crate::Epoch), which knows the others.
    pub(crate) fn take(&mut self, batch: &Self) {
        self.images += batch.images;
        self.decoded_bytes += batch.decoded_bytes;
        self.decoding += batch.decoding;
        self.augmenting += batch.augmenting;
        self.preparing += batch.preparing;
    }
}

/// What two parts of an epoch did together.
impl std::ops::Add for LoaderStatistics {
    type Output = Self;

    fn add(mut self, later: Self) -> Self {
        self.take(&later);
        self.failures += later.failures;
        self.waited += later.waited;
        self.elapsed += later.elapsed;
        self.cache = CacheStatistics {
            hits: self.cache.hits + later.cache.hits,
            misses: self.cache.misses + later.cache.misses,
            damaged: self.cache.damaged + later.cache.damaged,
            held_bytes: later.cache.held_bytes,
        };
        self
    }
}

fn per_second(images: usize, time: Duration) -> f64 {
    if time.is_zero() { 0.0 } else { images as f64 / time.as_secs_f64() }
}

/// What a cache of decoded images did since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CacheStatistics {
    /// Samples that it had.
    pub hits: u64,
    /// Samples that it had not.
    pub misses: u64,
    /// Samples that it had, damaged, and did not use; they are misses too.
    pub damaged: u64,
    /// Bytes that it holds now.
    pub held_bytes: u64,
}

impl CacheStatistics {
    /// What was done since `earlier`; `held_bytes` stays what is held now.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            hits: self.hits.saturating_sub(earlier.hits),
            misses: self.misses.saturating_sub(earlier.misses),
            damaged: self.damaged.saturating_sub(earlier.damaged),
            held_bytes: self.held_bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_by_hand() {
        let mut sums = LoaderStatistics::default();
        assert_eq!((sums.images_per_second(), sums.images_per_worker_second()), (0.0, 0.0));
        let batch = LoaderStatistics {
            images: 3,
            decoding: Duration::from_millis(400),
            augmenting: Duration::from_millis(50),
            preparing: Duration::from_millis(50),
            ..LoaderStatistics::default()
        };
        sums.take(&batch);
        sums.take(&batch);
        sums.elapsed = Duration::from_millis(500);
        assert_eq!((sums.images_per_second(), sums.images_per_worker_second()), (12.0, 6.0));

        let cache = CacheStatistics { hits: 2, misses: 1, damaged: 0, held_bytes: 7 };
        let later = LoaderStatistics { elapsed: Duration::from_millis(250), cache, ..batch };
        let both = sums + later;
        assert_eq!((both.images, both.elapsed), (9, Duration::from_millis(750)));
        assert_eq!((sums + later + later).cache, CacheStatistics { hits: 4, misses: 2, ..cache });
    }
}
