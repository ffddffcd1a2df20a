//! Which algorithm does a convolution.

use super::descriptor::Descriptor;
use super::machine::Machine;
use super::operations::{Operations, Work};
use super::plan::{Kernels, Plan, Proposals, Rules};
use super::{Key, version, version_text};
use crate::device::{Convolution, Element};
use crate::error::{Error, Result};
use std::collections::HashMap;
use std::time::Duration;

/// An algorithm that wants more is passed over.
const MAX_WORKSPACE: usize = 1 << 30;
/// Algorithms that are tried where the fastest is wanted; a good one is among cuDNN's first.
const MAX_MEASURED: usize = 8;

/// How a convolution is done.
#[derive(Debug)]
pub(in crate::gpu) struct Choice {
    pub(in crate::gpu) plan: Plan,
    /// What the plan does: all of the work, or the product alone.
    pub(in crate::gpu) does: Work,
}

/// The time that a plan takes, for all of the work or the product alone.
pub(super) type Measure<'a> = &'a mut dyn FnMut(&Plan, Work) -> Result<Duration>;

/// What chooses for a machine.
#[derive(Debug)]
pub(super) struct Chooser {
    machine: Machine,
    rules: Rules,
    /// Compiled kernels, by what they do.
    kernels: HashMap<(Work, Element), Option<Descriptor>>,
}

impl Chooser {
    pub(super) fn new(machine: Machine, rules: Rules) -> Self {
        Self { machine, rules, kernels: HashMap::new() }
    }

    /// Chooses: of the algorithms that do all of the work at once, else of those that do the product alone; cuDNN's favourite, or
    /// the fastest where it is `measured`.
    ///
    /// # Errors
    /// There is none.
    pub(super) fn choose(&mut self, key: &Key, mut measured: Option<Measure<'_>>) -> Result<Choice> {
        let most = if measured.is_some() { MAX_MEASURED } else { 1 };
        let mut failures = Vec::new();
        for (does, is_compiled) in self.attempts(key) {
            let what = match (does == key.work, is_compiled) {
                (true, false) => "for all of it",
                (true, true) => "for all of it, compiled",
                (false, false) => "for the product",
                (false, true) => "for the product, compiled",
            };
            let mut plans = match self.plans(key, does, is_compiled, most) {
                Ok(plans) => plans,
                Err(error) => {
                    failures.push(format!("{what}: {error}"));
                    continue;
                }
            };
            if let Some(measure) = measured.as_mut().filter(|_| plans.len() > 1) {
                plans = fastest(plans, |plan| measure(plan, does));
            }
            if let Some(plan) = plans.into_iter().next() {
                return Ok(Choice { plan, does });
            }
            failures.push(format!("{what}: nothing that keeps to precision, order of sums and workspace"));
        }
        Err(none(key, version(), &failures))
    }

    /// Gives compiled kernels back; plans that use them are gone.
    pub(super) fn forget(&mut self) {
        self.kernels.clear();
    }

    /// What is tried, and whether with kernels that cuDNN compiles: sums and activations are only fused with the products of tensor
    /// cores by such, which are compiled once for all shapes.
    fn attempts(&self, key: &Key) -> Vec<(Work, bool)> {
        let (product, leaves) = key.work.plain();
        let has_tensor_cores = key.convolution.element != Element::F32 || self.rules.tf32;
        let is_fused = leaves && has_tensor_cores && matches!(key.work, Work::Forward { .. });
        let attempts = [
            is_fused.then_some((key.work, true)),
            Some((key.work, false)),
            leaves.then_some((product, false)),
            Some((product, true)),
        ];
        attempts.into_iter().flatten().collect()
    }

    fn plans(&mut self, key: &Key, does: Work, is_compiled: bool, most: usize) -> Result<Vec<Plan>> {
        let element = key.convolution.element;
        let operations = Operations::new(&key.convolution, does, key.alignment)?;
        let kernels = if is_compiled {
            Kernels::Compiled(self.kernels.entry((does, element)).or_default())
        } else {
            Kernels::Ready
        };
        Proposals::new(&self.machine, operations, element, kernels)?.plans(self.rules, MAX_WORKSPACE, most)
    }
}

/// The plan that takes the least time, alone; those that do not run are passed over.
fn fastest(plans: Vec<Plan>, mut measure: impl FnMut(&Plan) -> Result<Duration>) -> Vec<Plan> {
    let mut best: Option<(Duration, Plan)> = None;
    for plan in plans {
        let Ok(time) = measure(&plan) else { continue };
        if best.as_ref().is_none_or(|(least, _)| time < *least) {
            best = Some((time, plan));
        }
    }
    best.into_iter().map(|(_, plan)| plan).collect()
}

