//! Safetensors files that are cut or contradict themselves: refused by name, in bounded memory.

use super::{check_refused, read_bytes};

/// A file of this header and this many bytes of data.
fn file(header: &str, data_len: usize) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &vec![0; data_len]].concat()
}

const GOOD: &str =
    r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[1],"data_offsets":[8,12]}}"#;

#[test]
fn contradictions_are_refused() {
    let a = |dtype: &str, shape: &str, offsets: &str| {
        format!(r#"{{"a":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}}}"#)
    };
    let pair = |second: &str| {
        format!(
            r#"{{"a":{{"dtype":"F32","shape":[2],"data_offsets":[0,8]}},"b":{{"dtype":"F32","shape":[1],"data_offsets":{second}}}}}"#
        )
    };
    let cases = [
        (
            "gap",
            file(&pair("[12,16]"), 16),
            "tensor b: expected data that begins where the one before ends, found bytes 12 to 16",
        ),
        ("overlap", file(&pair("[4,8]"), 8), "tensor b: expected data that begins where the one before ends"),
        ("backwards", file(&a("F32", "[1]", "[4,0]"), 4), "tensor a: expected data that begins"),
        ("past the end", file(GOOD, 8), "data: expected 12 bytes as the header lists, found 8"),
        ("data left over", file(GOOD, 13), "data: expected 12 bytes as the header lists, found 13"),
        ("shape too large", file(&a("F32", "[3]", "[0,8]"), 8), "tensor a: expected 12 bytes for [3] F32, found 8"),
        ("shape too small", file(&a("F32", "[1]", "[0,8]"), 8), "tensor a: expected 4 bytes for [1] F32, found 8"),
        ("shape overflows", file(&a("F32", "[4294967296,4294967296,4]", "[0,4]"), 4), "overflow"),
        ("bytes overflow", file(&a("F64", "[4611686018427387904]", "[0,4]"), 4), "overflow"),
        ("negative", file(&a("F32", "[-1]", "[0,4]"), 4), "JSON that lists tensors"),
        ("beyond 64 bits", file(&a("F32", "[99999999999999999999]", "[0,4]"), 4), "JSON that lists tensors"),
        ("no such type", file(&a("F99", "[1]", "[0,4]"), 4), "F99"),
        (
            "type that is not converted",
            file(&a("F8_E4M3", "[4]", "[0,4]"), 4),
            "tensor a: expected f32, f64, f16, bf16 or an integer type, found F8_E4M3",
        ),
        (
            "twice",
            file(
                r#"{"a":{"dtype":"F32","shape":[],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[],"data_offsets":[0,4]}}"#,
                4,
            ),
            "tensor a twice",
        ),
        ("no JSON", file("{\"a\": nonsense}", 0), "JSON that lists tensors"),
        ("metadata of numbers", file(r#"{"__metadata__":{"a":1}}"#, 0), "JSON that lists tensors"),
        ("deep", file(&format!("{{\"a\":{}", "[".repeat(100_000)), 0), "JSON that lists tensors"),
    ];
    for (label, bytes, words) in cases {
        check_refused(label, &bytes, words);
    }
    assert!(read_bytes(&file(GOOD, 12)).is_ok());
}

#[test]
fn a_header_length_is_not_believed() {
    let mut bytes = file(GOOD, 12);
    for (len, words) in [
        (u64::MAX, "found 18446744073709551615"),
        (1 << 40, "found 1099511627776"),
        (GOOD.len() as u64 + 13, "bytes that follow its length"),
        (1, "JSON"),
    ] {
        bytes[..8].copy_from_slice(&len.to_le_bytes());
        check_refused("header length", &bytes, words);
    }
    let padded = format!("{GOOD}{}", " ".repeat(9 << 20));
    check_refused("long header", &file(&padded, 12), "header: expected at most 8388608 bytes");
}

#[test]
fn a_cut_file_is_refused_at_every_length() {
    let whole = file(GOOD, 12);
    for len in 0..whole.len() {
        let error = read_bytes(&whole[..len]).expect_err("a cut file").to_string();
        assert!(error.contains("expected ") && error.contains("found "), "{len}: {error}");
    }
}
