//! The reverse pass of a training session against candle's backward over the same layers.

#[allow(dead_code, reason = "the tests of plans use the rest")]
#[path = "plan/network.rs"]
mod network;

use candle_core::{Device, Result, Tensor};
use network::{Network, image, noise};
use retinanet_ops::kernels::cpu::Isa;
use retinanet_ops::kernels::cpu::inference::Precision;
use retinanet_ops::network::plan::Recorder;
use retinanet_ops::network::training::{TrainingOptions, TrainingSession};
use retinanet_ops::network::{ConvLayer, Engine, NormKind, Parameters, TrainingEngine};
use std::collections::BTreeMap;

const BATCH: NormKind = NormKind::Batch { epsilon: 1e-5, momentum: 0.1 };
const FROZEN: NormKind = NormKind::FrozenBatch { epsilon: 1e-5 };
const GROUP: NormKind = NormKind::Group { groups: 2, epsilon: 1e-5 };

/// Two subnets on three levels.
const OUTPUTS: usize = 6;

/// Two images of 75 x 96 pixels: widths and heights that no stride divides.
const IMAGES: (usize, usize, usize) = (2, 75, 96);

fn pixels() -> Vec<f32> {
    let (batch, height, width) = IMAGES;
    (0..batch).flat_map(|seed| image((height, width), seed as u64)).collect()
}

type Named = BTreeMap<String, Vec<f32>>;

/// Outputs, gradients and running statistics by candle, the loss being the sum of outputs times noise.
fn by_candle(network: &Network) -> Result<(Vec<Vec<f32>>, Named, Named)> {
    let parameters = network.parameters();
    let (batch, height, width) = IMAGES;
    let x = Tensor::from_vec(pixels(), (batch, height, width, 3), &Device::Cpu)?;
    let mut engine = TrainingEngine::new(&parameters);
    let outputs = network.forward(&mut engine, &x)?.concat();
    let mut loss = Tensor::new(0f32, &Device::Cpu)?;
    for (seed, output) in outputs.iter().enumerate() {
        let factors = Tensor::from_vec(noise(output.elem_count(), 90 + seed as u64), output.shape(), &Device::Cpu)?;
        loss = (loss + (output * factors)?.sum_all()?)?;
    }
    let gradients = loss.backward()?;
    let values = |tensor: &Tensor| tensor.flatten_all()?.to_vec1::<f32>();
    let mut named = Named::new();
    for (name, variable) in parameters.iter() {
        if let Some(gradient) = gradients.get(variable) {
            named.insert(name.to_owned(), values(gradient)?);
        }
    }
    engine.update_running_statistics()?;
    Ok((outputs.iter().map(values).collect::<Result<_>>()?, named, running(&parameters)?))
}

fn running(parameters: &Parameters) -> Result<Named> {
    let running = parameters.iter().filter(|(name, _)| name.contains("running_"));
    running.map(|(name, variable)| Ok((name.to_owned(), variable.to_vec1()?))).collect()
}

fn session(network: &Network, options: &TrainingOptions) -> TrainingSession {
    let (mut recorder, image) = Recorder::new(3);
    let outputs = network.forward(&mut recorder, &image).expect("a network").concat();
    TrainingSession::new(&recorder, &outputs, options).expect("a session")
}

/// A step of the same loss; returns the outputs.
fn step(session: &mut TrainingSession, parameters: &Parameters, accumulate: bool) -> Vec<Vec<f32>> {
    if !accumulate {
        session.begin();
    }
    session.forward(parameters, &pixels(), IMAGES).expect("outputs");
    let outputs: Vec<Vec<f32>> = (0..OUTPUTS).map(|idx| session.output(idx).1.to_vec()).collect();
    for (idx, output) in outputs.iter().enumerate() {
        session.set_output_gradient(idx, &noise(output.len(), 90 + idx as u64));
    }
    session.backward(parameters).expect("gradients");
    outputs
}

/// The largest difference, relative to the largest number.
fn error(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    let largest = expected.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
    found.iter().zip(expected).fold(0.0f32, |worst, (a, b)| worst.max((a - b).abs())) / largest.max(1e-20)
}

