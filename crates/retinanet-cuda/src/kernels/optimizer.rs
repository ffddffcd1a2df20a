//! A step of an optimiser over all parameters at once.

use super::launch::{blocks, double, int, launch, long, operand};
use super::source;
use crate::device::{Address, Argument, Device, Fetching, Memory, Source, Span};
use crate::error::{Error, Result};
use std::sync::Arc;

pub(super) const SOURCE: Source = source!("optimizer.cu");

/// Numbers of a chunk; `CHUNK` in the kernels.
const CHUNK: usize = 4096;

/// Parts that the sum of squares is made in.
const PARTS: usize = 1024;

/// How an optimiser moves a parameter w along its gradient g.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum UpdateRule {
    /// v = momentum v + (g + decay w); w = w - rate v: torch's stochastic gradient descent.
    Sgd {
        /// Within [0, 1).
        momentum: f64,
    },
    /// Adam with the decay apart from the gradient (Loshchilov & Hutter 2019), betas .9 and .999, epsilon 1e-8.
    Adamw {
        /// Steps of the optimiser, this one included.
        step: i32,
    },
}

/// A parameter and what belongs to it, all of one length, in f32.
#[derive(Clone, Copy, Debug)]
pub struct UpdatedTensor<'a> {
    /// w.
    pub parameter: Span<'a>,
    /// g.
    pub gradient: Span<'a>,
    /// Momentum, or Adam's first moment.
    pub first: Span<'a>,
    /// Adam's second moment.
    pub second: Option<Span<'a>>,
    /// On the learning rate.
    pub rate_factor: f64,
    /// Of the weight.
    pub decay: f64,
}

/// The parameters that one launch moves, as a table on the device.
#[derive(Debug)]
pub struct UpdateTable {
    tensors: Memory,
    chunks: Memory,
    num_tensors: usize,
    num_chunks: usize,
    has_second: bool,
}

