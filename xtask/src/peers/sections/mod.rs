//! The parts of the comparison, one function each.

mod accuracy;
mod around;
mod core;
mod cuda;
mod loader;
mod scaling;
mod sparse;
mod start;
mod train;

use anyhow::Result;

use super::Bench;
use super::section::Section;

type Measure = fn(&Bench) -> Result<Section>;

/// Every section on the processor, in the order in which they run.
pub(crate) const CPU: [(&str, Measure); 11] = [
    ("f32", core::f32),
    ("bf16", core::bf16),
    ("int8", core::int8),
    ("avx2", core::avx2),
    ("sparse", sparse::measure),
    ("start", start::measure),
    ("around", around::measure),
    ("train", train::measure),
    ("loader", loader::measure),
    ("scaling", scaling::measure),
    ("accuracy", accuracy::measure),
];

/// Every section on a GPU.
pub(crate) const CUDA: [(&str, Measure); 3] =
    [("cuda-inference", cuda::inference), ("cuda-train", cuda::train), ("cuda-focal", cuda::focal)];

/// The names of all sections, those of the processor first.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    CPU.iter().chain(&CUDA).map(|(name, _)| *name)
}
