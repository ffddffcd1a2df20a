//! A convolution and its two gradients, over all feature maps that share its weight.

use super::super::Isa;
use super::super::conv::direct::{self, Direct, Layer, Plane};
use super::super::conv::finish::{Finish, Stores};
use super::super::conv::weight_gradient::pointwise::{self, pointwise_weight_gradient, pointwise_weight_gradient_bf16};
use super::super::conv::{
    Arithmetic, Bf16, Panels, Real, conv2d_weight_gradient, conv2d_weight_gradient_workspace_len, phases,
};
use super::super::inference::{Numbers, NumbersMut, Plain};
use super::super::stored::Sum;
use super::super::winograd::{self, Direction};
use super::Workspace;
use super::elementwise::{add_to, copy};
use super::numbers::Number;
use crate::kernels::{Activation, ConvShape, ImageShape};
use half::bf16;

/// One use of a convolution: `y = activation(conv(x) + shift + residual)`.
#[derive(Debug)]
pub struct Forward<'a> {
    /// Of this use; the weight's dimensions are those of all uses.
    pub shape: ConvShape,
    /// `[N, H, W, Cin]`.
    pub x: Numbers<'a>,
    /// As the output.
    pub residual: Option<Numbers<'a>>,
    /// `[N, H', W', Cout]`.
    pub y: NumbersMut<'a>,
}

/// One use of a convolution, from the gradient of its output to that of its input.
#[derive(Debug)]
pub struct InputGradient<'a> {
    /// Of this use; the weight's dimensions are those of all uses.
    pub shape: ConvShape,
    /// `[N, H', W', Cout]`.
    pub y_gradient: Numbers<'a>,
    /// Whether the gradient is added to what is there.
    pub accumulate: bool,
    /// The input, where it comes out of a ReLU: the gradient becomes 0 where it is not positive, what was there included.
    pub relu_input: Option<Numbers<'a>>,
    /// `[N, H, W, Cin]`.
    pub x_gradient: NumbersMut<'a>,
}

/// One use of a convolution, whose part in the gradient of the weight is wanted.
#[derive(Clone, Copy, Debug)]
pub struct WeightGradient<'a> {
    /// Of this use; the weight's dimensions are those of all uses.
    pub shape: ConvShape,
    /// `[N, H, W, Cin]`.
    pub x: Numbers<'a>,
    /// `[N, H', W', Cout]`.
    pub y_gradient: Numbers<'a>,
}

