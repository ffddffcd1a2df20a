//! Files with random changes: an answer or an error, never a panic nor much memory.

use super::read_bytes;
use super::torch_archive::{Pickle, TorchTensor, entries, file, file_of, floats, zip};
use proptest::prelude::*;

/// Changes to bytes: where, and what is put there or taken away.
#[derive(Clone, Debug)]
enum Change {
    Set(prop::sample::Index, u8),
    Insert(prop::sample::Index, Vec<u8>),
    Remove(prop::sample::Index, usize),
    Cut(prop::sample::Index),
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let at = any::<prop::sample::Index>;
    // Letters of operations and large lengths reach further than uniform bytes.
    let byte = prop_oneof![
        any::<u8>(),
        prop::sample::select(b"(.}]){tuesabQRchjqrXJKMN\x80\x81\x85\x86\x87\x8a\x94\x93\xff\x7f\x00".to_vec())
    ];
    let change = prop_oneof![
        8 => (at(), byte.clone()).prop_map(|(at, byte)| Change::Set(at, byte)),
        3 => (at(), prop::collection::vec(byte, 1..8)).prop_map(|(at, bytes)| Change::Insert(at, bytes)),
        3 => (at(), 1..16usize).prop_map(|(at, count)| Change::Remove(at, count)),
        1 => at().prop_map(Change::Cut),
    ];
    prop::collection::vec(change, 1..6)
}

fn changed(bytes: &[u8], changes: &[Change]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for change in changes {
        if bytes.is_empty() {
            break;
        }
        match change {
            Change::Set(at, byte) => {
                let at = at.index(bytes.len());
                bytes[at] = *byte;
            }
            Change::Insert(at, inserted) => {
                let at = at.index(bytes.len());
                bytes.splice(at..at, inserted.iter().copied());
            }
            Change::Remove(at, count) => {
                let at = at.index(bytes.len());
                bytes.drain(at..(at + count).min(bytes.len()));
            }
            Change::Cut(at) => bytes.truncate(at.index(bytes.len())),
        }
    }
    bytes
}

fn tensors() -> [TorchTensor; 3] {
    [
        TorchTensor::whole("a", "0", &[2, 3]),
        TorchTensor { name: "b", ..TorchTensor::whole("", "0", &[6]).view(1, &[2, 2], &[1, 2]) },
        TorchTensor::whole("c", "1", &[2]).of("HalfStorage"),
    ]
}

fn storages() -> [(&'static str, Vec<u8>); 2] {
    [("0", floats(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0])), ("1", vec![0, 60, 0, 64])]
}

/// Whatever is read is no larger than the file allows, and each error says what it is about.
fn check(bytes: &[u8]) -> Result<(), TestCaseError> {
    match read_bytes(bytes) {
        Ok(file) => {
            let elements: usize = file.tensors.values().map(|tensor| tensor.elem_count()).sum();
            prop_assert!(elements * 4 <= bytes.len() * 8 + (1 << 20));
        }
        Err(error) => prop_assert!(!error.to_string().is_empty()),
    }
    Ok(())
}

const SAFETENSORS: &str = concat!(
    r#"{"__metadata__":{"k":"v"},"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"#,
    r#""b":{"dtype":"BF16","shape":[1,2],"data_offsets":[8,12]}}"#
);

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1500) })]

    #[test]
    fn archives(changes in changes()) {
        check(&changed(&file(&tensors(), &storages()), &changes))?;
    }

    /// The checksum is right, so that the changes reach the interpreter.
    #[test]
    fn pickles(changes in changes()) {
        let pickle = changed(&Pickle::new().state_dict(&tensors()).stop(), &changes);
        check(&zip(&entries(pickle, &storages())))?;
    }

    #[test]
    fn pickles_of_arrays(changes in changes(), protocol in 2..=5) {
        let path = format!("{}/tests/weights/pickles/protocol{protocol}.pkl", env!("CARGO_MANIFEST_DIR"));
        check(&changed(&std::fs::read(path).expect("a fixture"), &changes))?;
    }

    #[test]
    fn arbitrary_operations(operations in prop::collection::vec(any::<u8>(), 0..200)) {
        check(&file_of(Pickle::new().raw(&operations).stop()))?;
    }

    /// What the safetensors crate refuses is refused here too.
    #[test]
    fn safetensors_files(changes in changes()) {
        let whole = [&(SAFETENSORS.len() as u64).to_le_bytes()[..], SAFETENSORS.as_bytes(), &[1; 12]].concat();
        let bytes = changed(&whole, &changes);
        check(&bytes)?;
        let ours = read_bytes(&bytes);
        let theirs = safetensors::SafeTensors::deserialize(&bytes);
        match (&ours, &theirs) {
            (Ok(ours), Ok(theirs)) => prop_assert!(ours.tensors.len() <= theirs.len()),
            (Ok(_), Err(theirs)) => prop_assert!(false, "read what the crate refuses: {}", theirs),
            _ => {}
        }
    }

    /// Changes to the scales and integers of a checkpoint in 8 bits, and to the text about them.
    #[test]
    fn quantized_files(changes in changes()) {
        check(&changed(&super::quantized::good(), &changes))?;
    }
}
