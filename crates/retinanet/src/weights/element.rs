//! Elements of a stored tensor, and their conversion to f32.

use super::error::Fault;
use candle_core::{Device, Tensor, Var};
use half::{bf16, f16};

/// How a file stores an element, little endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Element {
    F64,
    F32,
    F16,
    Bf16,
    /// An integer, truth value or other: never a weight.
    Integer,
}

impl Element {
    /// The element of a NumPy type's code, such as `f4`. Types that no weight has (integers, texts, objects) are not told
    /// apart.
    pub(super) fn of_numpy(code: &str) -> Self {
        match code {
            "f8" => Self::F64,
            "f4" => Self::F32,
            "f2" => Self::F16,
            _ => Self::Integer,
        }
    }

    /// Bytes of a floating-point element; none for an integer, which is not read.
    pub(super) fn float_size(self) -> Option<usize> {
        match self {
            Self::F64 => Some(8),
            Self::F32 => Some(4),
            Self::F16 | Self::Bf16 => Some(2),
            Self::Integer => None,
        }
    }

    /// The elements of `bytes` as f32; bytes past the last whole element are left out.
    pub(super) fn to_f32(self, bytes: &[u8]) -> Vec<f32> {
        match self {
            Self::F64 => each(bytes, |b| f64::from_le_bytes(b) as f32),
            Self::F32 => each(bytes, f32::from_le_bytes),
            Self::F16 => each(bytes, |b| f16::from_le_bytes(b).to_f32()),
            Self::Bf16 => each(bytes, |b| bf16::from_le_bytes(b).to_f32()),
            Self::Integer => Vec::new(),
        }
    }
}

fn each<const SIZE: usize>(bytes: &[u8], convert: impl Fn([u8; SIZE]) -> f32) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|chunk| convert(*chunk)).collect()
}

/// A tensor on the CPU, made as a variable: a network takes it over as it is, where it would copy any other tensor.
pub(super) fn tensor(name: &str, values: Vec<f32>, shape: &[usize]) -> Result<Tensor, Fault> {
    let variable = Var::from_vec(values, shape, &Device::Cpu);
    variable.map(Var::into_inner).map_err(|source| Fault::Tensor { name: name.to_owned(), source })
}