/// Convolves all maps with a weight, `[Cout, Cin / groups, kh, kw]`. The input's storage decides what is multiplied.
///
/// # Panics
/// A slice does not fit its shape.
pub fn forward(
    isa: Isa,
    weight: &[f32],
    shift: Option<&[f32]>,
    activation: Activation,
    maps: &mut [Forward<'_>],
    workspace: &mut Workspace,
) {
    let relu = activation == Activation::Relu;
    for map in &*maps {
        let output = map.shape.output();
        check("output", map.y.len(), output);
        map.residual.iter().for_each(|residual| check("residual", residual.len(), output));
    }
    if let Some(shape) = maps.first().map(|map| map.shape).filter(winograd::fits) {
        let maps = maps.iter().map(|map| winograd::Map {
            shape: map.shape.input(),
            x: map.x,
            residual: map
                .residual
                .as_ref()
                .map_or((std::ptr::null(), false), |residual| (residual.pointer(), stores(residual) == Stores::Bf16)),
            gate: std::ptr::null(),
            y: map.y.shared_pointer(),
            is_bf16: stores_mut(&map.y) == Stores::Bf16,
        });
        // SAFETY: outputs and residuals are of the output's shape, as checked.
        unsafe { by_winograd(isa, &shape, Direction::Forward, maps, weight, shift, relu, workspace) };
        return;
    }
    for map in maps {
        let output = map.shape.output();
        let target = Target {
            y: map.y.shared_pointer(),
            stores: stores_mut(&map.y),
            channels: output.channels,
            residual: map.residual.as_ref().map_or(std::ptr::null(), Numbers::pointer),
            residual_stores: map.residual.as_ref().map_or(Stores::Full, stores),
            gate: std::ptr::null(),
            shift,
            relu,
        };
        let flatten = |direct: Direct| if map.shape.is_pointwise() { direct.flattened() } else { direct };
        let phase = |per_word: usize| {
            let direct = flatten(Direct::forward(&map.shape, per_word));
            std::iter::once((Panels::forward(&map.shape, per_word), direct))
        };
        // SAFETY: output and residual are of the output's shape, as checked.
        unsafe { convolve(isa, phase, (&map.x, map.shape.input()), weight, &target, workspace) };
    }
}

/// The gradients of all maps' inputs.
///
/// # Panics
/// A slice does not fit its shape.
pub fn input_gradient(isa: Isa, weight: &[f32], maps: &mut [InputGradient<'_>], workspace: &mut Workspace) {
    for map in &*maps {
        let input = map.shape.input();
        check("input gradient", map.x_gradient.len(), input);
        map.relu_input.iter().for_each(|x| check("input", x.len(), input));
        let gate_fits = map.relu_input.as_ref().is_none_or(|x| stores(x) == stores_mut(&map.x_gradient));
        assert!(gate_fits, "convolution: input gradient: expected the input's storage");
    }
    if let Some(shape) = maps.first().map(|map| map.shape).filter(winograd::fits) {
        let maps = maps.iter().map(|map| {
            let (y, is_bf16) = (map.x_gradient.shared_pointer(), stores_mut(&map.x_gradient) == Stores::Bf16);
            winograd::Map {
                shape: map.shape.output(),
                x: map.y_gradient,
                residual: (if map.accumulate { y.cast_const() } else { std::ptr::null() }, is_bf16),
                gate: map.relu_input.as_ref().map_or(std::ptr::null(), Numbers::pointer),
                y,
                is_bf16,
            }
        });
        // SAFETY: gradients and inputs are of the input's shape, as checked; a number of a gradient is read, where it is
        // added to, by the task that writes it, before.
        unsafe { by_winograd(isa, &shape, Direction::InputGradient, maps, weight, None, false, workspace) };
        return;
    }
    for map in maps {
        let input = map.shape.input();
        let y = map.x_gradient.shared_pointer();
        let target = Target {
            y,
            stores: stores_mut(&map.x_gradient),
            channels: input.channels,
            residual: if map.accumulate { y.cast_const() } else { std::ptr::null() },
            residual_stores: stores_mut(&map.x_gradient),
            gate: map.relu_input.as_ref().map_or(std::ptr::null(), Numbers::pointer),
            shift: None,
            relu: false,
        };
        let phase = |per_word: usize| phases(&map.shape, per_word);
        // SAFETY: the gradient and the input are of the input's shape, as checked; a number of the gradient is read, where
        // it is added to, by the task that writes it, before.
        unsafe { convolve(isa, phase, (&map.y_gradient, map.shape.output()), weight, &target, workspace) };
    }
}

/// Adds the gradient of the weight, `[Cout, Cin / groups, kh, kw]`, over all maps in their order; of a weight that had been
/// scaled for the convolution, the gradient times that scale, `[Cout]`.
///
/// # Panics
/// A slice does not fit its shape.
pub fn weight_gradient(
    isa: Isa,
    maps: &[WeightGradient<'_>],
    scale: Option<&[f32]>,
    weight_gradient: &mut [f32],
    workspace: &mut Workspace,
) {
    for map in maps {
        check("input", map.x.len(), map.shape.input());
        check("output gradient", map.y_gradient.len(), map.shape.output());
    }
    if let Some(shape) = maps.first().map(|map| map.shape).filter(winograd::fits) {
        let maps = maps.iter().map(|map| winograd::GradientMap {
            shape: map.shape.input(),
            x: map.x,
            y_gradient: map.y_gradient,
        });
        let maps: Vec<winograd::GradientMap> = maps.collect();
        let scratch = workspace.scratch.first(winograd::weight_gradient_workspace_len(isa, &shape, &maps));
        winograd::weight_gradient(isa, &shape, &maps, scale, weight_gradient, scratch);
        return;
    }
    if scale.is_none() && maps.iter().all(|map| pointwise::fits(&map.shape)) {
        for map in maps {
            let scratch = workspace.scratch.first(pointwise::workspace_len(&map.shape));
            let (shape, gradient) = (&map.shape, &mut *weight_gradient);
            match (map.x, map.y_gradient) {
                (Numbers::F32(x), Numbers::F32(y_gradient)) => {
                    pointwise_weight_gradient(isa, shape, x, y_gradient, gradient, scratch);
                }
                (Numbers::Bf16(x), Numbers::Bf16(y_gradient)) => {
                    pointwise_weight_gradient_bf16(isa, shape, x, y_gradient, gradient, scratch);
                }
                _ => direct_weight_gradient(isa, map, None, gradient, workspace),
            }
        }
        return;
    }
    for map in maps {
        direct_weight_gradient(isa, map, scale, weight_gradient, workspace);
    }
}

/// [`weight_gradient`] of one map, by the kernel for all of them.
fn direct_weight_gradient(
    isa: Isa,
    map: &WeightGradient<'_>,
    scale: Option<&[f32]>,
    weight_gradient: &mut [f32],
    workspace: &mut Workspace,
) {
    {
        let scratch = workspace.scratch.first(conv2d_weight_gradient_workspace_len::<f32>(isa, &map.shape));
        let part = workspace.weights.first(weight_gradient.len());
        match (map.x, map.y_gradient) {
            (Numbers::F32(x), Numbers::F32(y_gradient)) => {
                conv2d_weight_gradient(isa, &map.shape, x, y_gradient, None, part, None, scratch);
            }
            (Numbers::Bf16(x), Numbers::Bf16(y_gradient)) => {
                conv2d_weight_gradient(isa, &map.shape, x, y_gradient, None, part, None, scratch);
            }
            // An image is f32 in any case, and has few channels.
            (Numbers::F32(x), Numbers::Bf16(y_gradient)) => {
                let converted = workspace.packed.first::<f32>(y_gradient.len());
                copy(isa, y_gradient, converted);
                conv2d_weight_gradient(isa, &map.shape, x, converted, None, part, None, scratch);
            }
            (Numbers::Bf16(x), Numbers::F32(y_gradient)) => {
                let converted = workspace.packed.first::<f32>(x.len());
                copy(isa, x, converted);
                conv2d_weight_gradient(isa, &map.shape, converted, y_gradient, None, part, None, scratch);
            }
            _ => panic!("convolution: weight gradient: expected floating-point numbers"),
        }
        if let Some(scale) = scale {
            let channels = part.chunks_exact_mut(weight_gradient.len() / scale.len());
            channels.zip(scale).for_each(|(part, scale)| part.iter_mut().for_each(|part| *part *= scale));
        }
        add_to(isa, part, weight_gradient);
    }
}

/// Convolves all maps by Winograd's filtering, the weight transformed once.
///
/// # Safety
/// The maps' pointers are good for all of their numbers, and nobody else has the outputs.
unsafe fn by_winograd<'a>(
    isa: Isa,
    shape: &ConvShape,
    direction: Direction,
    maps: impl Iterator<Item = winograd::Map<'a>>,
    weight: &[f32],
    shift: Option<&[f32]>,
    relu: bool,
    workspace: &mut Workspace,
) {
    // What a shift is padded to.
    const WHOLE: usize = 16;
    let maps: Vec<winograd::Map> = maps.collect();
    let x_is_bf16 = maps.first().is_some_and(|map| stores(&map.x) == Stores::Bf16);
    let [out_channels, in_channels, _, _] = shape.weight();
    let channels = if direction == Direction::Forward { out_channels } else { in_channels };
    let padded = workspace.weights.first::<f32>(channels.next_multiple_of(WHOLE));
    padded.fill(0.0);
    if let Some(shift) = shift {
        padded[..channels].copy_from_slice(shift);
    }
    let packed = workspace.packed.first(winograd::transformed_len(isa, x_is_bf16, shape, direction));
    winograd::transform_weight(isa, x_is_bf16, shape, direction, weight, packed);
    let scratch = workspace.scratch.first(winograd::scratch_len(isa, x_is_bf16, shape, direction));
    // SAFETY: the caller vouches for the maps.
    unsafe { winograd::convolve(isa, shape, direction, &maps, packed, (padded, relu), scratch) };
}

/// What a convolution writes, and what belongs to it.
struct Target<'a> {
    y: *mut u8,
    stores: Stores,
    channels: usize,
    residual: *const u8,
    residual_stores: Stores,
    gate: *const u8,
    shift: Option<&'a [f32]>,
    relu: bool,
}

/// One convolution by the direct kernel, phase by phase, in the precision of its input.
///
/// # Safety
/// The target's pointers are good for all pixels that the phases write, and nobody else has the output.
unsafe fn convolve<P: Iterator<Item = (Panels, Direct)>>(
    isa: Isa,
    phases: impl Fn(usize) -> P,
    (x, shape): (&Numbers, ImageShape),
    weight: &[f32],
    target: &Target,
    workspace: &mut Workspace,
) {
    check("input", x.len(), shape);
    // SAFETY: the caller vouches for the target.
    unsafe {
        match x {
            Numbers::F32(x) => convolve_as::<Real<f32>>(isa, phases(1), x, weight, target, workspace),
            Numbers::Bf16(x) => {
                let mut weights = std::mem::take(&mut workspace.weights);
                let converted = weights.first::<bf16>(weight.len());
                copy(isa, weight, converted);
                convolve_as::<Bf16>(isa, phases(Bf16::PER_WORD), x, converted, target, workspace);
                workspace.weights = weights;
            }
            Numbers::U8(_) => panic!("convolution: input: expected floating-point numbers, found bytes"),
        }
    }
}

/// # Safety
/// As for [`convolve`].
unsafe fn convolve_as<A: Arithmetic<Number: Number, Weight: Plain, Sum: Sum<Float = f32>>>(
    isa: Isa,
    phases: impl Iterator<Item = (Panels, Direct)>,
    x: &[A::Number],
    weight: &[A::Weight],
    target: &Target,
    workspace: &mut Workspace,
) {
    let isa = isa.or_portable();
    let path = A::path(isa);
    let bytes = |stores: Stores| {
        let size = if stores == Stores::Bf16 { size_of::<bf16>() } else { size_of::<f32>() };
        (size, size * target.channels)
    };
    for (panels, direct) in phases {
        let packed = workspace.packed.first::<A::Weight>(panels.len(path.lanes) * A::PER_WORD);
        panels.pack(path.lanes, weight, packed);
        let layer = Layer::<A> {
            isa,
            panels: &panels,
            packed,
            outside: A::Number::default(),
            finish: Finish {
                function: (path.finish)(target.stores, target.residual_stores),
                scale: None,
                shift: target.shift,
                residual_scale: 1.0,
                relu: target.relu,
                low: 0.0,
                y_bytes: bytes(target.stores),
                residual_bytes: bytes(target.residual_stores),
                y_padding: 0,
            },
        };
        let scratch =
            workspace.scratch.first::<f32>(direct::workspace_len::<f32>(direct.slot_bytes::<A::Number>(false)));
        let pointers = Pointers { y: target.y, residual: target.residual, gate: target.gate };
        // SAFETY: the caller vouches for the target; a shift has a number for each output channel.
        unsafe { direct::run(&layer, 1, |_| pointers.plane(direct, x), scratch) };
    }
}

/// What the tasks of a convolution share.
#[derive(Clone, Copy)]
struct Pointers {
    y: *mut u8,
    residual: *const u8,
    gate: *const u8,
}

// SAFETY: each task touches its own pixels and channels.
unsafe impl Sync for Pointers {}

impl Pointers {
    fn plane<'a, N>(&self, direct: Direct, x: &'a [N]) -> Plane<'a, N> {
        Plane { direct, x, mask: None, y: self.y, residual: self.residual, gate: self.gate }
    }
}

fn check(what: &str, found: usize, shape: ImageShape) {
    assert_eq!(found, shape.len(), "convolution: {what}: numbers");
}

fn stores(numbers: &Numbers) -> Stores {
    match numbers {
        Numbers::F32(_) => Stores::Full,
        Numbers::Bf16(_) => Stores::Bf16,
        Numbers::U8(_) => Stores::U8,
    }
}

fn stores_mut(numbers: &NumbersMut) -> Stores {
    match numbers {
        NumbersMut::F32(_) => Stores::Full,
        NumbersMut::Bf16(_) => Stores::Bf16,
        NumbersMut::U8(_) => Stores::U8,
    }
}
