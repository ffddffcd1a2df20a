//! Batches made ahead of time by worker threads, in an order that the seed alone decides.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};

use crate::class_balance::Repeats;
use crate::random::{Purpose, stream};
use crate::{
    Augmentation, Batch, CacheStatistics, ClassBalance, ConfigError, Dataset, LoaderStatistics, Preprocessing,
    SampleError, SampleKey,
};

/// How samples become batches.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LoaderConfig {
    /// Samples in a batch, at least 1. Default 1.
    pub batch: usize,
    /// Whether each epoch has an order of its own; else the data set's. Default false.
    pub shuffle: bool,
    /// What the order and the augmentation depend on, with the number of the epoch. Default 0.
    pub seed: u64,
    /// Threads that make batches, at least 1. Any number gives the same batches. Default 1.
    pub workers: usize,
    /// Batches made or in the making ahead of the one that is used, at least 1, and no fewer than workers; each takes its
    /// pixels of memory. Default 2.
    pub prefetch: usize,
    /// Whether the last batch is left out where it is not full. Default false.
    pub drop_last: bool,
    /// Whether images of rare classes are seen more often: see [`ClassBalance`]. Default none: every image once an epoch.
    pub class_balance: Option<ClassBalance>,
}

impl Default for LoaderConfig {
    fn default() -> Self {
        Self { batch: 1, shuffle: false, seed: 0, workers: 1, prefetch: 2, drop_last: false, class_balance: None }
    }
}

impl LoaderConfig {
    /// Looks at every field.
    ///
    /// # Errors
    /// The first field that is out of its range.
    pub fn validate(&self) -> Result<(), ConfigError> {
        for (field, count) in
            [("loader.batch", self.batch), ("loader.workers", self.workers), ("loader.prefetch", self.prefetch)]
        {
            if count == 0 {
                return Err(ConfigError { field, expected: "at least 1", found: count.to_string() });
            }
        }
        self.class_balance.map_or(Ok(()), |balance| balance.validate())
    }
}

/// Turns a data set into batches, epoch by epoch.
pub struct Loader {
    plan: Arc<Plan>,
}

/// A batch, and what could not be part of it.
#[derive(Clone, Debug, PartialEq)]
pub struct LoadedBatch {
    /// The samples that could be had, at least one.
    pub batch: Batch,
    /// Samples that could not be had, each once an epoch: those of this batch, those that pictures of it were to be put
    /// together with, and those of batches before it that had none left.
    pub failures: Vec<SampleError>,
}

/// What workers read: everything that decides a batch.
struct Plan {
    dataset: Arc<dyn Dataset>,
    preprocessing: Preprocessing,
    augmentation: Augmentation,
    config: LoaderConfig,
    /// None where every image is seen once an epoch.
    repeats: Option<Repeats>,
}

impl Loader {
    /// Prepares a loader; threads start with each epoch.
    ///
    /// # Errors
    /// A field of a configuration is out of its range.
    pub fn new(
        dataset: Arc<dyn Dataset>,
        preprocessing: Preprocessing,
        augmentation: Augmentation,
        config: LoaderConfig,
    ) -> Result<Self, ConfigError> {
        preprocessing.validate()?;
        augmentation.validate()?;
        config.validate()?;
        let repeats = config.class_balance.map(|balance| Repeats::new(&balance.repeats(dataset.annotations())));
        let plan = Plan { dataset, preprocessing, augmentation, config, repeats };
        Ok(Self { plan: Arc::new(plan) })
    }

    /// Batches of an epoch, if no sample fails.
    #[must_use]
    pub fn num_batches(&self) -> usize {
        let Plan { dataset, repeats, config, .. } = &*self.plan;
        let (samples, batch) = (repeats.as_ref().map_or(dataset.len(), Repeats::len), config.batch);
        if config.drop_last { samples / batch } else { samples.div_ceil(batch) }
    }

    /// The indices of an epoch in the order in which batches take them.
    #[must_use]
    pub fn order(&self, epoch: usize) -> Vec<usize> {
        let seed = self.plan.config.seed;
        let mut order = match &self.plan.repeats {
            Some(repeats) => repeats.draw(seed, epoch as u64),
            None => (0..self.plan.dataset.len()).collect(),
        };
        if self.plan.config.shuffle {
            order.shuffle(&mut stream(seed, Purpose::Order, epoch as u64, 0));
        }
        order
    }

