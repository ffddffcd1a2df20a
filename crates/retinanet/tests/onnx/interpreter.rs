//! A plain interpreter of the operators that exported detectors use, written from ONNX's definitions of them.
//!
//! Every number is held as f64, which holds all of f32 and the whole numbers that occur; what is f32 is rounded after every
//! operator.

use retinanet_onnx::proto::{ModelProto, NodeProto, TensorProto};
use std::collections::BTreeMap;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    F32,
    U8,
    I64,
    Bool,
}

impl Kind {
    fn of(code: i64) -> Self {
        match code {
            1 => Self::F32,
            2 => Self::U8,
            7 => Self::I64,
            9 => Self::Bool,
            _ => panic!("element type {code}"),
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Tensor {
    pub(crate) kind: Kind,
    pub(crate) shape: Vec<usize>,
    pub(crate) values: Vec<f64>,
}

impl Tensor {
    pub(crate) fn new(kind: Kind, shape: &[usize], values: Vec<f64>) -> Self {
        assert_eq!(shape.iter().product::<usize>(), values.len(), "elements of {shape:?}");
        let values = if kind == Kind::F32 { values.iter().map(|&v| f64::from(v as f32)).collect() } else { values };
        Self { kind, shape: shape.to_vec(), values }
    }

    fn of_proto(proto: &TensorProto) -> Self {
        let kind = Kind::of(i64::from(proto.data_type));
        let values = match kind {
            Kind::F32 => proto.raw_data.as_chunks().0.iter().map(|&b| f64::from(f32::from_le_bytes(b))).collect(),
            Kind::I64 => proto.raw_data.as_chunks().0.iter().map(|&b| i64::from_le_bytes(b) as f64).collect(),
            _ => panic!("{}: a constant of {kind:?}", proto.name),
        };
        Self::new(kind, &proto.dims.iter().map(|&length| length as usize).collect::<Vec<_>>(), values)
    }

    /// As lengths or places.
    fn whole(&self) -> Vec<i64> {
        self.values.iter().map(|&v| v as i64).collect()
    }

    /// The element at this place of a larger shape that it is stretched to.
    fn stretched(&self, place: &[usize]) -> f64 {
        let skip = place.len() - self.shape.len();
        let along = self.shape.iter().zip(&place[skip..]);
        self.values[along.fold(0, |index, (&length, &at)| index * length + if length == 1 { 0 } else { at })]
    }
}

/// Every place of a shape, in order.
fn places(shape: &[usize]) -> impl Iterator<Item = Vec<usize>> + '_ {
    (0..shape.iter().product()).map(move |mut index: usize| {
        let mut place = vec![0; shape.len()];
        for (at, &length) in place.iter_mut().zip(shape).rev() {
            (*at, index) = (index % length, index / length);
        }
        place
    })
}

fn flat(shape: &[usize], place: &[usize]) -> usize {
    shape.iter().zip(place).fold(0, |index, (&length, &at)| {
        assert!(at < length, "{place:?} of {shape:?}");
        index * length + at
    })
}

/// The common shape of tensors that are stretched to each other.
fn common(shapes: &[&[usize]]) -> Vec<usize> {
    let rank = shapes.iter().map(|shape| shape.len()).max().unwrap_or(0);
    let length = |axis: usize| {
        let lengths = shapes.iter().filter_map(|shape| (axis + shape.len()).checked_sub(rank).map(|at| shape[at]));
        lengths.reduce(|a, b| match (a, b) {
            (1, b) => b,
            (a, 1) => a,
            (a, b) => {
                assert_eq!(a, b, "{shapes:?}");
                a
            }
        })
    };
    (0..rank).map(|axis| length(axis).expect("a shape has this axis")).collect()
}

fn elementwise(kind: Kind, inputs: &[&Tensor], f: impl Fn(&[f64]) -> f64) -> Tensor {
    let shape = common(&inputs.iter().map(|x| x.shape.as_slice()).collect::<Vec<_>>());
    let values = places(&shape).map(|at| f(&inputs.iter().map(|x| x.stretched(&at)).collect::<Vec<_>>()));
    Tensor::new(kind, &shape, values.collect())
}

struct Attributes<'a>(&'a NodeProto);

impl Attributes<'_> {
    fn int(&self, name: &str) -> Option<i64> {
        self.0.attribute.iter().find(|attribute| attribute.name == name).and_then(|attribute| attribute.i)
    }

    fn ints(&self, name: &str) -> Vec<usize> {
        let found = self.0.attribute.iter().find(|attribute| attribute.name == name);
        found.expect("the attribute").ints.iter().map(|&i| i as usize).collect()
    }

    fn float(&self, name: &str) -> f64 {
        let found = self.0.attribute.iter().find(|attribute| attribute.name == name);
        f64::from(found.and_then(|attribute| attribute.f).expect("the attribute"))
    }

    fn text(&self, name: &str) -> &str {
        let found = self.0.attribute.iter().find(|attribute| attribute.name == name);
        std::str::from_utf8(found.and_then(|attribute| attribute.s.as_deref()).expect("the attribute")).expect("UTF-8")
    }
}

