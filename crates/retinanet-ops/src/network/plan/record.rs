//! The engine that runs nothing and writes down what would be run.

use super::super::{ConvLayer, Engine};
use candle_core::{Result, bail};

/// A value of a recorded network: a feature map of each image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Value(pub(in super::super) usize);

/// One recorded operation; every value but the input is the result of exactly one.
#[derive(Clone, Debug)]
pub(in super::super) struct Operation {
    pub(in super::super) kind: Kind,
    /// The result.
    pub(in super::super) y: Value,
    /// Index of the part of the network that it belongs to.
    pub(in super::super) part: usize,
}

#[derive(Clone, Debug)]
pub(in super::super) enum Kind {
    Conv { layer: ConvLayer, x: Value, residual: Option<Value> },
    MaxPool { x: Value, kernel: usize, stride: usize, padding: usize },
    UpsampleAdd { coarse: Value, fine: Value },
    Relu { x: Value },
}

impl Kind {
    /// What it reads.
    pub(in super::super) fn inputs(&self) -> impl Iterator<Item = Value> + use<> {
        let (first, second) = match *self {
            Self::Conv { x, residual, .. } => (x, residual),
            Self::MaxPool { x, .. } | Self::Relu { x } => (x, None),
            Self::UpsampleAdd { coarse, fine } => (coarse, Some(fine)),
        };
        std::iter::once(first).chain(second)
    }
}

/// Records a network's steps; a [`Plan`](super::Plan) is built from them.
#[derive(Clone, Debug)]
pub struct Recorder {
    /// Channels of each value; value 0 is the input.
    pub(in super::super) channels: Vec<usize>,
    pub(in super::super) operations: Vec<Operation>,
    pub(in super::super) parts: Vec<&'static str>,
}

impl Recorder {
    /// A recorder, and the input of the network that is to be recorded: images of this many channels.
    pub fn new(channels: usize) -> (Self, Value) {
        (Self { channels: vec![channels], operations: Vec::new(), parts: vec!["network"] }, Value(0))
    }

    /// What is recorded from here on belongs to the part of this name; times are taken by part.
    pub fn begin_part(&mut self, name: &'static str) {
        if self.operations.is_empty() {
            self.parts.clear();
        }
        self.parts.push(name);
    }

    fn push(&mut self, kind: Kind, channels: usize) -> Value {
        let y = Value(self.channels.len());
        self.channels.push(channels);
        self.operations.push(Operation { kind, y, part: self.parts.len() - 1 });
        y
    }
}

impl Engine for Recorder {
    type Value = Value;

    fn conv(&mut self, layer: &ConvLayer, x: &Value, residual: Option<&Value>) -> Result<Value> {
        let found = self.channels[x.0];
        if found != layer.in_channels {
            bail!("{}: input channels: expected {}, found {found}", layer.name, layer.in_channels);
        }
        if let Some(residual) = residual.filter(|residual| self.channels[residual.0] != layer.out_channels) {
            let found = self.channels[residual.0];
            bail!("{}: residual channels: expected {}, found {found}", layer.name, layer.out_channels);
        }
        let kind = Kind::Conv { layer: layer.clone(), x: *x, residual: residual.copied() };
        Ok(self.push(kind, layer.out_channels))
    }

    fn max_pool(&mut self, x: &Value, kernel: usize, stride: usize, padding: usize) -> Result<Value> {
        Ok(self.push(Kind::MaxPool { x: *x, kernel, stride, padding }, self.channels[x.0]))
    }

    fn upsample_add(&mut self, coarse: &Value, fine: &Value) -> Result<Value> {
        let (expected, found) = (self.channels[fine.0], self.channels[coarse.0]);
        if expected != found {
            bail!("upsample and add: channels: expected {expected}, found {found}");
        }
        Ok(self.push(Kind::UpsampleAdd { coarse: *coarse, fine: *fine }, expected))
    }

    fn relu(&mut self, x: &Value) -> Result<Value> {
        Ok(self.push(Kind::Relu { x: *x }, self.channels[x.0]))
    }
}
