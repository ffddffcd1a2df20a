//! Steps of optimisers over many parameters, against the same arithmetic number by number.

mod support;

use retinanet_cuda::kernels::{PendingReport, StepJudge, StepReport, UpdateRule, UpdateTable, UpdatedTensor};
use retinanet_cuda::{Device, Element, Memory, Result};
use std::sync::Arc;
use support::{devices, download, numbers, upload};

/// Around the sizes of vectors and chunks.
const COUNTS: [usize; 5] = [1, 7, 4096, 4097, 10_000];

const RATE: f64 = 0.02;

struct Parameter {
    values: [Vec<f32>; 4],
    memory: [Memory; 4],
    rate_factor: f64,
    decay: f64,
}

fn parameters(device: &Arc<dyn Device>) -> Vec<Parameter> {
    let parameter = |(idx, count): (usize, usize)| {
        // Second moments are not negative.
        let number = |which: usize| -> Vec<f32> {
            let values = numbers((10 * idx + which) as u64, count);
            values.into_iter().map(|value| if which == 3 { value.abs() } else { value }).collect()
        };
        let values = [number(0), number(1), number(2), number(3)];
        let memory = [0, 1, 2, 3].map(|which: usize| upload(device, Element::F32, &values[which]));
        Parameter { values, memory, rate_factor: 1.0 / (idx + 1) as f64, decay: 0.01 * idx as f64 }
    };
    COUNTS.into_iter().enumerate().map(parameter).collect()
}

fn table(device: &Arc<dyn Device>, parameters: &[Parameter], has_second: bool) -> UpdateTable {
    let tensors: Vec<UpdatedTensor<'_>> = parameters
        .iter()
        .map(|Parameter { memory: [parameter, gradient, first, second], rate_factor, decay, .. }| UpdatedTensor {
            parameter: parameter.span(),
            gradient: gradient.span(),
            first: first.span(),
            second: has_second.then(|| second.span()),
            rate_factor: *rate_factor,
            decay: *decay,
        })
        .collect();
    UpdateTable::new(device, &tensors).expect("a table")
}

/// All gradients one behind another, as the norm is taken.
fn joined(device: &Arc<dyn Device>, parameters: &[Parameter]) -> (Memory, f64) {
    let all: Vec<f32> = parameters.iter().flat_map(|parameter| parameter.values[1].clone()).collect();
    let squares: f64 = all.iter().map(|&g| f64::from(g) * f64::from(g)).sum();
    (upload(device, Element::F32, &all), squares.sqrt())
}

/// The arithmetic of `rule` on one number: parameter, first and second moment after the step.
fn expected(rule: UpdateRule, [w, g, m, v]: [f32; 4], scale: f32, rate_factor: f64, decay: f64) -> [f32; 3] {
    let (exact, decay, g) = (RATE * rate_factor, decay as f32, g * scale);
    match rule {
        UpdateRule::Sgd { momentum } => {
            let velocity = momentum as f32 * m + (g + decay * w);
            [w - exact as f32 * velocity, velocity, v]
        }
        UpdateRule::Adamw { step } => {
            let (beta1, beta2): (f64, f64) = (0.9, 0.999);
            let m = beta1 as f32 * m + (1.0 - beta1) as f32 * g;
            let v = beta2 as f32 * v + (1.0 - beta2) as f32 * g * g;
            let moved = (exact / (1.0 - beta1.powi(step))) as f32;
            let correction = (1.0 - beta2.powi(step)).sqrt().recip() as f32;
            [w * (1.0 - exact as f32 * decay) - moved * m / (v.sqrt() * correction + 1e-8), m, v]
        }
    }
}

fn check(rule: UpdateRule, limit: Option<f64>) {
    let has_second = matches!(rule, UpdateRule::Adamw { .. });
    for device in devices() {
        let (parameters, judge) = (parameters(&device), StepJudge::new(&device, COUNTS.len()).expect("memory"));
        let table = table(&device, &parameters, has_second);
        let (gradients, norm) = joined(&device, &parameters);
        judge.judge(gradients.span(), limit).expect("a norm");
        // SAFETY: the parameters are still there.
        unsafe { judge.update(&table, rule, RATE).expect("a step") };
        let report = judge.report().and_then(PendingReport::wait).expect("a report");
        assert!((report.norm / norm - 1.0).abs() < 1e-12 && report.not_finite.is_none(), "{report:?} {norm}");
        let scale = limit.map_or(1.0, |limit| (limit / (norm + 1e-6)).min(1.0)) as f32;
        for Parameter { values, memory, rate_factor, decay } in &parameters {
            let found = [0, 2, 3].map(|which: usize| download(&memory[which], Element::F32, values[0].len()));
            for i in 0..values[0].len() {
                let before = [0, 1, 2, 3].map(|which: usize| values[which][i]);
                let expected = expected(rule, before, scale, *rate_factor, *decay);
                for (found, expected) in found.iter().zip(expected) {
                    let tolerance = 4.0 * f32::EPSILON * expected.abs().max(1.0);
                    assert!((found[i] - expected).abs() <= tolerance, "{rule:?} {i}: {} {expected}", found[i]);
                }
            }
        }
    }
}

