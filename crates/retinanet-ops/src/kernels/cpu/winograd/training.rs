//! The same convolution and the gradient of its input in a training step, with weights transformed anew.

use super::super::Isa;
use super::super::inference::Numbers;
use super::block::{Form, Job, MAX_LANES, Pixels, RawPlane};
use super::pack::{self, Weight};
use super::transform::{F2, F4};
use super::{Cut, MAX_PLANES, MIN_CHANNELS, TileSize, lanes};
use crate::kernels::{ConvShape, ImageShape};

/// Whether the algorithm computes such convolutions, and is the faster one.
pub(crate) fn fits(shape: &ConvShape) -> bool {
    let [out_channels, in_channels, height, width] = shape.weight();
    (height, width, shape.stride(), shape.padding(), shape.groups()) == (3, 3, 1, 1, 1)
        && in_channels.min(out_channels) >= MIN_CHANNELS
}

/// Which way a weight is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// From input to output.
    Forward,
    /// From the output's gradient to the input's.
    InputGradient,
}

/// A batch of feature maps. Pointers that are null stand for what is not there.
#[derive(Clone, Copy)]
pub(crate) struct Map<'a> {
    /// Of what is read; height and width are also those of what is written.
    pub(crate) shape: ImageShape,
    pub(crate) x: Numbers<'a>,
    /// As the output, in f32 or bf16.
    pub(crate) residual: (*const u8, bool),
    /// As the output.
    pub(crate) gate: *const u8,
    pub(crate) y: *mut u8,
    /// Whether the output is bf16.
    pub(crate) is_bf16: bool,
}

fn form(is_bf16: bool) -> Form {
    if is_bf16 { Form::Bf16 } else { Form::F32 }
}

fn cut(isa: Isa, x_is_bf16: bool, shape: &ConvShape, direction: Direction) -> Cut {
    let [out_channels, in_channels, _, _] = shape.weight();
    let (read, written) = match direction {
        Direction::Forward => (in_channels, out_channels),
        Direction::InputGradient => (out_channels, in_channels),
    };
    let tile_size = if x_is_bf16 { TileSize::Two } else { TileSize::Four };
    Cut::new(isa.or_portable(), tile_size, form(x_is_bf16), read, written)
}

/// Numbers of f32 that a transformed weight takes.
pub(crate) fn transformed_len(isa: Isa, x_is_bf16: bool, shape: &ConvShape, direction: Direction) -> usize {
    let Cut { isa, tile_size, input, in_channels, out_channels, .. } = cut(isa, x_is_bf16, shape, direction);
    pack::packed_len(input, lanes(isa), tile_size.places(), in_channels, out_channels)
}

/// Transforms a weight, `[Cout, Cin, 3, 3]`, for [`convolve`]; `packed` has [`transformed_len`] numbers.
pub(crate) fn transform_weight(
    isa: Isa,
    x_is_bf16: bool,
    shape: &ConvShape,
    direction: Direction,
    values: &[f32],
    packed: &mut [f32],
) {
    let Cut { isa, tile_size, input, in_channels, out_channels, .. } = cut(isa, x_is_bf16, shape, direction);
    assert_eq!(values.len(), in_channels * out_channels * 9, "winograd: weight");
    let is_gradient = direction == Direction::InputGradient;
    let weight = Weight { values, in_channels, out_channels, is_gradient };
    match tile_size {
        TileSize::Two => pack::pack_into::<F2, 4, 2>(isa, input, lanes(isa), weight, packed),
        TileSize::Four | TileSize::Six => pack::pack_into::<F4, 6, 4>(isa, input, lanes(isa), weight, packed),
    }
}

/// Numbers of workspace of [`convolve`] for the current number of threads.
pub(crate) fn scratch_len(isa: Isa, x_is_bf16: bool, shape: &ConvShape, direction: Direction) -> usize {
    cut(isa, x_is_bf16, shape, direction).workspace_len()
}

/// `y = gate(relu(conv(x) + shift + residual))` of all maps, which have the channels and storages of the first; the shift is
/// padded to whole vectors.
///
/// # Safety
/// The maps' pointers are good for all of their numbers, and nobody else has the outputs.
pub(crate) unsafe fn convolve(
    isa: Isa,
    shape: &ConvShape,
    direction: Direction,
    maps: &[Map<'_>],
    packed: &[f32],
    (shift, relu): (&[f32], bool),
    workspace: &mut [f32],
) {
    let Some(first) = maps.first() else { return };
    let cut = cut(isa, matches!(first.x, Numbers::Bf16(_)), shape, direction);
    assert!(
        packed.len()
            >= pack::packed_len(cut.input, lanes(cut.isa), cut.tile_size.places(), cut.in_channels, cut.out_channels)
    );
    assert!(shift.len() >= cut.out_channels.next_multiple_of(MAX_LANES), "winograd: shift");
    let pixels = |is_bf16: bool| Pixels { form: form(is_bf16), step: cut.out_channels };
    let mut planes = [RawPlane::NOWHERE; MAX_PLANES];
    let (mut count, mut end_tile) = (0, 0);
    let mut run = |planes: &[RawPlane], end_tile: usize| {
        let job = Job {
            planes,
            first_cell: 0,
            cells: None,
            in_channels: cut.in_channels,
            out_channels: cut.out_channels,
            x_step: cut.in_channels,
            residual: pixels(first.residual.1),
            y: pixels(first.is_bf16),
            packed: packed.as_ptr().cast(),
            shift: shift.as_ptr(),
            relu,
        };
        cut.run(&job, end_tile, workspace);
    };
    for map in maps {
        let ImageShape { batch, height, width, channels } = map.shape;
        assert!(
            cut.input.is(&map.x) && map.x.len() == map.shape.len() && channels == cut.in_channels,
            "winograd: input"
        );
        assert!(map.is_bf16 == first.is_bf16 && map.residual.1 == first.residual.1, "winograd: storages");
        let pixels = height * width;
        for image in 0..batch {
            let at = |pointer: *const u8, is_bf16: bool| {
                let bytes = if is_bf16 { 2 } else { 4 };
                if pointer.is_null() {
                    pointer
                } else {
                    pointer.wrapping_add(image * pixels * cut.out_channels * bytes)
                }
            };
            planes[count] = RawPlane {
                x: map.x.pointer().wrapping_add(image * pixels * channels * cut.input.storage().bytes()),
                residual: at(map.residual.0, map.residual.1),
                gate: at(map.gate, map.is_bf16),
                y: at(map.y, map.is_bf16).cast_mut(),
                ..cut.tile_size.plane((height, width), end_tile)
            };
            end_tile = planes[count].end_tile;
            count += 1;
            if count == MAX_PLANES {
                run(&planes, end_tile);
                (count, end_tile) = (0, 0);
            }
        }
    }
    if count > 0 {
        run(&planes[..count], end_tile);
    }
}
