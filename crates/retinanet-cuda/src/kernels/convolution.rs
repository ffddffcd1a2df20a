//! What is left to be done where cuDNN has an algorithm for the product of a convolution alone.

use super::launch::{ByElement, THREADS, are_aligned, blocks, by_element, of, wide};
use super::source;
use crate::device::{Activation, Address, Argument, Element, Launch, Source};

pub(super) static SOURCE: Source = source!("convolution.cu");

/// A launch, with its arguments.
pub(crate) struct Rest {
    kernel: &'static str,
    grid: [u32; 3],
    arguments: Vec<Argument>,
}

impl Rest {
    /// Numbers are read 16 bytes at a time where `is_wide`.
    fn new(element: Element, count: usize, is_wide: bool, names: [ByElement; 2], arguments: Vec<Argument>) -> Self {
        let work = if is_wide { count / wide(element) } else { count };
        let kernel = of(element, names[usize::from(is_wide)]);
        Self { kernel, grid: [blocks(work), 1, 1], arguments }
    }

    pub(crate) fn launch(&self) -> Launch<'_> {
        let Self { kernel, grid, ref arguments } = *self;
        Launch { source: &SOURCE, kernel, grid, threads: THREADS, arguments }
    }
}

/// `y = activation(y + residual + bias)` of `count` numbers in rows of `channels`.
pub(crate) fn finish(
    element: Element,
    count: usize,
    channels: usize,
    bias: Option<Address>,
    residual: Option<Address>,
    activation: Activation,
    y: Address,
) -> Rest {
    let address = |address: Option<Address>| Argument::Address(address.unwrap_or(Address(0)));
    let (residual, y) = (address(residual), Argument::Address(y));
    let is_wide = channels.is_multiple_of(wide(element)) && are_aligned(&[residual, y]);
    let relu = Argument::I32(i32::from(activation == Activation::Relu));
    // A convolution's sizes are those of memory that is there.
    let arguments = vec![residual, address(bias), relu, y, Argument::I32(channels as i32), Argument::I64(count as i64)];
    Rest::new(
        element,
        count,
        is_wide,
        [by_element!("finish_convolution"), by_element!("finish_convolution_wide")],
        arguments,
    )
}

/// `to += from` of `count` numbers.
pub(crate) fn add(element: Element, count: usize, from: Address, to: Address) -> Rest {
    let (from, to) = (Argument::Address(from), Argument::Address(to));
    let is_wide = count.is_multiple_of(wide(element)) && are_aligned(&[from, to]);
    Rest::new(
        element,
        count,
        is_wide,
        [by_element!("add_product"), by_element!("add_product_wide")],
        vec![from, to, Argument::I64(count as i64)],
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Device, Memory, Twin};
    use std::sync::Arc;

    /// What a launch leaves in memory that began with `before`.
    fn after(device: &Arc<dyn Device>, element: Element, before: &[f32], rest: impl Fn(Address) -> Rest) -> Vec<f32> {
        let memory = Memory::of(device, &element.narrow(before)).expect("memory");
        // SAFETY: the launches of these tests are of as many numbers as `before` has.
        unsafe { device.launch(&rest(memory.span().address()).launch()).expect("a launch") };
        let mut bytes = vec![0; before.len() * element.size()];
        memory.span().read(&mut bytes).expect("what was computed");
        element.widen(&bytes)
    }

    /// Quarters of integers, which 16 bits hold, and so do their sums.
    fn quarters(factor: usize, count: usize) -> Vec<f32> {
        (0..count).map(|i| (i * factor % 23) as f32 / 4.0 - 2.5).collect()
    }

    #[test]
    fn what_is_left_of_a_convolution_is_done() {
        let twin = match Twin::new() {
            Ok(twin) => Arc::new(twin) as Arc<dyn Device>,
            Err(error) => return println!("skipped: {error}"),
        };
        for element in Element::ALL {
            for (rows, channels) in [(1, 1), (5, 7), (3, 8), (9, 40)] {
                let count = rows * channels;
                let (y, residual, bias) = (quarters(5, count), quarters(3, count), quarters(7, channels));
                let memory =
                    |element: Element, values: &[f32]| Memory::of(&twin, &element.narrow(values)).expect("memory");
                let (residuals, biases) = (memory(element, &residual), memory(Element::F32, &bias));
                let (residual_at, bias_at) = (residuals.span().address(), biases.span().address());
                for bits in 0..8 {
                    let [has_bias, has_residual, relu] = [1, 2, 4].map(|bit| bits & bit > 0);
                    let expected: Vec<f32> = (0..count)
                        .map(|i| {
                            let sum = y[i]
                                + if has_residual { residual[i] } else { 0.0 }
                                + if has_bias { bias[i % channels] } else { 0.0 };
                            if relu { sum.max(0.0) } else { sum }
                        })
                        .collect();
                    let activation = if relu { Activation::Relu } else { Activation::None };
                    let found = after(&twin, element, &y, |y| {
                        let (bias, residual) = (has_bias.then_some(bias_at), has_residual.then_some(residual_at));
                        finish(element, count, channels, bias, residual, activation, y)
                    });
                    assert_eq!(found, expected, "{element:?} {rows} x {channels}, {bits:03b}");
                }
                let sums: Vec<f32> = y.iter().zip(&residual).map(|(y, residual)| y + residual).collect();
                assert_eq!(after(&twin, element, &y, |to| add(element, count, residual_at, to)), sums);
            }
        }
    }

    #[test]
    fn numbers_are_read_one_by_one_where_rows_or_addresses_do_not_allow_more() {
        let kernel = |element, count, channels, y| {
            finish(element, count, channels, None, None, Activation::None, Address(y)).kernel
        };
        assert_eq!(kernel(Element::Bf16, 64, 8, 256), "finish_convolution_wide_bf16");
        assert_eq!(kernel(Element::Bf16, 64, 4, 256), "finish_convolution_bf16");
        assert_eq!(kernel(Element::F32, 64, 4, 256), "finish_convolution_wide_f32");
        assert_eq!(kernel(Element::F32, 64, 4, 260), "finish_convolution_f32");
        assert_eq!(add(Element::F32, 7, Address(256), Address(512)).kernel, "add_product_f32");
    }
}
