//! 8-bit quantisation: calibration on a tiny network, the file, the simulation.

use retinanet::{
    Config, Detector, InferenceOptions, InitialWeights, Model, Pass, Precision, QuantizeOptions, Quantized, quantize,
    start,
};
use retinanet_anchors::ImageSize;
use retinanet_annotations::Class;
use retinanet_data::Image;
use retinanet_ops::kernels::cpu::inference::Quantization;
use std::ops::ControlFlow;
use std::path::Path;

/// A tiny detector with random weights.
fn detector(assignments: &[&str]) -> Detector {
    let small = ["backbone.width=8", "fpn.channels=16", "head.channels=16", "preprocessing.min_size=64"];
    let assignments: Vec<String> =
        small.iter().chain(&["preprocessing.max_size=64"]).chain(assignments).map(|&a| a.to_owned()).collect();
    let config = Config::parse(Config::preset_text("small_r18").unwrap(), &assignments).unwrap();
    let classes: Vec<Class> = (0..2).map(|i| Class { category_id: i, name: format!("class {i}") }).collect();
    let model = Model::new(&config, classes.len(), 3).unwrap();
    Detector::new(config, classes, model)
}

/// A picture of noise and shades.
fn image(seed: usize) -> Image {
    let mut state = seed as u32 + 1;
    let pixels = (0..64 * 64 * 3).map(|i| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        ((state >> 26) as usize + i / 64 % 192) as u8
    });
    Image { size: ImageSize::new(64, 64), pixels: pixels.collect() }
}

fn quantized(detector: &Detector, min_sqnr: f64) -> Quantized {
    let options = QuantizeOptions { min_sqnr, ..QuantizeOptions::default() };
    quantize(detector, &options, 3, &mut |i| Some(image(i)), &mut |_, _| ControlFlow::Continue(())).unwrap().unwrap()
}

fn input(quantized: &Quantized, layer: &str) -> Quantization {
    quantized.layers.iter().find(|found| found.name == layer).unwrap().input
}

#[test]
fn scales_are_shared_by_the_readers_of_a_value_and_zero_points_follow_the_activation() {
    let found = quantized(&detector(&[]), f64::NEG_INFINITY);
    assert_eq!(found.images, 3);
    assert!(found.layers.iter().all(|layer| layer.is_int8 && layer.sqnr > 20.0), "{:?}", found.layers);
    let at = |layer| input(&found, layer);
    // Images have both signs; what blocks read is behind a ReLU, and so are pyramid towers after the first layer.
    assert_eq!(at("backbone.body.conv1").zero_point, 128);
    assert_eq!(at("backbone.body.layer2.0.conv1").zero_point, 0);
    assert_eq!(at("backbone.fpn.layer_blocks.0.0").zero_point, 128);
    assert_eq!(at("backbone.fpn.extra_blocks.p7").zero_point, 0);
    assert_eq!(at("head.classification_head.cls_logits").zero_point, 0);
    // The normalised picture is at most (1 - .406) / .225 = 2.64, and all of it is seen: at most a step of 2.64 / 127.
    assert!(at("backbone.body.conv1").scale < 2.65 / 127.0);

    for readers in [
        &["backbone.body.layer2.0.conv1", "backbone.body.layer2.0.downsample.0"][..],
        &["backbone.body.layer4.0.conv1", "backbone.body.layer4.0.downsample.0", "backbone.fpn.inner_blocks.1.0"],
        &["backbone.fpn.inner_blocks.2.0", "backbone.fpn.extra_blocks.p6"],
        &["head.classification_head.conv.0.0", "head.regression_head.conv.0.0"],
    ] {
        assert!(readers.iter().all(|reader| at(reader) == at(readers[0])), "{readers:?}");
    }
    assert_ne!(at("head.classification_head.conv.1.0"), at("head.regression_head.conv.1.0"));

    let table = found.detector.quantization.as_ref().unwrap();
    let outputs: Vec<&str> =
        table.layers.iter().filter(|(_, layer)| layer.output.is_some()).map(|(name, _)| name.as_str()).collect();
    let shortcuts = [2, 3, 4].map(|stage| format!("backbone.body.layer{stage}.0.downsample.0"));
    assert_eq!(outputs, shortcuts, "shortcuts alone have a scale of their output");
    assert_eq!(table.get(&shortcuts[0]).unwrap().output.unwrap().zero_point, 128);
}

