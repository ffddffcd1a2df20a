//! Kernels and convolutions on a GPU, if there is one; each run ends with a synchronisation.
#![allow(missing_docs, reason = "criterion's macros make public items")]

#[path = "../crates/retinanet-cuda/examples/cuda_focal/focal.rs"]
mod focal_loss;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use focal_loss::{FocalLoss, SHAPE, open};
use retinanet_cuda::{Activation, Convolution, Device, Element, Error, Gpu, Memory, Pass};
use retinanet_ops::kernels::{ConvShape, ImageShape};
use std::sync::Arc;

const ELEMENTS: [(&str, Element); 2] = [("f32", Element::F32), ("bf16", Element::Bf16)];

fn bench(c: &mut Criterion) {
    match open() {
        Ok(gpu) => {
            focal(c, &gpu).and_then(|()| convolution(c, &gpu)).expect("the GPU works");
        }
        Err(error) => println!("cuda: skipped: {error}"),
    }
}

fn focal(c: &mut Criterion, gpu: &Arc<Gpu>) -> Result<(), Error> {
    let [images, anchors, classes] = SHAPE;
    let mut group = c.benchmark_group(format!("cuda/focal/value_and_gradient/{images}x{anchors}x{classes}"));
    for (name, element) in ELEMENTS {
        let focal = FocalLoss::new(gpu, element)?;
        group.throughput(Throughput::Bytes(focal.bytes() as u64));
        type Run = fn(&FocalLoss) -> Result<(), Error>;
        for (what, run) in [("kernel", FocalLoss::run as Run), ("copy", FocalLoss::copy)] {
            group.bench_function(format!("{name}/{what}"), |b| {
                b.iter(|| run(&focal).and_then(|()| gpu.synchronize()).expect("the GPU works"));
            });
        }
    }
    group.finish();
    Ok(())
}

/// A layer of the heads on P3 of images of 800 x 1344 pixels: forward with its bias and ReLU, and both gradients.
fn convolution(c: &mut Criterion, gpu: &Arc<Gpu>) -> Result<(), Error> {
    let input = ImageShape { batch: 16, height: 100, width: 168, channels: 256 };
    let shape = ConvShape::new(input, [256, 256, 3, 3], 1, 1, 1).expect("a convolution");
    let mut group = c.benchmark_group("cuda/ops/convolution/16x100x168x256_3x3_256");
    group.throughput(Throughput::Elements(shape.flops() as u64));
    let device = Arc::clone(gpu) as Arc<dyn Device>;
    for (name, element) in ELEMENTS {
        let convolution = Convolution { shape, element };
        let zeros = |count: usize| {
            let memory = Memory::new(&device, count * element.size())?;
            memory.span().zero().map(|()| memory)
        };
        let maps = input.num_pixels() * input.channels;
        let (map, other, weight) = (zeros(maps)?, zeros(maps)?, zeros(256 * 256 * 9)?);
        let bias = Memory::of(&device, &[0; 256 * 4])?;
        let [x, y, weight, bias] = [&map, &other, &weight, &bias].map(|memory| memory.span().address());
        let activation = Activation::Relu;
        let passes = [
            ("forward", Pass::Forward { x, weight, bias: Some(bias), residual: None, activation, y }),
            ("input_gradient", Pass::InputGradient { weight, y_gradient: y, x_gradient: x, accumulate: false }),
            ("weight_gradient", Pass::WeightGradient { x, y_gradient: y, weight_gradient: weight, accumulate: false }),
        ];
        for (what, pass) in passes {
            group.bench_function(format!("{name}/{what}"), |b| {
                b.iter(|| {
                    // SAFETY: all is as long as the shape says.
                    let asked = unsafe { gpu.convolve(&convolution, &pass) };
                    asked.and_then(|()| gpu.synchronize()).expect("the GPU works")
                });
            });
        }
    }
    group.finish();
    Ok(())
}

criterion_group!(benches, bench);
criterion_main!(benches);