    /// Starts the workers on an epoch. They stop when the epoch ends or is dropped.
    #[must_use]
    pub fn epoch(&self, epoch: usize) -> Epoch {
        self.epoch_from(epoch, 0)
    }

    /// As [`epoch`](Self::epoch), without its first `batch` batches: what a run that was interrupted goes on with.
    #[must_use]
    pub fn epoch_from(&self, epoch: usize, batch: usize) -> Epoch {
        let order = self.order(epoch);
        let shared = Arc::new(Shared {
            plan: Arc::clone(&self.plan),
            epoch: epoch as u64,
            showings: showings(&order),
            order,
            num_batches: self.num_batches(),
            queue: Mutex::new(Queue {
                next_to_make: batch,
                next_to_give: batch,
                made: BTreeMap::new(),
                stopped: false,
            }),
            changed: Condvar::new(),
        });
        // Before any worker asks the cache or takes time.
        let (cache_before, start) = (self.plan.dataset.cache_statistics(), Instant::now());
        let workers = self.plan.config.workers.min(self.num_batches());
        let workers = (0..workers).map(|_| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || shared.work())
        });
        Epoch {
            workers: workers.collect(),
            cache_before,
            shared,
            failures: Vec::new(),
            told: BTreeSet::new(),
            statistics: LoaderStatistics::default(),
            start,
        }
    }
}

/// The batches of one epoch, in order.
pub struct Epoch {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    /// Of batches that had no sample left, until a batch takes them along.
    failures: Vec<SampleError>,
    /// Samples whose failure was told in this epoch.
    told: BTreeSet<usize>,
    start: Instant,
    /// Without those of the cache.
    statistics: LoaderStatistics,
    cache_before: CacheStatistics,
}

impl Epoch {
    /// What loading has done so far.
    #[must_use]
    pub fn statistics(&self) -> LoaderStatistics {
        let cache = self.shared.plan.dataset.cache_statistics().since(&self.cache_before);
        LoaderStatistics { cache, ..self.statistics }
    }

    /// Time spent in waiting for batches that were not ready: what faster loading could save.
    #[must_use]
    pub fn waited(&self) -> Duration {
        self.statistics.waited
    }

    /// Batches of the epoch that are done, those that had no sample left among them: where
    /// [`epoch_from`](Loader::epoch_from) goes on.
    #[must_use]
    pub fn position(&self) -> usize {
        self.shared.lock().next_to_give
    }

    /// Failures that no batch took along: those of the last batches, where none of their samples could be had.
    #[must_use]
    pub fn take_failures(&mut self) -> Vec<SampleError> {
        std::mem::take(&mut self.failures)
    }
}

impl Iterator for Epoch {
    type Item = LoadedBatch;

    fn next(&mut self) -> Option<LoadedBatch> {
        let start = Instant::now();
        let loaded = loop {
            let Some(made) = self.shared.take_next() else {
                break None;
            };
            let made = made.unwrap_or_else(|panic| resume_unwind(panic));
            let told = &mut self.told;
            let new: Vec<_> = made.failures.into_iter().filter(|failure| told.insert(failure.index)).collect();
            self.statistics.take(&made.statistics);
            self.statistics.failures += new.len();
            self.failures.extend(new);
            if let Some(batch) = made.batch {
                let failures = self.take_failures();
                break Some(LoadedBatch { batch, failures });
            }
        };
        self.statistics.waited += start.elapsed();
        self.statistics.elapsed = self.start.elapsed();
        loaded
    }
}

impl Drop for Epoch {
    fn drop(&mut self) {
        self.shared.lock().stopped = true;
        self.shared.changed.notify_all();
        for worker in self.workers.drain(..) {
            // A worker catches what its samples do, and hands it over.
            let _ = worker.join();
        }
    }
}

/// What a worker made of the samples of a batch.
struct MadeBatch {
    /// None where no sample could be had.
    batch: Option<Batch>,
    failures: Vec<SampleError>,
    statistics: LoaderStatistics,
}

/// Or what a panicking data set threw, to be thrown again where it is waited for.
type Made = thread::Result<MadeBatch>;

