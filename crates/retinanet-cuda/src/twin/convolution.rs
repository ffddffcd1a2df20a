//! Convolutions by the processor's kernels.

use super::work::pointer;
use crate::device::{Address, Convolution, Element, Pass};
use half::bf16;
use retinanet_ops::kernels::ConvShape;
use retinanet_ops::kernels::cpu::Isa;
use retinanet_ops::kernels::cpu::inference::{Numbers, NumbersMut};
use retinanet_ops::kernels::cpu::training::{
    Forward, InputGradient, WeightGradient, Workspace, forward, input_gradient, weight_gradient,
};

/// Does what a pass says.
///
/// # Safety
/// The addresses hold what the pass says, and nobody else writes there.
pub(super) unsafe fn convolve(convolution: &Convolution, pass: &Pass, workspace: &mut Workspace) {
    let &Convolution { shape, element } = convolution;
    // The processor's kernels read pairs of bfloat16, and no half precision.
    let is_odd = |channels: usize| !(channels / shape.groups()).is_multiple_of(2);
    let has_odd = is_odd(shape.input().channels) || is_odd(shape.output().channels);
    if element == Element::F16 || element == Element::Bf16 && has_odd {
        // SAFETY: the caller's.
        return unsafe { convolve_widened(convolution, pass, workspace) };
    }
    let (isa, inputs, outputs) = (Isa::detect(), shape.input().len(), shape.output().len());
    // SAFETY: the caller vouches for all addresses, and what is written is none of what is read.
    unsafe {
        match *pass {
            Pass::Forward { x, weight, bias, residual, activation, y } => {
                let weight = unpack(&shape, element, weight);
                let bias = bias.map(|bias| std::slice::from_raw_parts(pointer::<f32>(bias), shape.output().channels));
                let residual = residual.map(|residual| numbers(element, residual, outputs));
                let x = numbers(element, x, inputs);
                let map = Forward { shape, x, residual, y: numbers_mut(element, y, outputs) };
                forward(isa, &weight, bias, activation, &mut [map], workspace);
            }
            Pass::InputGradient { weight, y_gradient, x_gradient, accumulate } => {
                let map = InputGradient {
                    shape,
                    y_gradient: numbers(element, y_gradient, outputs),
                    accumulate,
                    relu_input: None,
                    x_gradient: numbers_mut(element, x_gradient, inputs),
                };
                input_gradient(isa, &unpack(&shape, element, weight), &mut [map], workspace);
            }
            Pass::WeightGradient { x, y_gradient, weight_gradient: to, accumulate } => {
                let mut gradient =
                    if accumulate { unpack(&shape, element, to) } else { vec![0.0; shape.weight().iter().product()] };
                let (x, y_gradient) = (numbers(element, x, inputs), numbers(element, y_gradient, outputs));
                weight_gradient(isa, &[WeightGradient { shape, x, y_gradient }], None, &mut gradient, workspace);
                pack(&shape, element, &gradient, to);
            }
        }
    }
}

