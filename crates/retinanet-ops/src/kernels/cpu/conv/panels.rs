//! Weights packed for the register tile: panels two vectors of output channels wide, one row for each tap and word of
//! input channels, in the order in which the tile reads the input.

use super::super::element::sealed::Vectors;
use super::super::tasks::{SharedMut, for_each};
use super::super::vector::Vector;
use super::super::{Element, Isa};
use crate::kernels::ConvShape;

/// Groups with fewer channels than this are packed together, with zeros between them: a vector has 16 lanes whether they
/// are used or not.
const MERGED_CHANNELS: usize = 16;

/// Input channels packed together.
const BLOCK: usize = 8;

/// The taps of a kernel along one axis, as places in the weight.
#[derive(Clone, Copy, Debug)]
pub(super) struct Taps {
    pub(super) count: usize,
    /// Place of the first tap.
    pub(super) first: usize,
    pub(super) reversed_step: usize,
    pub(super) reversed: bool,
}

impl Taps {
    fn all(count: usize) -> Self {
        Self { count, first: 0, reversed_step: 1, reversed: false }
    }

    fn place(&self, tap: usize) -> usize {
        if self.reversed { self.first - tap * self.reversed_step } else { self.first + tap * self.reversed_step }
    }
}

/// A weight seen as matrices `[taps * in_channels, out_channels]`, one for each group of merged groups. In the input
/// gradient, "in" is the output of the convolution.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Panels {
    /// Merged groups.
    pub(super) groups: usize,
    pub(super) in_channels: usize,
    pub(super) out_channels: usize,
    pub(super) taps_y: Taps,
    pub(super) taps_x: Taps,
    /// Original groups in one merged group.
    merged: usize,
    /// Input channels in one word.
    per_word: usize,
    /// The weight's dimensions, OIHW.
    weight: [usize; 4],
    transposed: bool,
}

impl Panels {
    /// For inputs that are read in words of `per_word` channels.
    pub(crate) fn forward(shape: &ConvShape, per_word: usize) -> Self {
        let [out_channels, in_channels, kernel_height, kernel_width] = shape.weight();
        let channels = (in_channels, out_channels / shape.groups());
        Self::new(shape, per_word, channels, (Taps::all(kernel_height), Taps::all(kernel_width)))
    }

    pub(super) fn input_gradient(shape: &ConvShape, per_word: usize, taps_y: Taps, taps_x: Taps) -> Self {
        let [out_channels, in_channels, _, _] = shape.weight();
        let channels = (out_channels / shape.groups(), in_channels);
        Self { transposed: true, ..Self::new(shape, per_word, channels, (taps_y, taps_x)) }
    }

    /// For groups of `in_channels` that are read and `out_channels` that are written.
    fn new(
        shape: &ConvShape,
        per_word: usize,
        (in_channels, out_channels): (usize, usize),
        (taps_y, taps_x): (Taps, Taps),
    ) -> Self {
        let groups = shape.groups();
        let widest = in_channels.max(out_channels);
        // Groups begin with a word.
        let can_merge =
            |merged: usize| groups.is_multiple_of(merged) && (merged * in_channels).is_multiple_of(per_word);
        let merged = (1..=groups)
            .rev()
            .find(|&merged| can_merge(merged) && merged * widest <= MERGED_CHANNELS)
            .or_else(|| (1..=groups).find(|&merged| can_merge(merged)))
            .unwrap_or(groups);
        Self {
            groups: groups / merged,
            in_channels: merged * in_channels,
            out_channels: merged * out_channels,
            taps_y,
            taps_x,
            merged,
            per_word,
            weight: shape.weight(),
            transposed: false,
        }
    }

    /// Input channels in one word.
    pub(super) fn per_word(&self) -> usize {
        self.per_word
    }

    /// Words of one group's input channels; the last may be padded.
    pub(super) fn in_words(&self) -> usize {
        self.in_channels.div_ceil(self.per_word)
    }

    /// Rows of a matrix, in words.
    pub(super) fn depth(&self) -> usize {
        self.taps_y.count * self.taps_x.count * self.in_words()
    }

