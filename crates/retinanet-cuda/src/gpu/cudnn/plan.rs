//! From operations to a plan that runs: cuDNN's proposals, the first of which that keeps our promises is taken.

use super::descriptor::Descriptor;
use super::machine::Machine;
use super::operations::Operations;
use crate::device::Element;
use crate::error::{Error, Result};
use cudarc::cudnn::sys::{
    cudnnBackendAttributeName_t as Name, cudnnBackendAttributeType_t as Type, cudnnBackendBehaviorNote_t as Behavior,
    cudnnBackendDescriptorType_t as Kind, cudnnBackendHeurMode_t as Mode, cudnnBackendNumericalNote_t as Note,
    cudnnHandle_t,
};
use std::ffi::c_void;

/// Proposals that are looked at, of each of cuDNN's ways to make them. The best come first; the later ones are never the fastest.
const MAX_PROPOSALS: usize = 32;

/// What an algorithm may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::gpu) struct Rules {
    /// Multiply f32 with fewer bits (TF32).
    pub(in crate::gpu) tf32: bool,
    /// Sum in an order that differs from run to run.
    pub(in crate::gpu) any_order: bool,
}

impl Rules {
    /// Whether an engine with these notes may run on such maps.
    pub(super) fn allow(self, element: Element, notes: &[u32]) -> bool {
        let has = |note: Note| notes.contains(&(note as u32));
        // On f32, tensor cores multiply TF32; nothing else that loses bits is ever asked for.
        let is_f32 = element == Element::F32;
        !(is_f32 && !self.tf32 && has(Note::CUDNN_NUMERICAL_NOTE_TENSOR_CORE)
            || is_f32 && has(Note::CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS)
            || has(Note::CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION)
            || !self.any_order && has(Note::CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC))
    }
}

/// An algorithm that is ready to run.
#[derive(Debug)]
pub(in crate::gpu) struct Plan {
    plan: Descriptor,
    /// Bytes.
    pub(in crate::gpu) workspace: usize,
    /// What the plan was made of.
    _config: Descriptor,
}

impl Plan {
    /// # Safety
    /// The addresses, by the numbers of [`super::operations::uid`], are what the plan was made for; the workspace is as large as
    /// it says. The handle's stream belongs to the current context.
    pub(in crate::gpu) unsafe fn run(
        &self,
        handle: cudnnHandle_t,
        tensors: &[(i64, u64)],
        workspace: u64,
    ) -> Result<()> {
        let uids: Vec<i64> = tensors.iter().map(|(uid, _)| *uid).collect();
        let pointers: Vec<*mut c_void> = tensors.iter().map(|(_, address)| *address as *mut c_void).collect();
        let pack = Descriptor::new(Kind::CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR)?;
        pack.set(Name::CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, &uids)?;
        pack.set(Name::CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, &pointers)?;
        pack.set(Name::CUDNN_ATTR_VARIANT_PACK_WORKSPACE, &[workspace as *mut c_void])?;
        pack.finalize()?;
        // SAFETY: as the caller says.
        unsafe { self.plan.execute(handle, &pack) }
    }
}

/// Where the kernels of plans come from.
#[derive(Debug)]
pub(super) enum Kernels<'a> {
    /// They are part of the library.
    Ready,
    /// The library compiles them, which takes seconds, for any shape; they are kept here for others.
    Compiled(&'a mut Option<Descriptor>),
}

/// Plans of one graph of operations, as cuDNN proposes them.
#[derive(Debug)]
pub(super) struct Proposals<'a> {
    machine: &'a Machine,
    graph: Descriptor,
    _operations: Operations,
    element: Element,
    /// Where compiled kernels are kept, if they may be.
    kernels: Option<&'a Descriptor>,
}

impl<'a> Proposals<'a> {
    pub(super) fn new(
        machine: &'a Machine,
        operations: Operations,
        element: Element,
        kernels: Kernels<'a>,
    ) -> Result<Self> {
        let graph = Descriptor::new(Kind::CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR)?;
        machine.set_for_graph(&graph)?;
        graph.link(Name::CUDNN_ATTR_OPERATIONGRAPH_OPS, &operations.operations.iter().collect::<Vec<_>>())?;
        if matches!(kernels, Kernels::Compiled(_)) {
            graph.set(Name::CUDNN_ATTR_OPERATIONGRAPH_IS_DYNAMIC_SHAPE_ENABLED, &[true])?;
        }
        graph.finalize()?;
        let kernels = match kernels {
            Kernels::Ready => None,
            Kernels::Compiled(Some(kernels)) => Some(&*kernels),
            Kernels::Compiled(none) => Some(&*none.insert(kernel_cache(&graph)?)),
        };
        Ok(Self { machine, graph, _operations: operations, element, kernels })
    }

