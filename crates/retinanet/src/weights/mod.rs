//! Weight files: reading (safetensors, torch, pickled arrays), writing (safetensors, torch), tensor names, what a file's
//! shapes say of its network.
//!
//! A file is a set of named f32 tensors and a text dictionary. Names and the order of axes (OIHW) are torchvision's, in
//! our own checkpoints too. Nothing in a file is ever run, and no number in a file is trusted before it is compared
//! with the file's size.
//!
//! ```no_run
//! use retinanet::weights::{self, architecture, names};
//!
//! let file = weights::read("retinanet_resnet50_fpn_coco-eeacb38b.pth".as_ref())?;
//! let canonical = names::canonical(file.tensors)?;
//! let architecture = architecture::infer(&weights::shapes(&canonical.tensors))?;
//! assert_eq!(architecture.num_classes, 91);
//! # Ok::<(), weights::WeightsError>(())
//! ```

pub mod architecture;
mod array_file;
mod check;
mod element;
mod error;
pub mod names;
mod pickle;
mod quantized;
mod released;
mod safetensors_file;
mod safetensors_write;
mod state_dict;
mod texts;
mod torch_file;
mod torch_write;

pub use check::{Mismatch, MisshapedTensor, check};
pub use error::WeightsError;
pub use released::{is_torchvision_coco_v1, is_torchvision_v2_coco_v1};
pub(crate) use safetensors_write::little_endian;
pub use safetensors_write::{write, write_quantized};
pub use torch_write::write_torch;

use candle_core::{DType, Tensor};
use error::Fault;
use retinanet_ops::network::QuantizationTable;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

/// The contents of a weight file.
#[derive(Clone, Debug)]
pub struct WeightFile {
    /// The tensors by name, f32 on the CPU. They are candle variables: [`Model::with_tensors`](crate::Model::with_tensors)
    /// takes them over without a copy, so that training changes them in place.
    pub tensors: BTreeMap<String, Tensor>,
    /// The layers that the file stores as 8-bit integers; `tensors` holds what these stand for.
    pub quantization: Option<QuantizationTable>,
    /// What a safetensors file says of itself; of torch files and pickles the texts of the entry `meta`, as `meta.cfg`, and
    /// `__author__`.
    pub metadata: BTreeMap<String, String>,
}

/// Reads a safetensors file, what `torch.save` wrote or a pickle of NumPy arrays, recognised by its first bytes.
///
/// f64, f16 and bf16 become f32, and so do the weights of a quantised checkpoint; other integer tensors
/// (`num_batches_tracked`) are left out. A torch file or a pickle is a state dict, or
/// a dict that holds one as `model`, `state_dict`, `model_state_dict` or `blobs`.
///
/// # Numerics
/// f64 is rounded to the nearest f32; f16 and bf16 are exact; a quantised weight is its integer times its channel's scale,
/// rounded once.
///
/// # Errors
/// The file cannot be read, is of no known format, is cut or contradicts itself, would take many times its own size in
/// memory, or asks for a function to be called that has nothing to do with tensors. The error names the file, what was
/// expected and what was found.
pub fn read(path: &Path) -> Result<WeightFile, WeightsError> {
    read_parts(path).map_err(|fault| fault.in_file(path))
}

/// The shapes of tensors by name, as [`architecture::infer`] and [`check`] take them.
pub fn shapes(tensors: &BTreeMap<String, Tensor>) -> BTreeMap<String, Vec<usize>> {
    tensors.iter().map(|(name, tensor)| (name.clone(), tensor.dims().to_vec())).collect()
}

fn read_parts(path: &Path) -> Result<WeightFile, Fault> {
    // Before opening, which would wait for the other end of a pipe; a device may have no end.
    let metadata = std::fs::metadata(path)?;
    if !metadata.is_file() {
        let found = if metadata.is_dir() { "a directory" } else { "a pipe or device" };
        return Err(Fault::malformed("weight file", "a file", found));
    }
    let mut file = File::open(path)?;
    let file_len = file.metadata()?.len();
    let mut head = Vec::new();
    (&mut file).take(HEAD_LEN).read_to_end(&mut head)?;
    file.seek(SeekFrom::Start(0))?;

    let Contents { mut tensors, integers, metadata } = match recognise(&head) {
        Format::Safetensors => safetensors_file::read(&mut file, file_len)?,
        Format::Zip => torch_file::read(&file, file_len)?,
        Format::Pickle => array_file::read(&mut file, file_len)?,
        Format::OldTorch => return Err(Fault::OldTorchFormat),
        Format::Unknown(found) => {
            return Err(Fault::malformed(
                "format",
                "a safetensors file, a zip archive as torch.save writes it or a pickle of arrays",
                found,
            ));
        }
    };
    let text = metadata.get(quantized::METADATA_KEY);
    let quantization = text.map(|text| quantized::restore(&mut tensors, integers, text)).transpose()?;
    Ok(WeightFile { tensors, quantization, metadata })
}

