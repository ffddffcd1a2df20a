//! Convolutions: the chosen algorithm, its workspace, and what it leaves to be done.

use super::Gpu;
use super::cudnn::{self, Choice, Cudnn, Key, Plan, Rules, Work};
use super::memory::Block;
use super::state::State;
use crate::device::{Address, Convolution, Device, Element, Pass};
use crate::error::{Error, Result};
use crate::kernels::convolution::{add, finish};
use std::sync::Arc;
use std::time::Instant;

/// Runs that an algorithm is timed over.
const RUNS: usize = 3;

impl Gpu {
    /// # Safety
    /// As for [`Device::convolve`].
    pub(super) unsafe fn run_convolution(&self, convolution: &Convolution, pass: &Pass) -> Result<()> {
        if convolution.element == Element::Bf16 && self.context.properties.capability < 80 {
            let expected = "compute capability 8.0 or higher for bf16 (f16 needs none)".to_owned();
            return Err(Error::Mismatch { place: "convolution".to_owned(), expected, found: self.description() });
        }
        let mut state = self.order.enter(&self.context)?;
        let key = Key::new(convolution, pass);
        // SAFETY: as the caller says.
        let choice = unsafe { self.choice(&mut state, key, pass)? };
        let count = cudnn::num_results(convolution, key.work);
        // A gradient that the algorithm cannot add to what is there goes beside the algorithm's own memory first.
        let is_beside = choice.does != key.work && !matches!(pass, Pass::Forward { .. });
        let beside = if is_beside { (count * convolution.element.size()).next_multiple_of(256) } else { 0 };
        let workspace = self.workspace(&mut state, beside + choice.plan.workspace)?.address;
        let operands = cudnn::operands(pass, choice.does, is_beside.then_some(workspace));
        let Some(cudnn) = &state.cudnn else { unreachable!("a choice was made with it") };
        // SAFETY: the addresses are those of the pass, as the caller says; the workspace is as large as the plan wants it.
        unsafe { choice.plan.run(cudnn.handle(), &operands, workspace + beside as u64)? };
        if choice.does == key.work {
            return Ok(());
        }
        let rest = match *pass {
            Pass::Forward { bias, residual, activation, y, .. } => {
                finish(convolution.element, count, convolution.shape.output().channels, bias, residual, activation, y)
            }
            Pass::InputGradient { x_gradient: sum, .. } | Pass::WeightGradient { weight_gradient: sum, .. } => {
                add(convolution.element, count, Address(workspace), sum)
            }
        };
        // SAFETY: the arguments are of the result's size, as the caller says of the pass.
        unsafe { self.launch_in(&mut state, &rest.launch()) }
    }

    /// The algorithm for a pass, chosen now if it has not been.
    ///
    /// # Safety
    /// As for [`Device::convolve`].
    unsafe fn choice(&self, state: &mut State, key: Key, pass: &Pass) -> Result<Arc<Choice>> {
        let cudnn = match &mut state.cudnn {
            Some(cudnn) => cudnn,
            none => {
                let rules = Rules { tf32: self.options.tf32, any_order: self.options.fastest };
                none.insert(Cudnn::new(&self.context, rules)?)
            }
        };
        if let Some(choice) = cudnn.chosen(&key) {
            return Ok(choice);
        }
        if !self.options.fastest || state.is_capturing {
            return cudnn.choose(key, None);
        }
        let handle = cudnn.handle();
        // What is there must not be added to again and again.
        let bytes = cudnn::num_results(&key.convolution, key.work) * key.convolution.element.size();
        let result = Block::new(&self.context, bytes)?;
        let mut measure = |plan: &Plan, does: Work| {
            let operands = cudnn::operands(pass, does, Some(result.address));
            let workspace = Block::new(&self.context, plan.workspace.max(1))?;
            // SAFETY: as the caller says, with a result and a workspace of the plan's sizes.
            let run = || unsafe { plan.run(handle, &operands, workspace.address) };
            run()?;
            self.context.synchronize()?;
            let start = Instant::now();
            for _ in 0..RUNS {
                run()?;
            }
            self.context.synchronize()?;
            Ok(start.elapsed())
        };
        cudnn.choose(key, Some(&mut measure))
    }

    /// Memory for an algorithm, kept for the next.
    fn workspace(&self, state: &mut State, bytes: usize) -> Result<Arc<Block>> {
        if let Some(workspace) = state.workspace.as_ref().filter(|workspace| workspace.bytes >= bytes) {
            return Ok(Arc::clone(workspace));
        }
        state.check_not_capturing("workspace of a convolution")?;
        // The smaller one goes first, so that its memory can be part of the larger; recordings that use it still hold it.
        state.workspace = None;
        let workspace = Arc::new(Block::new(&self.context, bytes.max(1))?);
        state.workspace = Some(Arc::clone(&workspace));
        Ok(workspace)
    }
}
