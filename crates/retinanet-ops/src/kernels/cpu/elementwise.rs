//! Sums and masks, number by number.

use super::isa::vectorized;
use super::tasks::{SharedMut, for_each};
use super::{Element, Isa};
use crate::kernels::Activation;

/// Numbers of one task.
const CHUNK: usize = 32 * 1024;

/// Runs `body` on chunks of the output in parallel, with the place of the first number.
fn for_each_chunk<T: Element>(out: &mut [T], body: impl Fn(std::ops::Range<usize>, &mut [T]) + Send + Sync) {
    let len = out.len();
    let shared = SharedMut::new(out);
    for_each(len.div_ceil(CHUNK), |task_idx| {
        let range = task_idx * CHUNK..len.min((task_idx + 1) * CHUNK);
        // SAFETY: chunks do not overlap.
        let out = unsafe { shared.slice(range.start, range.len()) };
        body(range, out);
    });
}

/// `y = act(a + b)`.
///
/// # Panics
/// The lengths differ.
pub fn add<T: Element>(isa: Isa, a: &[T], b: &[T], activation: Activation, y: &mut [T]) {
    assert!(a.len() == y.len() && b.len() == y.len(), "add: lengths");
    for_each_chunk(y, |range, y| add_chunk(isa, &a[range.clone()], &b[range], activation, y));
}

vectorized! {
    fn add_chunk[T: Element](a: &[T], b: &[T], activation: Activation, y: &mut [T]) {
        let terms = y.iter_mut().zip(a).zip(b);
        match activation {
            Activation::None => {
                for ((y, &a), &b) in terms {
                    *y = a + b;
                }
            }
            Activation::Relu => {
                for ((y, &a), &b) in terms {
                    *y = (a + b).relu();
                }
            }
        }
    }
}

/// The gradient before a ReLU: that after it where the output is positive, else 0.
///
/// # Panics
/// The lengths differ.
pub fn relu_gradient<T: Element>(isa: Isa, y_gradient: &[T], y: &[T], x_gradient: &mut [T]) {
    assert!(y_gradient.len() == x_gradient.len() && y.len() == x_gradient.len(), "relu gradient: lengths");
    for_each_chunk(x_gradient, |range, out| {
        relu_gradient_chunk(isa, &y_gradient[range.clone()], &y[range], out);
    });
}

vectorized! {
    fn relu_gradient_chunk[T: Element](y_gradient: &[T], y: &[T], x_gradient: &mut [T]) {
        for ((out, &gradient), &y) in x_gradient.iter_mut().zip(y_gradient).zip(y) {
            *out = if y > T::ZERO { gradient } else { T::ZERO };
        }
    }
}
