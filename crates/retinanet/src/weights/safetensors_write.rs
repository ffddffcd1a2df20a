//! Writing the safetensors format: the same contents, the same bytes.

use super::error::WeightsError;
use super::quantized::{self, Integers};
use super::safetensors_file::{Header, LENGTH_LEN, METADATA_KEY};
use candle_core::{DType, Device, Tensor};
use retinanet_ops::network::QuantizationTable;
use safetensors::tensor::{Dtype, TensorInfo};
use std::collections::BTreeMap;
use std::io;
use std::path::Path;

/// Writes tensors and a text dictionary as a safetensors file, whole or not at all.
///
/// f32, f64, f16 and bf16 tensors are kept as they are. The same contents give the same bytes: names are in order,
/// wider elements first so that every tensor is aligned.
///
/// # Errors
/// The file cannot be written, a tensor is of an integer type, or a tensor is named `__metadata__`.
pub fn write(
    path: &Path,
    tensors: &BTreeMap<String, Tensor>,
    metadata: &BTreeMap<String, String>,
) -> Result<(), WeightsError> {
    let mut entries = Vec::with_capacity(tensors.len());
    for (name, tensor) in tensors {
        entries.push(Stored::new(name, tensor)?);
    }
    write_entries(path, entries, metadata.clone())
}

/// Writes a detector of which these layers are stored as 8-bit integers with their scales, the table itself as an entry of
/// the dictionary; [`read`](super::read) restores the same tensors and the same table.
///
/// # Errors
/// As of [`write()`], or a listed layer's weight is no multiple of its scales: it has changed since it was quantised.
pub fn write_quantized(
    path: &Path,
    tensors: &BTreeMap<String, Tensor>,
    table: &QuantizationTable,
    metadata: &BTreeMap<String, String>,
) -> Result<(), WeightsError> {
    let mut integers = BTreeMap::new();
    let mut scales = BTreeMap::new();
    for (layer, scale) in table.layers.iter().map(|(layer, scales)| (layer, &scales.weight_scale)) {
        let (weight_name, weight, scale_name) = quantized::integers(tensors, layer, scale)?;
        integers.insert(weight_name, weight);
        let scale = Tensor::from_slice(scale, scale.len(), &Device::Cpu)
            .map_err(|source| WeightsError::Tensor { name: scale_name.clone(), source })?;
        scales.insert(scale_name, scale);
    }
    let mut entries = Vec::with_capacity(tensors.len() + scales.len());
    for (name, tensor) in tensors.iter().filter(|(name, _)| !integers.contains_key(*name)).chain(&scales) {
        entries.push(Stored::new(name, tensor)?);
    }
    entries.extend(integers.iter().map(|(name, integers)| Stored {
        name,
        dtype: Dtype::I8,
        data: Data::Integers(integers),
    }));
    // In order of names whatever they hold, as a file of floating point alone.
    entries.sort_by_key(|entry| entry.name);
    let mut metadata = metadata.clone();
    metadata.insert(quantized::METADATA_KEY.to_owned(), quantized::text(table));
    write_entries(path, entries, metadata)
}

/// A tensor to be written.
struct Stored<'a> {
    name: &'a str,
    dtype: Dtype,
    data: Data<'a>,
}

enum Data<'a> {
    Tensor(&'a Tensor),
    Integers(&'a Integers),
}

impl<'a> Stored<'a> {
    fn new(name: &'a str, tensor: &'a Tensor) -> Result<Self, WeightsError> {
        if name == METADATA_KEY {
            return Err(WeightsError::Layout {
                what: "tensor name".to_owned(),
                expected: format!("any but {METADATA_KEY}"),
                found: name.to_owned(),
            });
        }
        let dtype = match tensor.dtype() {
            DType::F64 => Dtype::F64,
            DType::F32 => Dtype::F32,
            DType::F16 => Dtype::F16,
            DType::BF16 => Dtype::BF16,
            other => {
                let (what, expected) = (name.to_owned(), "a tensor of f32, f64, f16 or bf16".to_owned());
                return Err(WeightsError::Layout { what, expected, found: format!("{other:?}") });
            }
        };
        Ok(Self { name, dtype, data: Data::Tensor(tensor) })
    }

    fn shape(&self) -> &[usize] {
        match self.data {
            Data::Tensor(tensor) => tensor.dims(),
            Data::Integers(integers) => &integers.shape,
        }
    }

    fn little_endian(&self) -> candle_core::Result<Vec<u8>> {
        match self.data {
            Data::Tensor(tensor) => little_endian(tensor),
            Data::Integers(integers) => Ok(integers.values.iter().map(|value| value.cast_unsigned()).collect()),
        }
    }
}

fn write_entries(
    path: &Path,
    mut entries: Vec<Stored<'_>>,
    metadata: BTreeMap<String, String>,
) -> Result<(), WeightsError> {
    entries.sort_by_key(|entry| std::cmp::Reverse(entry.dtype.bitsize()));
    let mut end = 0;
    let listed = entries.iter().map(|entry| {
        let start = end;
        end += entry.shape().iter().product::<usize>() * entry.dtype.bitsize() / 8;
        let info = TensorInfo { dtype: entry.dtype, shape: entry.shape().to_vec(), data_offsets: (start, end) };
        (entry.name.to_owned(), info)
    });
    let header = Header { tensors: listed.collect(), metadata };
    let in_file = |source: io::Error| WeightsError::Io { file: path.to_owned(), source };
    let mut header = serde_json::to_vec(&header).map_err(|e| in_file(e.into()))?;
    // The data begins at a multiple of 8 bytes, as the format asks.
    header.resize(header.len().next_multiple_of(LENGTH_LEN as usize), b' ');

    // A checkpoint is large: what an earlier run, killed while it saved, has left beside it is not kept for ever.
    retinanet_annotations::remove_abandoned(path);
    let mut failed = None;
    let written = retinanet_annotations::write_atomically(path, |out| {
        out.write_all(&(header.len() as u64).to_le_bytes())?;
        out.write_all(&header)?;
        for entry in &entries {
            match entry.little_endian() {
                Ok(bytes) => out.write_all(&bytes)?,
                Err(source) => {
                    failed = Some(WeightsError::Tensor { name: entry.name.to_owned(), source });
                    return Err(io::Error::other("a tensor cannot be read"));
                }
            }
        }
        Ok(())
    });
    match (written, failed) {
        (_, Some(error)) => Err(error),
        (written, None) => written.map_err(in_file),
    }
}

/// The values of a tensor as the format has them.
pub(crate) fn little_endian(tensor: &Tensor) -> candle_core::Result<Vec<u8>> {
    let flat = tensor.flatten_all()?;
    Ok(match tensor.dtype() {
        DType::F64 => flat.to_vec1::<f64>()?.into_iter().flat_map(f64::to_le_bytes).collect(),
        DType::F16 => flat.to_vec1::<half::f16>()?.into_iter().flat_map(half::f16::to_le_bytes).collect(),
        DType::BF16 => flat.to_vec1::<half::bf16>()?.into_iter().flat_map(half::bf16::to_le_bytes).collect(),
        _ => flat.to_vec1::<f32>()?.into_iter().flat_map(f32::to_le_bytes).collect(),
    })
}
