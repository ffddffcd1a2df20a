//! Random numbers that depend on what they are for, never on which thread asks or when.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// What a stream of random numbers is for; streams of different purposes are unrelated.
#[derive(Clone, Copy)]
pub(crate) enum Purpose {
    /// The order of an epoch: epoch, 0.
    Order = 0,
    /// The size that a batch is resized to: epoch, number of the batch.
    BatchSize = 1,
    /// The layout of a generated picture: index, 0.
    Scene = 3,
    /// The grain of a generated picture: index, 0.
    Grain = 4,
    // One for each transform of a sample: epoch, index.
    HorizontalFlip = 5,
    VerticalFlip = 6,
    QuarterTurn = 7,
    Rotation = 8,
    ScaleJitter = 9,
    Crop = 10,
    Color = 11,
    Mosaic = 12,
    MixUp = 13,
    CopyPaste = 14,
    /// Which images an epoch shows once more: epoch, 0.
    Repeats = 15,
}

/// The stream of `purpose`, told apart by two numbers.
pub(crate) fn stream(seed: u64, purpose: Purpose, first: u64, second: u64) -> ChaCha8Rng {
    let mut key = [0; 32];
    let words = [seed, purpose as u64, first, second];
    for (bytes, word) in key.chunks_exact_mut(8).zip(words) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    ChaCha8Rng::from_seed(key)
}
