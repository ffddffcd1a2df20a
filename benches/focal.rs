//! The focal loss of two images of 800 x 1344 pixels: value and gradient, beside the composition of candle operations.
#![allow(missing_docs, reason = "criterion's macros make public items")]

use candle_core::{D, DType, Device, Result, Tensor, Var};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use retinanet_focal::{BACKGROUND, ClassLoss};

const SHAPE: (usize, usize, usize) = (2, 201_600, 80);

/// Alpha .25, gamma 2 with a one-hot tensor, as it is written where there is no kernel.
fn composition(logits: &Tensor, one_hot: &Tensor) -> Result<Tensor> {
    let p = (logits.neg()?.exp()? + 1.0)?.recip()?;
    // softplus(-|x|) + max(x, 0) - x y
    let entropy = (((logits.abs()?.neg()?.exp()? + 1.0)?.log()? + logits.relu()?)? - (logits * one_hot)?)?;
    let p_t = ((&p * one_hot)? + ((1.0 - &p)? * (1.0 - one_hot)?)?)?;
    let alpha_t = ((one_hot * 0.25)? + ((1.0 - one_hot)? * 0.75)?)?;
    ((alpha_t * (1.0 - p_t)?.sqr()?)? * entropy)?.sum((1, D::Minus1))
}

fn bench(c: &mut Criterion) {
    let (images, anchors, classes) = SHAPE;
    let logits = Tensor::randn(-4.6f32, 1.0, SHAPE, &Device::Cpu).expect("logits");
    // One anchor in a thousand is foreground.
    let code = |i: usize| if i.is_multiple_of(1000) { (i % classes) as i64 } else { BACKGROUND };
    let codes: Vec<i64> = (0..images * anchors).map(code).collect();
    let targets = Tensor::from_slice(&codes, (images, anchors), &Device::Cpu).expect("targets");
    let loss = ClassLoss::default();

    let mut group = c.benchmark_group(format!("cpu/focal/value_and_gradient/{images}x{anchors}x{classes}"));
    group.sample_size(10).throughput(Throughput::Elements((images * anchors * classes) as u64));
    for dtype in [DType::F32, DType::BF16] {
        let variable = Var::from_tensor(&logits.to_dtype(dtype).expect("logits")).expect("a variable");
        group.bench_function(format!("{}/kernel", dtype.as_str()), |b| {
            b.iter(|| {
                loss.sum(variable.as_tensor(), &targets)
                    .and_then(|sum| Ok(sum.sum_all()?.backward()?))
                    .expect("a gradient")
            });
        });
    }
    let mut one_hot = vec![0f32; images * anchors * classes];
    for (row, &code) in codes.iter().enumerate() {
        if let Ok(class) = usize::try_from(code) {
            one_hot[row * classes + class] = 1.0;
        }
    }
    let one_hot = Tensor::from_vec(one_hot, SHAPE, &Device::Cpu).expect("a one-hot tensor");
    let variable = Var::from_tensor(&logits).expect("a variable");
    group.bench_function("f32/composition", |b| {
        b.iter(|| {
            composition(variable.as_tensor(), &one_hot).and_then(|sum| sum.sum_all()?.backward()).expect("a gradient")
        });
    });
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