/// The tensors in another floating-point type, rounded to the nearest.
///
/// # Errors
/// A finite number is out of the type's range.
pub fn cast(tensors: BTreeMap<String, Tensor>, dtype: DType) -> Result<BTreeMap<String, Tensor>, WeightsError> {
    let convert = |(name, tensor): (String, Tensor)| {
        let failed = |source| WeightsError::Tensor { name: name.clone(), source };
        let cast = tensor.to_dtype(dtype).map_err(failed)?;
        if dtype == DType::F16 {
            let largest =
                |tensor: &Tensor| tensor.to_dtype(DType::F32)?.abs()?.flatten_all()?.max(0)?.to_scalar::<f32>();
            let (before, after) = (largest(&tensor).map_err(failed)?, largest(&cast).map_err(failed)?);
            if before.is_finite() && !after.is_finite() {
                let (expected, found) = ("numbers within f16's 65504".to_owned(), before.to_string());
                return Err(WeightsError::Layout { what: name, expected, found });
            }
        }
        Ok((name, cast))
    };
    tensors.into_iter().map(convert).collect()
}

/// What a file holds.
struct Contents {
    tensors: BTreeMap<String, Tensor>,
    /// Tensors of 8-bit integers with sign.
    integers: BTreeMap<String, quantized::Integers>,
    metadata: BTreeMap<String, String>,
}

/// How many times the file's size its tensors may take as f32: bf16 counts twice, and tensors may share a storage.
const MAX_GROWTH: u64 = 8;

/// What small files may take beyond that, in bytes.
const SLACK: u64 = 1 << 20;

/// Whether tensors of so many bytes may come from a file of this length.
fn check_growth(total: u64, file_len: u64) -> Result<(), Fault> {
    let limit = file_len.saturating_mul(MAX_GROWTH).saturating_add(SLACK);
    if total <= limit {
        return Ok(());
    }
    Err(Fault::malformed("tensors", format!("at most {limit} bytes from a file of {file_len}"), format!("{total}")))
}

/// SHA-256 of a file, 64 lower-case hexadecimal digits: what [`is_torchvision_coco_v1`] and
/// [`is_torchvision_v2_coco_v1`] know a file by.
///
/// # Errors
/// The file cannot be read.
pub fn sha256(path: &Path) -> Result<String, WeightsError> {
    digest(path).map_err(|fault| fault.in_file(path))
}

/// In one pass over the file in small pieces.
fn digest(path: &Path) -> Result<String, Fault> {
    let mut file = File::open(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 18];
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        hasher.update(&buffer[..count]);
    }
    Ok(hexadecimal(hasher))
}

/// What was hashed, as 64 lower-case hexadecimal digits.
pub(crate) fn hexadecimal(hasher: Sha256) -> String {
    let mut text = String::with_capacity(64);
    for byte in hasher.finalize() {
        write!(text, "{byte:02x}").expect("writing to a string does not fail");
    }
    text
}

/// Bytes that tell the formats apart.
const HEAD_LEN: u64 = 32;

/// How torch before 1.6 begins: protocol 2, then its magic number as a pickled long.
const OLD_TORCH_MAGIC: &[u8] = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19";

enum Format {
    Safetensors,
    Zip,
    Pickle,
    OldTorch,
    /// What it looks like instead.
    Unknown(String),
}

fn recognise(head: &[u8]) -> Format {
    if head.starts_with(b"PK\x03\x04") {
        return Format::Zip;
    }
    if head.starts_with(OLD_TORCH_MAGIC) {
        return Format::OldTorch;
    }
    // A length of 8 bytes, then JSON. A header of 640 bytes begins as a pickle does, but no length has its upper half.
    if matches!(head, [0x80, 2..=5, ..]) && !(matches!(head, [_, _, _, _, 0, 0, 0, 0, b'{', ..])) {
        return Format::Pickle;
    }
    if head.get(8) == Some(&b'{') {
        return Format::Safetensors;
    }
    Format::Unknown(if head.is_empty() {
        "an empty file".to_owned()
    } else if head.starts_with(b"version https://git-lfs") {
        "a git-lfs pointer: fetch the file itself with git lfs pull".to_owned()
    } else if head.trim_ascii_start().starts_with(b"<") {
        "a page of HTML or XML: the download went wrong".to_owned()
    } else {
        format!("a file that begins with \"{}\"", head[..head.len().min(8)].escape_ascii())
    })
}