#[test]
fn stochastic_gradient_descent() {
    check(UpdateRule::Sgd { momentum: 0.9 }, None);
    check(UpdateRule::Sgd { momentum: 0.0 }, Some(3.0));
    // A limit above the norm changes nothing.
    check(UpdateRule::Sgd { momentum: 0.9 }, Some(1e4));
}

#[test]
fn adam_with_decay_apart() {
    check(UpdateRule::Adamw { step: 1 }, None);
    check(UpdateRule::Adamw { step: 1000 }, Some(3.0));
}

#[test]
fn a_step_that_is_not_finite_changes_nothing() {
    for device in devices() {
        let parameters = parameters(&device);
        let table = table(&device, &parameters, false);
        let (gradients, _) = joined(&device, &parameters);
        let broken = upload(&device, Element::F32, &[1.0, f32::NAN]);
        let average = upload(&device, Element::F32, &parameters[2].values[1]);
        let step = |gradients: &Memory, class_loss: f64| -> Result<StepReport> {
            let judge = StepJudge::new(&device, parameters.len())?;
            judge.class_loss().write(&class_loss.to_ne_bytes())?;
            judge.judge(gradients.span(), None)?;
            // SAFETY: the parameters are still there.
            unsafe {
                judge.gradient_norms(&table)?;
                judge.update(&table, UpdateRule::Sgd { momentum: 0.9 }, RATE)?;
            }
            judge.move_towards(average.span(), parameters[2].memory[0].span(), 0.5)?;
            let report = judge.report()?;
            // The next step begins before anybody asks.
            judge.begin()?;
            report.wait()
        };
        let is_unchanged = || {
            download(&average, Element::F32, 4096) == parameters[2].values[1]
                && parameters.iter().all(|Parameter { values, memory, .. }| {
                    download(&memory[0], Element::F32, values[0].len()) == values[0]
                })
        };
        for (gradients, class_loss) in [(&broken, 1.0), (&gradients, f64::INFINITY), (&gradients, 1e39)] {
            let report = step(gradients, class_loss).expect("a step");
            assert_eq!(report.class_loss, class_loss);
            let norms = report.not_finite.expect("no step that counts");
            assert_eq!(norms.len(), parameters.len());
            for (norm, Parameter { values, .. }) in norms.iter().zip(&parameters) {
                let expected = values[1].iter().map(|&g| f64::from(g) * f64::from(g)).sum::<f64>().sqrt();
                assert!((norm / expected - 1.0).abs() < 1e-12, "{norm} {expected}");
            }
            assert!(is_unchanged(), "{class_loss}");
        }
        assert_eq!(step(&gradients, 1.0).expect("a step").not_finite, None);
        assert!(!is_unchanged());
        let (found, moved) =
            (download(&average, Element::F32, 1)[0], download(&parameters[2].memory[0], Element::F32, 1)[0]);
        let before = parameters[2].values[1][0];
        assert_eq!(found, before + 0.5 * (moved - before));
    }
}

#[test]
fn what_does_not_fit_is_named() {
    for device in devices() {
        let parameters = parameters(&device);
        let [a, b] = [&parameters[0].memory[0], &parameters[1].memory[0]].map(Memory::span);
        let tensor = UpdatedTensor { parameter: a, gradient: b, first: a, second: None, rate_factor: 1.0, decay: 0.0 };
        let message = UpdateTable::new(&device, &[tensor]).expect_err("other lengths").to_string();
        assert_eq!(message, "optimiser: gradient and moments: expected 2 of 4 bytes, found 28, 4");
        let judge = StepJudge::new(&device, 4).expect("memory");
        let table = table(&device, &parameters, false);
        // SAFETY: the parameters are still there.
        let step = unsafe { judge.update(&table, UpdateRule::Adamw { step: 1 }, RATE) };
        assert_eq!(step.expect_err("no moment").to_string(), "optimiser: adamw: expected second moments, found none");
        // SAFETY: as above.
        let norms = unsafe { judge.gradient_norms(&table) }.expect_err("a table of five").to_string();
        assert!(norms.starts_with("gradient norms: tensors"), "{norms}");
    }
}