#[track_caller]
fn check(network: &Network) {
    let (outputs, gradients, running_statistics) = by_candle(network).expect("candle's gradients");
    assert!(gradients.len() > 15);
    for isa in Isa::ALL.into_iter().filter(|isa| isa.is_available()) {
        let parameters = network.parameters();
        let mut session = session(network, &TrainingOptions { isa, ..TrainingOptions::default() });
        // The second step of a session finds its memory used.
        for _ in 0..2 {
            let found = step(&mut session, &parameters, false);
            for (idx, (found, expected)) in found.iter().zip(&outputs).enumerate() {
                let error = error(found, expected);
                assert!(error < 1e-5, "{isa:?}: output {idx}: error {error}");
            }
            let names: Vec<&str> = session.gradients().iter().map(|(name, _)| name).collect();
            assert_eq!(names, gradients.keys().collect::<Vec<_>>());
            for (name, found) in session.gradients().iter() {
                let error = error(found, &gradients[name]);
                assert!(error < 2e-4, "{isa:?}: gradient of {name}: error {error}");
            }
        }
        session.update_running_statistics(&parameters).expect("running statistics");
        for (name, found) in running(&parameters).expect("vectors") {
            assert!(error(&found, &running_statistics[&name]) < 1e-5, "{isa:?}: {name}");
        }
    }
}

#[test]
fn gradients_through_norms_of_the_batch() {
    check(&Network::with_norms(BATCH, false));
}

#[test]
fn gradients_through_stored_statistics() {
    check(&Network::with_norms(FROZEN, true));
}

#[test]
fn gradients_through_group_norms() {
    check(&Network::with_norms(GROUP, true));
}

#[test]
fn gradients_end_at_layers_that_are_not_trained() {
    // The stem and, further up, a layer that gradients pass.
    for frozen in [&["stem"][..], &["stem", "block.1", "block.2", "shortcut"], &["class.0", "block.2"]] {
        let mut network = Network::with_norms(BATCH, false);
        for layer in network.layers_mut() {
            layer.trainable = !frozen.contains(&layer.name.as_str());
        }
        check(&network);
    }
}

/// Numbers in the directions of each other: the cosine of the angle between them.
fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let product = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    product(a, b) / (product(a, a) * product(b, b)).sqrt()
}

#[test]
fn gradients_in_bfloat16_point_where_those_in_f32_do() {
    for (norm, has_group_norm) in [(BATCH, false), (FROZEN, false), (GROUP, true)] {
        let network = Network::with_norms(norm, has_group_norm);
        let parameters = network.parameters();
        let gradients = |precision: Precision, isa: Isa| {
            let mut session = session(&network, &TrainingOptions { isa, precision, ..TrainingOptions::default() });
            step(&mut session, &parameters, false);
            step(&mut session, &parameters, false);
            session.gradients().clone()
        };
        let expected = gradients(Precision::F32, Isa::detect());
        for isa in Isa::ALL.into_iter().filter(|isa| isa.is_available()) {
            for (name, found) in gradients(Precision::Bf16, isa).iter() {
                let cosine = cosine(found, expected.get(name).expect("the same parameters"));
                assert!(cosine > 0.95, "{isa:?}: gradient of {name}: cosine {cosine}");
            }
        }
    }
}

#[test]
fn gradients_of_two_steps_add_up() {
    let network = Network::with_norms(BATCH, false);
    let parameters = network.parameters();
    let mut session = session(&network, &TrainingOptions::default());
    step(&mut session, &parameters, false);
    let once: Named = session.gradients().iter().map(|(name, values)| (name.to_owned(), values.to_vec())).collect();
    step(&mut session, &parameters, true);
    for (name, found) in session.gradients().iter() {
        let twice: Vec<f32> = once[name].iter().map(|value| 2.0 * value).collect();
        assert!(error(found, &twice) < 1e-6, "{name}");
    }
    step(&mut session, &parameters, false);
    assert!(session.gradients().iter().all(|(name, found)| found == once[name]));
}

