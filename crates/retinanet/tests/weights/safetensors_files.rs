//! Safetensors: what is written is read again, by us and by the safetensors crate.

use super::{flat, read_bytes, tensor};
use candle_core::{DType, Device, Tensor};
use retinanet::weights::{WeightsError, read, sha256, write};
use std::collections::BTreeMap;

fn contents() -> (BTreeMap<String, Tensor>, BTreeMap<String, String>) {
    let weight = tensor(&[1.0, -2.0, f32::MIN_POSITIVE, f32::MAX, f32::NAN, 0.1], &[2, 3]);
    let tensors = [
        ("b.weight".to_owned(), weight.clone()),
        ("a.bias".to_owned(), tensor(&[0.5], &[1])),
        ("empty".to_owned(), tensor(&[], &[0, 4])),
        ("scalar".to_owned(), tensor(&[3.0], &[])),
        ("transposed".to_owned(), weight.t().unwrap()),
    ];
    let metadata = (0..20).map(|i| (format!("key {i}"), format!("\"value\"\n{i} é")));
    (tensors.into(), metadata.collect())
}

#[test]
fn written_files_are_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let (tensors, metadata) = contents();
    write(&path, &tensors, &metadata).unwrap();
    let file = read(&path).unwrap();
    assert_eq!(file.metadata, metadata);
    assert_eq!(file.tensors.keys().collect::<Vec<_>>(), tensors.keys().collect::<Vec<_>>());
    for (name, tensor) in &tensors {
        assert_eq!(file.tensors[name].dims(), tensor.dims(), "{name}");
        // What makes a network take it over without a copy.
        assert!(file.tensors[name].is_variable(), "{name}");
        let bits = |tensor: &Tensor| flat(tensor).into_iter().map(f32::to_bits).collect::<Vec<_>>();
        assert_eq!(bits(&file.tensors[name]), bits(tensor), "{name}");
    }
    // Whole or not at all: nothing else is left in the folder.
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    let error = write(&folder.path().join("no such folder").join("model"), &tensors, &metadata).unwrap_err();
    assert!(matches!(error, WeightsError::Io { .. }), "{error}");
}

#[test]
fn the_same_contents_give_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = |name: &str| {
        let (tensors, metadata) = contents();
        write(&folder.path().join(name), &tensors, &metadata).unwrap();
        std::fs::read(folder.path().join(name)).unwrap()
    };
    let first = bytes("first");
    assert_eq!(first, bytes("second"));
}

#[test]
fn writing_removes_what_a_killed_writer_left() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("last.safetensors");
    std::fs::write(folder.path().join(".last.safetensors.4000000-3.tmp"), "half of a checkpoint").unwrap();
    let (tensors, metadata) = contents();
    write(&path, &tensors, &metadata).unwrap();
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    assert!(path.is_file());
}

#[test]
fn the_hash_is_sha256() {
    // {"":{"dtype":"F32","shape":[],"data_offsets":[0,4]}} and four zero bytes; the digest is sha256sum's.
    let header = br#"{"":{"dtype":"F32","shape":[],"data_offsets":[0,4]}}"#;
    let bytes = [&(header.len() as u64).to_le_bytes()[..], header, &[0; 4]].concat();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    assert_eq!(sha256(file.path()).unwrap(), DIGEST);
}

const DIGEST: &str = "bdcca1940771a0735de947eb5d472d5f924cab7b2fa6f69dcfe7b9e58e28a214";

#[test]
fn the_safetensors_crate_reads_what_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let narrow = Tensor::new(&[1.5f32, 2.5, 3.5], &Device::Cpu).unwrap();
    let mut tensors = contents().0;
    tensors.insert("a.f16".to_owned(), narrow.to_dtype(DType::F16).unwrap());
    tensors.insert("a.bf16".to_owned(), narrow.to_dtype(DType::BF16).unwrap());
    tensors.insert("z.f64".to_owned(), narrow.to_dtype(DType::F64).unwrap());
    write(&path, &tensors, &BTreeMap::new()).unwrap();

    let bytes = std::fs::read(&path).unwrap();
    let theirs = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(theirs.len(), tensors.len());
    for (name, tensor) in &tensors {
        let view = theirs.tensor(name).unwrap();
        assert_eq!(view.shape(), tensor.dims(), "{name}");
        // Each tensor begins at a multiple of its element's size.
        let element_size = tensor.dtype().size_in_bytes();
        let offset = view.data().as_ptr() as usize - bytes.as_ptr() as usize;
        assert_eq!(offset % element_size, 0, "{name}");
    }
    assert_eq!(theirs.tensor("a.bias").unwrap().data(), 0.5f32.to_le_bytes());

    // The narrow and wide ones come back as f32.
    let ours = read(&path).unwrap();
    for name in ["a.f16", "a.bf16", "z.f64"] {
        assert_eq!(ours.tensors[name].dtype(), DType::F32);
        assert_eq!(flat(&ours.tensors[name]), [1.5, 2.5, 3.5], "{name}");
    }
}

#[test]
fn what_no_file_can_hold_is_refused() {
    let path = tempfile::tempdir().unwrap().path().join("model.safetensors");
    let refused = |name: &str, tensor: Tensor| {
        write(&path, &[(name.to_owned(), tensor)].into(), &BTreeMap::new()).unwrap_err().to_string()
    };
    assert_eq!(
        refused("__metadata__", tensor(&[1.0], &[1])),
        "weights: tensor name: expected any but __metadata__, found __metadata__"
    );
    let integers = Tensor::new(&[1u32], &Device::Cpu).unwrap();
    assert_eq!(refused("counts", integers), "weights: counts: expected a tensor of f32, f64, f16 or bf16, found U32");
    assert!(!path.exists());
}

#[test]
fn integers_are_left_out() {
    let header = r#"{"n":{"dtype":"I64","shape":[1],"data_offsets":[0,8]},"#.to_owned()
        + r#""w":{"dtype":"F32","shape":[1],"data_offsets":[8,12]}}"#;
    let bytes = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &7u64.to_le_bytes(), &2f32.to_le_bytes()]
        .concat();
    let file = read_bytes(&bytes).unwrap();
    assert_eq!(file.tensors.keys().collect::<Vec<_>>(), ["w"]);
    assert_eq!(flat(&file.tensors["w"]), [2.0]);
}
