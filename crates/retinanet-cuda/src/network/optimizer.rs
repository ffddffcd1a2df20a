//! An optimiser's state beside a network in training.

use super::tensors::Tensors;
use super::training::Training;
use crate::device::Address;
use crate::error::{Error, Result};
use crate::kernels::{PendingReport, StepJudge, UpdateRule, UpdateTable, UpdatedTensor};

/// What an optimiser knows of a parameter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct UpdateNumbers {
    /// On the learning rate.
    pub rate_factor: f64,
    /// Of the weight.
    pub decay: f64,
}

/// The moments of all trained parameters of a [`Training`], and what its step comes to.
///
/// A step that does not count, because its losses or gradients are no finite numbers, changes nothing; whether it counts is
/// decided on the device, without waiting for it.
#[derive(Debug)]
pub struct Optimizer {
    first: Tensors,
    second: Option<Tensors>,
    table: UpdateTable,
    /// Where the parameters and gradients are that the table names.
    of: [Address; 2],
    judge: StepJudge,
}

impl Optimizer {
    /// Moments of 0, one or two of each parameter that is trained.
    ///
    /// # Errors
    /// The device has not so much memory.
    pub fn new(training: &Training, has_second: bool, numbers: impl Fn(&str) -> UpdateNumbers) -> Result<Self> {
        let (parameters, gradients) = (training.parameters(), training.gradients());
        let first = gradients.zeros_like()?;
        let second = has_second.then(|| gradients.zeros_like()).transpose()?;
        let tensor = |(name, gradient)| {
            let UpdateNumbers { rate_factor, decay } = numbers(name);
            Ok(UpdatedTensor {
                parameter: parameters.find(name)?,
                gradient,
                first: first.find(name)?,
                second: second.as_ref().map(|second| second.find(name)).transpose()?,
                rate_factor,
                decay,
            })
        };
        let device = gradients.span().device();
        let tensors = gradients.iter().map(tensor).collect::<Result<Vec<_>>>()?;
        let (table, judge) = (UpdateTable::new(device, &tensors)?, StepJudge::new(device, tensors.len())?);
        Ok(Self { table, first, second, of: addresses(training), judge })
    }

    /// Momentum, or Adam's first moment, of each trained parameter.
    pub fn first(&self) -> &Tensors {
        &self.first
    }

    /// Adam's second moment.
    pub fn second(&self) -> Option<&Tensors> {
        self.second.as_ref()
    }

    /// What the step comes to: losses are added there.
    pub fn judge(&self) -> &StepJudge {
        &self.judge
    }

    /// Moves all trained parameters along their gradients, whose norm is cut to `limit`, and the running statistics of batch
    /// norms, and `average`, if there is one, towards the parameters by its share.
    ///
    /// # Errors
    /// It is another network, or the device fails.
    pub fn step(
        &self,
        training: &Training,
        (rule, learning_rate, limit): (UpdateRule, f64, Option<f64>),
        average: Option<(&Tensors, f32)>,
    ) -> Result<()> {
        if self.of != addresses(training) {
            let (place, expected) = ("optimiser: network".to_owned(), "that it was made for".to_owned());
            return Err(Error::Mismatch { place, expected, found: "another".to_owned() });
        }
        self.judge.judge(training.gradients().span(), limit)?;
        // SAFETY: the table names the parameters and gradients that are borrowed here, and moments that are ours.
        unsafe {
            self.judge.gradient_norms(&self.table)?;
            self.judge.update(&self.table, rule, learning_rate)?;
        }
        training.update_running_statistics(Some(self.judge.go()))?;
        match average {
            Some((average, share)) => self.judge.move_towards(average.span(), training.parameters().span(), share),
            None => Ok(()),
        }
    }

    /// Asks for what the last step comes to, without waiting for it; gradients are in the order of the network's.
    ///
    /// # Errors
    /// The device fails.
    pub fn report(&self) -> Result<PendingReport> {
        self.judge.report()
    }
}

fn addresses(training: &Training) -> [Address; 2] {
    [training.parameters().span().address(), training.gradients().span().address()]
}
