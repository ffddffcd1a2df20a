//! Convolution, its input gradient and its weight gradient, without an im2col matrix.
//!
//! A register tile computes some neighbouring output pixels of a row times two vectors of output channels. The inputs of
//! one output pixel are contiguous for a whole kernel row in channels-last order, so the tile reads them in place and
//! broadcasts them; the weights are packed once into panels two vectors wide and stream from the second-level cache.
//! Only a tile's border of padding needs a copy, of the few input rows that the tile sees. The gradient of the input is
//! the same loop over rotated weights, one phase of the stride after the other, so every output has one writer.

mod arithmetic;
pub(crate) mod direct;
pub(crate) mod finish;
mod panels;
pub(super) mod register_tile;
mod tile;
pub(super) mod weight_gradient;

use super::element::sealed::Vectors;
use super::{Element, Isa};
use crate::kernels::{Activation, ConvShape};
pub(crate) use arithmetic::{Arithmetic, Bf16, Int8, Real};
use direct::{Direct, Layer, Plane};
use finish::{Finish, Stores};
pub(crate) use panels::Panels;
use panels::Taps;
pub use panels::{
    pack_weights, pack_weights_for_input_gradient, packed_weights_for_input_gradient_len, packed_weights_len,
};
pub(super) use register_tile::with_rows;
pub use weight_gradient::{conv2d_weight_gradient, conv2d_weight_gradient_workspace_len};

/// What is done to the sums of a convolution before they are written: `act(sum * scale + shift + residual)`.
#[derive(Clone, Copy, Debug)]
pub struct Epilogue<'a, T> {
    /// `[Cout]`.
    pub scale: Option<&'a [T]>,
    /// `[Cout]`.
    pub shift: Option<&'a [T]>,
    /// The output's shape.
    pub residual: Option<&'a [T]>,
    /// The last step.
    pub activation: Activation,
}

impl<T> Default for Epilogue<'_, T> {
    fn default() -> Self {
        Self { scale: None, shift: None, residual: None, activation: Activation::None }
    }
}

/// Workspace of [`conv2d`], in numbers, for the current number of threads.
pub fn conv2d_workspace_len<T: Element>(shape: &ConvShape) -> usize {
    direct::workspace_len::<T>(forward(shape).slot_bytes::<T>(false))
}

/// `y = act(conv(x) * scale + shift + residual)`.
///
/// # Shapes
/// - `x`: `[N, H, W, Cin]`
/// - `packed`: from [`pack_weights`] for the same instruction set
/// - `y`: `[N, H', W', Cout]`
/// - `workspace`: [`conv2d_workspace_len`], contents unspecified before and after
///
/// # Panics
/// A slice is shorter than its shape.
pub fn conv2d<T: Element>(
    isa: Isa,
    shape: &ConvShape,
    x: &[T],
    packed: &[T],
    epilogue: Epilogue<T>,
    y: &mut [T],
    workspace: &mut [T],
) {
    let output = shape.output();
    assert_eq!(x.len(), shape.input().len(), "conv2d: input");
    assert_eq!(y.len(), output.len(), "conv2d: output");
    assert!(epilogue.scale.is_none_or(|scale| scale.len() == output.channels), "conv2d: scale");
    assert!(epilogue.shift.is_none_or(|shift| shift.len() == output.channels), "conv2d: shift");
    assert!(epilogue.residual.is_none_or(|residual| residual.len() == output.len()), "conv2d: residual");
    run(isa, forward(shape), x, None, packed, epilogue, y, workspace);
}

fn forward(shape: &ConvShape) -> Direct {
    let direct = Direct::forward(shape, 1);
    if shape.is_pointwise() { direct.flattened() } else { direct }
}

/// The convolution of one plane. Outputs and the numbers of channels are checked by the callers.
fn run<T: Element>(
    isa: Isa,
    direct: Direct,
    x: &[T],
    mask: Option<&[T]>,
    packed: &[T],
    epilogue: Epilogue<T>,
    y: &mut [T],
    workspace: &mut [T],
) {
    let isa = isa.or_portable();
    let bytes = (size_of::<T>(), direct.panels.groups * direct.panels.out_channels * size_of::<T>());
    let finish = Finish {
        function: (<T as Vectors>::Arithmetic::path(isa).finish)(Stores::Full, Stores::Full),
        scale: epilogue.scale,
        shift: epilogue.shift,
        residual_scale: T::ONE,
        relu: epilogue.activation == Activation::Relu,
        low: T::ZERO,
        y_bytes: bytes,
        residual_bytes: bytes,
        y_padding: 0,
    };
    let layer = Layer::<<T as Vectors>::Arithmetic> { isa, panels: &direct.panels, packed, outside: T::ZERO, finish };
    let y = super::tasks::SharedMut::new(y);
    let plane = |_| Plane {
        direct,
        x,
        mask,
        y: y.pointer(0).cast(),
        residual: epilogue.residual.map_or(std::ptr::null(), |residual| residual.as_ptr().cast()),
        gate: std::ptr::null(),
    };
    // SAFETY: output and residual have been checked by the callers to be of the output's shape.
    unsafe { direct::run(&layer, 1, plane, workspace) };
}

