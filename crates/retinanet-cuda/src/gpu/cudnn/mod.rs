//! Convolutions by cuDNN: an algorithm for each shape and kind of work, chosen once.

mod choose;
mod descriptor;
mod machine;
mod operations;
mod plan;

use super::context::Context;
use crate::device::{Convolution, Pass};
use crate::error::Result;
use choose::{Chooser, Measure};
use cudarc::cudnn::sys::{self, cudnnHandle_t};
use descriptor::check;
use machine::Machine;
use operations::uid;
use std::collections::HashMap;
use std::ptr::null_mut;
use std::sync::Arc;

pub(super) use choose::Choice;
pub(super) use operations::Work;
pub(super) use plan::{Plan, Rules};

/// The library's version as it says it: 90100 for 9.1.0. The library is open.
pub(super) fn version() -> usize {
    // SAFETY: no preconditions.
    unsafe { sys::cudnnGetVersion() }
}

/// As people write it.
pub(super) fn version_text(version: usize) -> String {
    // Before 9, the first digit stood before three others.
    let major = if version < 10_000 { 1_000 } else { 10_000 };
    format!("{}.{}.{}", version / major, version % major / 100, version % 100)
}

/// What an algorithm is chosen for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) convolution: Convolution,
    pub(super) work: Work,
    /// What all addresses are multiples of, at most [`WIDEST`].
    pub(super) alignment: usize,
}

/// Bytes that are read at once at most.
const WIDEST: usize = 16;

impl Key {
    pub(super) fn new(convolution: &Convolution, pass: &Pass) -> Self {
        let mut bits = WIDEST as u64;
        for (_, address) in tensors(pass) {
            bits |= address;
        }
        Self { convolution: *convolution, work: Work::of(pass), alignment: 1 << bits.trailing_zeros() }
    }
}

/// All addresses of a pass, by the numbers of its tensors.
fn tensors(pass: &Pass) -> Vec<(i64, u64)> {
    match *pass {
        Pass::Forward { x, weight, bias, residual, y, .. } => {
            let optional = [(uid::BIAS, bias), (uid::RESIDUAL, residual)];
            let optional = optional.into_iter().filter_map(|(uid, address)| Some((uid, address?.0)));
            [(uid::X, x.0), (uid::WEIGHT, weight.0), (uid::Y, y.0)].into_iter().chain(optional).collect()
        }
        Pass::InputGradient { weight, y_gradient, x_gradient, .. } => {
            vec![(uid::X, x_gradient.0), (uid::WEIGHT, weight.0), (uid::Y, y_gradient.0)]
        }
        Pass::WeightGradient { x, y_gradient, weight_gradient, .. } => {
            vec![(uid::X, x.0), (uid::WEIGHT, weight_gradient.0), (uid::Y, y_gradient.0)]
        }
    }
}

/// The addresses that a plan for a pass takes: of the whole of it, or of the product alone, with the result where it belongs or
/// somewhere else.
pub(super) fn operands(pass: &Pass, does: Work, result: Option<u64>) -> Vec<(i64, u64)> {
    let mut tensors = tensors(pass);
    if does != Work::of(pass) {
        tensors.retain(|(uid, _)| ![uid::BIAS, uid::RESIDUAL].contains(uid));
    }
    let written = match does {
        Work::Forward { .. } => uid::Y,
        Work::InputGradient { .. } => uid::X,
        Work::WeightGradient { .. } => uid::WEIGHT,
    };
    if let Some((_, address)) = tensors.iter_mut().find(|(uid, _)| *uid == written) {
        *address = result.unwrap_or(*address);
    }
    tensors
}

/// How many numbers a pass writes.
pub(super) fn num_results(convolution: &Convolution, work: Work) -> usize {
    let shape = &convolution.shape;
    match work {
        Work::Forward { .. } => shape.output().num_pixels() * shape.output().channels,
        Work::InputGradient { .. } => shape.input().num_pixels() * shape.input().channels,
        Work::WeightGradient { .. } => shape.weight().iter().product(),
    }
}

/// The library, and what was chosen so far.
#[derive(Debug)]
pub(super) struct Cudnn {
    context: Arc<Context>,
    handle: cudnnHandle_t,
    chooser: Chooser,
    choices: HashMap<Key, Arc<Choice>>,
}

// SAFETY: a handle of the library, used by one thread at a time.
unsafe impl Send for Cudnn {}

