//! The engines over described layers: folding, residuals, running statistics, frozen layers.

use candle_core::{Device, Result, Tensor};
use retinanet_ops::network::{ConvLayer, Engine, InferenceEngine, NormKind, Parameters, TrainingEngine};

fn tensor(values: &[f32]) -> Tensor {
    Tensor::new(values, &Device::Cpu).expect("a vector")
}

/// A 1x1 convolution by 2 on one channel, with a batch norm of weight 3 and bias 1 that has seen mean 4 and variance 9.
fn layer(kind: NormKind) -> Result<(ConvLayer, Parameters)> {
    let layer = ConvLayer::new("conv", 1, 1, 1, 1).with_norm("bn", kind).with_relu();
    let parameters = Parameters::new([
        ("conv.weight".to_owned(), tensor(&[2.0]).reshape((1, 1, 1, 1))?),
        ("bn.weight".to_owned(), tensor(&[3.0])),
        ("bn.bias".to_owned(), tensor(&[1.0])),
        ("bn.running_mean".to_owned(), tensor(&[4.0])),
        ("bn.running_var".to_owned(), tensor(&[9.0])),
    ])?;
    Ok((layer, parameters))
}

const BATCH: NormKind = NormKind::Batch { epsilon: 0.0, momentum: 0.1 };

fn input() -> Result<Tensor> {
    tensor(&[0.5, 1.0, 2.0, 4.5]).reshape((1, 2, 2, 1))
}

fn values(tensor: &Tensor) -> Result<Vec<f32>> {
    tensor.flatten_all()?.to_vec1()
}

#[track_caller]
fn check(found: &[f32], expected: &[f32]) {
    assert!(
        found.len() == expected.len() && found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-5),
        "expected {expected:?}, found {found:?}"
    );
}

#[test]
fn inference_applies_what_the_norm_has_seen() -> Result<()> {
    // The convolution gives 1, 2, 4, 9; (y - 4) / 3 * 3 + 1 is -2, -1, 1, 6.
    for kind in [BATCH, NormKind::FrozenBatch { epsilon: 0.0 }] {
        let (layer, parameters) = layer(kind)?;
        let mut engine = InferenceEngine::new(&parameters);
        check(&values(&engine.conv(&layer, &input()?, None)?)?, &[0.0, 0.0, 1.0, 6.0]);
        // The sum comes before the ReLU.
        let residual = tensor(&[3.0, 0.5, -2.0, 1.0]).reshape((1, 2, 2, 1))?;
        check(&values(&engine.conv(&layer, &input()?, Some(&residual))?)?, &[1.0, 0.0, 0.0, 7.0]);
    }
    Ok(())
}

#[test]
fn training_applies_the_batch_and_moves_the_running_statistics_when_told() -> Result<()> {
    let (layer, parameters) = layer(BATCH)?;
    let mut engine = TrainingEngine::new(&parameters);
    let y = engine.conv(&layer, &input()?, None)?;
    // Mean 4, biased variance (9 + 4 + 0 + 25) / 4 = 9.5, unbiased 38 / 3.
    let scale = 3.0 / 9.5f32.sqrt();
    check(&values(&y)?, &[0.0, 0.0, 1.0, 5.0 * scale + 1.0]);
    let running = |leaf: &str| values(parameters.variable(&format!("bn.{leaf}"))?.as_tensor());
    check(&running("running_var")?, &[9.0]);
    engine.update_running_statistics()?;
    check(&running("running_mean")?, &[0.9 * 4.0 + 0.1 * 4.0]);
    check(&running("running_var")?, &[0.9 * 9.0 + 0.1 * 38.0 / 3.0]);
    Ok(())
}

#[test]
fn a_frozen_layer_applies_stored_statistics_and_has_no_gradient() -> Result<()> {
    let (mut layer, parameters) = layer(BATCH)?;
    layer.trainable = false;
    let mut engine = TrainingEngine::new(&parameters);
    let y = engine.conv(&layer, &input()?, None)?;
    check(&values(&y)?, &[0.0, 0.0, 1.0, 6.0]);
    let gradients = y.sum_all()?.backward()?;
    assert!(parameters.iter().all(|(_, variable)| gradients.get(variable).is_none()));
    engine.update_running_statistics()?;
    check(&values(parameters.variable("bn.running_mean")?.as_tensor())?, &[4.0]);
    Ok(())
}

#[test]
fn the_gradient_of_relu_at_zero_is_zero_and_sums_over_the_pyramid_accumulate() -> Result<()> {
    let parameters = Parameters::new([("x".to_owned(), tensor(&[-1.0, 0.0, 2.0, 0.0]).reshape((1, 2, 2, 1))?)])?;
    let x = parameters.variable("x")?;
    let mut engine = TrainingEngine::new(&parameters);
    let gradients = engine.relu(x.as_tensor())?.sum_all()?.backward()?;
    check(&values(gradients.get(x).expect("a variable"))?, &[0.0, 0.0, 1.0, 0.0]);

    // x feeds the finer level and, pooled, the coarser one that is added to it: 1 from the sum, 4 from the upsampling.
    let coarse = engine.max_pool(x.as_tensor(), 2, 2, 0)?;
    let gradients = engine.upsample_add(&coarse, x.as_tensor())?.sum_all()?.backward()?;
    check(&values(gradients.get(x).expect("a variable"))?, &[1.0, 1.0, 5.0, 1.0]);
    Ok(())
}

#[test]
fn a_missing_parameter_is_named() -> Result<()> {
    let error =
        InferenceEngine::new(&Parameters::default()).conv(&layer(BATCH)?.0, &input()?, None).expect_err("no tensors");
    assert!(error.to_string().contains("conv.weight"), "{error}");
    Ok(())
}
