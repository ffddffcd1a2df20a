//! The safetensors format: a length, a JSON header, the tensors side by side.

use super::element::{self, Element};
use super::error::{Fault, WeightsError, shown};
use super::quantized::{self, Integers};
use candle_core::{DType, Device, Tensor};
use retinanet_ops::network::QuantizationTable;
use safetensors::SafeTensorError;
use safetensors::tensor::{Dtype, Metadata, TensorInfo};
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Bytes of the header's length.
const LENGTH_LEN: u64 = 8;

/// The longest header that is read, in bytes: some hundred times that of ResNet-152 with optimiser state.
const MAX_HEADER_LEN: u64 = 8 << 20;

/// The header's key for the text dictionary.
const METADATA_KEY: &str = "__metadata__";

/// What a file holds.
pub(super) struct Contents {
    pub(super) tensors: BTreeMap<String, Tensor>,
    /// Tensors of 8-bit integers with sign.
    pub(super) integers: BTreeMap<String, Integers>,
    pub(super) metadata: BTreeMap<String, String>,
}

/// Reads a file of this length, from its first byte on.
pub(super) fn read(file: &mut File, file_len: u64) -> Result<Contents, Fault> {
    let mut length = [0; LENGTH_LEN as usize];
    file.read_exact(&mut length)?;
    let header_len = u64::from_le_bytes(length);
    let rest = file_len - LENGTH_LEN;
    if header_len > rest {
        return Err(Fault::malformed(
            "header",
            format!("at most the {rest} bytes that follow its length"),
            format!("{header_len}"),
        ));
    }
    if header_len > MAX_HEADER_LEN {
        return Err(Fault::malformed("header", format!("at most {MAX_HEADER_LEN} bytes"), format!("{header_len}")));
    }
    let mut header = vec![0; usize::try_from(header_len).expect("the length is at most the limit")];
    file.read_exact(&mut header)?;
    let header: Header = serde_json::from_slice(&header)
        .map_err(|e| Fault::malformed("header", "JSON that lists tensors", e.to_string()))?;
    let data_len = rest - header_len;
    let Header { metadata, mut tensors } = header;
    tensors.sort_by_key(|(_, info)| info.data_offsets);
    validate(&tensors, data_len)?;

    let mut found = BTreeMap::new();
    let mut integers = BTreeMap::new();
    let mut bytes = Vec::new();
    for (name, info) in tensors {
        // The tensors follow each other without a gap, so that reading on is reading the next.
        let (start, end) = info.data_offsets;
        bytes.resize(end - start, 0);
        file.read_exact(&mut bytes)?;
        let element = element_of(info.dtype).ok_or_else(|| {
            Fault::malformed(
                format!("tensor {}", shown(&name)),
                "f32, f64, f16, bf16 or an integer type",
                format!("{:?}", info.dtype),
            )
        })?;
        if info.dtype == Dtype::I8 {
            let values = bytes.iter().map(|byte| byte.cast_signed()).collect();
            integers.insert(name, Integers { shape: info.shape, values });
        } else if element != Element::Integer {
            let tensor = element::tensor(&name, element.to_f32(&bytes), &info.shape)?;
            found.insert(name, tensor);
        }
    }
    Ok(Contents { tensors: found, integers, metadata })
}

