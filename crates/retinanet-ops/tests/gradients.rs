//! Every gradient of every operation against central differences in double precision, on small odd shapes.

mod reference;

use candle_core::{Device, Result, Tensor, Var};
use reference::numbers;
use retinanet_ops::{
    Activation, Conv2d, add, batch_norm, channel_affine, conv2d, group_norm, max_pool2d, upsample_nearest2d,
};

fn random(dims: &[usize], seed: u64) -> Tensor {
    Tensor::from_vec(numbers(dims.iter().product(), seed), dims, &Device::Cpu).unwrap()
}

/// Compares the gradients of `sum(f(inputs) * r)`, with fixed random r, for inputs of the given dimensions.
#[track_caller]
fn check(dims: &[&[usize]], f: impl Fn(&[Tensor]) -> Result<Tensor>) {
    let inputs: Vec<Tensor> = dims.iter().enumerate().map(|(idx, dims)| random(dims, 10 + idx as u64)).collect();
    let vars: Vec<Var> = inputs.iter().map(|input| Var::from_tensor(input).unwrap()).collect();
    let loss = |inputs: &[Tensor]| {
        let y = f(inputs).unwrap();
        let r = random(y.dims(), 99);
        (y * r).unwrap().sum_all().unwrap()
    };
    let tensors: Vec<Tensor> = vars.iter().map(|var| var.as_tensor().clone()).collect();
    let gradients = loss(&tensors).backward().unwrap();
    let step = 1e-6;
    for (idx, input) in inputs.iter().enumerate() {
        let gradient = gradients.get(&vars[idx]).expect("every input has a gradient");
        assert_eq!(gradient.dims(), input.dims(), "input {idx}");
        let gradient = gradient.flatten_all().unwrap().to_vec1::<f64>().unwrap();
        let values = input.flatten_all().unwrap().to_vec1::<f64>().unwrap();
        for place in 0..values.len() {
            let moved = |by: f64| {
                let mut values = values.clone();
                values[place] += by;
                let mut inputs = inputs.clone();
                inputs[idx] = Tensor::from_vec(values, input.dims(), &Device::Cpu).unwrap();
                loss(&inputs).to_scalar::<f64>().unwrap()
            };
            let expected = (moved(step) - moved(-step)) / (2.0 * step);
            let found = gradient[place];
            let close = (found - expected).abs() <= 1e-7 * expected.abs().max(1.0);
            assert!(close, "input {idx}, number {place}: expected {expected}, found {found}");
        }
    }
}

const ACTIVATIONS: [Activation; 2] = [Activation::None, Activation::Relu];

#[test]
fn convolution() {
    for activation in ACTIVATIONS {
        for (stride, padding, groups) in [(1, 1, 1), (2, 1, 1), (2, 0, 2), (1, 0, 4), (3, 2, 1)] {
            let conv = Conv2d { stride, padding, groups };
            let weight = [8, 4 / groups, 3, 3];
            check(&[&[2, 5, 4, 4], &weight, &[8]], |t| conv2d(&t[0], &t[1], Some(&t[2]), conv, activation));
            check(&[&[1, 4, 7, 4], &weight], |t| conv2d(&t[0], &t[1], None, conv, activation));
        }
        let pointwise = Conv2d::default();
        check(&[&[2, 3, 2, 3], &[5, 3, 1, 1], &[5]], |t| conv2d(&t[0], &t[1], Some(&t[2]), pointwise, activation));
        let strided = Conv2d { stride: 2, ..pointwise };
        check(&[&[2, 3, 4, 3], &[5, 3, 1, 1], &[5]], |t| conv2d(&t[0], &t[1], Some(&t[2]), strided, activation));
    }
}

#[test]
fn convolution_of_strided_tensors() {
    // Channels-first tensors seen as channels-last, a weight with exchanged axes, and a gradient that arrives transposed.
    let conv = Conv2d { stride: 2, padding: 1, groups: 1 };
    check(&[&[2, 3, 5, 4], &[3, 5, 3, 3], &[5]], |t| {
        let x = t[0].permute((0, 2, 3, 1))?;
        conv2d(&x, &t[1].transpose(0, 1)?, Some(&t[2]), conv, Activation::Relu)?.permute((0, 3, 1, 2))
    });
}

#[test]
fn pooling() {
    for (kernel, stride, padding) in [(3, 2, 1), (2, 2, 0), (3, 1, 1), (1, 2, 0), (4, 3, 2)] {
        check(&[&[2, 5, 6, 3]], |t| max_pool2d(&t[0], kernel, stride, padding));
        check(&[&[1, 4, 5, 17]], |t| max_pool2d(&t[0], kernel, stride, padding));
    }
    check(&[&[1, 3, 5, 4]], |t| max_pool2d(&t[0].permute((0, 2, 3, 1))?, 3, 2, 1)?.permute((0, 3, 1, 2)));
}

#[test]
fn upsampling() {
    for (height, width) in [(6, 8), (5, 7), (3, 4), (2, 9)] {
        check(&[&[2, 3, 4, 3]], |t| upsample_nearest2d(&t[0], height, width));
    }
}

#[test]
fn a_tensor_used_twice_gathers_both_gradients() {
    check(&[&[1, 2, 3, 2], &[2, 2, 1, 1]], |t| {
        let pyramid = conv2d(&t[0], &t[1], None, Conv2d::default(), Activation::None)?;
        let up = upsample_nearest2d(&pyramid, 5, 6)?;
        let more = upsample_nearest2d(&pyramid, 5, 6)?;
        let pooled = upsample_nearest2d(&max_pool2d(&pyramid, 2, 1, 0)?, 5, 6)?;
        add(&add(&up, &more, Activation::None)?, &pooled, Activation::Relu)
    });
    check(&[&[1, 2, 3, 2]], |t| add(&t[0], &t[0], Activation::Relu));
}

#[test]
fn sums() {
    for activation in ACTIVATIONS {
        check(&[&[2, 3, 1, 5], &[2, 3, 1, 5]], |t| add(&t[0], &t[1], activation));
        check(&[&[2, 3, 4], &[2, 4, 3]], |t| add(&t[0], &t[1].transpose(1, 2)?, activation)?.transpose(0, 1));
    }
}

#[test]
fn norms() {
    for activation in ACTIVATIONS {
        for dims in [[2, 3, 4, 6], [1, 1, 5, 6], [3, 2, 1, 6]] {
            check(&[&dims, &[6], &[6]], |t| channel_affine(&t[0], &t[1], &t[2], activation));
            check(&[&dims, &[6], &[6]], |t| Ok(batch_norm(&t[0], &t[1], &t[2], 1e-2, activation)?.0));
            for num_groups in [1, 2, 3] {
                check(&[&dims, &[6], &[6]], |t| group_norm(&t[0], &t[1], &t[2], num_groups, 1e-2, activation));
            }
        }
        check(&[&[2, 6, 3, 2], &[6], &[6]], |t| {
            let x = t[0].permute((0, 2, 3, 1))?;
            let y = group_norm(&x, &t[1], &t[2], 2, 1e-2, activation)?;
            let (y, _) = batch_norm(&y.transpose(1, 2)?, &t[1], &t[2], 1e-2, activation)?;
            channel_affine(&y.transpose(1, 2)?, &t[1], &t[2], activation)?.transpose(0, 3)
        });
    }
}