    /// Output channels of one group rounded up to whole vectors; the last panel may be half as wide.
    pub(super) fn padded_channels(&self, lanes: usize) -> usize {
        self.out_channels.next_multiple_of(lanes)
    }

    /// Panels of one group.
    pub(super) fn num_panels(&self, lanes: usize) -> usize {
        self.out_channels.div_ceil(2 * lanes)
    }

    /// Words of all panels.
    pub(crate) fn len(&self, lanes: usize) -> usize {
        self.groups * self.depth() * self.padded_channels(lanes)
    }

    /// Packs for vectors of `lanes`; `packed` holds as many numbers as fit in [`Self::len`] words.
    pub(crate) fn pack<N: Copy + Default + Send + Sync>(&self, lanes: usize, weight: &[N], packed: &mut [N]) {
        let (per_word, in_words) = (self.per_word, self.in_words());
        let width = 2 * lanes;
        let (num_panels, padded, depth) = (self.num_panels(lanes), self.padded_channels(lanes), self.depth());
        let [_, _, kernel_height, kernel_width] = self.weight;
        let num_taps = kernel_height * kernel_width;
        // Channels of one original group, in the roles that they have here.
        let (group_in, group_out) = (self.in_channels / self.merged, self.out_channels / self.merged);
        // Steps in the weight from one "out" channel to the next, and from one "in" channel of the group to the next.
        let (out_step, in_step) =
            if self.transposed { (num_taps, self.weight[1] * num_taps) } else { (self.weight[1] * num_taps, num_taps) };
        let shared = SharedMut::new(packed);
        for_each(self.groups * num_panels, |task_idx| {
            let (group, panel) = (task_idx / num_panels, task_idx % num_panels);
            let first = panel * width;
            let panel_width = width.min(padded - first);
            let start = (group * depth * padded + depth * first) * per_word;
            // SAFETY: panels do not overlap, and each is one task's.
            let rows = unsafe { shared.slice(start, depth * panel_width * per_word) };
            if self.merged > 1 || panel_width > self.out_channels - first || in_words * per_word > self.in_channels {
                rows.fill(N::default());
            }
            let lanes = panel_width.min(self.out_channels - first);
            if num_taps == 1 && self.merged == 1 && group_in.is_multiple_of(per_word) && matches!(per_word, 1 | 2 | 4) {
                let step = self.weight[1];
                let matrix = Matrix {
                    values: &weight[group * if self.transposed { group_in } else { group_out } * step..],
                    step,
                    columns: first..first + lanes,
                    row_width: panel_width,
                };
                match (self.transposed, per_word) {
                    (false, 1) => matrix.transpose::<1>(rows),
                    (false, 2) => matrix.transpose::<2>(rows),
                    (false, _) => matrix.transpose::<4>(rows),
                    (true, 1) => matrix.copy::<1>(rows),
                    (true, 2) => matrix.copy::<2>(rows),
                    (true, _) => matrix.copy::<4>(rows),
                }
                return;
            }
            // By blocks of input channels, so that the rows being filled stay in the first-level cache.
            for first_in in (0..group_in).step_by(BLOCK) {
                let block_in = first_in..group_in.min(first_in + BLOCK);
                for lane in 0..lanes {
                    let (merged_idx, out_channel) = ((first + lane) / group_out, (first + lane) % group_out);
                    let original = group * self.merged + merged_idx;
                    // Both layouts hold an original group as one block of `O / groups` outputs.
                    let group_start =
                        original * self.weight[1] * num_taps * if self.transposed { group_in } else { group_out };
                    for in_channel in block_in.clone() {
                        let taps = &weight[group_start + out_channel * out_step + in_channel * in_step..][..num_taps];
                        let channel = merged_idx * group_in + in_channel;
                        let mut place = (channel / per_word * panel_width + lane) * per_word + channel % per_word;
                        for tap_y in 0..self.taps_y.count {
                            let taps = &taps[self.taps_y.place(tap_y) * kernel_width..][..kernel_width];
                            for tap_x in 0..self.taps_x.count {
                                rows[place] = taps[self.taps_x.place(tap_x)];
                                place += in_words * panel_width * per_word;
                            }
                        }
                    }
                }
            }
        });
    }
}

