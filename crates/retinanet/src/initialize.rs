//! Where weights start when no file gives them.

use candle_core::{Device, Result, Tensor};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Normal, Uniform};
use retinanet_ops::network::{Initialization, ParameterKind, ParameterSpec};

/// The parameter's start. A pure function of the seed and the name, so that one layer more or less changes no other.
///
/// # Errors
/// candle cannot hold the shape.
pub(crate) fn initialize(spec: &ParameterSpec, seed: u64) -> Result<Tensor> {
    if spec.kind != ParameterKind::Weight {
        return Tensor::full(spec.start as f32, spec.shape.as_slice(), &Device::Cpu);
    }
    let receptive = (spec.shape[2] * spec.shape[3]) as f64;
    let (fan_out, fan_in) = (spec.shape[0] as f64 * receptive, spec.shape[1] as f64 * receptive);
    let mut rng = ChaCha8Rng::seed_from_u64(seed ^ name_hash(&spec.name));
    let count = spec.shape.iter().product();
    let values: Vec<f32> = match spec.initialization {
        Initialization::KaimingNormalFanOut => normal((2.0 / fan_out).sqrt(), count, &mut rng),
        Initialization::Normal(deviation) => normal(deviation, count, &mut rng),
        Initialization::KaimingUniformFanIn => {
            let bound = (3.0 / fan_in).sqrt() as f32;
            let uniform = Uniform::new_inclusive(-bound, bound).map_err(candle_core::Error::wrap)?;
            uniform.sample_iter(&mut rng).take(count).collect()
        }
    };
    Tensor::from_vec(values, spec.shape.as_slice(), &Device::Cpu)
}

fn normal(deviation: f64, count: usize, rng: &mut ChaCha8Rng) -> Vec<f32> {
    let normal = Normal::new(0.0, deviation as f32).expect("a standard deviation is finite and not negative");
    normal.sample_iter(rng).take(count).collect()
}

/// FNV-1a, 64 bits: the standard library's hash may change between versions, a seed's meaning may not.
fn name_hash(name: &str) -> u64 {
    name.bytes().fold(0xCBF2_9CE4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(initialization: Initialization) -> ParameterSpec {
        ParameterSpec {
            name: "w".to_owned(),
            shape: vec![64, 32, 3, 3],
            kind: ParameterKind::Weight,
            trainable: true,
            initialization,
            start: 0.0,
        }
    }

    #[track_caller]
    fn check(initialization: Initialization, deviation: f64) -> Vec<f32> {
        let values = initialize(&spec(initialization), 1)
            .and_then(|t| t.flatten_all()?.to_vec1::<f32>())
            .expect("a small weight");
        let variance = values.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>() / values.len() as f64;
        assert!(
            (variance.sqrt() / deviation - 1.0).abs() < 0.02,
            "{initialization:?}: expected {deviation}, found {}",
            variance.sqrt()
        );
        values
    }

    #[test]
    fn spreads_are_those_of_the_sources() {
        check(Initialization::KaimingNormalFanOut, (2.0f64 / (64.0 * 9.0)).sqrt());
        check(Initialization::Normal(0.01), 0.01);
        // A uniform distribution within b has deviation b / sqrt(3) = sqrt(1 / fan_in).
        let values = check(Initialization::KaimingUniformFanIn, (1.0f64 / (32.0 * 9.0)).sqrt());
        assert!(values.iter().all(|v| v.abs() <= (3.0f32 / (32.0 * 9.0)).sqrt()));
    }

    #[test]
    fn the_seed_and_the_name_alone_decide() -> Result<()> {
        let values = |name: &str, seed| {
            let spec = ParameterSpec { name: name.to_owned(), ..spec(Initialization::Normal(1.0)) };
            initialize(&spec, seed)?.flatten_all()?.to_vec1::<f32>()
        };
        assert_eq!(values("a", 1)?, values("a", 1)?);
        assert_ne!(values("a", 1)?, values("b", 1)?);
        assert_ne!(values("a", 1)?, values("a", 2)?);
        Ok(())
    }
}
