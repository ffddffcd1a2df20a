//! Weight files: what is read and written, which files are refused, names, inference of the architecture, comparison.

mod allocation;
mod architecture;
mod array_files;
mod comparison;
mod hostile_safetensors;
mod hostile_torch;
mod mutations;
mod names;
mod quantized;
mod safetensors_files;
mod torch_archive;
mod torch_files;

use candle_core::{Device, Tensor};
use retinanet::weights::{self, WeightFile, WeightsError};
use std::io::Write;

/// Reads these bytes as a weight file, in bounded memory.
#[track_caller]
fn read_bytes(bytes: &[u8]) -> Result<WeightFile, WeightsError> {
    let mut file = tempfile::Builder::new().prefix("weights").tempfile().unwrap();
    file.write_all(bytes).unwrap();
    allocation::bounded(bytes.len(), || weights::read(file.path()))
}

/// A hostile file must be refused in these words.
#[track_caller]
fn check_refused(label: &str, bytes: &[u8], words: &str) {
    let error = read_bytes(bytes).expect_err(label).to_string();
    assert!(error.contains(words), "{label}: expected an error with `{words}`, found `{error}`");
}

fn tensor(values: &[f32], shape: &[usize]) -> Tensor {
    Tensor::from_slice(values, shape, &Device::Cpu).unwrap()
}

fn flat(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}
