//! Tables of tensors, for kernels that go over many at once.

use super::launch::operand;
use crate::device::{Address, Argument, Device, Memory, Span};
use crate::error::{Error, Result};
use std::sync::Arc;

/// Numbers that one block works on; `CHUNK` in the kernels.
const CHUNK: usize = 4096;
/// Bytes of a row; `Tensor` in the kernels.
const ROW_BYTES: usize = 56;

/// Tensors of one shape that belong together; all in f32.
#[derive(Clone, Copy, Debug)]
pub struct TensorRow<'a> {
    /// Numbers of each.
    pub count: usize,
    /// What changes: a parameter, or an average.
    pub values: Span<'a>,
    /// By what: the parameter's gradient, or what is averaged.
    pub others: Span<'a>,
    /// An optimiser's momentum, or Adam's first moment.
    pub first: Option<Span<'a>>,
    /// Adam's second moment.
    pub second: Option<Span<'a>>,
    /// On the learning rate.
    pub rate_factor: f64,
    /// Weight decay.
    pub decay: f64,
}

/// Rows on a device.
#[derive(Debug)]
pub struct TensorTable {
    rows: Memory,
    num_rows: usize,
    num_chunks: usize,
    has_moments: [bool; 2],
}

impl TensorTable {
    /// The table of these rows.
    ///
    /// # Errors
    /// A span is shorter than its row says, or there is no memory for the table.
    ///
    /// # Safety
    /// The memory of all rows lives as long as the table is used.
    pub unsafe fn new(device: &Arc<dyn Device>, rows: &[TensorRow<'_>]) -> Result<Self> {
        let (mut bytes, mut num_chunks) = (Vec::with_capacity(rows.len() * ROW_BYTES), 0usize);
        for row in rows {
            let address = |place: &str, span: Span<'_>| -> Result<[u8; 8]> {
                match operand(place, span, row.count, 4)? {
                    Argument::Address(Address(address)) => Ok(address.to_ne_bytes()),
                    _ => unreachable!("an operand is an address"),
                }
            };
            let moment = |place: &str, span: Option<Span<'_>>| span.map_or(Ok([0; 8]), |span| address(place, span));
            let first_chunk = i32::try_from(num_chunks).map_err(|_| Error::Mismatch {
                place: "tensors: numbers".to_owned(),
                expected: "as many as blocks of a grid can have".to_owned(),
                found: format!("{num_chunks} chunks of {CHUNK}"),
            })?;
            bytes.extend(address("tensors: values", row.values)?);
            bytes.extend(address("tensors: others", row.others)?);
            bytes.extend(moment("tensors: first moment", row.first)?);
            bytes.extend(moment("tensors: second moment", row.second)?);
            bytes.extend(row.rate_factor.to_ne_bytes());
            bytes.extend((row.decay as f32).to_ne_bytes());
            bytes.extend(first_chunk.to_ne_bytes());
            bytes.extend((row.count as i64).to_ne_bytes());
            num_chunks += row.count.div_ceil(CHUNK);
        }
        let has_moments = [rows.iter().all(|row| row.first.is_some()), rows.iter().all(|row| row.second.is_some())];
        Ok(Self { rows: Memory::of(device, &bytes)?, num_rows: rows.len(), num_chunks, has_moments })
    }

    /// Blocks that go over all numbers.
    pub(super) fn num_chunks(&self) -> usize {
        self.num_chunks
    }

    /// Whether each row has a first and a second moment.
    pub(super) fn has_moments(&self) -> [bool; 2] {
        self.has_moments
    }

    pub(super) fn span(&self) -> Span<'_> {
        self.rows.span()
    }

    /// The table as the first two arguments of a kernel.
    pub(super) fn arguments(&self) -> [Argument; 2] {
        [Argument::Address(self.rows.span().address()), Argument::I32(self.num_rows as i32)]
    }
}
