//! Which layer reads which value of a network, and whether a table of scales fits that.

use crate::error::Result;
use crate::model::Network;
use retinanet_ops::Activation;
use retinanet_ops::kernels::cpu::inference::Quantization;
use retinanet_ops::network::{ConvLayer, Engine, QuantizationTable};
use std::collections::BTreeSet;

/// The zero point of a value that has both signs.
const SIGNED: u8 = 128;

/// The values of a network, numbered in the order in which any engine makes them; 0 are the images.
#[derive(Debug)]
pub(super) struct Values {
    values: Vec<Value>,
    /// Names of all layers, so that a table's may be compared with them.
    layers: BTreeSet<String>,
    /// Of each value that convolutions read, the group it belongs to.
    groups: Vec<Option<usize>>,
    group_layers: Vec<BTreeSet<String>>,
}

/// One value.
#[derive(Debug)]
struct Value {
    /// The convolution that makes it, if one does.
    producer: Option<String>,
    /// Whether it comes out of a ReLU, whatever the image.
    is_non_negative: bool,
    /// Convolutions that it is the input of.
    readers: BTreeSet<String>,
    /// Whether it is added to a convolution's result.
    is_residual: bool,
    /// Whether something else reads it.
    has_other_reader: bool,
}

impl Values {
    pub(super) fn new(network: &Network) -> Result<Self> {
        let mut engine = Tracer { values: vec![Value::new(None, false)] };
        network.forward(&mut engine, &0)?;
        let values = engine.values;
        let layers = network.layers().map(|layer| layer.name.clone()).collect();
        let mut found = Self { groups: vec![None; values.len()], group_layers: Vec::new(), values, layers };
        found.join();
        Ok(found)
    }

    /// Puts layers that read a value in common, and all values that these read, into one group.
    fn join(&mut self) {
        for value in &self.values {
            if value.readers.is_empty() {
                continue;
            }
            let (joined, apart): (Vec<_>, Vec<_>) = std::mem::take(&mut self.group_layers)
                .into_iter()
                .partition(|layers| !layers.is_disjoint(&value.readers));
            let union = joined.into_iter().flatten().chain(value.readers.iter().cloned()).collect();
            self.group_layers = apart;
            self.group_layers.push(union);
        }
        for (value, group) in self.values.iter().zip(&mut self.groups) {
            let reader = value.readers.first();
            *group = reader.and_then(|reader| self.group_layers.iter().position(|layers| layers.contains(reader)));
        }
    }

    /// Number of groups: sets of layers whose inputs share one scale.
    pub(super) fn num_groups(&self) -> usize {
        self.group_layers.len()
    }

    /// The layers of a group.
    pub(super) fn group_layers(&self, group: usize) -> &BTreeSet<String> {
        &self.group_layers[group]
    }

    /// The group whose layers read this value.
    pub(super) fn group_of_value(&self, value_idx: usize) -> Option<usize> {
        self.groups[value_idx]
    }

    /// The group of this layer's input.
    pub(super) fn group_of_layer(&self, layer: &str) -> Option<usize> {
        self.group_layers.iter().position(|layers| layers.contains(layer))
    }

    /// 0 where all values of a group are behind a ReLU, else 128.
    pub(super) fn zero_point(&self, group: usize) -> u8 {
        let mut values = self.values.iter().zip(&self.groups).filter(|(_, other)| **other == Some(group));
        if values.all(|(value, _)| value.is_non_negative) { 0 } else { SIGNED }
    }

    /// The layer whose output this value is and that nothing reads but an addition: a block's shortcut.
    pub(super) fn shortcut(&self, value_idx: usize) -> Option<&str> {
        let value = &self.values[value_idx];
        let is_shortcut = value.is_residual && value.readers.is_empty() && !value.has_other_reader;
        value.producer.as_deref().filter(|_| is_shortcut)
    }

    /// 0 where the shortcut that this layer makes is behind a ReLU, else 128; nothing where it makes none.
    pub(super) fn shortcut_zero_point(&self, layer: &str) -> Option<u8> {
        let value_idx = (0..self.values.len()).find(|&value_idx| self.shortcut(value_idx) == Some(layer))?;
        Some(if self.values[value_idx].is_non_negative { 0 } else { SIGNED })
    }

