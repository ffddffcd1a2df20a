//! Times the focal loss on a GPU beside a copy of as many bytes, for `cargo xtask bench --cuda --peers`, as one line of JSON.

mod focal;

use focal::{FocalLoss, open};
use retinanet_cuda::{Element, Error, Gpu};
use std::time::Duration;

/// The fastest of some runs, after one that is not timed.
fn fastest(gpu: &Gpu, run: impl Fn() -> Result<(), Error>) -> Result<Duration, Error> {
    run()?;
    let mut best = Duration::MAX;
    for _ in 0..20 {
        best = best.min(gpu.time(&mut || run())?);
    }
    Ok(best)
}

fn main() -> Result<(), Error> {
    let gpu = open()?;
    let mut fields = Vec::new();
    for (name, element) in [("f32", Element::F32), ("bf16", Element::Bf16)] {
        let focal = FocalLoss::new(&gpu, element)?;
        let loss = fastest(&gpu, || focal.run())?;
        let copy = fastest(&gpu, || focal.copy())?;
        let gb_per_s = |time: Duration| focal.bytes() as f64 / time.as_secs_f64() / 1e9;
        let (ms, loss, copy) = (loss.as_secs_f64() * 1e3, gb_per_s(loss), gb_per_s(copy));
        fields.push(format!("\"{name}\": {{\"ms\": {ms}, \"gb_per_s\": {loss}, \"copy_gb_per_s\": {copy}}}"));
    }
    println!("{{{}}}", fields.join(", "));
    Ok(())
}
