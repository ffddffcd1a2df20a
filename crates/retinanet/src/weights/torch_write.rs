//! Writing what `torch.load` reads, `weights_only=True` included: a zip archive of a pickle and one file a tensor.

use super::error::WeightsError;
use super::safetensors_write::little_endian;
use candle_core::{DType, Tensor};
use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

/// The folder of the archive.
const ROOT: &str = "archive";

/// Writes a state dict as `torch.save` does, whole or not at all. The same contents give the same bytes.
///
/// # Errors
/// The file cannot be written, or a tensor is not f32, f64, f16 or bf16.
pub fn write_torch(path: &Path, tensors: &BTreeMap<String, Tensor>) -> Result<(), WeightsError> {
    let pickle = pickle(tensors)?;
    let in_file = |source: io::Error| WeightsError::Io { file: path.to_owned(), source };
    let mut failed = None;
    retinanet_annotations::remove_abandoned(path);
    let written = retinanet_annotations::write_atomically(path, |out| {
        let mut archive = ZipWriter::new_stream(out);
        let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
        let mut entry = |name: &str, bytes: &[u8]| -> io::Result<()> {
            // Beyond 4 GiB the archive needs its larger form, which has to be known before.
            archive
                .start_file(format!("{ROOT}/{name}"), options.large_file(bytes.len() as u64 > u64::from(u32::MAX)))?;
            io::Write::write_all(&mut archive, bytes)
        };
        entry("data.pkl", &pickle)?;
        entry("byteorder", b"little")?;
        for (key, (name, tensor)) in tensors.iter().enumerate() {
            match little_endian(tensor) {
                Ok(bytes) => entry(&format!("data/{key}"), &bytes)?,
                Err(source) => {
                    failed = Some(WeightsError::Tensor { name: name.clone(), source });
                    return Err(io::Error::other("a tensor cannot be read"));
                }
            }
        }
        entry("version", b"3\n")?;
        archive.finish()?;
        Ok(())
    });
    match (written, failed) {
        (_, Some(error)) => Err(error),
        (written, None) => written.map_err(in_file),
    }
}

/// An `OrderedDict` of tensors, each the whole of a storage of its own, in protocol 2.
fn pickle(tensors: &BTreeMap<String, Tensor>) -> Result<Vec<u8>, WeightsError> {
    let mut out = b"\x80\x02ccollections\nOrderedDict\n)R(".to_vec();
    for (key, (name, tensor)) in tensors.iter().enumerate() {
        let class = match tensor.dtype() {
            DType::F64 => "DoubleStorage",
            DType::F32 => "FloatStorage",
            DType::F16 => "HalfStorage",
            DType::BF16 => "BFloat16Storage",
            other => {
                let (what, expected) = (name.clone(), "a tensor of f32, f64, f16 or bf16".to_owned());
                return Err(WeightsError::Layout { what, expected, found: format!("{other:?}") });
            }
        };
        text(&mut out, name);
        out.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
        text(&mut out, "storage");
        out.extend(format!("ctorch\n{class}\n").bytes());
        text(&mut out, &key.to_string());
        text(&mut out, "cpu");
        integer(&mut out, tensor.elem_count());
        out.extend(b"tQ");
        integer(&mut out, 0);
        for values in [tensor.dims().to_vec(), contiguous_strides(tensor.dims())] {
            out.push(b'(');
            values.into_iter().for_each(|value| integer(&mut out, value));
            out.push(b't');
        }
        out.extend(b"\x89ccollections\nOrderedDict\n)RtR");
    }
    out.extend(b"u.");
    Ok(out)
}

fn contiguous_strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis] * shape[axis];
    }
    strides
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.push(b'X');
    out.extend((text.len() as u32).to_le_bytes());
    out.extend(text.bytes());
}

fn integer(out: &mut Vec<u8>, value: usize) {
    match i32::try_from(value) {
        Ok(small) => {
            out.push(b'J');
            out.extend(small.to_le_bytes());
        }
        Err(_) => {
            // A length of 9 bytes, so that the highest bit is no sign.
            out.extend(b"\x8a\x09");
            out.extend((value as u64).to_le_bytes());
            out.push(0);
        }
    }
}