/// Workspace of [`conv2d_input_gradient`], in numbers, for the current number of threads.
pub fn conv2d_input_gradient_workspace_len<T: Element>(shape: &ConvShape) -> usize {
    phases(shape, 1).map(|(_, direct)| direct::workspace_len::<T>(direct.slot_bytes::<T>(true))).max().unwrap_or(0)
}

/// The gradient of a convolution's input.
///
/// With the fused ReLU, `relu_output` is the output of the forward pass: gradients pass where it is positive.
///
/// # Shapes
/// - `y_gradient`, `relu_output`: `[N, H', W', Cout]`
/// - `packed`: from [`pack_weights_for_input_gradient`] for the same instruction set
/// - `x_gradient`: `[N, H, W, Cin]`, overwritten
/// - `workspace`: [`conv2d_input_gradient_workspace_len`]
///
/// # Panics
/// A slice is shorter than its shape.
pub fn conv2d_input_gradient<T: Element>(
    isa: Isa,
    shape: &ConvShape,
    y_gradient: &[T],
    relu_output: Option<&[T]>,
    packed: &[T],
    x_gradient: &mut [T],
    workspace: &mut [T],
) {
    assert_eq!(y_gradient.len(), shape.output().len(), "conv2d input gradient: output gradient");
    assert!(relu_output.is_none_or(|y| y.len() == y_gradient.len()), "conv2d input gradient: output");
    assert_eq!(x_gradient.len(), shape.input().len(), "conv2d input gradient: input gradient");
    let mut start = 0;
    for (panels, direct) in phases(shape, 1) {
        let len = panels.len(panels::lanes::<T>(isa));
        let packed = &packed[start..start + len];
        run(isa, direct, y_gradient, relu_output, packed, Epilogue::default(), x_gradient, workspace);
        start += len;
    }
}

/// The input gradient as convolutions of stride 1, one for each phase of the stride: the input pixels that the same taps
/// reach, which are every `stride`-th of a row and of a column. Output gradients are read in words of `per_word` channels.
pub(crate) fn phases(shape: &ConvShape, per_word: usize) -> impl Iterator<Item = (Panels, Direct)> {
    let shape = *shape;
    let stride = shape.stride();
    (0..stride * stride).filter_map(move |phase| {
        let (phase_y, phase_x) = (phase / stride, phase % stride);
        let (input, output) = (shape.input(), shape.output());
        let [_, _, kernel_height, kernel_width] = shape.weight();
        let y = Phase::new(phase_y, input.height, kernel_height, stride, shape.padding())?;
        let x = Phase::new(phase_x, input.width, kernel_width, stride, shape.padding())?;
        let panels = Panels::input_gradient(&shape, per_word, y.taps, x.taps);
        let direct = Direct {
            batch: input.batch,
            height: output.height,
            width: output.width,
            stride: 1,
            offset: (y.offset, x.offset),
            out_size: (y.count, x.count),
            out_start: y.first * input.width + x.first,
            out_image_step: input.height * input.width,
            out_row_step: stride * input.width,
            out_column_step: stride,
            panels,
        };
        Some((panels, if shape.is_pointwise() { direct.flattened() } else { direct }))
    })
}

/// The pixels of one phase along one axis, and the taps that reach them.
struct Phase {
    /// The first pixel; the others follow `stride` apart.
    first: usize,
    count: usize,
    taps: Taps,
    /// Output place of the first tap for the first pixel.
    offset: isize,
}

impl Phase {
    /// None where no pixel has this phase.
    fn new(phase: usize, len: usize, kernel: usize, stride: usize, padding: usize) -> Option<Self> {
        // Pixel i is reached by tap k from output o where i + padding = stride * o + k, so k = phase + stride * t.
        let first = (phase + stride - padding % stride) % stride;
        let count = len.checked_sub(first + 1)? / stride + 1;
        let num_taps = (kernel + stride).saturating_sub(phase + 1) / stride;
        let first_output = (first + padding - phase) / stride;
        let taps = Taps {
            count: num_taps,
            // Rotated: the taps in order of the output that they come from.
            first: (phase + stride * num_taps).wrapping_sub(stride),
            reversed_step: stride,
            reversed: true,
        };
        Some(Self { first, count, taps, offset: first_output as isize - num_taps as isize + 1 })
    }
}
