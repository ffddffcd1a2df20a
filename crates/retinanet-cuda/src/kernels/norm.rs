//! Batch norm and group norm, and sums over pixels.

use super::launch::{
    THREADS, are_aligned, blocks, by_element, double, int, is_relu, launch, long, of, operand, optional, wide,
};
use super::source;
use crate::device::{Activation, Argument, Element, Source, Span};
use crate::error::{Error, Result};
use retinanet_ops::kernels::ImageShape;

pub(super) const SOURCE: Source = source!("norm.cu");

/// A feature map as a matrix; sums and coefficients are per group of pixels, an image or the whole batch.
#[derive(Clone, Copy, Debug)]
struct Columns {
    groups: usize,
    pixels: usize,
    channels: usize,
}

/// Parts that sums are made in, at most: enough to fill the largest GPU.
const MOST_PARTS: usize = 512;
/// Pixels of a thread that are worth a part.
const PART_PIXELS: usize = 16;
/// Threads beside each other in a row of a block, at most.
const MOST_LANES: usize = 64;

/// How a block and a grid lie over a matrix.
struct Tiling {
    is_wide: bool,
    lanes: usize,
    blocks: usize,
    parts: usize,
    part_pixels: usize,
}

impl Columns {
    fn of_batch(shape: &ImageShape) -> Self {
        Self { groups: 1, pixels: shape.num_pixels(), channels: shape.channels }
    }

    fn of_images(shape: &ImageShape) -> Self {
        Self { groups: shape.batch, pixels: shape.height * shape.width, channels: shape.channels }
    }

    fn len(&self) -> usize {
        self.groups * self.pixels * self.channels
    }

    fn tiling(&self, element: Element, maps: &[Argument]) -> Tiling {
        let is_wide = self.channels.is_multiple_of(wide(element)) && are_aligned(maps);
        let vectors = if is_wide { self.channels / wide(element) } else { self.channels };
        let lanes = vectors.next_power_of_two().min(MOST_LANES);
        let (blocks, rows) = (vectors.div_ceil(lanes), THREADS as usize / lanes);
        let wanted = self.pixels.div_ceil(rows * PART_PIXELS);
        let parts = wanted.min(MOST_PARTS.div_ceil(self.groups * blocks)).max(1);
        let part_pixels = self.pixels.div_ceil(parts).next_multiple_of(rows);
        Tiling { is_wide, lanes, blocks, parts: self.pixels.div_ceil(part_pixels).max(1), part_pixels }
    }

    /// Launches a kernel of [`Tiling`], whose last arguments say how it lies.
    ///
    /// # Safety
    /// As for [`launch`].
    unsafe fn launch(
        &self,
        at: Span<'_>,
        tiling: &Tiling,
        kernel: &'static str,
        mut arguments: Vec<Argument>,
    ) -> Result<()> {
        let number = |value| int("norm", value);
        arguments.extend([
            number(self.pixels)?,
            number(self.channels)?,
            number(tiling.lanes)?,
            number(tiling.part_pixels)?,
        ]);
        let grid = [tiling.blocks as u32, tiling.parts as u32, self.groups as u32];
        // SAFETY: the caller's.
        unsafe { launch(at, &SOURCE, kernel, grid, &arguments) }
    }

    /// `[groups, 2, C]` in f64: sums of a and of a b (without b, of a^2), at the start of the workspace.
    fn sums(&self, element: Element, a: Span<'_>, b: Option<Span<'_>>, workspace: Span<'_>) -> Result<Argument> {
        let maps = [
            operand("sums over pixels: a", a, self.len(), element.size())?,
            optional("sums over pixels: b", b, self.len(), element.size())?,
        ];
        let tiling = self.tiling(element, &maps);
        let (row, rows) = (2 * self.channels, self.groups * tiling.parts);
        operand("sums over pixels: workspace", workspace, (self.groups + rows) * row, 8)?;
        let (sums, partials) = (workspace, workspace.part(self.groups * row * 8, rows * row * 8));
        let partials = Argument::Address(partials.address());
        let sums = Argument::Address(sums.address());
        let names = if tiling.is_wide { by_element!("channel_sums_wide") } else { by_element!("channel_sums") };
        let number = |value| int("norm", value);
        let totals = [partials, sums, number(tiling.parts)?, number(row)?];
        // SAFETY: the sizes were checked.
        unsafe {
            self.launch(a, &tiling, of(element, names), vec![maps[0], maps[1], partials])?;
            launch(a, &SOURCE, "sum_parts", [row.div_ceil(32) as u32, self.groups as u32, 1], &totals)?;
        }
        Ok(sums)
    }

