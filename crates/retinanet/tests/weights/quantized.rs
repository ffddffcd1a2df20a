//! Checkpoints with layers of 8-bit integers: what is written is read again, and hostile ones are refused by name.

use super::{check_refused, flat, read_bytes, tensor};
use candle_core::Tensor;
use retinanet::weights::{read, write_quantized};
use retinanet_ops::kernels::cpu::inference::Quantization;
use retinanet_ops::network::{QuantizationTable, QuantizedLayer, dequantize_weight, quantize_weight};
use std::collections::BTreeMap;

const SHAPE: [usize; 4] = [2, 1, 1, 3];

/// A layer `a` of two output channels that is quantised, and a layer `b` that is not.
fn contents() -> (BTreeMap<String, Tensor>, QuantizationTable) {
    let weight = quantize_weight(&[0.1, -0.37, 0.02, 5.0, 0.0, 3.3], 2);
    let layer = QuantizedLayer {
        input: Quantization { scale: 0.1, zero_point: 0 },
        output: Some(Quantization { scale: 1.0 / 3.0, zero_point: 128 }),
        weight_scale: weight.scale.clone(),
    };
    let tensors = [
        ("a.weight".to_owned(), tensor(&dequantize_weight(&weight.values, &weight.scale), &SHAPE)),
        ("a.bias".to_owned(), tensor(&[0.25, -4.0], &[2])),
        ("b.weight".to_owned(), tensor(&[0.3, 0.7], &[1, 2, 1, 1])),
    ];
    (tensors.into(), QuantizationTable { layers: [("a".to_owned(), layer)].into() })
}

#[test]
fn what_is_written_is_read_again_and_written_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (folder.path().join("first"), folder.path().join("second"));
    let (tensors, table) = contents();
    write_quantized(&first, &tensors, &table, &[("key".to_owned(), "value".to_owned())].into()).unwrap();
    let file = read(&first).unwrap();
    assert_eq!(file.quantization.as_ref(), Some(&table));
    assert_eq!(file.tensors.keys().collect::<Vec<_>>(), tensors.keys().collect::<Vec<_>>());
    for (name, tensor) in &tensors {
        assert_eq!((file.tensors[name].dims(), flat(&file.tensors[name])), (tensor.dims(), flat(tensor)), "{name}");
    }
    write_quantized(&second, &file.tensors, &table, &file.metadata).unwrap();
    assert_eq!(std::fs::read(&first).unwrap(), std::fs::read(&second).unwrap());

    let bytes = std::fs::read(&first).unwrap();
    let theirs = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(theirs.tensor("a.weight").unwrap().dtype(), safetensors::Dtype::I8);
    // .1 / .37 * 127 = 34.3, .02 / .37 * 127 = 6.9, 3.3 / 5 * 127 = 83.8
    assert_eq!(theirs.tensor("a.weight").unwrap().data(), [34i8, -127, 7, 127, 0, 84].map(i8::cast_unsigned));
    assert_eq!(theirs.tensor("a.weight_scale").unwrap().shape(), [2]);
    assert_eq!(theirs.len(), 4);
}

#[test]
fn a_weight_that_changed_since_is_not_written() {
    let path = tempfile::tempdir().unwrap().path().join("model");
    let refused = |change: &dyn Fn(&mut BTreeMap<String, Tensor>)| {
        let (mut tensors, table) = contents();
        change(&mut tensors);
        write_quantized(&path, &tensors, &table, &BTreeMap::new()).unwrap_err().to_string()
    };
    let found = refused(&|tensors| _ = tensors.insert("a.weight".to_owned(), tensor(&[0.1; 6], &SHAPE)));
    assert!(found.contains("a.weight: expected multiples of its scale") && found.contains("found 0.1"), "{found}");
    let found = refused(&|tensors| _ = tensors.insert("a.weight".to_owned(), tensor(&[0.1; 3], &[3, 1, 1, 1])));
    assert!(found.contains("expected 2 output channels, one a scale, found [3, 1, 1, 1]"), "{found}");
    let found = refused(&|tensors| _ = tensors.remove("a.weight"));
    assert!(found.contains("a.weight: expected the weight of a quantised layer, found none"), "{found}");
}

/// One tensor of a file made by hand.
struct Part {
    name: &'static str,
    dtype: &'static str,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

fn integers(name: &'static str, shape: &[usize], values: &[i8]) -> Part {
    let bytes = values.iter().map(|value| value.cast_unsigned()).collect();
    Part { name, dtype: "I8", shape: shape.to_vec(), bytes }
}

fn floats(name: &'static str, values: &[f32]) -> Part {
    let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    Part { name, dtype: "F32", shape: vec![values.len()], bytes }
}

fn file(text: &str, parts: &[Part]) -> Vec<u8> {
    let mut header = serde_json::json!({ "__metadata__": { "quantization": text } });
    let mut data = Vec::new();
    for Part { name, dtype, shape, bytes } in parts {
        let start = data.len();
        data.extend(bytes);
        header[*name] = serde_json::json!({ "dtype": dtype, "shape": shape, "data_offsets": [start, data.len()] });
    }
    let header = header.to_string();
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &data].concat()
}

const TEXT: &str = r#"{"layers":{"a":{"input":{"scale":0.5,"zero_point":0}}}}"#;

