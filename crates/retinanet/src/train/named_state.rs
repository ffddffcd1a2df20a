//! What the parts of a training keep between two steps, by name.

use super::CheckpointError;
use candle_core::{Device, Tensor};
use std::collections::BTreeMap;

/// Tensors and numbers by name, such as `optimizer.first.backbone.body.conv1.weight`.
///
/// Each part puts in what it keeps and takes the same out again. What is left at the end belongs to nobody, which is an error:
/// a checkpoint fits a training wholly or not at all.
#[derive(Clone, Debug, Default)]
pub(crate) struct NamedState {
    pub(super) tensors: BTreeMap<String, Tensor>,
    pub(super) numbers: BTreeMap<String, f64>,
}

impl NamedState {
    /// Adds a number; not a number and infinity have no form in a checkpoint.
    pub(crate) fn put_number(&mut self, name: &str, number: f64) {
        self.numbers.insert(name.to_owned(), number);
    }

    /// Adds a list of numbers.
    pub(crate) fn put_values(&mut self, name: String, values: &[f32]) -> candle_core::Result<()> {
        self.tensors.insert(name, Tensor::from_slice(values, values.len(), &Device::Cpu)?);
        Ok(())
    }

    /// Adds tensors with `prefix` before their names.
    pub(crate) fn put_tensors(&mut self, prefix: &str, tensors: BTreeMap<String, Tensor>) {
        self.tensors.extend(tensors.into_iter().map(|(name, tensor)| (format!("{prefix}{name}"), tensor)));
    }

    /// Takes a number out.
    ///
    /// # Errors
    /// It is not there.
    pub(crate) fn take_number(&mut self, name: &str) -> Result<f64, CheckpointError> {
        self.numbers.remove(name).ok_or_else(|| missing("a number", name))
    }

    /// Takes a list of so many numbers out.
    ///
    /// # Errors
    /// It is not there, or of another length.
    pub(crate) fn take_values(&mut self, name: &str, length: usize) -> crate::Result<Vec<f32>> {
        let tensor = self.tensors.remove(name).ok_or_else(|| missing("a tensor", name))?;
        if tensor.dims() != [length] {
            let (expected, found) = (format!("{:?}", [length]), format!("{:?}", tensor.dims()));
            return Err(CheckpointError::Content { what: format!("shape of {name}"), expected, found }.into());
        }
        Ok(tensor.to_vec1()?)
    }

    /// Takes all tensors out whose names begin with `prefix`, and the prefix from their names.
    pub(crate) fn take_tensors(&mut self, prefix: &str) -> BTreeMap<String, Tensor> {
        let names: Vec<String> = self.tensors.keys().filter(|name| name.starts_with(prefix)).cloned().collect();
        let taken = names.into_iter().filter_map(|name| {
            let tensor = self.tensors.remove(&name)?;
            Some((name[prefix.len()..].to_owned(), tensor))
        });
        taken.collect()
    }

    /// Whether all was taken.
    ///
    /// # Errors
    /// Something is left.
    pub(super) fn finish(self) -> Result<(), CheckpointError> {
        let mut left = self.tensors.into_keys().chain(self.numbers.into_keys());
        let Some(first) = left.next() else { return Ok(()) };
        let found = match left.count() {
            0 => first,
            more => format!("{first} and {more} more"),
        };
        let (what, expected) = ("entries".to_owned(), "those of the configuration alone".to_owned());
        Err(CheckpointError::Content { what, expected, found })
    }
}

fn missing(kind: &str, name: &str) -> CheckpointError {
    let (what, expected) = (name.to_owned(), kind.to_owned());
    CheckpointError::Content { what, expected, found: "none".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_put_in_is_taken_out_and_nothing_else() -> crate::Result<()> {
        let mut state = NamedState::default();
        state.put_number("loss.average", 0.1 + 0.2);
        state.put_values("optimizer.w".to_owned(), &[1.0, f32::MIN_POSITIVE])?;
        let ones = Tensor::ones((2, 1), candle_core::DType::F32, &Device::Cpu)?;
        state.put_tensors("model.", BTreeMap::from([("a".to_owned(), ones)]));

        assert_eq!(state.clone().take_number("loss.average")?, 0.1 + 0.2);
        assert_eq!(state.clone().take_values("optimizer.w", 2)?, [1.0, f32::MIN_POSITIVE]);
        let message = state.clone().take_values("optimizer.w", 3).expect_err("two values").to_string();
        assert_eq!(message, "checkpoint: shape of optimizer.w: expected [3], found [2]");
        let message = state.take_values("optimizer.v", 2).expect_err("no such entry").to_string();
        assert_eq!(message, "checkpoint: optimizer.v: expected a tensor, found none");
        let message = state.take_number("steps").expect_err("no such entry").to_string();
        assert_eq!(message, "checkpoint: steps: expected a number, found none");

        let model = state.take_tensors("model.");
        assert_eq!(model.keys().collect::<Vec<_>>(), ["a"]);
        let message = state.finish().expect_err("two are left").to_string();
        assert!(message.ends_with("found optimizer.w and 1 more"), "{message}");
        Ok(())
    }
}