    /// `y = activation(a x + b + residual)`, coefficients `[groups, 2, C]` in f32.
    fn linear(
        &self,
        element: Element,
        x: Span<'_>,
        coefficients: Argument,
        residual: Option<Span<'_>>,
        activation: Activation,
        y: Span<'_>,
    ) -> Result<()> {
        let arguments = vec![
            operand("norm: x", x, self.len(), element.size())?,
            coefficients,
            optional("norm: residual", residual, self.len(), element.size())?,
            is_relu(activation),
            operand("norm: y", y, self.len(), element.size())?,
        ];
        let tiling = self.tiling(element, &arguments);
        let names = if tiling.is_wide { by_element!("linear_wide") } else { by_element!("linear") };
        // SAFETY: the sizes were checked, those of the coefficients by the callers.
        unsafe { self.launch(x, &tiling, of(element, names), arguments) }
    }

    /// `x_gradient = p y_gradient + q x + r`, coefficients `[groups, 3, C]` in f32.
    fn linear_gradient(
        &self,
        element: Element,
        x: Span<'_>,
        y_gradient: Span<'_>,
        coefficients: Argument,
        x_gradient: Span<'_>,
    ) -> Result<()> {
        let arguments = vec![
            operand("norm gradient: x", x, self.len(), element.size())?,
            operand("norm gradient: y gradient", y_gradient, self.len(), element.size())?,
            coefficients,
            operand("norm gradient: x gradient", x_gradient, self.len(), element.size())?,
        ];
        let tiling = self.tiling(element, &arguments);
        let names = if tiling.is_wide { by_element!("linear_gradient_wide") } else { by_element!("linear_gradient") };
        // SAFETY: the sizes were checked, those of the coefficients by the callers.
        unsafe { self.launch(x, &tiling, of(element, names), arguments) }
    }

    /// Bytes of sums and their parts, however the map lies in memory.
    fn sums_bytes(&self) -> usize {
        2 * self.channels * 8 * (self.groups + self.groups.max(MOST_PARTS + self.groups))
    }

    /// Where coefficients lie in the workspace: behind the sums.
    fn coefficients(&self, rows: usize, workspace: Span<'_>) -> Result<Argument> {
        let (start, bytes) = (self.sums_bytes(), self.groups * rows * self.channels * 4);
        operand("norm: workspace", workspace, start + bytes, 1)?;
        Ok(Argument::Address(workspace.part(start, bytes).address()))
    }
}

/// Bytes of workspace that suffice for every function here on maps of this shape.
pub fn norm_workspace_bytes(shape: &ImageShape) -> usize {
    let bytes = |columns: Columns| columns.sums_bytes() + columns.groups * 3 * columns.channels * 4;
    bytes(Columns::of_batch(shape)).max(bytes(Columns::of_images(shape)))
}

/// Bytes of what [`batch_norm_statistics`] writes.
pub fn batch_norm_statistics_bytes(channels: usize) -> usize {
    2 * channels * 8
}

/// Bytes of what [`group_norm`] leaves for its gradient.
pub fn group_norm_statistics_bytes(images: usize, groups: usize) -> usize {
    images * groups * 2 * 8
}

/// Mean and biased variance of each channel over the batch, `[2, C]` in f64.
///
/// # Errors
/// A span is shorter than its shape, or a launch fails.
pub fn batch_norm_statistics(
    element: Element,
    shape: &ImageShape,
    x: Span<'_>,
    statistics: Span<'_>,
    workspace: Span<'_>,
) -> Result<()> {
    let columns = Columns::of_batch(shape);
    let arguments = [
        columns.sums(element, x, None, workspace)?,
        operand("batch norm: statistics", statistics, 2 * shape.channels, 8)?,
        int("batch norm: channels", shape.channels)?,
        long("batch norm: pixels", columns.pixels)?,
    ];
    // SAFETY: the sizes were checked.
    unsafe { launch(x, &SOURCE, "batch_statistics", [blocks(shape.channels), 1, 1], &arguments) }
}

