//! One convolution: described, prepared, run.

use super::super::Isa;
use super::super::conv::{Epilogue, conv2d, conv2d_workspace_len, pack_weights, packed_weights_len};
use super::{Numbers, NumbersMut, Storage};
use crate::kernels::{Activation, ConvShape, ImageShape, ShapeError};

/// A convolution with its weights: `activation(conv(x) * scale + shift + residual)`.
#[derive(Clone, Copy, Debug)]
pub struct ConvSpec<'a> {
    /// Cin.
    pub in_channels: usize,
    /// Cout.
    pub out_channels: usize,
    /// Rows and columns of the kernel.
    pub kernel: usize,
    /// Pixels from one window to the next.
    pub stride: usize,
    /// Zero pixels around the input.
    pub padding: usize,
    /// Groups of channels that do not see each other.
    pub groups: usize,
    /// `[Cout, Cin / groups, kernel, kernel]`.
    pub weight: &'a [f32],
    /// `[Cout]`: a folded norm's; 1 if absent.
    pub scale: Option<&'a [f32]>,
    /// `[Cout]`.
    pub shift: &'a [f32],
    /// The last step.
    pub activation: Activation,
    /// How the input is stored; it decides the precision of the products.
    pub input: Storage,
    /// How the output is stored.
    pub output: Storage,
    /// How the residual is stored, if there is one.
    pub residual: Option<Storage>,
}

/// A feature map: input, residual and output of a convolution, `[H, W, C]` with [`Storage::pixel_len`] numbers a pixel.
#[derive(Debug)]
pub struct Plane<'a> {
    /// Of the input.
    pub height: usize,
    /// Of the input.
    pub width: usize,
    /// The input.
    pub x: Numbers<'a>,
    /// Of the output's size.
    pub residual: Option<Numbers<'a>>,
    /// The output.
    pub y: NumbersMut<'a>,
}

/// Pixels of the output that are computed together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CellSize {
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

/// A convolution ready to run.
#[derive(Debug)]
pub struct PreparedConv {
    isa: Isa,
    spec: Geometry,
    packed: Vec<f32>,
    shift: Vec<f32>,
}

/// What is left of a [`ConvSpec`] without its numbers.
#[derive(Clone, Copy, Debug)]
struct Geometry {
    in_channels: usize,
    weight: [usize; 4],
    stride: usize,
    padding: usize,
    groups: usize,
    activation: Activation,
}

impl Geometry {
    fn shape(&self, height: usize, width: usize) -> Result<ConvShape, ShapeError> {
        let input = ImageShape { batch: 1, height, width, channels: self.in_channels };
        ConvShape::new(input, self.weight, self.stride, self.padding, self.groups)
    }
}

impl PreparedConv {
    /// Chooses the algorithm and packs the weights, the scale folded into them.
    ///
    /// # Errors
    /// The numbers do not describe a convolution.
    pub fn new(isa: Isa, spec: &ConvSpec) -> Result<Self, ShapeError> {
        let weight = [spec.out_channels, spec.in_channels / spec.groups.max(1), spec.kernel, spec.kernel];
        let geometry = Geometry {
            in_channels: spec.in_channels,
            weight,
            stride: spec.stride,
            padding: spec.padding,
            groups: spec.groups,
            activation: spec.activation,
        };
        let shape = geometry.shape(spec.kernel, spec.kernel)?;
        let per_channel = spec.weight.len() / spec.out_channels;
        let scaled: Vec<f32> = match spec.scale {
            None => spec.weight.to_vec(),
            Some(scale) => spec.weight.iter().enumerate().map(|(i, weight)| weight * scale[i / per_channel]).collect(),
        };
        let mut packed = vec![0.0; packed_weights_len::<f32>(isa, &shape)];
        pack_weights(isa, &shape, &scaled, &mut packed);
        Ok(Self { isa, spec: geometry, packed, shift: spec.shift.to_vec() })
    }

    /// Rows and columns of the output for an input of this size.
    ///
    /// # Errors
    /// The kernel is larger than the padded input.
    pub fn output_size(&self, height: usize, width: usize) -> Result<(usize, usize), ShapeError> {
        let output = self.spec.shape(height, width)?.output();
        Ok((output.height, output.width))
    }

    /// The grain of a sparse run; see [`Self::run`].
    pub fn cell_size(&self) -> CellSize {
        CellSize { height: 4, width: 4 }
    }

    /// Numbers of workspace that a run over planes of these input sizes needs, for the current number of threads.
    pub fn workspace_len(&self, sizes: impl IntoIterator<Item = (usize, usize)>) -> usize {
        let lens = sizes.into_iter().filter_map(|(height, width)| self.spec.shape(height, width).ok());
        lens.map(|shape| conv2d_workspace_len::<f32>(&shape)).max().unwrap_or(0)
    }

    /// Convolves all planes.
    ///
    /// With `cells`, only these cells of the output are computed, and the rest of it is unspecified: indices in ascending
    /// order, the cells of a plane row by row, the planes one after the other, the last row and column of cells cut off by
    /// the output's edge. What is computed has the same bits as in a run over everything.
    ///
    /// # Panics
    /// A slice does not fit its plane or the storage that was prepared for, or a cell lies beyond the last plane.
    pub fn run(&self, planes: &mut [Plane<'_>], cells: Option<&[u32]>, workspace: &mut [f32]) {
        // A dense run computes more than the cells, which is allowed; the sparse form is the kernels' to add.
        let _ = cells;
        for plane in planes {
            let (Numbers::F32(x), NumbersMut::F32(y)) = (plane.x, &mut plane.y) else {
                unimplemented!("other storages than f32");
            };
            let residual = plane.residual.map(|residual| match residual {
                Numbers::F32(residual) => residual,
                _ => unimplemented!("other storages than f32"),
            });
            let shape = self.spec.shape(plane.height, plane.width).expect("the plan has checked the sizes");
            let epilogue =
                Epilogue { scale: None, shift: Some(&self.shift), residual, activation: self.spec.activation };
            conv2d(self.isa, &shape, x, &self.packed, epilogue, y, workspace);
        }
    }
}
