//! Tensors by name in one block of memory.

use crate::bytes::{bytes_of, bytes_of_mut};
use crate::device::{Device, Memory, Span};
use crate::error::{Error, Result};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Where tensors begin: whole vectors of any kernel.
const ALIGNMENT: usize = 64;

#[derive(Clone, Copy, Debug)]
struct Place {
    /// Bytes from the start of the block.
    offset: usize,
    /// Numbers.
    len: usize,
}

/// f32 tensors by name in one block of a device's memory: parameters, their gradients, what an optimiser keeps of them.
///
/// Two of the same names and lengths have them at the same places, and what lies between is 0: so they can be added, copied and
/// summed as a whole.
#[derive(Debug)]
pub struct Tensors {
    memory: Memory,
    places: BTreeMap<String, Place>,
}

impl Tensors {
    /// Zeros, by name and number of values.
    ///
    /// # Errors
    /// There is not so much memory.
    pub fn zeros(device: &Arc<dyn Device>, tensors: impl IntoIterator<Item = (String, usize)>) -> Result<Self> {
        let lens: BTreeMap<String, usize> = tensors.into_iter().collect();
        let mut end = 0;
        let place = |(name, len): (String, usize)| {
            let offset = end;
            end += (len * size_of::<f32>()).next_multiple_of(ALIGNMENT);
            (name, Place { offset, len })
        };
        let places = lens.into_iter().map(place).collect();
        let memory = Memory::new(device, end)?;
        memory.span().zero()?;
        Ok(Self { memory, places })
    }

    /// Zeros like these.
    ///
    /// # Errors
    /// There is not so much memory.
    pub fn zeros_like(&self) -> Result<Self> {
        Self::zeros(self.span().device(), self.places.iter().map(|(name, place)| (name.clone(), place.len)))
    }

    /// All of it.
    pub fn span(&self) -> Span<'_> {
        self.memory.span()
    }

    /// The tensor of this name, if there is one.
    pub fn get(&self, name: &str) -> Option<Span<'_>> {
        let place = self.places.get(name)?;
        Some(self.span().part(place.offset, place.len * size_of::<f32>()))
    }

    /// The tensor of this name.
    ///
    /// # Errors
    /// There is none.
    pub fn find(&self, name: &str) -> Result<Span<'_>> {
        self.get(name).ok_or_else(|| Error::Mismatch {
            place: "parameters".to_owned(),
            expected: format!("a tensor named {name}"),
            found: format!("none among {}", self.places.len()),
        })
    }

    /// Names and tensors, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Span<'_>)> {
        self.places
            .iter()
            .map(|(name, place)| (name.as_str(), self.span().part(place.offset, place.len * size_of::<f32>())))
    }

    /// Puts values in.
    ///
    /// # Errors
    /// There is no such tensor, it has another number of values, or the copy fails.
    pub fn write(&self, name: &str, values: &[f32]) -> Result<()> {
        let span = self.find(name)?;
        if size_of_val(values) != span.bytes() {
            let (expected, found) = (span.bytes() / size_of::<f32>(), values.len());
            let (place, expected, found) = (name.to_owned(), format!("{expected} values"), found.to_string());
            return Err(Error::Mismatch { place, expected, found });
        }
        span.write(bytes_of(values))
    }

    /// Copies values out, after all work before.
    ///
    /// # Errors
    /// There is no such tensor, or work before or the copy failed.
    pub fn read(&self, name: &str) -> Result<Vec<f32>> {
        let span = self.find(name)?;
        let mut values = vec![0.0; span.bytes() / size_of::<f32>()];
        span.read(bytes_of_mut(&mut values))?;
        Ok(values)
    }
}