impl Cudnn {
    /// The context is current, the library open.
    pub(super) fn new(context: &Arc<Context>, rules: Rules) -> Result<Self> {
        let mut handle = null_mut();
        // SAFETY: a context is current; writes one handle.
        check("cudnnCreate", unsafe { sys::cudnnCreate(&raw mut handle) })?;
        let chooser = Chooser::new(Machine::Here(handle), rules);
        let made = Self { context: Arc::clone(context), handle, chooser, choices: HashMap::new() };
        // SAFETY: handle and stream live in one context.
        check("cudnnSetStream", unsafe { sys::cudnnSetStream(handle, context.compute.cast()) })?;
        Ok(made)
    }

    pub(super) fn handle(&self) -> cudnnHandle_t {
        self.handle
    }

    /// What was chosen before.
    pub(super) fn chosen(&self, key: &Key) -> Option<Arc<Choice>> {
        self.choices.get(key).map(Arc::clone)
    }

    /// Chooses, for good: see [`Chooser::choose`].
    ///
    /// # Errors
    /// There is none.
    pub(super) fn choose(&mut self, key: Key, measured: Option<Measure<'_>>) -> Result<Arc<Choice>> {
        let choice = Arc::new(self.chooser.choose(&key, measured)?);
        self.choices.insert(key, Arc::clone(&choice));
        Ok(choice)
    }
}

impl Drop for Cudnn {
    fn drop(&mut self) {
        if self.context.make_current().is_ok() {
            self.choices.clear();
            self.chooser.forget();
            // SAFETY: created in `new`; the plans made with it are gone.
            _ = unsafe { sys::cudnnDestroy(self.handle) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::{Activation, Address, Element};
    use retinanet_ops::kernels::{ConvShape, ImageShape};

    fn convolution() -> Convolution {
        let input = ImageShape { batch: 2, height: 5, width: 7, channels: 3 };
        Convolution {
            shape: ConvShape::new(input, [4, 3, 3, 3], 1, 1, 1).expect("a convolution"),
            element: Element::Bf16,
        }
    }

    fn forward(x: u64, bias: Option<u64>) -> Pass {
        Pass::Forward {
            x: Address(x),
            weight: Address(512),
            bias: bias.map(Address),
            residual: None,
            activation: Activation::Relu,
            y: Address(1024),
        }
    }

    #[test]
    fn algorithms_are_chosen_by_shape_work_and_alignment_alone() {
        let key = |x, bias| Key::new(&convolution(), &forward(x, bias));
        assert_eq!(key(256, Some(2048)), key(4096, Some(16)));
        assert_ne!(key(256, Some(2048)), key(256, None));
        assert_ne!(key(256, None), key(264, None));
        assert_eq!([256, 264, 258, 257].map(|x| key(x, None).alignment), [16, 8, 2, 1]);
    }

    #[test]
    fn each_pass_names_its_tensors_and_writes_one_of_them() {
        let pass = forward(256, Some(64));
        let (all, product) = (Work::of(&pass), Work::of(&pass).plain().0);
        assert_eq!(operands(&pass, all, None), [(uid::X, 256), (uid::WEIGHT, 512), (uid::Y, 1024), (uid::BIAS, 64)]);
        assert_eq!(operands(&pass, product, Some(9)), [(uid::X, 256), (uid::WEIGHT, 512), (uid::Y, 9)]);
        assert_eq!(num_results(&convolution(), all), 2 * 5 * 7 * 4);
        let [x, y_gradient, weight_gradient] = [1, 2, 3].map(Address);
        let pass = Pass::WeightGradient { x, y_gradient, weight_gradient, accumulate: true };
        assert_eq!(operands(&pass, Work::of(&pass), None), [(uid::X, 1), (uid::WEIGHT, 3), (uid::Y, 2)]);
        assert_eq!(operands(&pass, Work::of(&pass), Some(9)), [(uid::X, 1), (uid::WEIGHT, 9), (uid::Y, 2)]);
        assert_eq!(num_results(&convolution(), Work::of(&pass)), 4 * 3 * 3 * 3);
        let pass = Pass::InputGradient { weight: x, y_gradient, x_gradient: weight_gradient, accumulate: false };
        assert_eq!(operands(&pass, Work::of(&pass), Some(9)), [(uid::X, 9), (uid::WEIGHT, 1), (uid::Y, 2)]);
        assert_eq!(num_results(&convolution(), Work::of(&pass)), 2 * 5 * 7 * 3);
    }
}