/// `y = activation((x - mean) / sqrt(variance + epsilon) * weight + bias + residual)`, by the statistics of
/// [`batch_norm_statistics`]. Weight and bias are `[C]` in f32.
///
/// # Errors
/// A span is shorter than its shape, or a launch fails.
pub fn batch_norm(
    element: Element,
    shape: &ImageShape,
    epsilon: f64,
    x: Span<'_>,
    (weight, bias): (Span<'_>, Span<'_>),
    statistics: Span<'_>,
    residual: Option<Span<'_>>,
    activation: Activation,
    y: Span<'_>,
    workspace: Span<'_>,
) -> Result<()> {
    let (columns, channels) = (Columns::of_batch(shape), shape.channels);
    let coefficients = columns.coefficients(2, workspace)?;
    let arguments = [
        operand("batch norm: statistics", statistics, 2 * channels, 8)?,
        operand("batch norm: weight", weight, channels, 4)?,
        operand("batch norm: bias", bias, channels, 4)?,
        coefficients,
        int("batch norm: channels", channels)?,
        double(epsilon),
    ];
    // SAFETY: the sizes were checked.
    unsafe { launch(x, &SOURCE, "batch_coefficients", [blocks(channels), 1, 1], &arguments)? };
    columns.linear(element, x, coefficients, residual, activation, y)
}

/// The gradient of [`batch_norm`]'s input through the statistics too, written over `x_gradient`, which may be `y_gradient`; those
/// of weight and bias are added to what is there, in f32.
///
/// # Errors
/// A span is shorter than its shape, or a launch fails.
pub fn batch_norm_gradient(
    element: Element,
    shape: &ImageShape,
    epsilon: f64,
    x: Span<'_>,
    weight: Span<'_>,
    statistics: Span<'_>,
    y_gradient: Span<'_>,
    x_gradient: Span<'_>,
    (weight_gradient, bias_gradient): (Option<Span<'_>>, Option<Span<'_>>),
    workspace: Span<'_>,
) -> Result<()> {
    let (columns, channels) = (Columns::of_batch(shape), shape.channels);
    let coefficients = columns.coefficients(3, workspace)?;
    let arguments = [
        columns.sums(element, y_gradient, Some(x), workspace)?,
        operand("batch norm gradient: statistics", statistics, 2 * channels, 8)?,
        operand("batch norm gradient: weight", weight, channels, 4)?,
        coefficients,
        optional("batch norm gradient: weight gradient", weight_gradient, channels, 4)?,
        optional("batch norm gradient: bias gradient", bias_gradient, channels, 4)?,
        int("batch norm gradient: channels", channels)?,
        long("batch norm gradient: pixels", columns.pixels)?,
        double(epsilon),
    ];
    // SAFETY: the sizes were checked.
    unsafe { launch(x, &SOURCE, "batch_gradient_coefficients", [blocks(channels), 1, 1], &arguments)? };
    columns.linear_gradient(element, x, y_gradient, coefficients, x_gradient)
}

fn check_groups(shape: &ImageShape, groups: usize) -> Result<()> {
    if groups > 0 && shape.channels.is_multiple_of(groups) {
        return Ok(());
    }
    Err(Error::Mismatch {
        place: "group norm: channels".to_owned(),
        expected: format!("a multiple of {groups} groups"),
        found: shape.channels.to_string(),
    })
}

/// Blocks where each group of each image has a warp.
fn warps(shape: &ImageShape, groups: usize) -> [u32; 3] {
    [(shape.batch * groups).div_ceil(THREADS as usize / 32) as u32, 1, 1]
}

