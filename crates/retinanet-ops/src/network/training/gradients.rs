//! The gradients of a network's parameters.

use super::super::{ConvLayer, NormKind};
use std::collections::BTreeMap;

/// Gradients by the name of their parameter, in memory that is kept from step to step.
#[derive(Clone, Debug, Default)]
pub struct Gradients {
    by_name: BTreeMap<String, Vec<f32>>,
}

impl Gradients {
    /// Zeros for all that is trained.
    pub(super) fn of<'a>(layers: impl Iterator<Item = &'a ConvLayer>) -> Self {
        let specs = layers.flat_map(ConvLayer::parameters).filter(|spec| spec.trainable);
        let by_name = specs.map(|spec| (spec.name, vec![0.0; spec.shape.iter().product()])).collect();
        Self { by_name }
    }

    /// The gradient of this parameter, in the order of its values; none if it is not trained.
    pub fn get(&self, name: &str) -> Option<&[f32]> {
        self.by_name.get(name).map(Vec::as_slice)
    }

    /// The same, to be changed.
    pub fn get_mut(&mut self, name: &str) -> Option<&mut [f32]> {
        self.by_name.get_mut(name).map(Vec::as_mut_slice)
    }

    /// Names and gradients, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[f32])> {
        self.by_name.iter().map(|(name, gradient)| (name.as_str(), gradient.as_slice()))
    }

    /// The same, to be changed.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&str, &mut [f32])> {
        self.by_name.iter_mut().map(|(name, gradient)| (name.as_str(), gradient.as_mut_slice()))
    }
}

impl<N: Into<String>> FromIterator<(N, Vec<f32>)> for Gradients {
    fn from_iter<I: IntoIterator<Item = (N, Vec<f32>)>>(gradients: I) -> Self {
        Self { by_name: gradients.into_iter().map(|(name, gradient)| (name.into(), gradient)).collect() }
    }
}

/// Whether a norm's own parameters are trained, if its layer is.
pub(super) fn trains(norm: Option<NormKind>) -> bool {
    matches!(norm, Some(NormKind::Batch { .. } | NormKind::Group { .. }))
}