impl UpdateTable {
    /// A table of these parameters.
    ///
    /// # Errors
    /// Lengths differ, some have a second moment and some not, or there is no memory.
    pub fn new(device: &Arc<dyn Device>, parameters: &[UpdatedTensor<'_>]) -> Result<Self> {
        let (mut tensors, mut chunks, mut num_chunks) = (Vec::<u8>::new(), Vec::<u8>::new(), 0);
        let has_second = parameters.first().is_some_and(|tensor| tensor.second.is_some());
        for (tensor_idx, tensor) in parameters.iter().enumerate() {
            let bytes = tensor.parameter.bytes();
            let others = [Some(tensor.gradient), Some(tensor.first), tensor.second].into_iter().flatten();
            if others.clone().any(|span| span.bytes() != bytes) || tensor.second.is_some() != has_second {
                let found = others.map(|span| span.bytes().to_string()).collect::<Vec<_>>().join(", ");
                let place = "optimiser: gradient and moments".to_owned();
                let count = if has_second { 3 } else { 2 };
                return Err(Error::Mismatch { place, expected: format!("{count} of {bytes} bytes"), found });
            }
            let count = bytes / size_of::<f32>();
            let second = tensor.second.map_or(Address(0), |second| second.address());
            let addresses = [tensor.parameter.address(), tensor.gradient.address(), tensor.first.address(), second];
            tensors.extend(addresses.iter().flat_map(|address| address.0.to_ne_bytes()));
            tensors.extend([tensor.rate_factor, tensor.decay].iter().flat_map(|number| number.to_ne_bytes()));
            tensors.extend((count as i64).to_ne_bytes());
            let of_tensor = count.div_ceil(CHUNK);
            num_chunks += of_tensor;
            let numbers = (0..of_tensor).flat_map(|number| [tensor_idx as i32, number as i32]);
            chunks.extend(numbers.flat_map(i32::to_ne_bytes));
        }
        let (tensors, chunks) = (Memory::of(device, &tensors)?, Memory::of(device, &chunks)?);
        Ok(Self { tensors, chunks, num_tensors: parameters.len(), num_chunks, has_second })
    }
}

/// What a step comes to, as it is read from the device.
#[derive(Clone, Debug, PartialEq)]
pub struct StepReport {
    /// Class loss.
    pub class_loss: f64,
    /// Box loss.
    pub box_loss: f64,
    /// Of all gradients, before they were clipped.
    pub norm: f64,
    /// Anchors that learn a box.
    pub num_foreground: usize,
    /// None if all these are finite. If not, the step has changed nothing, and this is the norm of the gradient of each tensor, in
    /// the order of the table that [`StepJudge::gradient_norms`] was given.
    pub not_finite: Option<Vec<f64>>,
}

/// A report on its way from the device.
#[derive(Debug)]
pub struct PendingReport(Fetching);

impl PendingReport {
    /// Waits for the step, and for no other that was asked for since.
    ///
    /// # Errors
    /// The step or the copy failed.
    pub fn wait(self) -> Result<StepReport> {
        let bytes = self.0.wait()?;
        let (report, norms) = bytes.split_at(REPORT);
        let word = |at: usize| std::array::from_fn(|idx| report[at + idx]);
        let [class_loss, box_loss, norm] = [CLASS_LOSS, BOX_LOSS, NORM].map(|at| f64::from_ne_bytes(word(at)));
        let num_foreground = i64::from_ne_bytes(word(NUM_FOREGROUND)) as usize;
        let go = report[GO..] != [0; 4];
        let norms = || norms.chunks_exact(8).map(|word| f64::from_ne_bytes(std::array::from_fn(|idx| word[idx])));
        Ok(StepReport { class_loss, box_loss, norm, num_foreground, not_finite: (!go).then(|| norms().collect()) })
    }
}

/// What a step comes to, on the device: losses add up in it, and what follows is asked whether the step counts.
#[derive(Debug)]
pub struct StepJudge {
    /// The report, and behind it the norms of the tensors' gradients.
    report: Memory,
    parts: Memory,
}

/// Where the parts of a report lie in it, in bytes; `Report` in the kernels.
const CLASS_LOSS: usize = 0;
const BOX_LOSS: usize = 8;
const NORM: usize = 16;
const NUM_FOREGROUND: usize = 24;
const GO: usize = 36;
const REPORT: usize = 40;

impl StepJudge {
    /// A judge of no step yet, of so many tensors.
    ///
    /// # Errors
    /// There is no memory.
    pub fn new(device: &Arc<dyn Device>, num_tensors: usize) -> Result<Self> {
        let report = Memory::new(device, REPORT + num_tensors * size_of::<f64>())?;
        let judge = Self { report, parts: Memory::new(device, PARTS * size_of::<f64>())? };
        judge.begin()?;
        Ok(judge)
    }

    /// Begins a step: losses are 0, nothing learns a box.
    ///
    /// # Errors
    /// The device fails.
    pub fn begin(&self) -> Result<()> {
        self.report.span().zero()
    }

    /// Where the sum of the class losses is, an f64.
    pub fn class_loss(&self) -> Span<'_> {
        self.report.span().part(CLASS_LOSS, size_of::<f64>())
    }