/// `y = activation((x - mean) * inv_std * weight + bias + residual)`, mean and variance over the pixels and channels of a group of
/// an image. `statistics` keeps `(mean, inv_std)` in f64 for the gradient, `[N, groups, 2]`.
///
/// # Errors
/// The groups do not divide the channels, a span is shorter than its shape, or a launch fails.
pub fn group_norm(
    element: Element,
    shape: &ImageShape,
    groups: usize,
    epsilon: f64,
    x: Span<'_>,
    (weight, bias): (Span<'_>, Span<'_>),
    statistics: Span<'_>,
    residual: Option<Span<'_>>,
    activation: Activation,
    y: Span<'_>,
    workspace: Span<'_>,
) -> Result<()> {
    check_groups(shape, groups)?;
    let (columns, channels) = (Columns::of_images(shape), shape.channels);
    let coefficients = columns.coefficients(2, workspace)?;
    let arguments = [
        columns.sums(element, x, None, workspace)?,
        operand("group norm: weight", weight, channels, 4)?,
        operand("group norm: bias", bias, channels, 4)?,
        operand("group norm: statistics", statistics, shape.batch * groups * 2, 8)?,
        coefficients,
        int("group norm: channels", channels)?,
        int("group norm: groups", groups)?,
        long("group norm: pixels", columns.pixels)?,
        double(epsilon),
        int("group norm: images", shape.batch)?,
    ];
    // SAFETY: the sizes were checked.
    unsafe { launch(x, &SOURCE, "group_coefficients", warps(shape, groups), &arguments)? };
    columns.linear(element, x, coefficients, residual, activation, y)
}

/// The gradient of [`group_norm`]'s input, written over `x_gradient`, which may be `y_gradient`; those of weight and bias are added
/// to what is there, in f32.
///
/// # Errors
/// As for [`group_norm`].
pub fn group_norm_gradient(
    element: Element,
    shape: &ImageShape,
    groups: usize,
    x: Span<'_>,
    weight: Span<'_>,
    statistics: Span<'_>,
    y_gradient: Span<'_>,
    x_gradient: Span<'_>,
    (weight_gradient, bias_gradient): (Option<Span<'_>>, Option<Span<'_>>),
    workspace: Span<'_>,
) -> Result<()> {
    check_groups(shape, groups)?;
    let (columns, channels) = (Columns::of_images(shape), shape.channels);
    let coefficients = columns.coefficients(3, workspace)?;
    let sums = columns.sums(element, y_gradient, Some(x), workspace)?;
    let statistics = operand("group norm gradient: statistics", statistics, shape.batch * groups * 2, 8)?;
    let number = |value| int("group norm gradient", value);
    let (channels_argument, groups_argument, images) = (number(channels)?, number(groups)?, number(shape.batch)?);
    let of_input = [
        sums,
        statistics,
        operand("group norm gradient: weight", weight, channels, 4)?,
        coefficients,
        channels_argument,
        groups_argument,
        long("group norm gradient: pixels", columns.pixels)?,
        images,
    ];
    let of_parameters = [
        sums,
        statistics,
        optional("group norm gradient: weight gradient", weight_gradient, channels, 4)?,
        optional("group norm gradient: bias gradient", bias_gradient, channels, 4)?,
        channels_argument,
        groups_argument,
        images,
    ];
    // SAFETY: the sizes were checked.
    unsafe {
        launch(x, &SOURCE, "group_gradient_coefficients", warps(shape, groups), &of_input)?;
        if weight_gradient.is_some() || bias_gradient.is_some() {
            launch(x, &SOURCE, "group_parameter_gradients", [blocks(channels), 1, 1], &of_parameters)?;
        }
    }
    columns.linear_gradient(element, x, y_gradient, coefficients, x_gradient)
}

/// Adds the sum over all pixels of each channel to `sums`, `[C]` in f32: what a bias gets of its convolution's output gradient.
///
/// # Errors
/// A span is shorter than its shape, or a launch fails.
pub fn channel_sums(
    element: Element,
    shape: &ImageShape,
    x: Span<'_>,
    sums: Span<'_>,
    workspace: Span<'_>,
) -> Result<()> {
    let columns = Columns::of_batch(shape);
    let arguments = [
        columns.sums(element, x, None, workspace)?,
        operand("channel sums: sums", sums, shape.channels, 4)?,
        int("channel sums: channels", shape.channels)?,
    ];
    // SAFETY: the sizes were checked.
    unsafe { launch(x, &SOURCE, "add_sums", [blocks(shape.channels), 1, 1], &arguments) }
}