    /// How a plan stores each value that it stores in 8 bits.
    pub(super) fn storages(&self, table: &QuantizationTable) -> Vec<Option<Quantization>> {
        let storage = |value_idx: usize| match self.values[value_idx].readers.first() {
            Some(reader) => Some(table.get(reader)?.input),
            None => table.get(self.shortcut(value_idx)?)?.output,
        };
        (0..self.values.len()).map(storage).collect()
    }

    /// Whether the table is one of this network, and if not, what is wrong with it.
    pub(super) fn check(&self, table: &QuantizationTable) -> std::result::Result<(), String> {
        for (name, layer) in &table.layers {
            if !self.layers.contains(name) {
                return Err(format!("layer {name}: expected a convolution of the network, found no such"));
            }
            let group = self.group_of_layer(name).expect("every layer reads a value");
            check_zero_point(name, "input", layer.input, self.zero_point(group))?;
            for other in self.group_layers(group) {
                let found = table.get(other).map(|other| other.input);
                if found != Some(layer.input) {
                    let found = found
                        .map_or("no scale".to_owned(), |q| format!("scale {}, zero point {}", q.scale, q.zero_point));
                    return Err(format!(
                        "layer {other}: expected scale {}, zero point {} as of {name}, which reads the same value, found {found}",
                        layer.input.scale, layer.input.zero_point
                    ));
                }
            }
            if let Some(output) = layer.output {
                let zero_point = self.shortcut_zero_point(name).ok_or_else(|| {
                    format!("layer {name}: output: expected a scale for shortcuts alone, found scale {}", output.scale)
                })?;
                check_zero_point(name, "output", output, zero_point)?;
            }
        }
        Ok(())
    }
}

/// Bytes without negative numbers are for values behind a ReLU alone; the other form holds both.
fn check_zero_point(layer: &str, what: &str, found: Quantization, needed: u8) -> std::result::Result<(), String> {
    if found.zero_point == needed || found.zero_point == SIGNED {
        return Ok(());
    }
    Err(format!(
        "layer {layer}: {what}: zero point: expected {SIGNED}, as it may be negative, found {}",
        found.zero_point
    ))
}

impl Value {
    fn new(producer: Option<&ConvLayer>, is_non_negative: bool) -> Self {
        Self {
            producer: producer.map(|layer| layer.name.clone()),
            is_non_negative,
            readers: BTreeSet::new(),
            is_residual: false,
            has_other_reader: false,
        }
    }
}

/// Numbers the values and notes who reads them.
struct Tracer {
    values: Vec<Value>,
}

impl Tracer {
    fn push(&mut self, value: Value) -> candle_core::Result<usize> {
        self.values.push(value);
        Ok(self.values.len() - 1)
    }
}

impl Engine for Tracer {
    type Value = usize;

    fn conv(&mut self, layer: &ConvLayer, &x: &usize, residual: Option<&usize>) -> candle_core::Result<usize> {
        self.values[x].readers.insert(layer.name.clone());
        if let Some(&residual) = residual {
            self.values[residual].is_residual = true;
        }
        self.push(Value::new(Some(layer), layer.activation == Activation::Relu))
    }

    fn max_pool(&mut self, &x: &usize, _: usize, _: usize, _: usize) -> candle_core::Result<usize> {
        self.values[x].has_other_reader = true;
        self.push(Value::new(None, self.values[x].is_non_negative))
    }

    fn upsample_add(&mut self, &coarse: &usize, &fine: &usize) -> candle_core::Result<usize> {
        self.values[coarse].has_other_reader = true;
        self.values[fine].has_other_reader = true;
        self.push(Value::new(None, self.values[coarse].is_non_negative && self.values[fine].is_non_negative))
    }

    fn relu(&mut self, &x: &usize) -> candle_core::Result<usize> {
        self.values[x].has_other_reader = true;
        self.push(Value::new(None, true))
    }
}