    /// Where the sum of the box losses is, an f64.
    pub fn box_loss(&self) -> Span<'_> {
        self.report.span().part(BOX_LOSS, size_of::<f64>())
    }

    /// Where the number of anchors is that learn a box, an i64.
    pub fn num_foreground(&self) -> Span<'_> {
        self.report.span().part(NUM_FOREGROUND, size_of::<i64>())
    }

    /// Where the i32 is that is 0 if the step does not count, from [`Self::judge`] on.
    pub fn go(&self) -> Span<'_> {
        self.report.span().part(GO, size_of::<i32>())
    }

    /// Finds the norm of all gradients, how they are scaled so that it is at most `limit`, and whether the step counts.
    ///
    /// # Errors
    /// The device fails.
    pub fn judge(&self, gradients: Span<'_>, limit: Option<f64>) -> Result<()> {
        let count = gradients.bytes() / size_of::<f32>();
        let num_parts = count.div_ceil(CHUNK).clamp(1, PARTS);
        let parts = operand("norm: parts", self.parts.span(), PARTS, 8)?;
        let squares = [operand("norm: gradients", gradients, count, 4)?, parts, long("norm: gradients", count)?];
        let report = Argument::Address(self.report.span().address());
        let verdict = [parts, int("norm: parts", num_parts)?, double(limit.unwrap_or(0.0)), report];
        // SAFETY: the gradients are as long as was said, and the rest is ours.
        unsafe {
            launch(gradients, &SOURCE, "square_parts", [num_parts as u32, 1, 1], &squares)?;
            launch(gradients, &SOURCE, "judge", [1, 1, 1], &verdict)
        }
    }

    /// Finds the norm of each gradient of a table, if the step does not count.
    ///
    /// # Errors
    /// The table has more tensors than there is room for, or the device fails.
    ///
    /// # Safety
    /// What the table was made of is still allocated.
    pub unsafe fn gradient_norms(&self, table: &UpdateTable) -> Result<()> {
        let norms = self.report.span().part(REPORT, self.report.span().bytes() - REPORT);
        let address = |memory: &Memory| Argument::Address(memory.span().address());
        let norms = operand("gradient norms: tensors", norms, table.num_tensors, 8)?;
        let arguments = [address(&table.tensors), address(&self.report), norms];
        // SAFETY: a block for each tensor of the table, and room for its norm; the caller vouches for what it names.
        unsafe { launch(table.tensors.span(), &SOURCE, "gradient_norms", [table.num_tensors as u32, 1, 1], &arguments) }
    }

    /// Moves all parameters of a table, if the step counts.
    ///
    /// # Errors
    /// The rule needs a second moment and the table has none, or the device fails.
    ///
    /// # Safety
    /// What the table was made of is still allocated.
    pub unsafe fn update(&self, table: &UpdateTable, rule: UpdateRule, learning_rate: f64) -> Result<()> {
        if table.num_chunks == 0 {
            return Ok(());
        }
        let address = |memory: &Memory| Argument::Address(memory.span().address());
        let mut arguments =
            vec![address(&table.tensors), address(&table.chunks), address(&self.report), double(learning_rate)];
        let kernel = match rule {
            UpdateRule::Sgd { momentum } => {
                arguments.push(Argument::F32(momentum as f32));
                "sgd"
            }
            UpdateRule::Adamw { step } => {
                if !table.has_second {
                    let (place, expected) = ("optimiser: adamw".to_owned(), "second moments".to_owned());
                    return Err(Error::Mismatch { place, expected, found: "none".to_owned() });
                }
                let (beta1, beta2): (f64, f64) = (0.9, 0.999);
                let numbers = [beta1, 1.0 - beta1, beta2, 1.0 - beta2];
                arguments.extend(numbers.map(|number| Argument::F32(number as f32)));
                arguments.push(double(1.0 - beta1.powi(step)));
                arguments.push(Argument::F32((1.0 - beta2.powi(step)).sqrt().recip() as f32));
                "adamw"
            }
        };
        let grid = [table.num_chunks as u32, 1, 1];
        // SAFETY: the tables are as long as the grid, and the caller vouches for what they name.
        unsafe { launch(table.tensors.span(), &SOURCE, kernel, grid, &arguments) }
    }

    /// `average += share (current - average)` in f32, if the step counts.
    ///
    /// # Errors
    /// Lengths differ, or the device fails.
    pub fn move_towards(&self, average: Span<'_>, current: Span<'_>, share: f32) -> Result<()> {
        let count = average.bytes() / size_of::<f32>();
        let arguments = [
            operand("average: average", average, count, 4)?,
            operand("average: current", current, count, 4)?,
            Argument::F32(share),
            Argument::Address(self.report.span().address()),
            long("average: count", count)?,
        ];
        // SAFETY: the sizes were checked.
        unsafe { launch(average, &SOURCE, "move_towards", [blocks(count), 1, 1], &arguments) }
    }

    /// Asks for what the step comes to, without waiting for it.
    ///
    /// # Errors
    /// The device fails.
    pub fn report(&self) -> Result<PendingReport> {
        self.report.span().fetch().map(PendingReport)
    }
}
