//! Steps of all parameters at once, and their running average.

use super::TensorTable;
use super::launch::{NONE, double, int, launch, operand};
use super::source;
use crate::device::{Argument, Source, Span};
use crate::error::{Error, Result};

pub(super) const SOURCE: Source = source!("optimizer.cu");

/// Which optimiser.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Optimizer {
    /// v = momentum v + (g + decay w); w = w - lr v.
    Sgd {
        /// Share of the old v.
        momentum: f64,
    },
    /// Adam with the decay apart from the gradient, betas .9 and .999, epsilon 1e-8.
    Adamw,
}

const BETAS: [f64; 2] = [0.9, 0.999];

/// What changes from step to step, in memory of the device, so that a recorded step can be done again.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepNumbers {
    /// Before the factors of the parameters.
    pub learning_rate: f64,
    /// Steps with this one, from 1.
    pub steps: i32,
    /// What a running average moves by: 1 - d.
    pub average_share: f64,
}

impl StepNumbers {
    /// How many bytes there are.
    pub const BYTES: usize = 32;

    /// As the kernels read them.
    pub fn to_bytes(&self) -> [u8; Self::BYTES] {
        let [first, second] = BETAS.map(|beta| 1.0 - beta.powi(self.steps));
        let numbers = [self.learning_rate, first, second.sqrt().recip(), self.average_share];
        let mut bytes = [0; Self::BYTES];
        let places = bytes.as_chunks_mut::<8>().0;
        places.iter_mut().zip(numbers).for_each(|(place, number)| *place = number.to_ne_bytes());
        bytes
    }
}

/// Bytes of workspace of [`gradient_norm`].
pub fn gradient_norm_workspace_bytes(table: &TensorTable) -> usize {
    table.num_chunks() * 8
}

/// The Euclidean norm over [`others`](super::TensorRow::others) of all rows, in f64.
///
/// # Errors
/// A span is shorter than its shape, or a launch fails.
pub fn gradient_norm(table: &TensorTable, norm: Span<'_>, workspace: Span<'_>) -> Result<()> {
    let chunks = table.num_chunks();
    let partials = operand("gradient norm: workspace", workspace, chunks, 8)?;
    let [rows, num_rows] = table.arguments();
    let totals = [partials, int("gradient norm: chunks", chunks)?, operand("gradient norm: norm", norm, 1, 8)?];
    // SAFETY: the sizes were checked, those of the rows when the table was made.
    unsafe {
        if chunks > 0 {
            let grid = [chunks as u32, 1, 1];
            launch(table.span(), &SOURCE, "sum_squares", grid, &[rows, num_rows, partials])?;
        }
        launch(table.span(), &SOURCE, "finish_norm", [1, 1, 1], &totals)
    }
}

/// Whether `count` numbers in f64 are all finite, as an i32: 1 or 0.
///
/// # Errors
/// A span is shorter than its shape, or the launch fails.
pub fn are_finite(count: usize, numbers: Span<'_>, go: Span<'_>) -> Result<()> {
    let arguments = [
        operand("finite: numbers", numbers, count, 8)?,
        int("finite: count", count)?,
        operand("finite: go", go, 1, 4)?,
    ];
    // SAFETY: the sizes were checked.
    unsafe { launch(go, &SOURCE, "are_finite", [1, 1, 1], &arguments) }
}

/// Launches a block for each chunk.
fn step(table: &TensorTable, kernel: &'static str, rest: &[Argument]) -> Result<()> {
    if table.num_chunks() == 0 {
        return Ok(());
    }
    let arguments = [&table.arguments()[..], rest].concat();
    // SAFETY: the sizes were checked by the callers, those of the rows when the table was made.
    unsafe { launch(table.span(), &SOURCE, kernel, [table.num_chunks() as u32, 1, 1], &arguments) }
}

/// One step of all parameters along their gradients; none where the i32 in `go` is 0.
///
/// `clip` is the [norm](gradient_norm) of the gradients and what it may be at most: they are scaled as torch's `clip_grad_norm_`
/// does it, in passing. `numbers` are [`StepNumbers`].
///
/// # Errors
/// A row has not the moments that the optimiser keeps, a span is shorter than its shape, or the launch fails.
pub fn optimizer_step(
    table: &TensorTable,
    optimizer: Optimizer,
    numbers: Span<'_>,
    clip: Option<(Span<'_>, f64)>,
    go: Span<'_>,
) -> Result<()> {
    let [has_first, has_second] = table.has_moments();
    if !has_first || (optimizer == Optimizer::Adamw && !has_second) {
        let expected = format!("those of {optimizer:?} in each row");
        let found = format!("first: {has_first}, second: {has_second}");
        return Err(Error::Mismatch { place: "optimizer: moments".to_owned(), expected, found });
    }
    let numbers = operand("optimizer: step", numbers, StepNumbers::BYTES, 1)?;
    let (norm, most) = match clip {
        Some((norm, most)) => (operand("optimizer: norm", norm, 1, 8)?, most),
        None => (NONE, f64::INFINITY),
    };
    let (most, go) = (double(most), operand("optimizer: go", go, 1, 4)?);
    match optimizer {
        Optimizer::Sgd { momentum } => {
            step(table, "sgd_step", &[numbers, Argument::F32(momentum as f32), norm, most, go])
        }
        Optimizer::Adamw => {
            let [beta1, beta2] = BETAS.map(|beta| Argument::F32(beta as f32));
            // Rounded once, from f64: in f32 the difference would be off by 5e-5 of itself.
            let [rest1, rest2] = BETAS.map(|beta| Argument::F32((1.0 - beta) as f32));
            step(table, "adamw_step", &[numbers, beta1, beta2, rest1, rest2, norm, most, go])
        }
    }
}

/// Moves [`values`](super::TensorRow::values) of all rows towards [`others`](super::TensorRow::others) by
/// [`StepNumbers::average_share`]; not where the i32 in `go` is 0.
///
/// # Errors
/// A span is shorter than its shape, or the launch fails.
pub fn move_average(table: &TensorTable, numbers: Span<'_>, go: Span<'_>) -> Result<()> {
    let numbers = operand("average: step", numbers, StepNumbers::BYTES, 1)?;
    step(table, "move_average", &[numbers, operand("average: go", go, 1, 4)?])
}
