//! Values worked out by hand or by candle's own operations, and the errors.

mod reference;

use candle_core::{DType, Device, Result, Tensor, Var};
use reference::numbers;
use retinanet_ops::{
    Activation, Conv2d, add, batch_norm, channel_affine, conv2d, conv2d_fused, group_norm, max_pool2d,
    upsample_nearest2d,
};

fn random(dims: &[usize], seed: u64, dtype: DType) -> Tensor {
    let values = Tensor::from_vec(numbers(dims.iter().product(), seed), dims, &Device::Cpu).unwrap();
    values.to_dtype(dtype).unwrap()
}

fn tensor(values: &[f32], dims: &[usize]) -> Tensor {
    Tensor::from_slice(values, dims, &Device::Cpu).unwrap()
}

fn flat(x: &Tensor) -> Vec<f32> {
    x.flatten_all().unwrap().to_vec1().unwrap()
}

#[track_caller]
fn assert_near(found: &Tensor, expected: &Tensor, tolerance: f64) {
    assert_eq!(found.dims(), expected.dims());
    let difference = (found - expected).unwrap().abs().unwrap().flatten_all().unwrap().max(0).unwrap();
    let difference = difference.to_dtype(DType::F64).unwrap().to_scalar::<f64>().unwrap();
    assert!(difference <= tolerance, "expected a difference of at most {tolerance}, found {difference}");
}

#[test]
fn convolution_equals_candle() -> Result<()> {
    for (dtype, tolerance) in [(DType::F32, 1e-4), (DType::F64, 1e-12)] {
        for (stride, padding, groups, kernel) in [(1, 1, 1, 3), (2, 1, 2, 3), (2, 3, 1, 7), (1, 0, 4, 1), (2, 0, 1, 1)]
        {
            let x = random(&[2, 13, 10, 8], 1, dtype);
            let weight = random(&[12, 8 / groups, kernel, kernel], 2, dtype);
            let y = conv2d(&x, &weight, None, Conv2d { stride, padding, groups }, Activation::None)?;
            let channels_first = x.permute((0, 3, 1, 2))?.contiguous()?;
            let expected = channels_first.conv2d(&weight, padding, stride, 1, groups)?;
            assert_near(&y, &expected.permute((0, 2, 3, 1))?.contiguous()?, tolerance);
        }
    }
    Ok(())
}

#[test]
fn fused_convolution_equals_its_steps() -> Result<()> {
    let x = random(&[2, 4, 6, 5], 1, DType::F32);
    let weight = random(&[3, 7, 3, 5], 2, DType::F32).permute((1, 3, 0, 2))?;
    let (scale, shift) = (random(&[7], 3, DType::F32), random(&[7], 4, DType::F32));
    let residual = random(&[2, 7, 4, 6], 5, DType::F32).permute((0, 2, 3, 1))?;
    let conv = Conv2d { stride: 1, padding: 1, groups: 1 };
    let plain = conv2d(&x, &weight, None, conv, Activation::None)?;
    let expected = plain.broadcast_mul(&scale)?.broadcast_add(&shift)?.add(&residual)?.relu()?;
    let fused = conv2d_fused(&x, &weight, Some(&scale), Some(&shift), Some(&residual), conv, Activation::Relu)?;
    assert_near(&fused, &expected, 1e-5);
    let scaled = conv2d_fused(&x, &weight, Some(&scale), None, None, conv, Activation::None)?;
    assert_near(&scaled, &plain.broadcast_mul(&scale)?, 1e-5);
    Ok(())
}

#[test]
fn max_pool_pads_with_minus_infinity() -> Result<()> {
    let x = tensor(&[-1.0, -2.0, -3.0, -4.0, -5.0, -6.0], &[1, 2, 3, 1]);
    let y = max_pool2d(&x, 3, 2, 1)?;
    assert_eq!(y.dims(), [1, 1, 2, 1]);
    assert_eq!(flat(&y), [-1.0, -2.0]);
    let with_nan = tensor(&[1.0, f32::NAN, 3.0, 4.0], &[1, 2, 2, 1]);
    assert!(flat(&max_pool2d(&with_nan, 2, 2, 0)?)[0].is_nan());
    Ok(())
}

#[test]
fn max_pool_gradient_goes_to_the_first_of_equals() -> Result<()> {
    // Two windows of three; the middle pixel is in both.
    let x = Var::from_tensor(&tensor(&[2.0, 2.0, 1.0, 5.0, 5.0], &[1, 1, 5, 1]))?;
    let y = max_pool2d(x.as_tensor(), 1, 1, 0)?.sum_all()?;
    assert_eq!(flat(y.backward()?.get(&x).unwrap()), [1.0; 5]);
    let rows = Var::from_tensor(&tensor(&[7.0, 7.0, 0.0, 7.0, 7.0, 0.0, 0.0, 0.0, 7.0], &[1, 3, 3, 1]))?;
    let y = max_pool2d(rows.as_tensor(), 2, 1, 0)?;
    let weights = tensor(&[1.0, 10.0, 100.0, 1000.0], &[1, 2, 2, 1]);
    let gradients = (y * weights)?.sum_all()?.backward()?;
    assert_eq!(flat(gradients.get(&rows).unwrap()), [1.0, 10.0, 0.0, 100.0, 1000.0, 0.0, 0.0, 0.0, 0.0]);
    Ok(())
}