/// The outputs of the model for these inputs.
pub(crate) fn run(model: &ModelProto, inputs: Vec<(&str, Tensor)>) -> BTreeMap<String, Tensor> {
    let graph = model.graph.as_ref().expect("a graph");
    let mut values: BTreeMap<String, Tensor> =
        graph.initializer.iter().map(|proto| (proto.name.clone(), Tensor::of_proto(proto))).collect();
    for input in &graph.input {
        let (_, value) = inputs.iter().find(|(name, _)| *name == input.name).expect("the input is given");
        values.insert(input.name.clone(), value.clone());
    }
    for node in &graph.node {
        let input = |name: &String| values.get(name).unwrap_or_else(|| panic!("{}: reads {name}", node.name));
        let inputs: Vec<&Tensor> = node.input.iter().filter(|name| !name.is_empty()).map(input).collect();
        let outputs = compute(node, &inputs);
        for (name, output) in node.output.iter().zip(outputs) {
            assert!(values.insert(name.clone(), output).is_none(), "{name} is computed twice");
        }
    }
    graph.output.iter().map(|output| (output.name.clone(), values[&output.name].clone())).collect()
}

fn compute(node: &NodeProto, inputs: &[&Tensor]) -> Vec<Tensor> {
    let attributes = Attributes(node);
    let x = inputs[0];
    let unary = |f: fn(f64) -> f64| elementwise(x.kind, inputs, |v| f(v[0]));
    let binary = |f: fn(f64, f64) -> f64| elementwise(x.kind, inputs, |v| f(v[0], v[1]));
    let test = |f: fn(f64, f64) -> bool| elementwise(Kind::Bool, inputs, |v| f64::from(u8::from(f(v[0], v[1]))));
    vec![match node.op_type.as_str() {
        "Relu" => unary(|v| v.max(0.0)),
        "Exp" => unary(f64::exp),
        "Sigmoid" => unary(|v| 1.0 / (1.0 + (-v).exp())),
        "Add" => binary(|a, b| a + b),
        "Sub" => binary(|a, b| a - b),
        "Mul" => binary(|a, b| a * b),
        "Div" if x.kind == Kind::I64 => binary(|a, b| (a / b).trunc()),
        "Div" => binary(|a, b| a / b),
        "Mod" => binary(f64::rem_euclid),
        "Min" => binary(f64::min),
        "Max" => binary(f64::max),
        "Equal" => test(|a, b| a == b),
        "Less" => test(|a, b| a < b),
        "Greater" => test(|a, b| a > b),
        "And" => test(|a, b| a != 0.0 && b != 0.0),
        "Where" => elementwise(inputs[1].kind, inputs, |v| if v[0] != 0.0 { v[1] } else { v[2] }),
        "Cast" => Tensor::new(Kind::of(attributes.int("to").expect("a type")), &x.shape, x.values.clone()),
        "Range" => {
            let [from, to, step] = [0, 1, 2].map(|i| inputs[i].values[0]);
            let values: Vec<f64> = (0..).map(|i| from + f64::from(i) * step).take_while(|&v| v < to).collect();
            Tensor::new(x.kind, &[values.len()], values)
        }
        "Shape" => {
            let (start, end) = (attributes.int("start"), attributes.int("end"));
            let lengths = &x.shape[start.unwrap_or(0) as usize..end.map_or(x.shape.len(), |end| end as usize)];
            Tensor::new(Kind::I64, &[lengths.len()], lengths.iter().map(|&length| length as f64).collect())
        }
        "Reshape" => {
            let wanted = inputs[1].whole();
            let kept = wanted
                .iter()
                .enumerate()
                .map(|(axis, &length)| if length == 0 { x.shape[axis] as i64 } else { length });
            let mut shape: Vec<i64> = kept.collect();
            let known: i64 = shape.iter().filter(|&&length| length != -1).product();
            shape.iter_mut().filter(|length| **length == -1).for_each(|length| *length = x.values.len() as i64 / known);
            Tensor::new(x.kind, &shape.iter().map(|&length| length as usize).collect::<Vec<_>>(), x.values.clone())
        }
        "Unsqueeze" => {
            let mut shape = x.shape.clone();
            shape.insert(inputs[1].whole()[0] as usize, 1);
            Tensor::new(x.kind, &shape, x.values.clone())
        }
        "Expand" => {
            let wanted: Vec<usize> = inputs[1].whole().iter().map(|&length| length as usize).collect();
            let shape = common(&[&x.shape, &wanted]);
            Tensor::new(x.kind, &shape, places(&shape).map(|at| x.stretched(&at)).collect())
        }
        "Transpose" => {
            let order = attributes.ints("perm");
            let shape: Vec<usize> = order.iter().map(|&axis| x.shape[axis]).collect();
            let mut source = vec![0; order.len()];
            let values = places(&shape).map(|at| {
                order.iter().zip(at).for_each(|(&axis, at)| source[axis] = at);
                x.values[flat(&x.shape, &source)]
            });
            Tensor::new(x.kind, &shape, values.collect())
        }
        "Concat" => {
            let axis = attributes.int("axis").expect("an axis") as usize;
            let outer: usize = x.shape[..axis].iter().product();
            let mut shape = x.shape.clone();
            shape[axis] = inputs.iter().map(|x| x.shape[axis]).sum();
            let part = |x: &&Tensor, i: usize| {
                let length = x.values.len() / outer;
                x.values[i * length..][..length].to_vec()
            };
            Tensor::new(x.kind, &shape, (0..outer).flat_map(|i| inputs.iter().flat_map(move |x| part(x, i))).collect())
        }
        "Slice" => {
            let [start, end, axis] = [1, 2, 3].map(|i| inputs[i].whole()[0] as usize);
            let mut shape = x.shape.clone();
            shape[axis] = end - start;
            let values = places(&shape).map(|mut at| {
                at[axis] += start;
                x.values[flat(&x.shape, &at)]
            });
            Tensor::new(x.kind, &shape, values.collect())
        }
        "ReduceSum" => {
            assert_eq!((inputs[1].whole(), attributes.int("keepdims"), x.shape.len()), (vec![1], Some(0), 2));
            Tensor::new(x.kind, &x.shape[..1], x.values.chunks(x.shape[1]).map(|row| row.iter().sum()).collect())
        }
        "Gather" => {
            let axis = attributes.int("axis").unwrap_or(0) as usize;
            let (before, after) = (&x.shape[..axis], &x.shape[axis + 1..]);
            let shape = [before, &inputs[1].shape, after].concat();
            let values = places(&shape).map(|at| {
                let (first, last) = (&at[..axis], &at[axis + inputs[1].shape.len()..]);
                let chosen = inputs[1].values[flat(&inputs[1].shape, &at[axis..][..inputs[1].shape.len()])] as usize;
                x.values[flat(&x.shape, &[first, &[chosen], last].concat())]
            });
            Tensor::new(x.kind, &shape, values.collect())
        }
        "GatherElements" => {
            let axis = attributes.int("axis").expect("an axis") as usize;
            let values = places(&inputs[1].shape).zip(inputs[1].whole()).map(|(mut at, chosen)| {
                at[axis] = chosen as usize;
                x.values[flat(&x.shape, &at)]
            });
            Tensor::new(x.kind, &inputs[1].shape, values.collect())
        }
        "GatherND" => {
            let batch_dims = attributes.int("batch_dims").unwrap_or(0) as usize;
            let (depth, outer) = inputs[1].shape.split_last().expect("an axis of places");
            let shape = [outer, &x.shape[batch_dims + depth..]].concat();
            let places_of = inputs[1].whole();
            let values = places(&shape).map(|at| {
                let chosen = &places_of[flat(outer, &at[..outer.len()]) * depth..][..*depth];
                let chosen: Vec<usize> = chosen.iter().map(|&place| place as usize).collect();
                x.values[flat(&x.shape, &[&at[..batch_dims], &chosen, &at[outer.len()..]].concat())]
            });
            Tensor::new(x.kind, &shape, values.collect())
        }
        "ScatterND" => {
            let mut y = x.clone();
            for (place, &value) in inputs[1].whole().chunks(x.shape.len()).zip(&inputs[2].values) {
                let place: Vec<usize> = place.iter().map(|&at| at as usize).collect();
                y.values[flat(&x.shape, &place)] = value;
            }
            y
        }
        "TopK" => return super::operators::top_k(x, inputs[1].whole()[0] as usize),
        "NonMaxSuppression" => super::operators::non_max_suppression(inputs),
        "Conv" => {
            let [kernel, strides, pads] = ["kernel_shape", "strides", "pads"].map(|name| attributes.ints(name));
            assert_eq!(kernel, inputs[1].shape[2..]);
            let groups = attributes.int("group").unwrap_or(1) as usize;
            super::operators::conv(x, inputs[1], inputs.get(2).copied(), strides[0], pads[0], groups)
        }
        "MaxPool" => {
            let [kernel, strides, pads] = ["kernel_shape", "strides", "pads"].map(|name| attributes.ints(name)[0]);
            super::operators::max_pool(x, kernel, strides, pads)
        }
        "Resize" => {
            let words = ["mode", "coordinate_transformation_mode", "nearest_mode"].map(|name| attributes.text(name));
            assert_eq!((words, node.input.len()), (["nearest", "asymmetric", "floor"], 4));
            super::operators::nearest(x, &inputs[1].whole())
        }
        "InstanceNormalization" => {
            let (channels, epsilon) = (x.shape[1], attributes.float("epsilon"));
            super::operators::normalised(x, inputs[1], inputs[2], channels, epsilon)
        }
        "GroupNormalization" => {
            let groups = attributes.int("num_groups").expect("groups") as usize;
            super::operators::normalised(x, inputs[1], inputs[2], groups, attributes.float("epsilon"))
        }
        other => panic!("{}: operator {other}", node.name),
    }]
}
