//! A plan in 8 bits beside the simulation of its rounding: the same network, the same zero points at the borders.

use candle_core::{Device, Tensor};
use retinanet::{Config, Detector, Model, QuantizeOptions, quantize};
use retinanet_anchors::ImageSize;
use retinanet_annotations::Class;
use retinanet_data::Image;
use retinanet_ops::kernels::cpu::Isa;
use retinanet_ops::kernels::cpu::inference::Precision;
use retinanet_ops::network::plan::{Plan, PlanOptions, Recorder};
use std::ops::ControlFlow;

const SIDE: usize = 96;

/// Shades and noise, bright at the borders, so that padding by anything but zero shows.
fn image(seed: usize) -> Image {
    let mut state = seed as u32 + 1;
    let pixels = (0..SIDE * SIDE * 3).map(|i| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let (row, column) = (i / 3 / SIDE, i / 3 % SIDE);
        let from_middle = row.abs_diff(SIDE / 2).max(column.abs_diff(SIDE / 2));
        ((state >> 26) as usize + from_middle * 3) as u8
    });
    Image { size: ImageSize::new(SIDE, SIDE), pixels: pixels.collect() }
}

/// A detector of random weights with these layers of it in 8 bits.
fn quantized(assignments: &[&str], min_sqnr: f64) -> Detector {
    let small = ["backbone.width=12", "fpn.channels=20", "head.channels=20", "preprocessing.min_size=96"];
    let all = small.iter().chain(&["preprocessing.max_size=96"]).chain(assignments);
    let assignments: Vec<String> = all.map(|&a| a.to_owned()).collect();
    let config = Config::parse(Config::preset_text("small_r18").unwrap(), &assignments).unwrap();
    let classes: Vec<Class> = (0..3).map(|i| Class { category_id: i, name: format!("class {i}") }).collect();
    let detector = Detector::new(config.clone(), classes, Model::new(&config, 3, 11).unwrap());
    let options = QuantizeOptions { min_sqnr, ..QuantizeOptions::default() };
    let go_on = &mut |_, _| ControlFlow::Continue(());
    quantize(&detector, &options, 4, &mut |i| Some(image(i)), go_on).unwrap().unwrap().detector
}

/// All logits and deltas of an image, level by level.
fn planned(detector: &Detector, isa: Isa, pixels: &[f32]) -> Vec<Vec<f32>> {
    let (mut recorder, images) = Recorder::new(3);
    let output = detector.model.network.forward(&mut recorder, &images).unwrap();
    let (first, rest) = (output.class_logits.values(), output.box_deltas.values());
    let options = PlanOptions { isa, precision: Precision::Int8, quantization: detector.quantization.as_ref() };
    let plan = Plan::new(&recorder, first, rest, &detector.model.parameters, &options).unwrap();
    let table = detector.quantization.as_ref().unwrap();
    for layer in plan.layers() {
        assert_eq!(layer.precision == Precision::Int8, table.get(layer.name).is_some(), "{}", layer.name);
    }
    let mut session = plan.session();
    session.resize(&[(SIDE, SIDE)]).unwrap();
    session.input_mut(0).copy_from_slice(pixels);
    session.run_first();
    session.run_rest();
    let first = (0..first.len()).map(|level| session.first_output(level, 0).values.to_vec());
    first.chain((0..rest.len()).map(|level| session.rest_output(level, 0).values.to_vec())).collect()
}

fn simulated(detector: &Detector, pixels: &[f32]) -> Vec<Vec<f32>> {
    let images = Tensor::from_slice(pixels, (1, SIDE, SIDE, 3), &Device::Cpu).unwrap();
    let predictions = detector.predict_simulated(&images).unwrap();
    let levels = predictions.class_logits.values().iter().chain(predictions.box_deltas.values());
    levels.map(|level| level.flatten_all().unwrap().to_vec1().unwrap()).collect()
}

/// Power of `expected` over that of the difference, in dB, both about the mean of each level: the prior is no signal.
fn ratio(expected: &[Vec<f32>], found: &[Vec<f32>]) -> f64 {
    let (mut signal, mut noise) = (0.0, 0.0);
    assert_eq!(expected.len(), found.len());
    for (expected, found) in expected.iter().zip(found) {
        assert_eq!(expected.len(), found.len());
        let mean = expected.iter().map(|&y| f64::from(y)).sum::<f64>() / expected.len() as f64;
        for (&y, &z) in expected.iter().zip(found) {
            signal += (f64::from(y) - mean).powi(2);
            noise += (f64::from(y) - f64::from(z)).powi(2);
        }
    }
    10.0 * (signal / noise).log10()
}

#[test]
fn the_plan_rounds_as_the_simulation_does() {
    for (assignments, min_sqnr) in [
        (&[][..], f64::NEG_INFINITY),
        // Some layers stay; with other numbers of channels, and with P6 from a value of both signs.
        (&["fpn.p6_source=p5"], 38.0),
        (&["head.group_norm=4"], f64::NEG_INFINITY),
    ] {
        let detector = quantized(assignments, min_sqnr);
        let table = detector.quantization.as_ref().unwrap();
        assert!(table.layers.len() > 10, "{}", table.layers.len());
        let batch = detector.config.preprocessing.batch(&[image(20).view()]).unwrap();
        let expected = simulated(&detector, &batch.pixels);
        // The weights are the same: what the simulation adds to them is the rounding of activations.
        let mut whole = detector.clone();
        whole.quantization = None;
        let exact = simulated(&whole, &batch.pixels);
        let rounding = ratio(&exact, &expected);
        for isa in [Isa::Portable, Isa::Avx2, Isa::Avx512, Isa::Neon].into_iter().filter(|isa| isa.is_available()) {
            let found = planned(&detector, isa, &batch.pixels);
            let (apart, lost) = (ratio(&expected, &found), ratio(&exact, &found));
            println!(
                "{assignments:?} {isa:?}: {apart:.1} dB apart; lost {lost:.1} dB, in the simulation {rounding:.1} dB"
            );
            // Sums in another order now and then send a number to the neighbouring byte. bf16 between layers of 8 bits, as a
            // processor with its products has it, does so often: a difference to the simulation, but hardly a loss.
            assert!(apart > 45.0 || isa.has_bf16_products(), "{assignments:?} {isa:?}: {apart} dB apart");
            assert!(lost > rounding - 1.0, "{assignments:?} {isa:?}: {lost} dB, in the simulation {rounding} dB");
        }
    }
}
