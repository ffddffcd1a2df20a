//! The same bits for any number of threads, from every operation and gradient.

mod reference;

use candle_core::{Device, Result, Tensor, Var};
use reference::numbers;
use retinanet_ops::{
    Activation, Conv2d, add, batch_norm, channel_affine, conv2d, group_norm, max_pool2d, upsample_nearest2d,
};

fn variable(dims: &[usize], seed: u64) -> Result<Var> {
    let values: Vec<f32> = numbers(dims.iter().product(), seed).into_iter().map(|value| value as f32).collect();
    Var::from_tensor(&Tensor::from_vec(values, dims, &Device::Cpu)?)
}

/// The bits of a small network's output and of all its gradients.
fn run() -> Result<Vec<Vec<u32>>> {
    let [x, stem, dense, grouped, lateral] = [
        variable(&[3, 41, 38, 3], 1)?,
        variable(&[32, 3, 7, 7], 2)?,
        variable(&[40, 32, 3, 3], 3)?,
        variable(&[40, 5, 3, 3], 4)?,
        variable(&[40, 32, 1, 1], 5)?,
    ];
    let (bias, weight, shift) = (variable(&[40], 6)?, variable(&[40], 7)?, variable(&[40], 8)?);
    let conv = |stride, padding, groups| Conv2d { stride, padding, groups };
    let y = conv2d(&x, &stem, None, conv(2, 3, 1), Activation::Relu)?;
    let y = max_pool2d(&y, 3, 2, 1)?;
    let short = conv2d(&y, &lateral, None, conv(1, 0, 1), Activation::None)?;
    let y = conv2d(&y, &dense, Some(&bias), conv(2, 1, 1), Activation::Relu)?;
    let y = group_norm(&y, &weight, &shift, 8, 1e-5, Activation::Relu)?;
    let y = conv2d(&y, &grouped, None, conv(1, 1, 8), Activation::None)?;
    let (y, _) = batch_norm(&y, &weight, &shift, 1e-5, Activation::Relu)?;
    let y = channel_affine(&y, &weight, &shift, Activation::None)?;
    let y = upsample_nearest2d(&y, short.dim(1)?, short.dim(2)?)?;
    let y = add(&short, &y, Activation::Relu)?;
    let gradients = y.sqr()?.sum_all()?.backward()?;
    let mut results = vec![y.clone()];
    for var in [&x, &stem, &dense, &grouped, &lateral, &bias, &weight, &shift] {
        results.push(gradients.get(var).expect("every variable has a gradient").clone());
    }
    let bits = |tensor: &Tensor| {
        let values = tensor.flatten_all()?.to_vec1::<f32>()?;
        assert!(values.iter().all(|value| value.is_finite()) && values.iter().any(|&value| value != 0.0));
        Ok(values.into_iter().map(f32::to_bits).collect())
    };
    results.iter().map(bits).collect()
}

#[test]
fn one_and_four_threads_agree() {
    let with_threads = |count| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(count).build().unwrap();
        pool.install(|| run().unwrap())
    };
    let one = with_threads(1);
    for count in [2, 4, 7] {
        assert!(one == with_threads(count), "{count} threads give other bits than one");
    }
}