#[test]
fn what_runs_again_takes_less_memory_and_gives_the_same_bits() {
    let mut partly_frozen = Network::with_norms(BATCH, false);
    for layer in partly_frozen.layers_mut() {
        layer.trainable = !["stem", "block.1", "class.0"].contains(&layer.name.as_str());
    }
    let kinds = [(BATCH, false), (FROZEN, true), (GROUP, true)];
    let networks = kinds.map(|(norm, has_group_norm)| Network::with_norms(norm, has_group_norm));
    for (network, precision) in
        networks.iter().chain([&partly_frozen]).flat_map(|n| [(n, Precision::F32), (n, Precision::Bf16)])
    {
        let run = |recompute: &[&str]| {
            let recompute = recompute.iter().map(|&prefix| prefix.to_owned()).collect();
            let parameters = network.parameters();
            let mut session = session(network, &TrainingOptions { precision, recompute, ..TrainingOptions::default() });
            let outputs = step(&mut session, &parameters, false);
            step(&mut session, &parameters, true);
            session.update_running_statistics(&parameters).expect("running statistics");
            let gradients: Named = session.gradients().iter().map(|(name, g)| (name.to_owned(), g.to_vec())).collect();
            ((outputs, gradients, running(&parameters).expect("vectors")), session.memory_len())
        };
        let (expected, all) = run(&[]);
        // A block, two that share layers of the first, all that has a name, and what nothing is called.
        for (recompute, is_less) in [
            (&["block."][..], false),
            (&["class.", "box."], true),
            (&["class.0", "class.", "shortcut"], true),
            (&["stem", "shortcut", "block.", "lateral.", "extra", "class.", "box."], true),
            (&["nothing"], false),
        ] {
            let (found, len) = run(recompute);
            assert!(found == expected, "{precision:?} {recompute:?}: other bits than without");
            assert!(!is_less || len < all, "{precision:?} {recompute:?}: {len} bytes of {all}");
        }
    }
}

#[test]
fn the_same_bits_for_any_number_of_threads() {
    let network = Network::with_norms(BATCH, true);
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
        pool.install(|| {
            let mut session = session(&network, &TrainingOptions::default());
            step(&mut session, &network.parameters(), false);
            let bits = |(name, values): (&str, &[f32])| (name.to_owned(), values.iter().map(|x| x.to_bits()).collect());
            session.gradients().iter().map(bits).collect::<BTreeMap<String, Vec<u32>>>()
        })
    };
    let one = run(1);
    for threads in [2, 3, 7] {
        assert!(run(threads) == one, "{threads} threads give other bits than one");
    }
}

#[test]
fn a_layer_that_adds_its_own_input_needs_a_norm_between() -> Result<()> {
    let layer = ConvLayer::new("twice", 4, 4, 3, 1);
    let new = |layer: &ConvLayer| {
        let (mut recorder, images) = Recorder::new(4);
        let x = recorder.conv(&ConvLayer::new("first", 4, 4, 3, 1), &images, None)?;
        let y = recorder.conv(layer, &x, Some(&x))?;
        Ok::<_, candle_core::Error>(TrainingSession::new(&recorder, &[y], &TrainingOptions::default()))
    };
    let error = new(&layer)?.expect_err("no norm").to_string();
    assert!(error.contains("twice: residual: expected another value than the input"), "{error}");
    assert!(new(&layer.clone().with_norm("norm", FROZEN))?.is_err());
    assert!(new(&layer.with_norm("norm", BATCH))?.is_ok());
    Ok(())
}

#[test]
fn what_does_not_fit_is_named() {
    let network = Network::new(false);
    let mut session = session(&network, &TrainingOptions::default());
    let parameters = network.parameters();
    let error = session.forward(&parameters, &[0.0; 5], IMAGES).expect_err("too few pixels");
    assert!(error.to_string().contains("images: expected 43200 numbers, found 5"), "{error}");
    let error = session.forward(&Parameters::default(), &pixels(), IMAGES).expect_err("no parameters");
    assert!(error.to_string().contains("stem"), "{error}");
    let error = session.forward(&parameters, &[], (0, 75, 96)).expect_err("no images");
    assert!(error.to_string().contains("images"), "{error}");
}
