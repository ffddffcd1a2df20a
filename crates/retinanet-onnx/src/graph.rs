//! A graph that nodes are added to.

use crate::Opset;
use crate::proto::{
    AttributeProto, AttributeType, DimensionProto, DimensionValue, GraphProto, NodeProto, TensorProto,
    TensorShapeProto, TensorTypeProto, TypeProto, ValueInfoProto,
};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;

/// A value of a graph: an input, a constant, or a result of a node, by its name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Value(Arc<str>);

impl Value {
    /// The name in the file.
    pub fn name(&self) -> &str {
        &self.0
    }
}

/// What a tensor holds; ONNX's `TensorProto.DataType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum ElementType {
    /// Single precision.
    F32 = 1,
    /// Bytes.
    U8 = 2,
    /// Whole numbers.
    I64 = 7,
}

/// The length of a dimension of an input or output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dim<'a> {
    /// Always this.
    Fixed(usize),
    /// Any; dimensions of one name are equal.
    Any(&'a str),
}

/// A setting of a node.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Attribute<'a> {
    /// A number.
    Float(f32),
    /// A whole number.
    Int(i64),
    /// Whole numbers.
    Ints(&'a [i64]),
    /// One of the words that the operator knows.
    String(&'a str),
}

impl Attribute<'_> {
    fn named(self, name: &str) -> AttributeProto {
        let mut proto = AttributeProto { name: name.to_owned(), ..AttributeProto::default() };
        let kind = match self {
            Self::Float(number) => {
                proto.f = Some(number);
                AttributeType::Float
            }
            Self::Int(number) => {
                proto.i = Some(number);
                AttributeType::Int
            }
            Self::Ints(numbers) => {
                proto.ints = numbers.to_vec();
                AttributeType::Ints
            }
            Self::String(word) => {
                proto.s = Some(word.as_bytes().to_vec());
                AttributeType::String
            }
        };
        proto.set_type(kind);
        proto
    }
}

/// A graph under construction. A node can read only what was there before it, so that the nodes are in order.
#[derive(Clone, Debug)]
pub struct Graph {
    opset: Opset,
    proto: GraphProto,
    /// How often each name was asked for.
    names: BTreeMap<String, usize>,
    /// By the name that they were asked for under.
    constants: BTreeMap<String, Value>,
}

impl Graph {
    /// An empty graph of these operators.
    pub fn new(opset: Opset) -> Self {
        Self { opset, proto: GraphProto::default(), names: BTreeMap::new(), constants: BTreeMap::new() }
    }

    /// The version of the operators.
    pub fn opset(&self) -> Opset {
        self.opset
    }