/// Lets the safetensors crate judge offsets and shapes, and says which tensor is at fault.
fn validate(tensors: &[(String, TensorInfo)], data_len: u64) -> Result<(), Fault> {
    let judged = Metadata::new(None, tensors.to_vec()).map_err(|error| match error {
        SafeTensorError::InvalidOffset(name) => {
            let offsets =
                tensors.iter().find(|(other, _)| *other == name).map_or((0, 0), |(_, info)| info.data_offsets);
            Fault::malformed(
                format!("tensor {}", shown(&name)),
                "data that begins where the one before ends",
                format!("bytes {} to {}", offsets.0, offsets.1),
            )
        }
        SafeTensorError::TensorInvalidInfo => {
            let span = |info: &TensorInfo| info.data_offsets.1.checked_sub(info.data_offsets.0);
            match tensors.iter().find(|(_, info)| byte_len(info) != span(info)) {
                Some((name, info)) => Fault::malformed(
                    format!("tensor {}", shown(name)),
                    format!("{} bytes for {:?} {:?}", byte_len(info).unwrap_or(usize::MAX), info.shape, info.dtype),
                    format!("{}", span(info).unwrap_or(0)),
                ),
                None => Fault::malformed("header", "shapes that agree with the offsets", "some that do not"),
            }
        }
        error => Fault::malformed("header", "shapes and offsets of whole bytes within the file", error.to_string()),
    })?;
    if judged.data_len() as u64 != data_len {
        return Err(Fault::malformed(
            "data",
            format!("{} bytes as the header lists", judged.data_len()),
            format!("{data_len}"),
        ));
    }
    Ok(())
}

fn byte_len(info: &TensorInfo) -> Option<usize> {
    let elements = info.shape.iter().try_fold(1usize, |product, &size| product.checked_mul(size))?;
    elements.checked_mul(info.dtype.bitsize()).map(|bits| bits / 8)
}

fn element_of(dtype: Dtype) -> Option<Element> {
    Some(match dtype {
        Dtype::F64 => Element::F64,
        Dtype::F32 => Element::F32,
        Dtype::F16 => Element::F16,
        Dtype::BF16 => Element::Bf16,
        Dtype::BOOL
        | Dtype::U8
        | Dtype::I8
        | Dtype::U16
        | Dtype::I16
        | Dtype::U32
        | Dtype::I32
        | Dtype::U64
        | Dtype::I64 => Element::Integer,
        _ => return None,
    })
}

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
/// As of [`write`], or a listed layer's weight is no multiple of its scales: it has changed since it was quantised.
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

fn little_endian(tensor: &Tensor) -> candle_core::Result<Vec<u8>> {
    let flat = tensor.flatten_all()?;
    Ok(match tensor.dtype() {
        DType::F64 => flat.to_vec1::<f64>()?.into_iter().flat_map(f64::to_le_bytes).collect(),
        DType::F16 => flat.to_vec1::<half::f16>()?.into_iter().flat_map(half::f16::to_le_bytes).collect(),
        DType::BF16 => flat.to_vec1::<half::bf16>()?.into_iter().flat_map(half::bf16::to_le_bytes).collect(),
        _ => flat.to_vec1::<f32>()?.into_iter().flat_map(f32::to_le_bytes).collect(),
    })
}

/// The JSON header. The crate's own keeps the text dictionary in a hash map, whose order differs from run to run.
struct Header {
    metadata: BTreeMap<String, String>,
    tensors: Vec<(String, TensorInfo)>,
}

impl Serialize for Header {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if !self.metadata.is_empty() {
            map.serialize_entry(METADATA_KEY, &self.metadata)?;
        }
        for (name, info) in &self.tensors {
            map.serialize_entry(name, info)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct HeaderVisitor;

        impl<'de> Visitor<'de> for HeaderVisitor {
            type Value = Header;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an object of tensors by name")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
                let mut metadata = BTreeMap::new();
                // A map while reading, so that a name given twice is noticed.
                let mut tensors = BTreeMap::new();
                while let Some(name) = map.next_key::<String>()? {
                    if name == METADATA_KEY {
                        metadata = map.next_value()?;
                    } else {
                        match tensors.entry(name) {
                            Entry::Vacant(vacant) => drop(vacant.insert(map.next_value()?)),
                            Entry::Occupied(taken) => {
                                return Err(A::Error::custom(format_args!("tensor {} twice", shown(taken.key()))));
                            }
                        }
                    }
                }
                Ok(Header { metadata, tensors: tensors.into_iter().collect() })
            }
        }

        deserializer.deserialize_map(HeaderVisitor)
    }
}