struct Shared {
    plan: Arc<Plan>,
    epoch: u64,
    order: Vec<usize>,
    /// How often the epoch has shown the image before, for each of `order`.
    showings: Vec<u64>,
    num_batches: usize,
    queue: Mutex<Queue>,
    /// Told whenever a number of the queue moves.
    changed: Condvar,
}

struct Queue {
    next_to_make: usize,
    next_to_give: usize,
    /// By number; as many as `claim` lets be ahead.
    made: BTreeMap<usize, Made>,
    stopped: bool,
}

impl Shared {
    /// A queue is whole between any two statements that hold it, so a panic elsewhere does not spoil it.
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, queue: MutexGuard<'a, Queue>) -> MutexGuard<'a, Queue> {
        self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner)
    }

    fn take_next(&self) -> Option<Made> {
        let mut queue = self.lock();
        loop {
            let number = queue.next_to_give;
            if number >= self.num_batches {
                return None;
            }
            if let Some(made) = queue.made.remove(&number) {
                queue.next_to_give += 1;
                drop(queue);
                self.changed.notify_all();
                return Some(made);
            }
            queue = self.wait(queue);
        }
    }

    fn work(&self) {
        while let Some(number) = self.claim() {
            // Unwinding leaves nothing half changed: what a batch is made from is only read.
            let made = catch_unwind(AssertUnwindSafe(|| self.make(number)));
            self.lock().made.insert(number, made);
            self.changed.notify_all();
        }
    }

    /// The number of a batch to make, once there is room for it; none at the end.
    fn claim(&self) -> Option<usize> {
        let mut queue = self.lock();
        loop {
            let number = queue.next_to_make;
            if queue.stopped || number >= self.num_batches {
                return None;
            }
            let ahead = self.plan.config.prefetch.max(self.plan.config.workers);
            if number < queue.next_to_give.saturating_add(ahead) {
                queue.next_to_make += 1;
                return Some(number);
            }
            queue = self.wait(queue);
        }
    }

    fn make(&self, number: usize) -> MadeBatch {
        let Plan { dataset, preprocessing, augmentation, config, .. } = &*self.plan;
        let start = number * config.batch;
        let end = (start + config.batch).min(self.order.len());
        let (mut samples, mut failures) = (Vec::new(), Vec::new());
        let mut statistics = LoaderStatistics::default();
        for (&index, showing) in self.order[start..end].iter().zip(&self.showings[start..end]) {
            if self.lock().stopped {
                break;
            }
            match timed(&mut statistics.decoding, || dataset.sample(index)) {
                Ok(sample) => {
                    statistics.decoded_bytes += sample.image.pixels.len() as u64;
                    // Another seed each time that the epoch shows the image, or it would look the same.
                    let seed = config.seed.wrapping_add(showing << 32);
                    let key = SampleKey { seed, epoch: self.epoch, index };
                    let augment = || augmentation.apply(sample, &**dataset, key, &mut failures);
                    samples.push((index, timed(&mut statistics.augmenting, augment)));
                }
                Err(error) => failures.push(error),
            }
        }
        let mut batch = None;
        if !samples.is_empty() {
            let min_size = augmentation.min_size(preprocessing.min_size, config.seed, self.epoch, number as u64);
            let preprocessing = Preprocessing { min_size, ..*preprocessing };
            match timed(&mut statistics.preparing, || preprocessing.batch_of_samples(&samples)) {
                Ok(made) => batch = Some(made),
                Err(error) => failures.extend(
                    samples
                        .iter()
                        .map(|(index, _)| SampleError { index: *index, what: format!("sample {index}: {error}") }),
                ),
            }
        }
        statistics.images = batch.as_ref().map_or(0, |batch| batch.images.len());
        MadeBatch { batch, failures, statistics }
    }
}

/// How often each index has come before.
fn showings(order: &[usize]) -> Vec<u64> {
    let mut shown = vec![0; order.iter().max().map_or(0, |last| last + 1)];
    let next = |&index: &usize| {
        shown[index] += 1;
        shown[index] - 1
    };
    order.iter().map(next).collect()
}

/// Runs `work` and adds the time that it took.
fn timed<T>(sum: &mut Duration, work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = work();
    *sum += start.elapsed();
    result
}