fn none(key: &Key, version: usize, failures: &[String]) -> Error {
    let Key { convolution: Convolution { shape, element }, work, .. } = key;
    let element = element.name();
    let input = shape.input();
    let place = format!(
        "convolution of {}x{}x{}x{} {element} by a weight {:?}, stride {}, padding {}, {work:?}",
        input.batch,
        input.height,
        input.width,
        input.channels,
        shape.weight(),
        shape.stride(),
        shape.padding()
    );
    let expected = format!("an algorithm of cuDNN {}", version_text(version));
    Error::Mismatch { place, expected, found: failures.join("; ") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Activation;
    use crate::gpu::library::{Library, folders_of_tests};
    use retinanet_ops::kernels::{ConvShape, ImageShape};

    fn shape([height, width, channels]: [usize; 3], weight: [usize; 4], stride: usize, groups: usize) -> ConvShape {
        let input = ImageShape { batch: 2, height, width, channels };
        ConvShape::new(input, weight, stride, weight[2] / 2, groups).expect("a convolution")
    }

    fn key(shape: ConvShape, element: Element, work: Work) -> Key {
        Key { convolution: Convolution { shape, element }, work, alignment: 16 }
    }

    fn forward(bias: bool, residual: bool, activation: Activation) -> Work {
        Work::Forward { bias, residual, activation }
    }

    /// cuDNN makes plans for a GPU that is only described; those that it compiles, it compiles with the driver.
    #[test]
    fn every_pass_has_an_algorithm_that_keeps_to_the_rules() {
        let folders = folders_of_tests();
        let opened = Library::Nvrtc.open(&folders, 13).and_then(|()| Library::Cudnn.open(&folders, 13));
        if let Err(error) = opened {
            return println!("skipped: {error}");
        }
        let compiles = Library::Driver.open(&[], 13).is_ok();
        let shapes = [
            shape([64, 96, 3], [64, 3, 7, 7], 2, 1),
            shape([100, 168, 256], [256, 256, 3, 3], 1, 1),
            shape([50, 84, 256], [256, 256, 3, 3], 1, 1),
            shape([51, 83, 256], [512, 256, 1, 1], 2, 1),
            shape([25, 42, 256], [256, 8, 3, 3], 1, 32),
            shape([7, 11, 256], [819, 256, 3, 3], 1, 1),
            shape([1, 1, 96], [27, 96, 3, 3], 1, 1),
        ];
        let works = [
            forward(false, false, Activation::None),
            forward(true, false, Activation::None),
            forward(true, true, Activation::Relu),
            Work::InputGradient { accumulate: false },
            Work::InputGradient { accumulate: true },
            Work::WeightGradient { accumulate: false },
            Work::WeightGradient { accumulate: true },
        ];
        for (capability, elements) in
            [(75, &[Element::F32, Element::F16][..]), (80, &Element::ALL), (90, &Element::ALL)]
        {
            let machine = Machine::described(capability).expect("a description");
            let mut chooser = Chooser::new(machine, Rules { tf32: false, any_order: false });
            for (shape, element) in
                shapes.iter().flat_map(|shape| elements.iter().map(move |element| (*shape, *element)))
            {
                for work in works {
                    let key = key(shape, element, work);
                    let choice = chooser.choose(&key, None).unwrap_or_else(|error| panic!("{capability}: {error}"));
                    if element != Element::F32 && compiles && shape.groups() > 1 {
                        // Fused on some GPUs.
                        continue;
                    }
                    // Sums and activations of f32 are fused with kernels that are there, those of 16 bits with compiled ones.
                    let is_fused = element == Element::F32 || compiles || !matches!(work, Work::Forward { .. });
                    let expected = if is_fused { work } else { work.plain().0 };
                    assert_eq!(choice.does, expected, "{capability}: {:?} {element:?} {work:?}", shape.weight());
                }
            }
        }
    }

    #[test]
    fn what_is_compiled_comes_first_on_tensor_cores_and_last_elsewhere() {
        #[track_caller]
        fn check(element: Element, tf32: bool, work: Work, expected: &[(Work, bool)]) {
            let key = key(shape([8, 8, 8], [8, 8, 1, 1], 1, 1), element, work);
            let chooser = Chooser::new(Machine::Here(std::ptr::null_mut()), Rules { tf32, any_order: false });
            assert_eq!(chooser.attempts(&key), expected);
        }
        let (fused, product) = (forward(true, false, Activation::Relu), forward(false, false, Activation::None));
        let last = [(fused, false), (product, false), (product, true)];
        check(Element::F32, false, fused, &last);
        check(Element::F32, true, fused, &[&[(fused, true)], &last[..]].concat());
        check(Element::Bf16, false, fused, &[&[(fused, true)], &last[..]].concat());
        check(Element::Bf16, false, product, &[(product, false), (product, true)]);
        let [sum, gradient] = [true, false].map(|accumulate| Work::WeightGradient { accumulate });
        check(Element::Bf16, false, sum, &[(sum, false), (gradient, false), (gradient, true)]);
    }

    #[test]
    fn what_cudnn_cannot_do_is_named() {
        let key = key(shape([5, 7, 3], [4, 3, 3, 3], 1, 1), Element::Bf16, forward(false, false, Activation::Relu));
        let message = none(&key, 91902, &["a".to_owned(), "b".to_owned()]).to_string();
        let expected = "convolution of 2x5x7x3 bf16 by a weight [4, 3, 3, 3], stride 1, padding 1, Forward { bias: false, \
            residual: false, activation: Relu }: expected an algorithm of cuDNN 9.19.2, found a; b";
        assert_eq!(message, expected);
    }
}