#[test]
fn with_p6_from_p5_the_first_layers_of_the_head_share_its_scale() {
    let found = quantized(&detector(&["fpn.p6_source=p5"]), f64::NEG_INFINITY);
    assert_eq!(input(&found, "backbone.fpn.extra_blocks.p6"), input(&found, "head.regression_head.conv.0.0"));
    assert_ne!(input(&found, "backbone.fpn.extra_blocks.p6"), input(&found, "backbone.fpn.inner_blocks.2.0"));
}

#[test]
fn layers_that_lose_too_much_stay_with_their_weights_untouched() {
    let original = detector(&[]);
    let all = quantized(&original, f64::NEG_INFINITY);
    let mut ratios: Vec<f64> = all.layers.iter().map(|layer| layer.sqnr).collect();
    ratios.sort_by(f64::total_cmp);
    let middle = ratios[ratios.len() / 2];
    let found = quantized(&original, middle);
    let table = found.detector.quantization.as_ref().unwrap();
    assert!(!table.layers.is_empty() && table.layers.len() < found.layers.len());
    for layer in &found.layers {
        assert_eq!(layer.is_int8, table.get(&layer.name).is_some());
        assert!(layer.is_int8 || layer.sqnr < middle || shares_input_with_a_loser(&found, &layer.name, middle));
        let name = format!("{}.weight", layer.name);
        let values = |detector: &Detector| flat(detector, &name);
        assert_eq!(values(&original) != values(&found.detector), layer.is_int8, "{name}");
    }
    let none = quantized(&original, f64::INFINITY);
    assert!(none.detector.quantization.unwrap().layers.is_empty());
}

fn shares_input_with_a_loser(found: &Quantized, layer: &str, limit: f64) -> bool {
    let input = input(found, layer);
    found.layers.iter().any(|other| other.input == input && other.sqnr < limit)
}