    /// The first `most` plans that the rules allow and that need at most so many bytes, in the order in which cuDNN expects them
    /// to be fast. What it cannot build is passed over; an empty list means that it has nothing for these operations.
    pub(super) fn plans(&self, rules: Rules, most_bytes: usize, most: usize) -> Result<Vec<Plan>> {
        let mut plans = Vec::new();
        for mode in [Mode::CUDNN_HEUR_MODE_A, Mode::CUDNN_HEUR_MODE_FALLBACK] {
            // Where one way has nothing to propose, it may say so by failing.
            for config in self.configs(mode).unwrap_or_default() {
                if plans.len() < most
                    && self.is_allowed(&config, rules)?
                    && let Some(plan) = self.plan(config).filter(|plan| plan.workspace <= most_bytes)
                {
                    plans.push(plan);
                }
            }
        }
        Ok(plans)
    }

    fn configs(&self, mode: Mode) -> Result<Vec<Descriptor>> {
        let heuristic = Descriptor::new(Kind::CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR)?;
        heuristic.link(Name::CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, &[&self.graph])?;
        heuristic.set(Name::CUDNN_ATTR_ENGINEHEUR_MODE, &[mode])?;
        self.machine.set_for_heuristic(&heuristic)?;
        heuristic.finalize()?;
        let results = Name::CUDNN_ATTR_ENGINEHEUR_RESULTS;
        let count = heuristic.count(results, Type::CUDNN_TYPE_BACKEND_DESCRIPTOR)?.min(MAX_PROPOSALS);
        heuristic.children(results, Kind::CUDNN_BACKEND_ENGINECFG_DESCRIPTOR, count)
    }

    fn is_allowed(&self, config: &Descriptor, rules: Rules) -> Result<bool> {
        let engines = config.children(Name::CUDNN_ATTR_ENGINECFG_ENGINE, Kind::CUDNN_BACKEND_ENGINE_DESCRIPTOR, 1)?;
        let Some(engine) = engines.first() else { return Ok(false) };
        let numerical = engine.notes(Name::CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, Type::CUDNN_TYPE_NUMERICAL_NOTE)?;
        let behavior = engine.notes(Name::CUDNN_ATTR_ENGINE_BEHAVIOR_NOTE, Type::CUDNN_TYPE_BEHAVIOR_NOTE)?;
        let is_compiled = behavior.contains(&(Behavior::CUDNN_BEHAVIOR_NOTE_RUNTIME_COMPILATION as u32));
        Ok(rules.allow(self.element, &numerical) && (self.kernels.is_some() || !is_compiled))
    }

    /// The plan of a proposal, or nothing where it does not fit the machine after all.
    fn plan(&self, config: Descriptor) -> Option<Plan> {
        let build = || {
            let plan = Descriptor::new(Kind::CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR)?;
            self.machine.set_for_plan(&plan)?;
            plan.link(Name::CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, &[&config])?;
            if let Some(kernels) = self.kernels {
                plan.link(Name::CUDNN_ATTR_EXECUTION_PLAN_KERNEL_CACHE, &[kernels])?;
            }
            plan.finalize()?;
            let workspace = plan.numbers(Name::CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, 1)?;
            Ok::<_, Error>((plan, workspace.first().copied().unwrap_or(0)))
        };
        let (plan, workspace) = build().ok()?;
        Some(Plan { plan, workspace: usize::try_from(workspace).ok()?, _config: config })
    }
}

/// Room for the compiled kernels of graphs like this one.
fn kernel_cache(graph: &Descriptor) -> Result<Descriptor> {
    let kernels = Descriptor::new(Kind::CUDNN_BACKEND_KERNEL_CACHE_DESCRIPTOR)?;
    kernels.link(Name::CUDNN_ATTR_KERNEL_CACHE_OPERATION_GRAPH, &[graph])?;
    kernels.finalize()?;
    Ok(kernels)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn engines_that_break_a_promise_are_passed_over() {
        #[track_caller]
        fn check(tf32: bool, any_order: bool, element: Element, notes: &[Note], expected: bool) {
            let notes: Vec<u32> = notes.iter().map(|note| *note as u32).collect();
            assert_eq!(Rules { tf32, any_order }.allow(element, &notes), expected);
        }
        use Note::{
            CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS as DOWN, CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC as ANY_ORDER,
            CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION as REDUCED,
            CUDNN_NUMERICAL_NOTE_TENSOR_CORE as TENSOR_CORE, CUDNN_NUMERICAL_NOTE_WINOGRAD as WINOGRAD,
        };
        check(false, false, Element::F32, &[], true);
        check(false, false, Element::F32, &[WINOGRAD], true);
        check(false, false, Element::F32, &[TENSOR_CORE], false);
        check(true, false, Element::F32, &[TENSOR_CORE], true);
        check(true, false, Element::F32, &[TENSOR_CORE, DOWN], false);
        check(false, false, Element::Bf16, &[TENSOR_CORE], true);
        check(true, true, Element::Bf16, &[REDUCED], false);
        check(false, false, Element::Bf16, &[TENSOR_CORE, ANY_ORDER], false);
        check(false, true, Element::Bf16, &[TENSOR_CORE, ANY_ORDER], true);
        assert!(Rules { tf32: false, any_order: false }.allow(Element::F32, &[1000]), "a note of a newer library");
    }
}
