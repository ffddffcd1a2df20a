//! The parameters of a network, by name.

use candle_core::{Result, Tensor, Var, bail};
use std::collections::BTreeMap;

/// Tensors by the name that their layer gives them.
///
/// Each is a candle variable, so that training changes it in place; a layer that is not trained uses it detached.
#[derive(Clone, Debug, Default)]
pub struct Parameters {
    variables: BTreeMap<String, Var>,
}

impl Parameters {
    /// Takes the tensors as they are; a later name replaces an earlier one.
    ///
    /// # Errors
    /// A tensor's memory cannot be copied into a variable.
    pub fn new(tensors: impl IntoIterator<Item = (String, Tensor)>) -> Result<Self> {
        let variables = tensors.into_iter().map(|(name, tensor)| Ok((name, Var::from_tensor(&tensor.contiguous()?)?)));
        Ok(Self { variables: variables.collect::<Result<_>>()? })
    }

    /// The variable of this name.
    ///
    /// # Errors
    /// There is none.
    pub fn variable(&self, name: &str) -> Result<&Var> {
        match self.variables.get(name) {
            Some(variable) => Ok(variable),
            None => bail!("parameters: expected a tensor named {name}, found none among {}", self.variables.len()),
        }
    }

    /// The tensor of this name without its gradient.
    ///
    /// # Errors
    /// There is none.
    pub fn detached(&self, name: &str) -> Result<Tensor> {
        Ok(self.variable(name)?.as_detached_tensor())
    }

    /// Takes the variable of this name out, if there is one.
    pub fn remove(&mut self, name: &str) -> Option<Var> {
        self.variables.remove(name)
    }

    /// Names and variables, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Var)> {
        self.variables.iter().map(|(name, variable)| (name.as_str(), variable))
    }

    /// Number of tensors.
    pub fn len(&self) -> usize {
        self.variables.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.variables.is_empty()
    }
}
