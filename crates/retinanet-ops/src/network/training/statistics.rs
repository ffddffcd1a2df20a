//! The running statistics of batch norms.

use super::super::Parameters;
use candle_core::{Result, Tensor};

/// What a batch norm has seen in one use.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    /// Prefix of the norm's parameters.
    pub(super) name: String,
    pub(super) momentum: f64,
    /// Mean and biased variance, `[2, C]`.
    pub(super) statistics: Vec<f64>,
    /// N * H * W.
    pub(super) count: usize,
}

/// Moves running statistics by the momentum, the variance unbiased as torch has it.
pub(super) fn update(parameters: &Parameters, seen: &[Seen]) -> Result<()> {
    for Seen { name, momentum, statistics, count } in seen {
        let (mean, variance) = statistics.split_at(statistics.len() / 2);
        let count = *count as f64;
        let unbiased = count / (count - 1.0).max(1.0);
        for (leaf, batch, factor) in [("running_mean", mean, 1.0), ("running_var", variance, unbiased)] {
            let variable = parameters.variable(&format!("{name}.{leaf}"))?;
            let old = variable.as_detached_tensor();
            let values = old.flatten_all()?.to_vec1::<f32>()?;
            let moved = values.iter().zip(batch).map(|(&old, &new)| {
                let new = (new * factor) as f32;
                old * (1.0 - momentum) as f32 + new * *momentum as f32
            });
            variable.set(&Tensor::from_vec(moved.collect(), old.dims(), old.device())?)?;
        }
    }
    Ok(())
}