#[test]
fn upsampling_takes_the_floor() -> Result<()> {
    let x = tensor(&[0.0, 1.0, 2.0], &[1, 1, 3, 1]);
    assert_eq!(flat(&upsample_nearest2d(&x, 1, 6)?), [0.0, 0.0, 1.0, 1.0, 2.0, 2.0]);
    assert_eq!(flat(&upsample_nearest2d(&x, 1, 5)?), [0.0, 0.0, 1.0, 1.0, 2.0]);
    assert_eq!(flat(&upsample_nearest2d(&x, 1, 2)?), [0.0, 1.0]);
    assert_eq!(upsample_nearest2d(&x, 2, 4)?.dims(), [1, 2, 4, 1]);
    let var = Var::from_tensor(&x)?;
    let gradients = upsample_nearest2d(var.as_tensor(), 2, 5)?.sum_all()?.backward()?;
    assert_eq!(flat(gradients.get(&var).unwrap()), [4.0, 4.0, 2.0]);
    Ok(())
}

type Op<'a> = &'a dyn Fn(&Tensor) -> Result<Tensor>;

#[test]
fn relu_passes_nothing_at_zero() -> Result<()> {
    let values = tensor(&[-1.0, 0.0, 2.0, -0.0], &[1, 1, 4, 1]);
    let one = Tensor::ones(1, DType::F32, &Device::Cpu)?;
    let zero = one.zeros_like()?;
    let kernel = Tensor::ones((1, 1, 1, 1), DType::F32, &Device::Cpu)?;
    let ops: [Op; 3] = [
        &|x| conv2d(x, &kernel, Some(&zero), Conv2d::default(), Activation::Relu),
        &|x| channel_affine(x, &one, &zero, Activation::Relu),
        &|x| add(x, &x.zeros_like()?, Activation::Relu),
    ];
    for op in ops {
        let x = Var::from_tensor(&values)?;
        let y = op(x.as_tensor())?;
        assert_eq!(flat(&y), [0.0, 0.0, 2.0, 0.0]);
        assert_eq!(flat(y.sum_all()?.backward()?.get(&x).unwrap()), [0.0, 0.0, 1.0, 0.0]);
    }
    Ok(())
}

#[test]
fn relu_keeps_nan() -> Result<()> {
    let x = Tensor::full(f32::NAN, (1, 1, 2, 32), &Device::Cpu)?;
    let weight = Tensor::ones((33, 32, 1, 1), DType::F32, &Device::Cpu)?;
    let y = conv2d(&x, &weight, None, Conv2d::default(), Activation::Relu)?;
    assert!(flat(&y).iter().all(|value| value.is_nan()));
    Ok(())
}

#[test]
fn batch_norm_by_hand() -> Result<()> {
    // Mean 3, biased variance 5: (x - 3) / sqrt(5 + 4) * 6 + 1.
    let x = tensor(&[0.0, 2.0, 4.0, 6.0], &[2, 1, 2, 1]);
    let (y, statistics) = batch_norm(&x, &tensor(&[6.0], &[1]), &tensor(&[1.0], &[1]), 4.0, Activation::None)?;
    assert_eq!(flat(&y), [-5.0, -1.0, 3.0, 7.0]);
    assert_eq!(flat(&statistics.mean), [3.0]);
    assert_eq!(flat(&statistics.variance), [5.0]);
    assert_eq!(statistics.count, 4);
    Ok(())
}

#[test]
fn batch_norm_of_large_means_keeps_its_digits() -> Result<()> {
    let values: Vec<f32> = (0..4096).map(|idx| 1000.0 + (idx % 2) as f32).collect();
    let one = tensor(&[1.0], &[1]);
    let (y, statistics) =
        batch_norm(&tensor(&values, &[1, 64, 64, 1]), &one, &tensor(&[0.0], &[1]), 0.0, Activation::None)?;
    assert_eq!(flat(&statistics.variance), [0.25]);
    assert!(flat(&y).iter().enumerate().all(|(idx, y)| (y - if idx % 2 == 0 { -1.0 } else { 1.0 }).abs() < 2e-4));
    Ok(())
}

#[test]
fn group_norm_by_hand() -> Result<()> {
    // Two images of two pixels, two groups of one channel: the first with variance 1, the second constant.
    let x = tensor(&[1.0, 9.0, 3.0, 9.0, 10.0, 4.0, 12.0, 4.0], &[2, 1, 2, 2]);
    let (weight, bias) = (tensor(&[2.0, 3.0], &[2]), tensor(&[0.5, -1.0], &[2]));
    let y = group_norm(&x, &weight, &bias, 2, 3.0, Activation::None)?;
    let expected = [-0.5, -1.0, 1.5, -1.0, -0.5, -1.0, 1.5, -1.0];
    assert_near(&y, &tensor(&expected, &[2, 1, 2, 2]), 1e-5);
    // One group: mean 5.5 and variance 12.75 in the first image.
    let (one, zero) = (tensor(&[1.0, 1.0], &[2]), tensor(&[0.0, 0.0], &[2]));
    let y = flat(&group_norm(&x, &one, &zero, 1, 0.0, Activation::Relu)?);
    assert!((y[1] - 3.5 / 12.75f32.sqrt()).abs() < 1e-6 && y[0] == 0.0, "found {y:?}");
    Ok(())
}

