//! Kernels that do what this crate does on the processor, on the kernels' twin and whatever GPU there is.
#![cfg(feature = "cuda")]

use retinanet::{BoxLoss, ForegroundAnchor};
use retinanet_anchors::{BBox, BoxCoder};
use retinanet_cuda::kernels::{self, box_loss, box_loss_workspace_bytes};
use retinanet_cuda::{Device, Element, Gpu, GpuOptions, Memory, Twin};
use std::sync::{Arc, OnceLock};

/// A line is printed for what is not there.
fn devices() -> Vec<Arc<dyn Device>> {
    static DEVICES: OnceLock<Vec<Arc<dyn Device>>> = OnceLock::new();
    let open = || {
        let twin = Twin::new().map(|twin| Arc::new(twin) as Arc<dyn Device>);
        let gpu = Gpu::open(GpuOptions::default()).map(|gpu| Arc::new(gpu) as Arc<dyn Device>);
        let found = [twin, gpu].map(|device| device.inspect_err(|error| println!("skipped: {error}")));
        found.into_iter().flatten().collect()
    };
    DEVICES.get_or_init(open).clone()
}

/// Numbers in [0, 1) that differ from seed to seed.
fn uniform(seed: u64) -> impl FnMut() -> f32 {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 24) as f32
    }
}

fn upload(device: &Arc<dyn Device>, element: Element, values: &[f32]) -> Memory {
    Memory::of(device, &element.narrow(values)).expect("memory")
}

fn rounded(element: Element, values: Vec<f32>) -> Vec<f32> {
    element.widen(&element.narrow(&values))
}

#[test]
fn box_losses_and_their_gradients_are_those_of_the_processor() {
    const ANCHORS: usize = 700;
    let coder = BoxCoder { weights: [1.0, 2.0, 0.5, 1.0], ..BoxCoder::default() };
    let mut next = uniform(1);
    let mut boxes = |count: usize| -> Vec<BBox> {
        let corner = |low: f32| [low, low + 1.0];
        let mut bbox = || {
            let ([x0, x1], [y0, y1]) = (corner(next() * 60.0), corner(next() * 60.0));
            BBox::new(x0, y0, x1 + next() * 40.0, y1 + next() * 40.0)
        };
        (0..count).map(|_| bbox()).collect()
    };
    let (anchors, ground_truth) = (boxes(ANCHORS), boxes(9));
    let deltas: Vec<f32> = (0..2 * ANCHORS * 4).map(|i| next() * if i % 40 == 3 { 12.0 } else { 2.0 } - 1.0).collect();
    let matched: Vec<i32> = (0..2 * ANCHORS).map(|_| (next() * 30.0) as i32 - 21).collect();
    let image_weights = [0.5f32, 2.0];
    let coordinates = |boxes: &[BBox]| boxes.iter().flat_map(|bbox| bbox.to_array()).collect::<Vec<f32>>();
    for device in devices() {
        for element in Element::ALL {
            let deltas = rounded(element, deltas.clone());
            for (loss, kernel) in [
                (BoxLoss::L1, kernels::BoxLoss::L1),
                (BoxLoss::SmoothL1 { beta: 0.11 }, kernels::BoxLoss::SmoothL1 { beta: 0.11 }),
                (BoxLoss::Giou, kernels::BoxLoss::Giou),
                (BoxLoss::Diou, kernels::BoxLoss::Diou),
                (BoxLoss::Ciou, kernels::BoxLoss::Ciou),
            ] {
                let (mut sum, mut gradient) = (0.0, vec![0.0f32; deltas.len()]);
                for (row, &idx) in matched.iter().enumerate().filter(|(_, idx)| **idx >= 0) {
                    let (image_idx, anchor_idx) = (row / ANCHORS, row % ANCHORS);
                    let (anchor, ground_truth) = (anchors[anchor_idx], ground_truth[idx as usize]);
                    let foreground = ForegroundAnchor { image_idx, anchor_idx, anchor, ground_truth };
                    let own = std::array::from_fn(|i| f64::from(deltas[4 * row + i]));
                    let (value, slopes) = loss.evaluate(&coder, own, &foreground);
                    let weight = f64::from(image_weights[image_idx]);
                    sum += weight * value;
                    (0..4).for_each(|i| gradient[4 * row + i] = (3.0 * weight * slopes[i]) as f32);
                }
                assert!(sum > 0.0);

                let deltas_on = upload(&device, element, &deltas);
                let [anchors_on, boxes_on] =
                    [&anchors, &ground_truth].map(|boxes| upload(&device, Element::F32, &coordinates(boxes)));
                let matched: Vec<u8> = matched.iter().flat_map(|idx| idx.to_ne_bytes()).collect();
                let matched = Memory::of(&device, &matched).expect("memory");
                let weights = upload(&device, Element::F32, &image_weights);
                let total = Memory::of(&device, &0f64.to_ne_bytes()).expect("memory");
                let gradient_on = Memory::new(&device, deltas.len() * element.size()).expect("memory");
                let workspace = Memory::new(&device, box_loss_workspace_bytes(2, ANCHORS)).expect("memory");
                box_loss(
                    kernel,
                    &coder,
                    element,
                    (2, ANCHORS),
                    deltas_on.span(),
                    anchors_on.span(),
                    (matched.span(), boxes_on.span()),
                    weights.span(),
                    total.span(),
                    (3.0, gradient_on.span()),
                    workspace.span(),
                )
                .expect("a loss");
                let mut found = [0; 8];
                total.span().read(&mut found).expect("a sum");
                let found = f64::from_ne_bytes(found);
                assert!((found - sum).abs() <= 1e-6 * sum, "{loss:?} {element:?}: expected {sum}, found {found}");
                // Half precision has no smaller steps than 2^-24.
                let (rounding, least) = match element {
                    Element::F32 => (1e-6, 1e-9),
                    Element::Bf16 => (1.0 / 256.0, 1e-9),
                    Element::F16 => (1.0 / 2048.0, 3e-8),
                };
                for (i, (found, expected)) in
                    read(&gradient_on, element, gradient.len()).iter().zip(&gradient).enumerate()
                {
                    let difference = (found - expected).abs();
                    assert!(difference <= rounding * expected.abs() + least, "{loss:?} {i}: {expected}, {found}");
                }
            }
        }
    }
}

fn read(memory: &Memory, element: Element, count: usize) -> Vec<f32> {
    let mut bytes = vec![0; count * element.size()];
    memory.span().read(&mut bytes).expect("what was computed");
    element.widen(&bytes)
}