/// The weight of one group of a 1x1 convolution, of which a panel takes some output channels. Its loops are small enough for
/// the compiler to see through: training packs every weight anew at every step.
struct Matrix<'a, N> {
    values: &'a [N],
    /// Numbers from one row of the weight to the next.
    step: usize,
    /// Output channels.
    columns: std::ops::Range<usize>,
    /// Words of a row of the panel.
    row_width: usize,
}

impl<N: Copy> Matrix<'_, N> {
    /// Packs a weight whose rows are output channels, in words of `P` input channels.
    fn transpose<const P: usize>(&self, rows: &mut [N]) {
        let (words, _) = rows.as_chunks_mut::<P>();
        for (block, words) in words.chunks_mut(BLOCK * self.row_width).enumerate() {
            for (lane, column) in self.columns.clone().enumerate() {
                let from = &self.values[column * self.step + block * BLOCK * P..][..words.len() / self.row_width * P];
                let (from, _) = from.as_chunks::<P>();
                from.iter().zip(words[lane..].iter_mut().step_by(self.row_width)).for_each(|(from, to)| *to = *from);
            }
        }
    }

    /// Packs a weight whose columns are output channels.
    fn copy<const P: usize>(&self, rows: &mut [N]) {
        let (words, _) = rows.as_chunks_mut::<P>();
        for (word, row) in words.chunks_exact_mut(self.row_width).enumerate() {
            for place in 0..P {
                let from = &self.values[(word * P + place) * self.step..][self.columns.clone()];
                from.iter().zip(&mut *row).for_each(|(from, to)| to[place] = *from);
            }
        }
    }
}

/// Numbers in a vector of the instruction set.
pub(super) fn lanes<T: Element>(isa: Isa) -> usize {
    match isa.or_portable() {
        Isa::Portable => <T as Vectors>::Portable::LANES,
        Isa::Avx2 => <T as Vectors>::Avx2::LANES,
        Isa::Avx512 => <T as Vectors>::Avx512::LANES,
        Isa::Neon => <T as Vectors>::Neon::LANES,
    }
}

/// Numbers of the weight packed for [`conv2d`](super::conv2d).
pub fn packed_weights_len<T: Element>(isa: Isa, shape: &ConvShape) -> usize {
    Panels::forward(shape, 1).len(lanes::<T>(isa))
}

/// Packs a weight for [`conv2d`](super::conv2d). The packed form depends on the instruction set, not on the input's size.
///
/// # Shapes
/// - `weight`: `[Cout, Cin / groups, kh, kw]`
/// - `packed`: [`packed_weights_len`]
///
/// # Panics
/// A slice is shorter than its shape.
pub fn pack_weights<T: Element>(isa: Isa, shape: &ConvShape, weight: &[T], packed: &mut [T]) {
    assert_eq!(weight.len(), shape.weight().iter().product::<usize>(), "pack_weights: weight");
    Panels::forward(shape, 1).pack(lanes::<T>(isa), weight, packed);
}

/// Numbers of the weight packed for [`conv2d_input_gradient`](super::conv2d_input_gradient).
pub fn packed_weights_for_input_gradient_len<T: Element>(isa: Isa, shape: &ConvShape) -> usize {
    super::phases(shape, 1).map(|(panels, _)| panels.len(lanes::<T>(isa))).sum()
}

/// Packs a weight for [`conv2d_input_gradient`](super::conv2d_input_gradient): rotated, input and output exchanged.
///
/// # Shapes
/// - `weight`: `[Cout, Cin / groups, kh, kw]`
/// - `packed`: [`packed_weights_for_input_gradient_len`]
///
/// # Panics
/// A slice is shorter than its shape.
pub fn pack_weights_for_input_gradient<T: Element>(isa: Isa, shape: &ConvShape, weight: &[T], packed: &mut [T]) {
    assert_eq!(weight.len(), shape.weight().iter().product::<usize>(), "pack_weights: weight");
    let mut start = 0;
    for (panels, _) in super::phases(shape, 1) {
        let len = panels.len(lanes::<T>(isa));
        panels.pack(lanes::<T>(isa), weight, &mut packed[start..start + len]);
        start += len;
    }
}
