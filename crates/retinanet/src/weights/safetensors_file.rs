//! The safetensors format: a length, a JSON header, the tensors side by side.

use super::Contents;
use super::element::{self, Element};
use super::error::{Fault, shown};
use super::quantized::Integers;
use safetensors::SafeTensorError;
use safetensors::tensor::{Dtype, Metadata, TensorInfo};
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::fs::File;
use std::io::Read;

/// Bytes of the header's length.
pub(super) const LENGTH_LEN: u64 = 8;

/// The longest header that is read, in bytes: some hundred times that of ResNet-152 with optimiser state.
const MAX_HEADER_LEN: u64 = 8 << 20;

/// The header's key for the text dictionary.
pub(super) const METADATA_KEY: &str = "__metadata__";

/// Reads a file of this length, from its first byte on.
pub(super) fn read(file: &mut File, file_len: u64) -> Result<Contents, Fault> {
    let mut length = [0; LENGTH_LEN as usize];
    file.read_exact(&mut length)?;
    let header_len = u64::from_le_bytes(length);
    // The file may have changed since its length was asked for.
    let rest = file_len.saturating_sub(LENGTH_LEN);
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

/// The JSON header. The crate's own keeps the text dictionary in a hash map, whose order differs from run to run.
pub(super) struct Header {
    pub(super) metadata: BTreeMap<String, String>,
    pub(super) tensors: Vec<(String, TensorInfo)>,
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
