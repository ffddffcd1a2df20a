//! The norm of all gradients, and its limit.

use super::ParameterGradients;
use candle_core::Result;
use rayon::prelude::*;
use retinanet_ops::network::Parameters;

/// Numbers that one task sums up: what is added in which order does not depend on the number of threads.
const CHUNK: usize = 1 << 16;

/// Euclidean norm over the gradients of all parameters, summed in f64.
///
/// # Errors
/// A gradient is not f32.
pub fn gradient_norm(parameters: &Parameters, gradients: &impl ParameterGradients) -> Result<f64> {
    let mut sum = 0.0;
    for (name, variable) in parameters.iter() {
        gradients.read(name, variable, &mut |gradient| {
            sum += sum_of_squares(gradient);
            Ok(())
        })?;
    }
    Ok(sum.sqrt())
}

fn sum_of_squares(values: &[f32]) -> f64 {
    let of_chunk = |chunk: &[f32]| chunk.iter().map(|&g| f64::from(g) * f64::from(g)).sum::<f64>();
    values.par_chunks(CHUNK).map(of_chunk).collect::<Vec<f64>>().iter().sum()
}

/// Euclidean norm of each parameter's gradient, by name; parameters without a gradient are left out.
///
/// # Errors
/// A gradient is not f32.
pub fn gradient_norms(parameters: &Parameters, gradients: &impl ParameterGradients) -> Result<Vec<(String, f64)>> {
    let mut norms = Vec::new();
    for (name, variable) in parameters.iter() {
        gradients.read(name, variable, &mut |gradient| {
            norms.push((name.to_owned(), sum_of_squares(gradient).sqrt()));
            Ok(())
        })?;
    }
    Ok(norms)
}

/// Scales all gradients so that their norm is at most `max_norm`, as torch's `clip_grad_norm_`; returns the norm before.
///
/// # Errors
/// A gradient is not f32.
pub fn clip_gradients(parameters: &Parameters, gradients: &mut impl ParameterGradients, max_norm: f64) -> Result<f64> {
    let norm = gradient_norm(parameters, gradients)?;
    // torch's epsilon; a norm that is not finite is the caller's to refuse, and scales nothing.
    let scale = max_norm / (norm + 1e-6);
    if scale < 1.0 && norm.is_finite() {
        for (name, variable) in parameters.iter() {
            gradients.scale(name, variable, scale)?;
        }
    }
    Ok(norm)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Tensor};

    #[test]
    fn the_norm_of_all_gradients_is_cut() -> Result<()> {
        let parameters = Parameters::new([
            ("a".to_owned(), Tensor::new(&[1f32, 1.0], &Device::Cpu)?),
            ("b".to_owned(), Tensor::new(&[1f32], &Device::Cpu)?),
        ])?;
        let (a, b) = (parameters.variable("a")?, parameters.variable("b")?);
        // d/da = (3, 3), d/db = sqrt(7) -> norm sqrt(9 + 9 + 7) = 5.
        let loss = ((a.as_tensor() * 3.0)?.sum_all()? + (b.as_tensor() * 7f64.sqrt())?.sum_all()?)?;
        let mut gradients = loss.backward()?;
        assert!((clip_gradients(&parameters, &mut gradients, 10.0)? - 5.0).abs() < 1e-6);
        assert!((gradient_norm(&parameters, &gradients)? - 5.0).abs() < 1e-6);
        clip_gradients(&parameters, &mut gradients, 1.0)?;
        assert!((gradient_norm(&parameters, &gradients)? - 1.0).abs() < 1e-6);
        let norms = gradient_norms(&parameters, &gradients)?;
        let expected = [("a", 18f64.sqrt() / 5.0), ("b", 7f64.sqrt() / 5.0)];
        for ((name, norm), (expected_name, expected_norm)) in norms.iter().zip(expected) {
            assert!(name == expected_name && (norm - expected_norm).abs() < 1e-6, "{name} {norm}");
        }
        Ok(())
    }
}
