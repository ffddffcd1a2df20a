//! How every value is stored: as its readers want it.

use super::super::QuantizationTable;
use super::record::{Kind, Operation, Recorder, Value};
use crate::kernels::cpu::Isa;
use crate::kernels::cpu::inference::{Precision, Storage};

/// What decides the storages.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wishes<'a> {
    /// Of what is neither 8 bits nor an output.
    pub(super) base: Storage,
    /// The layers that run in 8 bits.
    pub(super) quantization: Option<&'a QuantizationTable>,
}

/// How one value is stored.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Stored {
    /// As its operation writes it.
    pub(super) primary: Storage,
    /// As it is converted afterwards.
    pub(super) copies: Vec<Storage>,
}

impl Wishes<'_> {
    /// How the layer's input is stored.
    pub(super) fn input(&self, layer: &str) -> Storage {
        let quantized = self.quantization.and_then(|table| table.get(layer));
        quantized.map_or(self.base, |layer| Storage::U8(layer.input))
    }

    /// How every value is stored. The input and the outputs are (also) f32, for the caller.
    ///
    /// A value is stored as the convolutions that read it want it, once if they want the same. What is only added to
    /// something is read in any storage; a pooled value is stored as its maxima, which rounds the same numbers.
    pub(super) fn choose(&self, recorder: &Recorder, operations: &[&Operation], outputs: &[Value]) -> Vec<Stored> {
        let mut wanted: Vec<Vec<Storage>> = vec![Vec::new(); recorder.channels.len()];
        let mut stored: Vec<Stored> = vec![Stored { primary: self.base, copies: Vec::new() }; wanted.len()];
        let mut want = |value: Value, storage: Storage| {
            let wanted: &mut Vec<Storage> = &mut wanted[value.0];
            if !wanted.contains(&storage) {
                wanted.push(storage);
            }
        };
        want(Value(0), Storage::F32);
        outputs.iter().for_each(|&output| want(output, Storage::F32));
        for operation in operations {
            if let Kind::Conv { layer, x, .. } = &operation.kind {
                want(*x, self.input(&layer.name));
            }
        }
        // Readers before what they read: a pooled value needs to know how its maxima are stored.
        for operation in operations.iter().rev() {
            let y = operation.y.0;
            stored[y] = self.settle(&wanted[y], self.unwanted(operation));
            if let Kind::MaxPool { x, .. } = &operation.kind
                && wanted[x.0].is_empty()
            {
                wanted[x.0].push(stored[y].primary);
            }
        }
        stored[0] = self.settle(&wanted[0], self.base);
        stored
    }

    /// How an operation's result is stored that no convolution reads.
    fn unwanted(&self, operation: &Operation) -> Storage {
        let Kind::Conv { layer, .. } = &operation.kind else { return self.base };
        let output = self.quantization.and_then(|table| table.get(&layer.name)?.output);
        output.map_or(self.base, Storage::U8)
    }

    /// The most precise of what is wanted comes first, and the rest is converted from it.
    fn settle(&self, wanted: &[Storage], unwanted: Storage) -> Stored {
        let primary = match wanted {
            [] => unwanted,
            [only] => *only,
            several => *several.iter().find(|s| **s == Storage::F32).unwrap_or(&self.base),
        };
        Stored { primary, copies: wanted.iter().copied().filter(|storage| *storage != primary).collect() }
    }
}

/// The storage of what is not multiplied in 8 bits.
pub(super) fn base(precision: Precision, isa: Isa) -> Storage {
    match precision {
        Precision::F32 | Precision::F16 => Storage::F32,
        Precision::Bf16 => Storage::Bf16,
        Precision::Int8 if isa.has_bf16_products() => Storage::Bf16,
        Precision::Int8 => Storage::F32,
    }
}
