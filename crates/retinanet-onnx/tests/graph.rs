//! Graphs as they are written: names, constants, layers, files.

use candle_core::{Device, Result, Tensor};
use retinanet_onnx::proto::{AttributeType, NodeProto, TensorProto};
use retinanet_onnx::{About, Dim, ElementType, Graph, GraphEngine, OnnxError, Opset, Value, decode, encode};
use retinanet_ops::network::{ConvLayer, Engine, NormKind, Parameters};

const MAP: [Dim<'static>; 4] = [Dim::Any("batch"), Dim::Fixed(1), Dim::Any("height"), Dim::Any("width")];

fn graph() -> (Graph, Value) {
    let mut graph = Graph::new(Opset::default());
    let x = graph.input("x", ElementType::F32, &MAP, "a map");
    (graph, x)
}

/// Each node as its operator, what it reads and what it gives.
fn nodes(graph: Graph) -> Vec<String> {
    let text = |node: &NodeProto| format!("{} {} -> {}", node.op_type, node.input.join(" "), node.output.join(" "));
    graph.into_model(&About::default()).graph.iter().flat_map(|graph| &graph.node).map(text).collect()
}

fn floats(tensor: &TensorProto) -> Vec<f32> {
    tensor.raw_data.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect()
}

#[test]
fn a_name_that_is_taken_gets_a_number() {
    let (mut graph, x) = graph();
    let a = graph.node("Relu", "y", &[&x], &[]);
    let b = graph.node("Relu", "y", &[&a], &[]);
    graph.node("Relu", "x", &[&b], &[]);
    graph.node("Relu", "y", &[&b], &[]);
    assert_eq!(nodes(graph), ["Relu x -> y", "Relu y -> y#2", "Relu y#2 -> x#2", "Relu y#2 -> y#3"]);
}

#[test]
fn equal_constants_are_one() {
    let (mut graph, _) = graph();
    assert_eq!(graph.ints(&[0, -1, 4]), graph.ints(&[0, -1, 4]));
    assert_ne!(graph.ints(&[4]), graph.int(4));
    assert_ne!(graph.int(4), graph.float(4.0));
    assert_eq!(graph.float(0.5), graph.float(0.5));
    let model = graph.into_model(&About::default()).graph.expect("a graph");
    let found: Vec<_> = model.initializer.iter().map(|t| (t.dims.clone(), t.data_type, t.raw_data.len())).collect();
    assert_eq!(found, [(vec![3], 7, 24), (vec![1], 7, 8), (vec![], 7, 8), (vec![], 1, 4), (vec![], 1, 4)]);
}

fn tensor(values: &[f32]) -> Tensor {
    Tensor::new(values, &Device::Cpu).expect("a vector")
}

/// A 1x1 convolution by 2 on one channel, with a batch norm of weight 3 and bias 1 that has seen mean 4 and variance 9.
fn normed(kind: NormKind) -> Result<(ConvLayer, Parameters)> {
    let layer = ConvLayer::new("conv", 1, 1, 1, 1).with_norm("bn", kind).with_relu();
    let parameters = Parameters::new([
        ("conv.weight".to_owned(), tensor(&[2.0]).reshape((1, 1, 1, 1))?),
        ("bn.weight".to_owned(), tensor(&[3.0])),
        ("bn.bias".to_owned(), tensor(&[1.0])),
        ("bn.running_mean".to_owned(), tensor(&[4.0])),
        ("bn.running_var".to_owned(), tensor(&[9.0])),
    ])?;
    Ok((layer, parameters))
}

#[test]
fn a_batch_norm_is_folded_and_a_layer_is_there_once() -> Result<()> {
    let (layer, parameters) = normed(NormKind::Batch { epsilon: 0.0, momentum: 0.1 })?;
    let (mut graph, x) = graph();
    let mut engine = GraphEngine::new(&mut graph, &parameters);
    let y = engine.conv(&layer, &x, None)?;
    engine.conv(&layer, &y, Some(&x))?;
    let model = graph.clone().into_model(&About::default()).graph.expect("a graph");
    // (2 x - 4) / 3 * 3 + 1
    let constants: Vec<_> = model.initializer.iter().map(|t| (t.name.as_str(), floats(t))).collect();
    assert_eq!(constants, [("conv.weight", vec![2.0]), ("conv.bias", vec![-3.0])]);
    let expected = [
        "Conv x conv.weight conv.bias -> conv",
        "Relu conv -> conv.relu",
        "Conv conv.relu conv.weight conv.bias -> conv#2",
        "Add conv#2 x -> conv.sum",
        "Relu conv.sum -> conv.relu#2",
    ];
    assert_eq!(nodes(graph), expected);
    Ok(())
}

#[test]
fn every_attribute_has_the_field_of_its_type() -> Result<()> {
    let (layer, parameters) = normed(NormKind::Group { groups: 1, epsilon: 1e-5 })?;
    let (mut graph, x) = graph();
    let mut engine = GraphEngine::new(&mut graph, &parameters);
    let y = engine.conv(&layer, &x, None)?;
    let coarse = engine.max_pool(&y, 3, 2, 1)?;
    let y = engine.upsample_add(&coarse, &y)?;
    engine.relu(&y)?;
    let model = graph.into_model(&About::default());
    let model = decode(&encode(&model).expect("a small model")).expect("a model").graph.expect("a graph");
    for attribute in model.node.iter().flat_map(|node| &node.attribute) {
        let has = [attribute.f.is_some(), attribute.i.is_some(), attribute.s.is_some(), !attribute.ints.is_empty()];
        let kinds = [AttributeType::Float, AttributeType::Int, AttributeType::String, AttributeType::Ints];
        assert_eq!(has, kinds.map(|kind| kind == attribute.r#type()), "{}", attribute.name);
    }
    let operators: Vec<&str> = model.node.iter().map(|node| node.op_type.as_str()).collect();
    let norm = ["Reshape", "InstanceNormalization", "Shape", "Reshape", "Mul", "Add", "Relu"];
    let upsample = ["MaxPool", "Shape", "Shape", "Concat", "Resize", "Add", "Relu"];
    assert_eq!(operators, [&["Conv"][..], &norm, &upsample].concat());
    assert_eq!(
        model.node.iter().find(|node| node.op_type == "Resize").map(|node| node.input[1..3].to_vec()),
        Some(vec![String::new(); 2])
    );
    Ok(())
}

#[test]
fn parameters_that_are_not_there_or_do_not_fit_are_named() -> Result<()> {
    let (layer, parameters) = normed(NormKind::FrozenBatch { epsilon: 0.0 })?;
    let check = |layer: &ConvLayer, expected: &str| {
        let (mut graph, x) = graph();
        let error = GraphEngine::new(&mut graph, &parameters).conv(layer, &x, None).expect_err(expected).to_string();
        assert!(error.contains(expected), "{error}");
    };
    check(&ConvLayer { name: "other".to_owned(), ..layer.clone() }, "other.weight");
    check(&ConvLayer { norm: None, ..layer.clone() }, "conv.bias");
    check(&ConvLayer { kernel: 3, ..layer }, "conv.weight: shape: expected [1, 1, 3, 3], found [1, 1, 1, 1]");
    Ok(())
}

#[test]
fn a_file_holds_what_was_said_and_is_below_two_gibibytes() {
    let (mut graph, x) = graph();
    let y = graph.node("Relu", "y", &[&x], &[]);
    graph.output(&y, ElementType::F32, &MAP, "another map");
    let metadata = [("classes", "[]".to_owned())];
    let about = About { name: "a", producer: "b", producer_version: "c", doc: "d", metadata: &metadata };
    let mut model = graph.into_model(&about);
    let found = decode(&encode(&model).expect("a small model")).expect("a model");
    assert_eq!(found, model);
    assert_eq!((found.ir_version, found.opset_import[0].version), (8, 17));
    assert_eq!((found.producer_version.as_str(), found.metadata_props[0].key.as_str()), ("c", "classes"));
    assert!(matches!(decode(b"\xff\xff no model"), Err(OnnxError::Malformed(_))));

    // Zeros that nobody has looked at take no memory.
    let large = TensorProto { raw_data: vec![0; 1 << 31], ..TensorProto::default() };
    model.graph.as_mut().expect("a graph").initializer.push(large);
    let error = encode(&model).expect_err("2 GiB").to_string();
    assert!(error.starts_with("onnx: model: expected less than 2 GiB") && error.contains("found 2147"), "{error}");
}

#[test]
fn opsets_have_the_format_of_their_time() {
    let found = (15..24).map(|version| Opset::new(version).ok().map(Opset::ir_version)).collect::<Vec<_>>();
    assert_eq!(found, [None, None, Some(8), Some(8), Some(9), Some(9), Some(10), None, None]);
}
