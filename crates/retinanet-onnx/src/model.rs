//! A graph as a file.

use crate::Graph;
use crate::proto::{ModelProto, OperatorSetIdProto, StringStringEntryProto};
use prost::Message;

/// A version of ONNX's operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Opset(i64);

impl Opset {
    /// The oldest: ONNX 1.12.
    pub const OLDEST: Self = Self(17);
    /// The first with a group norm of its own: ONNX 1.16.
    pub const NEWEST: Self = Self(21);

    /// This version.
    ///
    /// # Errors
    /// It is not from [`Self::OLDEST`] to [`Self::NEWEST`].
    pub fn new(version: i64) -> Result<Self, OnnxError> {
        if (Self::OLDEST.0..=Self::NEWEST.0).contains(&version) {
            Ok(Self(version))
        } else {
            Err(OnnxError::Opset { found: version })
        }
    }

    /// Its number.
    pub fn version(self) -> i64 {
        self.0
    }

    /// The version of the file's format that came with it.
    pub fn ir_version(self) -> i64 {
        match self.0 {
            ..=18 => 8,
            19..=20 => 9,
            _ => 10,
        }
    }
}

impl Default for Opset {
    /// The oldest, which most programs can read.
    fn default() -> Self {
        Self::OLDEST
    }
}

/// A graph that cannot be made a file, or a file that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OnnxError {
    /// The version of the operators is not known here.
    #[error(
        "onnx: opset: expected {} to {}, found {found}",
        Opset::OLDEST.version(),
        Opset::NEWEST.version()
    )]
    Opset {
        /// What was asked for.
        found: i64,
    },
    /// A file that holds its own weights is one protobuf message.
    #[error("onnx: model: expected less than 2 GiB, the limit of a file that holds its weights, found {bytes} bytes")]
    TooLarge {
        /// What it would take.
        bytes: usize,
    },
    /// Bytes that are no model.
    #[error("onnx: model: expected a protobuf message, found another: {0}")]
    Malformed(#[from] prost::DecodeError),
}

/// What a file says of itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct About<'a> {
    /// Name of the graph.
    pub name: &'a str,
    /// The program that wrote the file.
    pub producer: &'a str,
    /// Its version.
    pub producer_version: &'a str,
    /// What the model is and how it is used, for people.
    pub doc: &'a str,
    /// Text by name, for programs.
    pub metadata: &'a [(&'a str, String)],
}

impl Graph {
    /// The graph as the content of a file.
    pub fn into_model(self, about: &About<'_>) -> ModelProto {
        let opset = self.opset();
        let entry =
            |(key, value): &(&str, String)| StringStringEntryProto { key: (*key).to_owned(), value: value.clone() };
        ModelProto {
            ir_version: opset.ir_version(),
            producer_name: about.producer.to_owned(),
            producer_version: about.producer_version.to_owned(),
            doc_string: about.doc.to_owned(),
            graph: Some(self.into_proto(about.name)),
            opset_import: vec![OperatorSetIdProto { domain: String::new(), version: opset.version() }],
            metadata_props: about.metadata.iter().map(entry).collect(),
        }
    }
}

/// The bytes of a file.
///
/// # Errors
/// They would be 2 GiB or more.
pub fn encode(model: &ModelProto) -> Result<Vec<u8>, OnnxError> {
    let bytes = model.encoded_len();
    if i32::try_from(bytes).is_err() {
        return Err(OnnxError::TooLarge { bytes });
    }
    Ok(model.encode_to_vec())
}

/// The model that a file's bytes hold; fields that are not declared in [`proto`](crate::proto) are left out.
///
/// # Errors
/// They are cut, or no model.
pub fn decode(bytes: &[u8]) -> Result<ModelProto, OnnxError> {
    Ok(ModelProto::decode(bytes)?)
}