fn weight() -> Part {
    integers("a.weight", &SHAPE, &[127, -5, 0, 0, 0, 0])
}

fn scale() -> Part {
    floats("a.weight_scale", &[0.5, 1.0])
}

/// A file that is read.
pub(super) fn good() -> Vec<u8> {
    file(TEXT, &[weight(), scale()])
}

#[test]
fn hostile_scales_and_integers_are_refused() {
    let good = read_bytes(&good()).unwrap();
    assert_eq!(flat(&good.tensors["a.weight"]), [63.5, -2.5, 0.0, 0.0, 0.0, 0.0]);
    assert_eq!(good.tensors.keys().collect::<Vec<_>>(), ["a.weight"]);

    let scales = |values: &[f32]| vec![weight(), floats("a.weight_scale", values)];
    let weights = |shape: &[usize], values: &[i8]| vec![integers("a.weight", shape, values), scale()];
    let cases = [
        ("no scale", vec![weight()], "tensor a.weight_scale: expected [2], one scale an output channel, found none"),
        ("short scale", scales(&[0.5]), "tensor a.weight_scale: expected [2], one scale an output channel, found [1]"),
        (
            "long scale",
            scales(&[0.5; 3]),
            "tensor a.weight_scale: expected [2], one scale an output channel, found [3]",
        ),
        ("NaN", scales(&[0.5, f32::NAN]), "a.weight_scale: expected finite numbers above 0, found NaN in channel 1"),
        ("infinite", scales(&[f32::INFINITY, 1.0]), "expected finite numbers above 0, found inf in channel 0"),
        ("zero", scales(&[0.0, 1.0]), "expected finite numbers above 0, found 0 in channel 0"),
        ("negative", scales(&[-0.5, 1.0]), "expected finite numbers above 0, found -0.5 in channel 0"),
        ("weights overflow", scales(&[1e37, 1.0]), "expected finite numbers above 0, found 1"),
        ("subnormal", scales(&[1e-40, 1.0]), "expected finite numbers above 0, found 0.0000"),
        ("integers of a scale", vec![weight(), integers("a.weight_scale", &[2], &[1, 1])], "found none"),
        ("-128", weights(&SHAPE, &[127, -128, 0, 0, 0, 0]), "a.weight: expected a largest magnitude of 127"),
        ("small integers", weights(&SHAPE, &[127, 0, 0, 93, 0, 0]), "found 93 in channel 1"),
        ("no weight", vec![scale()], "tensor a.weight: expected 8-bit integers, as its layer is quantised, found none"),
        ("float weight", vec![floats("a.weight", &[1.0]), scale()], "as its layer is quantised, found f32 of [1]"),
        ("a number", weights(&[], &[127]), "tensor a.weight: expected [Cout, Cin, kh, kw], none of them 0, found []"),
        ("empty", weights(&[0, 3], &[]), "none of them 0, found [0, 3]"),
        (
            "layer not listed",
            vec![weight(), scale(), integers("b.weight", &[1], &[127])],
            "tensor b.weight: expected floating point, as its layer is not listed in metadata quantization",
        ),
    ];
    for (label, parts, words) in cases {
        check_refused(label, &file(TEXT, &parts), words);
    }
}

#[test]
fn hostile_tables_are_refused() {
    let input = |scale: &str, zero_point: &str| {
        format!(r#"{{"layers":{{"a":{{"input":{{"scale":{scale},"zero_point":{zero_point}}}}}}}}}"#)
    };
    let at = "metadata quantization: layer a: input: ";
    let cases = [
        (input("0.0", "0"), format!("{at}scale: expected a finite number above 0, found 0")),
        (input("-1.0", "0"), format!("{at}scale: expected a finite number above 0, found -1")),
        (
            input("1e39", "0"),
            "metadata quantization: expected JSON of scales by layer, found number out of range".to_owned(),
        ),
        (input("1e-39", "0"), format!("{at}scale: expected a finite number above 0, found 0.0")),
        (input("1.0", "7"), format!("{at}zero point: expected 0 or 128, found 7")),
        (
            input("1.0", "256"),
            "metadata quantization: expected JSON of scales by layer, found invalid value".to_owned(),
        ),
        (input("NaN", "0"), "metadata quantization: expected JSON of scales by layer".to_owned()),
        (r#"{"layers":{"a":{}}}"#.to_owned(), "missing field `input`".to_owned()),
        (r#"{"layers":{},"more":1}"#.to_owned(), "unknown field `more`".to_owned()),
        (r#"{"layers":{}}"#.to_owned(), "tensor a.weight: expected floating point".to_owned()),
        (TEXT.replace("\"a\"", "\"c\""), "tensor c.weight: expected 8-bit integers".to_owned()),
        (String::new(), "metadata quantization: expected JSON of scales by layer".to_owned()),
        ("[".repeat(100_000), "metadata quantization: expected JSON of scales by layer".to_owned()),
    ];
    for (text, words) in cases {
        check_refused(&text, &file(&text, &[weight(), scale()]), &words);
    }
    let output = TEXT.replace("}}}}", r#"},"output":{"scale":1.0,"zero_point":1}}}}"#);
    check_refused(
        "output",
        &file(&output, &[weight(), scale()]),
        "layer a: output: zero point: expected 0 or 128, found 1",
    );
}
