//! Transformed weights, packed for the register tile.

use super::block::Form;
use super::transform::Transform;
use half::bf16;

/// Words of four bytes as `[panel][place][depth][panel width]`; panels are two vectors of output channels wide, the last
/// may be one. A word holds one number of f32 or two, of neighbouring input channels, of bf16.
#[derive(Debug)]
pub(super) enum Packed {
    F32(Vec<f32>),
    Bf16(Vec<[bf16; 2]>),
}

impl Packed {
    pub(super) fn bytes(&self) -> usize {
        4 * match self {
            Self::F32(words) => words.len(),
            Self::Bf16(words) => words.len(),
        }
    }

    pub(super) fn as_ptr(&self) -> *const u8 {
        match self {
            Self::F32(words) => words.as_ptr().cast(),
            Self::Bf16(words) => words.as_ptr().cast(),
        }
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
    let words = N * N * depth * padded;
    let (mut singles, mut pairs) = match form {
        Form::F32 => (vec![0.0; words], Vec::new()),
        Form::Bf16 => (Vec::new(), vec![[bf16::ZERO; 2]; words]),
    };
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
                let at = |channel: usize| start + channel * width + out_channel - first;
                match form {
                    Form::F32 => singles[at(in_channel)] = value as f32,
                    Form::Bf16 => pairs[at(in_channel / 2)][in_channel % 2] = bf16::from_f64(value),
                }
            }
        }
    }
    match form {
        Form::F32 => Packed::F32(singles),
        Form::Bf16 => Packed::Bf16(pairs),
    }
}
