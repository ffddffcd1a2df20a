//! Transformed weights, packed for the register tile.

use super::super::inference::Lines;
use super::block::Form;
use super::transform::Transform;
use half::bf16;

/// Words of four bytes as `[panel][place][depth][panel width]`; panels are two vectors of output channels wide, the last
/// may be one. A word holds one number of f32 or two, of neighbouring input channels, of bf16.
#[derive(Debug)]
pub(super) struct Packed(Lines);

impl Packed {
    pub(super) fn bytes(&self) -> usize {
        size_of_val(self.0.numbers::<u8>())
    }

    pub(super) fn as_ptr(&self) -> *const u8 {
        self.0.numbers().as_ptr()
    }
}

/// G g G^T of every weight of `[Cout, Cin, 3, 3]`, computed in double precision.
pub(super) fn pack<T: Transform<N, M>, const N: usize, const M: usize>(
    form: Form,
    lanes: usize,
    in_channels: usize,
    out_channels: usize,
    weight: &[f32],
) -> Packed {
    let depth = in_channels.div_ceil(form.per_word());
    let padded = out_channels.next_multiple_of(lanes);
    let mut packed = Lines::zeros::<f32>(N * N * depth * padded);
    let panel_width = 2 * lanes;
    for (idx, g) in weight.chunks_exact(9).enumerate() {
        let (out_channel, in_channel) = (idx / in_channels, idx % in_channels);
        let first = out_channel / panel_width * panel_width;
        let width = panel_width.min(padded - first);
        // g G^T, then G from the left.
        let mut right = [[0.0; N]; 3];
        for a in 0..3 {
            for j in 0..N {
                right[a][j] = (0..3).map(|b| T::WEIGHT[j][b] * f64::from(g[a * 3 + b])).sum();
            }
        }
        for i in 0..N {
            for j in 0..N {
                let value: f64 = (0..3).map(|a| T::WEIGHT[i][a] * right[a][j]).sum();
                let start = (first * N * N + (i * N + j) * width) * depth;
                let word = start + in_channel / form.per_word() * width + out_channel - first;
                match form {
                    Form::F32 => packed.numbers_mut::<f32>()[word] = value as f32,
                    Form::Bf16 => packed.numbers_mut::<bf16>()[2 * word + in_channel % 2] = bf16::from_f64(value),
                }
            }
        }
    }
    Packed(packed)
}