fn flat(detector: &Detector, name: &str) -> Vec<f32> {
    let tensor = detector.model.parameters.detached(name).unwrap();
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

#[test]
fn a_saved_model_is_small_and_comes_back_whole() {
    // With group norm, whose parameters no weight takes up.
    for assignments in [&["head.group_norm=4"][..], &["backbone.width=32", "fpn.channels=96", "head.channels=96"]] {
        let original = detector(assignments);
        let found = quantized(&original, f64::NEG_INFINITY).detector;
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        original.save(path("f32")).unwrap();
        found.save(path("int8")).unwrap();
        let loaded = Detector::load(path("int8")).unwrap();
        assert_eq!(loaded.quantization, found.quantization);
        loaded.save(path("again")).unwrap();
        assert_eq!(std::fs::read(path("int8")).unwrap(), std::fs::read(path("again")).unwrap());
        for (name, _) in found.model.parameters.iter() {
            assert_eq!(flat(&found, name), flat(&loaded, name), "{name}");
        }
        let size = |name: &str| std::fs::metadata(path(name)).unwrap().len() as f64;
        if assignments.len() == 3 {
            assert!(size("int8") < 0.27 * size("f32"), "{} of {}", size("int8"), size("f32"));
        }
        let picture = image(9);
        for precision in [Precision::F32, Precision::Int8] {
            let options = InferenceOptions { precision, ..InferenceOptions::default() };
            let detect = |detector: &Detector| detector.plan(&options).unwrap().detect(&picture).unwrap();
            assert_eq!(detect(&found), detect(&loaded));
        }
        assert_eq!(found.detect_simulated(&picture).unwrap(), loaded.detect_simulated(&picture).unwrap());
    }
}

#[test]
fn training_may_start_from_eight_bits_and_says_so() {
    let found = quantized(&detector(&[]), f64::NEG_INFINITY).detector;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("int8");
    found.save(&file).unwrap();
    for weights in [InitialWeights::Detector(file.clone()), InitialWeights::Backbone(file.clone())] {
        let start = start(&found.config, &found.classes, &weights).unwrap();
        assert!(start.notes.iter().any(|note| note.contains("is quantised")), "{:?}", start.notes);
        let name = "backbone.body.conv1.weight";
        let weight = start.model.parameters.detached(name).unwrap();
        assert_eq!(weight.flatten_all().unwrap().to_vec1::<f32>().unwrap(), flat(&found, name));
    }
}

#[test]
fn what_cannot_be_quantised_is_said() {
    let original = detector(&[]);
    let refused = |detector: &Detector, count: usize, image: &mut dyn FnMut(usize) -> Option<Image>| {
        let go_on = &mut |_, _| ControlFlow::Continue(());
        quantize(detector, &QuantizeOptions::default(), count, image, go_on).unwrap_err().to_string()
    };
    let message = refused(&original, 0, &mut |_| unreachable!("no image is asked for"));
    assert!(message.contains("expected at least 1 image, found 0"), "{message}");
    let message = refused(&original, 4, &mut |_| None);
    assert!(message.contains("expected at least 1 image, found 0 of 4"), "{message}");
    let twice = quantized(&original, f64::NEG_INFINITY).detector;
    let message = refused(&twice, 1, &mut |i| Some(image(i)));
    assert!(message.contains("quantised already"), "{message}");
    let broken = detector(&[]);
    let name = "head.classification_head.conv.0.0.weight";
    let variable = broken.model.parameters.variable(name).unwrap();
    variable.set(&(variable.as_tensor() / 0.0).unwrap()).unwrap();
    let message = refused(&broken, 1, &mut |i| Some(image(i)));
    assert!(message.contains("finite"), "{message}");
}

#[test]
fn an_interruption_ends_either_pass_and_every_image_is_asked_for() {
    let original = detector(&[]);
    for wanted in [Pass::Ranges, Pass::Losses] {
        let mut asked = Vec::new();
        let mut on_image =
            |pass, done| if pass == wanted && done == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
        let options = QuantizeOptions::default();
        let mut source = |i: usize| {
            asked.push(i);
            (i != 1).then(|| image(i))
        };
        assert!(quantize(&original, &options, 4, &mut source, &mut on_image).unwrap().is_none());
        assert_eq!(asked, if wanted == Pass::Ranges { vec![0, 1] } else { vec![0, 1, 2, 3, 0, 1] });
    }
}

/// A checkpoint of the tiny detector whose table was changed.
#[track_caller]
fn check_refused(change: impl FnOnce(&mut Detector), words: &str) {
    let mut found = quantized(&detector(&[]), f64::NEG_INFINITY).detector;
    change(&mut found);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    found.save(&path).unwrap();
    let message = Detector::load(&path).expect_err(words).to_string();
    assert!(message.contains(words) && message.contains(&shown(&path)), "expected {words}, found {message}");
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

#[test]
fn a_table_that_is_not_of_the_network_is_refused() {
    fn layer<'a>(found: &'a mut Detector, name: &str) -> &'a mut retinanet_ops::network::QuantizedLayer {
        found.quantization.as_mut().unwrap().layers.get_mut(name).unwrap()
    }
    let shared = "backbone.body.layer2.0.conv1";
    check_refused(|found| layer(found, shared).input.scale *= 2.0, "which reads the same value, found scale");
    check_refused(
        |found| _ = found.quantization.as_mut().unwrap().layers.remove(shared),
        "layer backbone.body.layer2.0.conv1: expected scale",
    );
    check_refused(
        |found| layer(found, "backbone.body.conv1").input.zero_point = 0,
        "layer backbone.body.conv1: input: zero point: expected 128, as it may be negative, found 0",
    );
    check_refused(
        |found| layer(found, shared).output = Some(Quantization { scale: 0.5, zero_point: 128 }),
        "layer backbone.body.layer2.0.conv1: output: expected a scale for shortcuts alone, found scale 0.5",
    );
    check_refused(
        |found| {
            let output = &mut layer(found, "backbone.body.layer2.0.downsample.0").output;
            output.as_mut().unwrap().zero_point = 0;
        },
        "downsample.0: output: zero point: expected 128",
    );
}
