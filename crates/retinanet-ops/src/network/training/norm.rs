//! A norm behind a convolution, forward and back, in the storage of its feature maps.

use super::super::NormKind;
use crate::kernels::cpu::inference::{Numbers, NumbersMut};
use crate::kernels::cpu::training::Workspace;
use crate::kernels::cpu::{
    Isa, Storable, batch_norm, batch_norm_gradient, batch_norm_statistics, batch_norm_workspace_len, group_norm,
    group_norm_gradient, group_norm_workspace_len,
};
use crate::kernels::{Activation, ImageShape};

/// Runs `$body` for the storage that all given numbers share.
macro_rules! with_numbers {
    ($($name:ident: $kind:ident = $numbers:expr),+ ; $options:ident = $optional:expr => $body:expr) => {
        match ($($numbers),+) {
            ($($kind::F32($name)),+) => {
                let $options = $optional.map(|numbers| match numbers {
                    Numbers::F32(numbers) => numbers,
                    _ => panic!("norm: expected one storage"),
                });
                $body
            }
            ($($kind::Bf16($name)),+) => {
                let $options = $optional.map(|numbers| match numbers {
                    Numbers::Bf16(numbers) => numbers,
                    _ => panic!("norm: expected one storage"),
                });
                $body
            }
            _ => panic!("norm: expected one floating-point storage"),
        }
    };
}

/// A norm with its parameters.
#[derive(Clone, Copy)]
pub(super) struct Norm<'a> {
    pub(super) isa: Isa,
    pub(super) kind: NormKind,
    pub(super) shape: ImageShape,
    /// `[C]`.
    pub(super) weight: &'a [f32],
    /// `[C]`.
    pub(super) bias: &'a [f32],
}

impl Norm<'_> {
    /// `y = activation(norm(x) + residual)`; returns the statistics for the gradient.
    pub(super) fn forward(
        &self,
        x: Numbers<'_>,
        residual: Option<Numbers<'_>>,
        activation: Activation,
        y: NumbersMut<'_>,
        workspace: &mut Workspace,
    ) -> Vec<f64> {
        with_numbers!(x: Numbers = x, y: NumbersMut = y; residual = residual => {
            self.forward_as(x, residual, activation, y, workspace)
        })
    }

    fn forward_as<T: Storable<Float = f32>>(
        &self,
        x: &[T],
        residual: Option<&[T]>,
        activation: Activation,
        y: &mut [T],
        workspace: &mut Workspace,
    ) -> Vec<f64> {
        let Self { isa, shape, weight, bias, .. } = *self;
        match self.kind {
            NormKind::Batch { epsilon, .. } | NormKind::FrozenBatch { epsilon } => {
                let mut statistics = vec![0.0; 2 * shape.channels];
                let workspace = workspace.doubles(batch_norm_workspace_len(&shape));
                batch_norm_statistics(isa, &shape, x, &mut statistics, workspace);
                batch_norm(isa, &shape, epsilon, x, weight, bias, &statistics, residual, activation, y, workspace);
                statistics
            }
            NormKind::Group { groups, epsilon } => {
                let mut statistics = vec![0.0; 2 * shape.batch * groups];
                let workspace = workspace.doubles(group_norm_workspace_len(&shape));
                group_norm(
                    isa,
                    &shape,
                    groups,
                    epsilon,
                    x,
                    weight,
                    bias,
                    residual,
                    activation,
                    y,
                    &mut statistics,
                    workspace,
                );
                statistics
            }
        }
    }

    /// The gradients of `x`, which takes the place of that of the sum unless this is given apart, and of weight and bias.
    pub(super) fn backward(
        &self,
        x: Numbers<'_>,
        statistics: &[f64],
        y_gradient: Option<Numbers<'_>>,
        x_gradient: NumbersMut<'_>,
        parameters: (&mut [f32], &mut [f32]),
        workspace: &mut Workspace,
    ) {
        with_numbers!(x: Numbers = x, x_gradient: NumbersMut = x_gradient; y_gradient = y_gradient => {
            self.backward_as(x, statistics, y_gradient, x_gradient, parameters, workspace)
        })
    }

    fn backward_as<T: Storable<Float = f32>>(
        &self,
        x: &[T],
        statistics: &[f64],
        y_gradient: Option<&[T]>,
        x_gradient: &mut [T],
        (weight_gradient, bias_gradient): (&mut [f32], &mut [f32]),
        workspace: &mut Workspace,
    ) {
        let Self { isa, shape, weight, .. } = *self;
        match self.kind {
            NormKind::Batch { epsilon, .. } | NormKind::FrozenBatch { epsilon } => {
                let workspace = workspace.doubles(batch_norm_workspace_len(&shape));
                batch_norm_gradient(
                    isa,
                    &shape,
                    epsilon,
                    x,
                    weight,
                    statistics,
                    y_gradient,
                    None,
                    x_gradient,
                    weight_gradient,
                    bias_gradient,
                    workspace,
                );
            }
            NormKind::Group { groups, .. } => {
                let workspace = workspace.doubles(group_norm_workspace_len(&shape));
                group_norm_gradient(
                    isa,
                    &shape,
                    groups,
                    x,
                    weight,
                    statistics,
                    y_gradient,
                    None,
                    x_gradient,
                    weight_gradient,
                    bias_gradient,
                    workspace,
                );
            }
        }
    }
}
