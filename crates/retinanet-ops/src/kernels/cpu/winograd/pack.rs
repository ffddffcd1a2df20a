//! Transformed weights, packed for the register tile.

use super::super::inference::Lines;
use super::super::isa::vectorized;
use super::super::tasks::{SharedMut, for_each};
use super::super::{Isa, Storable};
use super::block::{Form, MAX_LANES};
use super::transform::Transform;
use half::bf16;

/// Words of four bytes as `[panel][place][depth][panel width]`; panels are two vectors of output channels wide, the last
/// may be one. A word holds one number of f32 or two, of neighbouring input channels, of bf16.
#[derive(Debug)]
pub(super) struct Packed(Lines);

/// The places of the largest tile.
const MAX_PLACES: usize = 64;

impl Packed {
    pub(super) fn as_ptr(&self) -> *const u8 {
        self.0.numbers().as_ptr()
    }
}

/// A weight, `[Cout, Cin, 3, 3]`, and what it is multiplied with.
#[derive(Clone, Copy)]
pub(super) struct Weight<'a> {
    pub(super) values: &'a [f32],
    /// Channels that are read and written: Cin and Cout, or Cout and Cin in the gradient of the input, whose weights are
    /// rotated by half a turn.
    pub(super) in_channels: usize,
    pub(super) out_channels: usize,
    pub(super) is_gradient: bool,
}

/// Channels read that a task transforms.
const BLOCK: usize = 16;

/// Words of the packed form.
pub(super) fn packed_len(form: Form, lanes: usize, places: usize, in_channels: usize, out_channels: usize) -> usize {
    places * in_channels.div_ceil(form.per_word()) * out_channels.next_multiple_of(lanes)
}

/// G g G^T of every weight, computed in double precision.
pub(super) fn pack<T: Transform<N, M>, const N: usize, const M: usize>(
    isa: Isa,
    form: Form,
    lanes: usize,
    weight: Weight<'_>,
) -> Packed {
    let len = packed_len(form, lanes, N * N, weight.in_channels, weight.out_channels);
    let mut packed = Lines::zeros::<f32>(len);
    pack_into::<T, N, M>(isa, form, lanes, weight, packed.numbers_mut());
    Packed(packed)
}

/// [`pack`] to the caller's memory.
pub(super) fn pack_into<T: Transform<N, M>, const N: usize, const M: usize>(
    isa: Isa,
    form: Form,
    lanes: usize,
    weight: Weight<'_>,
    packed: &mut [f32],
) {
    let Weight { in_channels, out_channels, .. } = weight;
    assert_eq!(packed.len(), packed_len(form, lanes, N * N, in_channels, out_channels), "winograd: packed weights");
    let blocks = in_channels.div_ceil(BLOCK);
    let panel_width = 2 * lanes;
    let padded = out_channels.next_multiple_of(lanes);
    let depth = in_channels.div_ceil(form.per_word());
    let shared = SharedMut::new(packed);
    for_each(out_channels.div_ceil(lanes) * blocks, |task_idx| {
        let (first, block) = (task_idx / blocks * lanes, task_idx % blocks);
        let panel = first / panel_width * panel_width;
        let width = panel_width.min(padded - panel);
        let words = block * BLOCK / form.per_word()..depth.min((block + 1) * BLOCK / form.per_word());
        let mut transformed = [[0.0; MAX_LANES]; MAX_PLACES];
        let mut second = [[0.0; MAX_LANES]; MAX_PLACES];
        for word in words {
            let in_channel = word * form.per_word();
            transform(isa, &T::WEIGHT, &taps(&weight, lanes, first, in_channel), &mut transformed);
            if form == Form::Bf16 {
                transform(isa, &T::WEIGHT, &taps(&weight, lanes, first, in_channel + 1), &mut second);
                pair(isa, &mut transformed[..N * N], &second);
            }
            for (place, values) in transformed[..N * N].iter().enumerate() {
                let row = (panel * N * N + place * width) * depth + word * width;
                // SAFETY: words of lanes and input channels that are this task's alone.
                unsafe { std::ptr::copy_nonoverlapping(values.as_ptr(), shared.pointer(row + first - panel), lanes) };
            }
        }
    });
}

vectorized! {
    /// Makes words of two numbers of bf16, the first in the lower half.
    fn pair[](first: &mut [[f32; MAX_LANES]], second: &[[f32; MAX_LANES]]) {
        for (first, second) in first.iter_mut().zip(second) {
            for lane in 0..MAX_LANES {
                let bits = |value: f32| u32::from(<bf16 as Storable>::nearest(value).to_bits());
                first[lane] = f32::from_bits(bits(first[lane]) | bits(second[lane]) << 16);
            }
        }
    }
}

/// The taps of one channel read and a vector of channels written; 0 beyond the last.
fn taps(weight: &Weight, lanes: usize, first: usize, in_channel: usize) -> [[f64; MAX_LANES]; 9] {
    let mut taps = [[0.0; MAX_LANES]; 9];
    if in_channel >= weight.in_channels {
        return taps;
    }
    for lane in 0..lanes.min(weight.out_channels - first) {
        let out_channel = first + lane;
        let start = if weight.is_gradient {
            in_channel * weight.out_channels + out_channel
        } else {
            out_channel * weight.in_channels + in_channel
        };
        for (tap, &value) in weight.values[start * 9..][..9].iter().enumerate() {
            taps[if weight.is_gradient { 8 - tap } else { tap }][lane] = f64::from(value);
        }
    }
    taps
}

vectorized! {
    /// G g G^T, place by place, rounded once.
    fn transform[](factors: &[[f64; 3]], taps: &[[f64; MAX_LANES]; 9], transformed: &mut [[f32; MAX_LANES]; MAX_PLACES]) {
        let count = factors.len();
        for j in 0..count {
            // Column j of g G^T, then G from the left.
            let mut right = [[0.0; MAX_LANES]; 3];
            for a in 0..3 {
                for b in 0..3 {
                    for lane in 0..MAX_LANES {
                        right[a][lane] += factors[j][b] * taps[a * 3 + b][lane];
                    }
                }
            }
            for i in 0..count {
                let [f0, f1, f2] = factors[i];
                let sums = &mut transformed[i * count + j];
                for lane in 0..MAX_LANES {
                    sums[lane] = (f0 * right[0][lane] + f1 * right[1][lane] + f2 * right[2][lane]) as f32;
                }
            }
        }
    }
}
