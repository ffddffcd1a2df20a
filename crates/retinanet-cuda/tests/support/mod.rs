//! The devices that tests run on, and numbers on their way there and back.

#![allow(dead_code, reason = "each test file uses a part of it")]

use retinanet_cuda::{Device, Element, Gpu, GpuOptions, Memory, Twin};
use std::sync::{Arc, OnceLock};

/// The twin, and the first GPU; without a C++ compiler or a GPU a printed line says so.
pub(crate) fn devices() -> Vec<Arc<dyn Device>> {
    static DEVICES: OnceLock<Vec<Arc<dyn Device>>> = OnceLock::new();
    let open = || {
        // `CUDA_PATH` may name folders of NVRTC and cuDNN.
        let folders = std::env::var_os("CUDA_PATH").map(|paths| std::env::split_paths(&paths).collect());
        let options = GpuOptions { folders: folders.unwrap_or_default(), ..GpuOptions::default() };
        let twin = Twin::new().map(|twin| Arc::new(twin) as Arc<dyn Device>);
        let gpu = Gpu::open(options).map(|gpu| Arc::new(gpu) as Arc<dyn Device>);
        let found = [twin, gpu].map(|device| device.inspect_err(|error| println!("skipped: {error}")));
        found.into_iter().flatten().collect()
    };
    DEVICES.get_or_init(open).clone()
}

/// Numbers in [-1, 1) that differ from seed to seed.
pub(crate) fn numbers(seed: u64, count: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

/// The same, as an element can hold them.
pub(crate) fn numbers_of(element: Element, seed: u64, count: usize) -> Vec<f32> {
    rounded(element, &numbers(seed, count))
}

pub(crate) fn rounded(element: Element, values: &[f32]) -> Vec<f32> {
    element.widen(&element.narrow(values))
}

pub(crate) fn upload(device: &Arc<dyn Device>, element: Element, values: &[f32]) -> Memory {
    Memory::of(device, &element.narrow(values)).expect("memory")
}

pub(crate) fn upload_i32(device: &Arc<dyn Device>, values: &[i32]) -> Memory {
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_ne_bytes()).collect();
    Memory::of(device, &bytes).expect("memory")
}

pub(crate) fn empty(device: &Arc<dyn Device>, bytes: usize) -> Memory {
    Memory::new(device, bytes).expect("memory")
}

pub(crate) fn download(memory: &Memory, element: Element, count: usize) -> Vec<f32> {
    let mut bytes = vec![0; count * element.size()];
    memory.span().read(&mut bytes).expect("what was computed");
    element.widen(&bytes)
}

pub(crate) fn download_i32(memory: &Memory, count: usize) -> Vec<i32> {
    let mut bytes = vec![0; count * 4];
    memory.span().read(&mut bytes).expect("what was computed");
    bytes.as_chunks::<4>().0.iter().map(|&bytes| i32::from_ne_bytes(bytes)).collect()
}

pub(crate) fn download_f64(memory: &Memory, count: usize) -> Vec<f64> {
    let mut bytes = vec![0; count * 8];
    memory.span().read(&mut bytes).expect("what was computed");
    bytes.as_chunks::<8>().0.iter().map(|&bytes| f64::from_ne_bytes(bytes)).collect()
}

/// What rounding to an element leaves of one, relative.
pub(crate) fn epsilon(element: Element) -> f32 {
    match element {
        Element::F32 => f32::EPSILON,
        Element::Bf16 => 1.0 / 256.0,
        Element::F16 => 1.0 / 2048.0,
    }
}

/// Each number within `tolerance` of the largest of its kind.
#[track_caller]
pub(crate) fn check_close(what: &str, found: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let scale = expected.iter().fold(0.0f32, |scale, value| scale.max(value.abs())).max(f32::MIN_POSITIVE);
    for (i, (&found, &expected)) in found.iter().zip(expected).enumerate() {
        let is_close = (found - expected).abs() <= tolerance * scale || (found.is_nan() && expected.is_nan());
        assert!(is_close, "{what}: number {i}: expected {expected}, found {found} (of numbers up to {scale})");
    }
}
