//! Convolutions of a RetinaNet, value and gradients, beside candle's own.
#![allow(missing_docs, reason = "criterion's macros make public items")]

use candle_core::{Device, Result, Tensor, Var};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use retinanet_ops::{Activation, Conv2d, conv2d};

struct Case {
    name: &'static str,
    /// N, H, W, C.
    input: (usize, usize, usize, usize),
    out_channels: usize,
    kernel: usize,
    stride: usize,
}

const CASES: [Case; 5] = [
    Case { name: "stem_7x7_s2", input: (1, 240, 320, 3), out_channels: 64, kernel: 7, stride: 2 },
    Case { name: "3x3_64", input: (1, 60, 80, 64), out_channels: 64, kernel: 3, stride: 1 },
    Case { name: "3x3_256", input: (1, 50, 84, 256), out_channels: 256, kernel: 3, stride: 1 },
    Case { name: "3x3_s2_256", input: (1, 50, 84, 256), out_channels: 256, kernel: 3, stride: 2 },
    Case { name: "1x1_256_1024", input: (1, 50, 84, 256), out_channels: 1024, kernel: 1, stride: 1 },
];

fn bench(c: &mut Criterion) {
    for case in &CASES {
        let (images, height, width, channels) = case.input;
        let conv = Conv2d { stride: case.stride, padding: case.kernel / 2, groups: 1 };
        let x = Var::randn(0f32, 1.0, case.input, &Device::Cpu).expect("an input");
        let weight = Var::randn(0f32, 0.05, (case.out_channels, channels, case.kernel, case.kernel), &Device::Cpu)
            .expect("a weight");
        let transposed =
            Var::from_tensor(&x.permute((0, 3, 1, 2)).and_then(|x| x.contiguous()).expect("NCHW")).expect("a variable");
        let ours = |x: &Tensor| conv2d(x, weight.as_tensor(), None, conv, Activation::None);
        let theirs = |x: &Tensor| x.conv2d(weight.as_tensor(), conv.padding, conv.stride, 1, 1);
        let y = ours(&x.as_detached_tensor()).expect("an output");
        let flops = 2 * y.elem_count() * channels * case.kernel * case.kernel;
        let shape = format!("{images}x{height}x{width}x{channels}");

        let mut group = c.benchmark_group(format!("cpu/ops/conv2d_{}/{shape}/f32", case.name));
        group.sample_size(10).throughput(Throughput::Elements(flops as u64));
        // The parameter names the side: kernel is ours, composition is candle's.
        let value = |x: &Var, f: &dyn Fn(&Tensor) -> Result<Tensor>| f(&x.as_detached_tensor()).expect("an output");
        let gradient = |x: &Var, f: &dyn Fn(&Tensor) -> Result<Tensor>| {
            f(x.as_tensor()).and_then(|y| y.sum_all()?.backward()).expect("gradients")
        };
        group.bench_function(BenchmarkId::new("value", "kernel"), |b| b.iter(|| value(&x, &ours)));
        group.bench_function(BenchmarkId::new("value", "composition"), |b| b.iter(|| value(&transposed, &theirs)));
        group.bench_function(BenchmarkId::new("value_and_gradients", "kernel"), |b| b.iter(|| gradient(&x, &ours)));
        group.bench_function(BenchmarkId::new("value_and_gradients", "composition"), |b| {
            b.iter(|| gradient(&transposed, &theirs))
        });
        group.finish();
    }
}

criterion_group!(benches, bench);
criterion_main!(benches);