/// A pass over 16 bits in f32, whose results are rounded at the end.
///
/// # Safety
/// As for [`convolve`].
unsafe fn convolve_widened(&Convolution { shape, element }: &Convolution, pass: &Pass, workspace: &mut Workspace) {
    let convolution = Convolution { shape, element: Element::F32 };
    let (inputs, outputs, taps) = (shape.input().len(), shape.output().len(), shape.weight().iter().product());
    // SAFETY: the caller vouches for all addresses; the copies are of the same shapes.
    unsafe {
        let widen = |from: Address, len: usize| -> Vec<f32> {
            element.widen(std::slice::from_raw_parts(pointer(from), len * element.size()))
        };
        let at = |numbers: &[f32]| Address(numbers.as_ptr().expose_provenance() as u64);
        let (mut result, to) = match *pass {
            Pass::Forward { y, .. } => (vec![0.0f32; outputs], y),
            Pass::InputGradient { x_gradient, .. } => (widen(x_gradient, inputs), x_gradient),
            Pass::WeightGradient { weight_gradient, .. } => (widen(weight_gradient, taps), weight_gradient),
        };
        let result_at = Address(result.as_mut_ptr().expose_provenance() as u64);
        match *pass {
            Pass::Forward { x, weight, bias, residual, activation, .. } => {
                let (x, weight) = (widen(x, inputs), widen(weight, taps));
                let residual = residual.map(|residual| widen(residual, outputs));
                let residual_at = residual.as_ref().map(|residual| at(residual));
                let (x, weight) = (at(&x), at(&weight));
                let pass = Pass::Forward { x, weight, bias, residual: residual_at, activation, y: result_at };
                convolve(&convolution, &pass, workspace);
            }
            Pass::InputGradient { weight, y_gradient, accumulate, .. } => {
                let (weight, y_gradient) = (widen(weight, taps), widen(y_gradient, outputs));
                let (weight, y_gradient) = (at(&weight), at(&y_gradient));
                let pass = Pass::InputGradient { weight, y_gradient, x_gradient: result_at, accumulate };
                convolve(&convolution, &pass, workspace);
            }
            Pass::WeightGradient { x, y_gradient, accumulate, .. } => {
                let (x, y_gradient) = (widen(x, inputs), widen(y_gradient, outputs));
                let (x, y_gradient) = (at(&x), at(&y_gradient));
                let pass = Pass::WeightGradient { x, y_gradient, weight_gradient: result_at, accumulate };
                convolve(&convolution, &pass, workspace);
            }
        }
        let narrow = element.narrow(&result);
        pointer::<u8>(to).copy_from_nonoverlapping(narrow.as_ptr(), narrow.len());
    }
}

/// # Safety
/// So many numbers lie there.
unsafe fn numbers<'a>(element: Element, address: Address, len: usize) -> Numbers<'a> {
    // SAFETY: the caller's.
    unsafe {
        match element {
            Element::F32 => Numbers::F32(std::slice::from_raw_parts(pointer(address), len)),
            Element::Bf16 => Numbers::Bf16(std::slice::from_raw_parts(pointer(address), len)),
            Element::F16 => unreachable!("half precision is widened"),
        }
    }
}

/// # Safety
/// So many numbers lie there, and nobody else sees them.
unsafe fn numbers_mut<'a>(element: Element, address: Address, len: usize) -> NumbersMut<'a> {
    // SAFETY: the caller's.
    unsafe {
        match element {
            Element::F32 => NumbersMut::F32(std::slice::from_raw_parts_mut(pointer(address), len)),
            Element::Bf16 => NumbersMut::Bf16(std::slice::from_raw_parts_mut(pointer(address), len)),
            Element::F16 => unreachable!("half precision is widened"),
        }
    }
}

/// The place in `[O, kh, kw, I]` of each number of `[O, I, kh, kw]`.
fn places(shape: &ConvShape) -> impl Iterator<Item = usize> {
    let [outputs, inputs, height, width] = shape.weight();
    let taps = height * width;
    (0..outputs * inputs * taps).map(move |i| {
        let (output, input, tap) = (i / (inputs * taps), i / taps % inputs, i % taps);
        (output * taps + tap) * inputs + input
    })
}

/// `[O, I, kh, kw]` in f32.
///
/// # Safety
/// A weight of this shape lies there.
unsafe fn unpack(shape: &ConvShape, element: Element, weight: Address) -> Vec<f32> {
    // SAFETY: the caller's.
    match unsafe { numbers(element, weight, shape.weight().iter().product()) } {
        Numbers::F32(weight) => places(shape).map(|place| weight[place]).collect(),
        Numbers::Bf16(weight) => places(shape).map(|place| weight[place].to_f32()).collect(),
        Numbers::U8(_) => unreachable!("an element is a floating-point number"),
    }
}

/// The way back.
///
/// # Safety
/// As for [`unpack`], and nobody else sees it.
unsafe fn pack(shape: &ConvShape, element: Element, from: &[f32], to: Address) {
    // SAFETY: the caller's.
    match unsafe { numbers_mut(element, to, from.len()) } {
        NumbersMut::F32(to) => places(shape).zip(from).for_each(|(place, &value)| to[place] = value),
        NumbersMut::Bf16(to) => places(shape).zip(from).for_each(|(place, &value)| to[place] = bf16::from_f32(value)),
        NumbersMut::U8(_) => unreachable!("an element is a floating-point number"),
    }
}
