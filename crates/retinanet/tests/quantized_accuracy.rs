//! What fewer bits cost on real images: AP of the blood cell model on its test split. Skips where the data set is absent.

use retinanet::{Detector, InferenceOptions, Isa, Precision, QuantizeOptions, Result, quantize};
use retinanet_anchors::Detection;
use retinanet_annotations::DetectionRecord;
use retinanet_data::{Dataset, FileDataset, Image};
use std::ops::ControlFlow;
use std::path::Path;

const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data/bccd");
const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../weights/blood_cells_r18.safetensors");

/// AP of what `detect` finds on every image of the set.
fn average_precision(
    classes: &Detector,
    dataset: &dyn Dataset,
    detect: impl Fn(&Image) -> Result<Vec<Detection>>,
) -> Result<f64> {
    let mut records = Vec::new();
    for (index, annotated) in dataset.annotations().images.iter().enumerate() {
        let sample = dataset.sample(index).expect("the data set can be read");
        records.extend(detect(&sample.image)?.iter().map(|detection| {
            let name = &classes.classes[detection.label].name;
            let class = dataset.classes().iter().find(|class| class.name == *name).expect("the same classes");
            let [x0, y0, x1, y1] = detection.bbox.to_array().map(f64::from);
            DetectionRecord {
                image_id: annotated.id,
                category_id: class.category_id,
                xywh: [x0, y0, x1 - x0, y1 - y0],
                score: f64::from(detection.score),
            }
        }));
    }
    Ok(retinanet_eval::coco::evaluate(dataset.annotations(), &records)?.summary.ap)
}

#[test]
fn eight_bits_cost_at_most_half_a_point_of_ap_and_bf16_a_fifth() -> Result<()> {
    let (Ok(train), Ok(test)) =
        (FileDataset::open(Path::new(DATA), Some("train")), FileDataset::open(Path::new(DATA), Some("test")))
    else {
        println!("skipped: {DATA} is absent");
        return Ok(());
    };
    let detector = Detector::load(MODEL)?;
    // Every eighth training image.
    let mut image = |i: usize| train.sample(i * 8).ok().map(|sample| sample.image);
    let options = QuantizeOptions::default();
    let quantized = quantize(&detector, &options, train.len() / 8, &mut image, &mut |_, _| ControlFlow::Continue(()))?
        .expect("nobody interrupts");
    let num_int8 = quantized.layers.iter().filter(|layer| layer.is_int8).count();
    // Of the detector that is not quantised, nothing is rounded.
    let whole = average_precision(&detector, &test, |image| detector.detect_simulated(image))?;
    let eight = average_precision(&detector, &test, |image| quantized.detector.detect_simulated(image))?;
    println!("AP {whole:.4} in f32, {eight:.4} with {num_int8} of {} layers in 8 bits", quantized.layers.len());
    assert!(num_int8 * 10 >= quantized.layers.len() * 9, "most layers run in 8 bits: {num_int8}");
    assert!((whole - eight).abs() <= 0.005, "simulated: expected {whole} within .005, found {eight}");

    let planned = |detector: &Detector, precision, tolerance: f64| -> Result<()> {
        let plan = detector.plan(&InferenceOptions { precision, ..InferenceOptions::default() })?;
        let found = average_precision(detector, &test, |image| plan.detect(image))?;
        println!("AP {found:.4} by the plan in {precision:?}");
        assert!(
            (whole - found).abs() <= tolerance,
            "{precision:?}: expected {whole} within {tolerance}, found {found}"
        );
        Ok(())
    };
    planned(&detector, Precision::F32, 0.0005)?;
    planned(&quantized.detector, Precision::Int8, 0.005)?;
    if Isa::detect().has_bf16_products() {
        planned(&detector, Precision::Bf16, 0.002)?;
    } else {
        println!("skipped: this processor has no bf16 products");
    }
    Ok(())
}