#[test]
fn untracked_inputs_get_no_gradient() -> Result<()> {
    let image = random(&[1, 5, 5, 3], 1, DType::F32);
    let weight = Var::from_tensor(&random(&[4, 3, 3, 3], 2, DType::F32))?;
    let y = conv2d(&image, weight.as_tensor(), None, Conv2d::default(), Activation::None)?;
    let gradients = y.sum_all()?.backward()?;
    assert!(gradients.get(&weight).is_some());
    assert!(gradients.get(&image).is_none());
    Ok(())
}

#[track_caller]
fn assert_error(result: Result<impl std::fmt::Debug>, expected: &str) {
    let message = result.unwrap_err().to_string();
    assert!(message.starts_with(expected), "expected {expected:?}, found {message:?}");
}

#[test]
fn errors_name_what_was_expected_and_found() {
    let x = random(&[1, 4, 5, 3], 1, DType::F32);
    let weight = random(&[2, 3, 3, 3], 2, DType::F32);
    let plain = Conv2d::default();
    let conv =
        |x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, conv| conv2d(x, weight, bias, conv, Activation::None);
    let ones = |dims: &[usize]| random(dims, 3, DType::F32);
    assert_error(conv(&x, &ones(&[2, 64, 3, 3]), None, plain), "conv2d: input channels: expected 64, found 3");
    assert_error(
        conv(&x, &ones(&[2, 3, 5, 3]), None, plain),
        "conv2d: input height: expected at least 5 with padding 0, found 4",
    );
    assert_error(conv(&x, &weight, Some(&ones(&[3])), plain), "conv2d: bias: expected [2], found [3]");
    assert_error(
        conv(&x, &weight, None, Conv2d { stride: 0, ..plain }),
        "conv2d: stride: expected at least 1, found 0",
    );
    assert_error(
        conv(&x, &weight, None, Conv2d { groups: 0, ..plain }),
        "conv2d: groups: expected at least 1, found 0",
    );
    assert_error(
        conv(&x, &ones(&[2, 1, 3, 3]), None, Conv2d { groups: 3, ..plain }),
        "conv2d: output channels: expected a multiple of 3 groups, found 2",
    );
    assert_error(
        conv(&x, &weight, None, Conv2d { padding: usize::MAX / 2, ..plain }),
        "conv2d: padding: expected at most",
    );
    assert_error(
        conv(&ones(&[4, 5, 3]), &weight, None, plain),
        "conv2d: input: expected [N, H, W, C], found [4, 5, 3]",
    );
    let empty = Tensor::zeros((0, 4, 5, 3), DType::F32, &Device::Cpu).unwrap();
    assert_error(conv(&empty, &weight, None, plain), "conv2d: input: expected no empty dimension, found [0, 4, 5, 3]");
    assert_error(
        conv(&x, &random(&[2, 3, 3, 3], 2, DType::F64), None, plain),
        "conv2d: weight dtype: expected f32, found f64",
    );
    let bytes = Tensor::zeros((1, 4, 5, 3), DType::U8, &Device::Cpu).unwrap();
    assert_error(max_pool2d(&bytes, 2, 2, 0), "max_pool2d: dtype: expected f32 or f64, found u8");
    assert_error(max_pool2d(&x, 3, 2, 2), "max_pool2d: padding: expected at most half the kernel, 1, found 2");
    assert_error(max_pool2d(&x, 6, 1, 0), "max_pool2d: input height: expected at least 6 with padding 0, found 4");
    assert_error(upsample_nearest2d(&x, 0, 3), "upsample_nearest2d: size: expected at least 1x1, found 3x0");
    assert_error(
        add(&x, &ones(&[1, 4, 5, 2]), Activation::None),
        "add: second term: expected [1, 4, 5, 3], found [1, 4, 5, 2]",
    );
    let (weight, bias) = (ones(&[3]), ones(&[3]));
    assert_error(
        group_norm(&x, &weight, &bias, 2, 1e-5, Activation::None),
        "group_norm: groups: expected a divisor of 3 channels, found 2",
    );
    assert_error(
        batch_norm(&x, &ones(&[4]), &bias, 1e-5, Activation::None),
        "batch_norm: weight: expected [3], found [4]",
    );
    assert_error(
        batch_norm(&empty, &weight, &bias, 1e-5, Activation::None),
        "batch_norm: input: expected no empty dimension",
    );
    assert_error(
        channel_affine(&x, &weight, &ones(&[1]), Activation::None),
        "channel_affine: shift: expected [3], found [1]",
    );
}