    /// Adds an input.
    ///
    /// # Panics
    /// The name is taken.
    pub fn input(&mut self, name: &str, element: ElementType, shape: &[Dim<'_>], doc: &str) -> Value {
        let value = self.unique(name);
        assert_eq!(value.name(), name, "graph: input: a name that is not taken");
        self.proto.input.push(value_info(&value, element, shape, doc));
        value
    }

    /// Makes a value an output of the graph, under the name that it has.
    pub fn output(&mut self, value: &Value, element: ElementType, shape: &[Dim<'_>], doc: &str) {
        self.proto.output.push(value_info(value, element, shape, doc));
    }

    /// Adds a node with one result, both of this name, or of one made of it where it is taken.
    pub fn node(
        &mut self,
        operator: &str,
        name: &str,
        inputs: &[&Value],
        attributes: &[(&str, Attribute<'_>)],
    ) -> Value {
        let inputs = inputs.iter().map(|value| Some(*value)).collect::<Vec<_>>();
        let [value] = self.node_with(operator, [name], &inputs, attributes);
        value
    }

    /// Adds a node with as many results as there are names, and inputs that may be left out.
    pub fn node_with<const OUTPUTS: usize>(
        &mut self,
        operator: &str,
        names: [&str; OUTPUTS],
        inputs: &[Option<&Value>],
        attributes: &[(&str, Attribute<'_>)],
    ) -> [Value; OUTPUTS] {
        let outputs = names.map(|name| self.unique(name));
        self.proto.node.push(NodeProto {
            input: inputs.iter().map(|value| value.map_or_else(String::new, |value| value.name().to_owned())).collect(),
            output: outputs.iter().map(|value| value.name().to_owned()).collect(),
            name: outputs.first().map_or_else(String::new, |value| value.name().to_owned()),
            op_type: operator.to_owned(),
            attribute: attributes.iter().map(|(name, attribute)| attribute.named(name)).collect(),
        });
        outputs
    }

    /// `Concat`: values side by side along an axis.
    pub fn concat(&mut self, name: &str, values: &[Value], axis: i64) -> Value {
        let values: Vec<&Value> = values.iter().collect();
        self.node("Concat", name, &values, &[("axis", Attribute::Int(axis))])
    }

    /// `Reshape`: 0 keeps a length, -1 takes what is left.
    pub fn reshape(&mut self, name: &str, x: &Value, shape: &[i64]) -> Value {
        let shape = self.ints(shape);
        self.node("Reshape", name, &[x, &shape], &[])
    }

    /// `Unsqueeze`: a new axis of length 1.
    pub fn unsqueeze(&mut self, name: &str, x: &Value, axis: i64) -> Value {
        let axes = self.ints(&[axis]);
        self.node("Unsqueeze", name, &[x, &axes], &[])
    }

    /// `Cast`: the same numbers as another type.
    pub fn cast(&mut self, name: &str, x: &Value, element: ElementType) -> Value {
        self.node("Cast", name, &[x], &[("to", Attribute::Int(i64::from(element as i32)))])
    }

    /// `Shape`: the lengths of the axes from `start` to before `end`, as a vector.
    pub fn shape(&mut self, name: &str, x: &Value, start: i64, end: i64) -> Value {
        self.node("Shape", name, &[x], &[("start", Attribute::Int(start)), ("end", Attribute::Int(end))])
    }

    /// The constant of this name, which is made when it is first asked for.
    ///
    /// # Errors
    /// That of `elements`.
    ///
    /// # Panics
    /// `elements` gives another number of elements than the shape says.
    pub fn parameter<E>(
        &mut self,
        name: &str,
        shape: &[usize],
        elements: impl FnOnce() -> Result<Vec<f32>, E>,
    ) -> Result<Value, E> {
        if let Some(value) = self.constants.get(name) {
            return Ok(value.clone());
        }
        let elements = elements()?;
        Ok(self.constant(name, ElementType::F32, shape, elements.len(), |bytes| {
            bytes.extend(elements.iter().flat_map(|element| element.to_le_bytes()));
        }))
    }

    /// A constant of this name; one of the name that is there already is the same.
    ///
    /// # Panics
    /// There are more or fewer elements than the shape says.
    pub fn floats(&mut self, name: &str, shape: &[usize], elements: &[f32]) -> Value {
        let Ok(value) = self.parameter(name, shape, || Ok::<_, Infallible>(elements.to_vec()));
        value
    }

    /// One number that is no vector, named after it: equal ones are one value.
    pub fn float(&mut self, number: f32) -> Value {
        self.floats(&format!("f32:{number}"), &[], &[number])
    }

    /// A vector of whole numbers, named after them: equal ones are one value.
    pub fn ints(&mut self, elements: &[i64]) -> Value {
        let text = elements.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        self.whole(&format!("i64[{text}]"), &[elements.len()], elements)
    }

    /// One whole number that is no vector, named after it: equal ones are one value.
    pub fn int(&mut self, number: i64) -> Value {
        self.whole(&format!("i64:{number}"), &[], &[number])
    }

    fn whole(&mut self, name: &str, shape: &[usize], elements: &[i64]) -> Value {
        if let Some(value) = self.constants.get(name) {
            return value.clone();
        }
        self.constant(name, ElementType::I64, shape, elements.len(), |bytes| {
            bytes.extend(elements.iter().flat_map(|element| element.to_le_bytes()));
        })
    }

    fn constant(
        &mut self,
        name: &str,
        element: ElementType,
        shape: &[usize],
        count: usize,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> Value {
        assert_eq!(count, shape.iter().product::<usize>(), "{name}: elements: as many as the shape {shape:?} has");
        let value = self.unique(name);
        let mut raw_data = Vec::new();
        write(&mut raw_data);
        let dims = shape.iter().map(|&length| length as i64).collect();
        let data_type = element as i32;
        self.proto.initializer.push(TensorProto { dims, data_type, name: value.name().to_owned(), raw_data });
        self.constants.insert(name.to_owned(), value.clone());
        value
    }

    /// A value of this name, with a number behind it where it is taken.
    fn unique(&mut self, name: &str) -> Value {
        let count = self.names.entry(name.to_owned()).or_insert(0);
        *count += 1;
        match *count {
            1 => Value(name.into()),
            count => self.unique(&format!("{name}#{count}")),
        }
    }

    pub(crate) fn into_proto(mut self, name: &str) -> GraphProto {
        self.proto.name = name.to_owned();
        self.proto
    }
}

fn value_info(value: &Value, element: ElementType, shape: &[Dim<'_>], doc: &str) -> ValueInfoProto {
    let dimension = |dim: &Dim<'_>| {
        let value = match *dim {
            Dim::Fixed(length) => DimensionValue::DimValue(length as i64),
            Dim::Any(name) => DimensionValue::DimParam(name.to_owned()),
        };
        DimensionProto { value: Some(value) }
    };
    let shape = TensorShapeProto { dim: shape.iter().map(dimension).collect() };
    let tensor_type = TensorTypeProto { elem_type: element as i32, shape: Some(shape) };
    let r#type = Some(TypeProto { tensor_type: Some(tensor_type) });
    ValueInfoProto { name: value.name().to_owned(), r#type, doc_string: doc.to_owned() }
}
