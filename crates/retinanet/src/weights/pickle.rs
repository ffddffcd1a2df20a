//! An interpreter for the part of Python's pickle format that holds state dicts: what `torch.save` writes, and pickled
//! NumPy arrays as Detectron2 publishes them. It builds plain values.
//!
//! A pickle is a program that may ask for any Python function to be called. Here the functions are a closed list, each
//! has a meaning of its own in `Machine::call`, and any other name ends the reading. Values live in one arena and refer
//! to each other by index: a value that contains itself, or one shared a million times over, costs its own few bytes
//! and no more.

mod machine;

use super::element::Element;
use super::error::Fault;
use machine::Machine;

/// The longest pickle that is read, in bytes; a checkpoint of ResNet-152 with optimiser state takes less than one
/// million.
pub(super) const MAX_LEN: u64 = 8 << 20;

/// The most values; the same checkpoint takes about fifty thousand.
const MAX_VALUES: usize = 400_000;

/// The most lists, dicts and tuples that are open at once.
const MAX_OPEN: usize = 1000;

/// A value's place in the arena.
pub(super) type Id = u32;

/// A Python value. `'p` is the life of the pickle's bytes, which texts point into.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value<'p> {
    Int(i64),
    Bool(bool),
    Text(&'p str),
    Bytes(&'p [u8]),
    /// A text whose characters, all of them below 256, stand for bytes: how protocol 2 writes bytes.
    Latin1(&'p str),
    Tuple(Vec<Id>),
    List(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    Function(Function),
    /// `name` in the archive holds `len` elements.
    Storage {
        element: Element,
        name: &'p str,
        len: usize,
    },
    /// A view into a storage. Offset and strides count elements.
    Tensor {
        storage: Id,
        offset: usize,
        shape: Id,
        strides: Id,
    },
    /// The type of a NumPy array's elements, little endian once its state is set.
    Dtype(Element),
    /// A NumPy array before its state is set.
    EmptyArray,
    /// A NumPy array: `data` is a value that holds its bytes.
    Array {
        element: Element,
        shape: Id,
        is_fortran: bool,
        data: Id,
    },
    /// A value that is of no use for weights: None, a float, an argument parser's namespace.
    Other,
}

/// What a pickle may name.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Function {
    OrderedDict,
    RebuildTensor,
    RebuildParameter,
    /// NumPy's `_reconstruct`: an array without contents.
    ArrayShell,
    /// NumPy's `_frombuffer`: an array with contents.
    ArrayFromBuffer,
    Dtype,
    /// `_codecs.encode(text, "latin1")`: bytes, as Python 3 writes them in protocol 2.
    Encode,
    /// `bytes()`, of which protocol 2 makes no bytes at all.
    EmptyBytes,
    /// The class of a storage, which says what its elements are.
    StorageOf(Element),
    /// Gives a value that is of no use for weights, and is not called.
    Inert,
}

impl Function {
    /// The function of this name, if it is one of the list.
    fn find(module: &str, name: &str) -> Option<Self> {
        Some(match (module, name) {
            ("collections", "OrderedDict") => Self::OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2") => Self::RebuildTensor,
            ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state") => Self::RebuildParameter,
            ("torch", "DoubleStorage") => Self::StorageOf(Element::F64),
            ("torch", "FloatStorage") => Self::StorageOf(Element::F32),
            ("torch", "HalfStorage") => Self::StorageOf(Element::F16),
            ("torch", "BFloat16Storage") => Self::StorageOf(Element::Bf16),
            (
                "torch",
                "LongStorage" | "IntStorage" | "ShortStorage" | "CharStorage" | "ByteStorage" | "BoolStorage",
            ) => Self::StorageOf(Element::Integer),
            ("numpy.core.multiarray" | "numpy._core.multiarray", "_reconstruct") => Self::ArrayShell,
            ("numpy.core.numeric" | "numpy._core.numeric", "_frombuffer") => Self::ArrayFromBuffer,
            ("numpy", "dtype") => Self::Dtype,
            ("_codecs", "encode") => Self::Encode,
            ("builtins" | "__builtin__", "bytes") => Self::EmptyBytes,
            // What training scripts put beside the state dict: options, devices, element types, schedules, and the
            // history that MMEngine keeps, whose entries name their own methods through `getattr`.
            (
                "torch",
                "Size" | "device" | "float64" | "float32" | "float16" | "bfloat16" | "int64" | "int32" | "uint8"
                | "bool",
            )
            | ("numpy", "ndarray")
            | ("numpy.core.multiarray" | "numpy._core.multiarray", "scalar")
            | ("collections", "Counter" | "defaultdict")
            | ("argparse", "Namespace")
            | ("mmengine.logging.history_buffer", "HistoryBuffer")
            | ("builtins" | "__builtin__", "set" | "getattr") => Self::Inert,
            _ => return None,
        })
    }
}

/// The values of a pickle, and which of them is the result.
#[derive(Debug)]
pub(super) struct Values<'p> {
    arena: Vec<Value<'p>>,
    pub(super) root: Id,
}

impl<'p> Values<'p> {
    pub(super) fn get(&self, id: Id) -> &Value<'p> {
        &self.arena[id as usize]
    }

    /// The integers of a tuple or list, none of them negative.
    pub(super) fn sizes(&self, id: Id) -> Option<Vec<usize>> {
        let (Value::Tuple(items) | Value::List(items)) = self.get(id) else { return None };
        items
            .iter()
            .map(|&item| match self.get(item) {
                Value::Int(value) => usize::try_from(*value).ok(),
                _ => None,
            })
            .collect()
    }
}

/// Interprets a pickle of protocol 2 to 5. `what` names it in errors.
pub(super) fn interpret<'p>(bytes: &'p [u8], what: &str) -> Result<Values<'p>, Fault> {
    let mut machine = Machine::new(bytes);
    let outcome = machine.run();
    let place = format!("{what}: byte {}", machine.position);
    match outcome {
        Ok(root) => Ok(Values { arena: machine.arena, root }),
        Err(Halt::Malformed { expected, found }) => Err(Fault::malformed(place, expected, found)),
        Err(Halt::ForeignCall(function)) => Err(Fault::ForeignCall { what: place, function }),
    }
}

/// Why the interpreter stops before the end.
enum Halt {
    Malformed { expected: String, found: String },
    ForeignCall(String),
}

impl Halt {
    fn malformed(expected: impl Into<String>, found: impl Into<String>) -> Self {
        Self::Malformed { expected: expected.into(), found: found.into() }
    }
}
