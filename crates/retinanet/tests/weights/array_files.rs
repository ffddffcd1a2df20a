//! Pickles of NumPy arrays: read in every protocol, and refused where they are cut, wrong, or ask for something.

use super::torch_archive::{Pickle, floats};
use super::{check_refused, flat, read_bytes};

/// An array of `f4` as Python 3 writes it in protocol 4 and as Python 2 did in protocol 2.
trait Arrays {
    fn array(self, shape: &[i64], bytes: &[u8]) -> Self;
    fn array_of(self, code: &str, order: &str, shape: &[i64], bytes: &[u8]) -> Self;
}

impl Arrays for Pickle {
    fn array(self, shape: &[i64], bytes: &[u8]) -> Self {
        self.array_of("f4", "<", shape, bytes)
    }

    fn array_of(self, code: &str, order: &str, shape: &[i64], bytes: &[u8]) -> Self {
        let shell = self.global("numpy.core.multiarray", "_reconstruct").global("numpy", "ndarray");
        let shell = shell.raw(b"K\x00\x85U\x01b\x87R(K\x01").ints(shape);
        let dtype = shell.global("numpy", "dtype").text(code).raw(b"K\x00K\x01\x87R(K\x03").text(order);
        let state = dtype.raw(b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T");
        state.raw(&(bytes.len() as u32).to_le_bytes()).raw(bytes).raw(b"tb")
    }
}

/// A checkpoint of one array named `weight`.
pub(super) fn checkpoint(array: impl FnOnce(Pickle) -> Pickle) -> Vec<u8> {
    let start = Pickle::new().raw(b"}").text("model").raw(b"}").text("weight");
    array(start).raw(b"ss").stop()
}

#[test]
fn every_protocol_is_read() {
    for protocol in 2..=5 {
        let path = format!("{}/tests/weights/pickles/protocol{protocol}.pkl", env!("CARGO_MANIFEST_DIR"));
        let read = read_bytes(&std::fs::read(&path).unwrap_or_else(|e| panic!("{path}: {e}"))).unwrap();
        let found = |name: &str| (read.tensors[name].dims().to_vec(), flat(&read.tensors[name]));
        let six = vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        assert_eq!(found("plain"), (vec![2, 3], six.clone()), "protocol {protocol}");
        assert_eq!(found("columns"), (vec![2, 3], six), "protocol {protocol}");
        assert_eq!(found("every_other"), (vec![6], vec![0.0, 2.0, 4.0, 6.0, 8.0, 10.0]));
        assert_eq!(found("half"), (vec![1], vec![0.099_975_586]));
        assert_eq!(found("double"), (vec![1], vec![0.1]));
        assert_eq!(found("negative"), (vec![2], vec![-1.5, 3e38]));
        assert_eq!(found("scalar"), (vec![], vec![7.0]));
        assert_eq!(found("empty"), (vec![0, 4], vec![]));
        assert_eq!(read.tensors.len(), 8, "the count of integers is left out");
        assert_eq!(read.metadata.get("__author__").map(String::as_str), Some("a test"));
    }
}

#[test]
fn pickles_of_python_2_are_read() {
    // Keys and bytes have one type there; blobs are Detectron's.
    let start = Pickle::new().raw(b"}U\x05blobs}U\x07conv1_w");
    let pickle = start.array(&[2], &floats(&[0.5, -2.0])).raw(b"ss").stop();
    assert_eq!(flat(&read_bytes(&pickle).unwrap().tensors["conv1_w"]), [0.5, -2.0]);
    // Bytes that are a text as well.
    let pickle = checkpoint(|pickle| pickle.array(&[1], b"abcd"));
    assert_eq!(flat(&read_bytes(&pickle).unwrap().tensors["weight"]), [f32::from_le_bytes(*b"abcd")]);
}

#[test]
fn arrays_that_contradict_themselves_are_refused() {
    let one = floats(&[1.0]);
    let array = |shape: &[i64], bytes: &[u8]| checkpoint(|pickle| pickle.array(shape, bytes));
    let cases = [
        ("too few bytes", array(&[2], &one), "elements within the 1 of the storage"),
        ("too many bytes", array(&[1], &floats(&[1.0, 2.0])), "expected 1 elements of shape [1], found 2"),
        ("part of an element", array(&[1], &[0; 6]), "expected elements of 4 bytes, found 6 bytes"),
        ("negative", array(&[-1], &one), "expected a shape"),
        ("huge", array(&[i64::MAX, i64::MAX], &one), "shape [9223372036854775807, 9223372036854775807]"),
        ("many axes", array(&[1; 9], &one), "expected at most 8 axes, found 9"),
        ("big endian", checkpoint(|p| p.array_of("f4", ">", &[1], &one)), "expected elements in little endian"),
        ("no array", checkpoint(|p| p.raw(b"K\x01")), "found a dict of no tensors"),
        ("cut", array(&[1], &one)[..20].to_vec(), "6 more bytes"),
        (
            "no state",
            checkpoint(|p| p.global("numpy.core.multiarray", "_reconstruct").raw(b")R}b")),
            "an array's version, shape, type, order and bytes",
        ),
        (
            "type of nothing",
            checkpoint(|p| p.global("numpy", "dtype").raw(b")R")),
            "expected a type's code, found something else",
        ),
        (
            "another encoding",
            checkpoint(|p| p.global("_codecs", "encode").raw(b"(").text("a").text("rot13").raw(b"tR")),
            "a text to be encoded as latin1",
        ),
        (
            "characters that are no bytes",
            checkpoint(|p| {
                let bytes =
                    |p: Pickle| p.global("_codecs", "encode").raw(b"(").text("\u{100}bcd").text("latin1").raw(b"tR");
                let buffer = bytes(p.global("numpy._core.numeric", "_frombuffer").raw(b"("));
                buffer.global("numpy", "dtype").text("f4").raw(b"\x85RK\x01\x85").text("C").raw(b"tR")
            }),
            "characters below 256",
        ),
    ];
    for (label, bytes, words) in cases {
        check_refused(label, &bytes, words);
    }
}

#[test]
fn nothing_is_called() {
    for (function, pickle) in [
        ("posix.system", Pickle::new().global("posix", "system").text("touch /tmp/called").raw(b"\x85R").stop()),
        ("numpy.load", Pickle::new().global("numpy", "load").text("/etc/passwd").raw(b"\x85R").stop()),
        ("numpy.core.multiarray.fromfile", Pickle::new().global("numpy.core.multiarray", "fromfile").stop()),
    ] {
        check_refused(function, &pickle, &format!("refuses to call {function}"));
    }
    // What may be named is not called either: the result of getattr is no function.
    let call = Pickle::new().global("builtins", "getattr").raw(b"(").global("collections", "Counter").text("clear");
    check_refused("getattr", &call.raw(b"tR)R").stop(), "a function to call");
}

#[test]
fn bytes_shared_by_many_arrays_are_not_multiplied() {
    // A thousand arrays of the same 64 KiB, which are kept for later once.
    let floats_of_zero = vec![0; 1 << 16];
    let mut pickle =
        Pickle::new().raw(b"}").text("data").raw(b"B").raw(&(1u32 << 16).to_le_bytes()).raw(&floats_of_zero);
    pickle = pickle.raw(b"q\x07s").text("model").raw(b"}(");
    for i in 0..1000 {
        pickle = pickle.text(&i.to_string()).global("numpy.core.numeric", "_frombuffer").raw(b"(h\x07");
        pickle = pickle.global("numpy", "dtype").text("f4").raw(b"\x85R").ints(&[1 << 14]).text("C").raw(b"tR");
    }
    check_refused("shared", &pickle.raw(b"us").stop(), "expected at most");
}

#[test]
fn texts_beside_the_tensors_are_kept_in_bounds() {
    let weight = |pickle: Pickle| pickle.array(&[1], &floats(&[1.0]));
    let start = Pickle::new().raw(b"}").text("state_dict").raw(b"}").text("w");
    let meta = weight(start).raw(b"ss").text("meta").raw(b"}").text("cfg").text("style='caffe'").raw(b"s");
    let meta = meta.text("CLASSES").raw(b"(").text("cat").text("dog").raw(b"ts").text("epoch").raw(b"K\x07s");
    let read = read_bytes(&meta.clone().raw(b"s").stop()).unwrap();
    let expected = [("meta.CLASSES", r#"["cat","dog"]"#), ("meta.cfg", "style='caffe'")];
    assert_eq!(read.metadata, expected.map(|(key, text)| (key.to_owned(), text.to_owned())).into());
    // A dict that holds itself a hundred thousand times.
    let mut itself = meta.raw(b"q\x09(");
    for i in 0..50_000 {
        itself = itself.text(&format!("k{i}")).raw(b"h\x09");
    }
    assert_eq!(read_bytes(&itself.raw(b"us").stop()).unwrap().metadata["meta.cfg"], "style='caffe'");
}

/// A header of 640 bytes makes a safetensors file begin as a pickle does.
#[test]
fn a_safetensors_file_that_begins_like_a_pickle_is_none() {
    let header = r#"{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#;
    let padded = format!("{header:<640}");
    let bytes = [&640u64.to_le_bytes()[..], padded.as_bytes(), &floats(&[2.5])].concat();
    assert_eq!(bytes[..2], [0x80, 2]);
    assert_eq!(flat(&read_bytes(&bytes).unwrap().tensors["w"]), [2.5]);
}

/// A checkpoint of MMEngine holds the history of its losses, with the methods of its class by name.
#[test]
fn a_checkpoint_of_mmengine_is_read() {
    let path = format!("{}/tests/weights/pickles/mmengine.pth", env!("CARGO_MANIFEST_DIR"));
    let read = read_bytes(&std::fs::read(&path).unwrap_or_else(|e| panic!("{path}: {e}"))).unwrap();
    assert_eq!(flat(&read.tensors["bbox_head.retina_cls.weight"]), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    assert_eq!(read.tensors.len(), 1);
    assert_eq!(read.metadata["meta.dataset_meta.classes"], r#"["cat","dog"]"#);
    assert!(read.metadata["meta.cfg"].contains("style='caffe'"), "{:?}", read.metadata);
}
