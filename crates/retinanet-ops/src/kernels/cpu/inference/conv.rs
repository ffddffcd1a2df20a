//! One convolution: described, prepared, run.

use super::super::Isa;
use super::super::winograd::Winograd;
use super::direct::DirectConv;
use super::{Numbers, NumbersMut, Storage};
use crate::kernels::{Activation, ConvShape, ImageShape, ShapeError};
use std::borrow::Cow;

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
    /// What the weights are prepared for.
    pub runs: Runs,
}

/// What a convolution is to be fast at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Runs {
    /// One feature map an image: weights are kept small.
    #[default]
    OneMap,
    /// Many feature maps an image, whose pixels make up for larger weights.
    ManyMaps,
    /// Few cells of the output, which are kept small.
    FewCells,
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
    pub residual: Residual<'a>,
    /// The output.
    pub y: NumbersMut<'a>,
}

impl Plane<'_> {
    /// The first byte of the residual; null if there is none.
    pub(in super::super) fn residual_pointer(&self) -> *const u8 {
        match &self.residual {
            Residual::None => std::ptr::null(),
            Residual::Apart(numbers) => numbers.pointer(),
            Residual::InPlace => self.y.shared_pointer().cast_const(),
        }
    }

    /// # Panics
    /// The residual is not what was prepared for.
    pub(in super::super) fn check_residual(
        &self,
        prepared: Option<Storage>,
        output: Storage,
        num_pixels: usize,
        channels: usize,
    ) {
        match (&self.residual, prepared) {
            (Residual::None, None) => {}
            (Residual::Apart(residual), Some(storage)) => {
                assert!(residual.storage_matches(storage), "convolution: residual: expected {storage:?}");
                let expected = num_pixels * storage.pixel_len(channels);
                assert_eq!(residual.len(), expected, "convolution: numbers of the residual");
            }
            (Residual::InPlace, Some(storage)) => {
                assert_eq!(storage.bytes(), output.bytes(), "convolution: bytes of a number of the residual in place");
            }
            (found, expected) => panic!("convolution: residual: expected {expected:?}, found {found:?}"),
        }
    }
}

/// What is added to a feature map.
#[derive(Clone, Copy, Debug)]
pub enum Residual<'a> {
    /// Nothing.
    None,
    /// Other numbers.
    Apart(Numbers<'a>),
    /// What the output holds before the run, in a storage of as many bytes: no memory of its own, and none to be fetched twice.
    InPlace,
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
///
/// Numbers are rounded where they are stored: the folded weight to the precision of the input (8 bits with a scale for each
/// output channel, such that the largest weight is 127), and the output, to the nearest, ties to even. Between the two is
/// f32. With an input of [`Storage::U8`] the result is the same on every instruction set.
#[derive(Debug)]
pub struct PreparedConv {
    geometry: Geometry,
    algorithm: Algorithm,
}

/// How a convolution is computed.
#[derive(Debug)]
enum Algorithm {
    Direct(DirectConv),
    Winograd(Winograd),
}

/// What is left of a [`ConvSpec`] without its numbers.
#[derive(Clone, Copy, Debug)]
struct Geometry {
    in_channels: usize,
    weight: [usize; 4],
    stride: usize,
    padding: usize,
    groups: usize,
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
        let group_channels = spec.in_channels / spec.groups.max(1);
        let geometry = Geometry {
            in_channels: spec.in_channels,
            weight: [spec.out_channels, group_channels, spec.kernel, spec.kernel],
            stride: spec.stride,
            padding: spec.padding,
            groups: spec.groups,
        };
        let shape = geometry.shape(spec.kernel, spec.kernel)?;
        let per_channel = group_channels * spec.kernel * spec.kernel;
        check_len("weight", spec.weight, spec.out_channels * per_channel)?;
        check_len("shift", spec.shift, spec.out_channels)?;
        let weight = match spec.scale {
            None => Cow::Borrowed(spec.weight),
            Some(scale) => {
                check_len("scale", scale, spec.out_channels)?;
                let channels = spec.weight.chunks_exact(per_channel).zip(scale);
                Cow::Owned(channels.flat_map(|(weight, scale)| weight.iter().map(move |w| w * scale)).collect())
            }
        };
        let algorithm = if Winograd::fits(spec) {
            Algorithm::Winograd(Winograd::new(isa, spec, &weight))
        } else {
            Algorithm::Direct(DirectConv::new(isa, spec, &shape, &weight))
        };
        Ok(Self { geometry, algorithm })
    }

    /// Rows and columns of the output for an input of this size.
    ///
    /// # Errors
    /// The kernel is larger than the padded input.
    pub fn output_size(&self, height: usize, width: usize) -> Result<(usize, usize), ShapeError> {
        let output = self.geometry.shape(height, width)?.output();
        Ok((output.height, output.width))
    }

    /// The grain of a sparse run; see [`Self::run`].
    pub fn cell_size(&self) -> CellSize {
        match &self.algorithm {
            Algorithm::Direct(direct) => direct.cell_size(),
            Algorithm::Winograd(winograd) => winograd.cell_size(),
        }
    }

    /// Numbers of workspace that a run over planes of these input sizes needs, dense or sparse, for the current number of
    /// threads.
    pub fn workspace_len(&self, sizes: impl IntoIterator<Item = (usize, usize)>) -> usize {
        let shapes = sizes.into_iter().filter_map(|(height, width)| self.geometry.shape(height, width).ok());
        match &self.algorithm {
            Algorithm::Direct(direct) => direct.workspace_len(shapes),
            Algorithm::Winograd(winograd) => winograd.workspace_len(),
        }
    }

    /// Convolves all planes.
    ///
    /// With `cells`, only these cells of the output are computed, and the rest of it is unspecified: indices in ascending
    /// order, the cells of a plane row by row, the planes one after the other, the last row and column of cells cut off by
    /// the output's edge. What is computed has the same bits as in a run over everything.
    ///
    /// # Panics
    /// A slice does not fit its plane or the storage that was prepared for, the workspace is too short, or a cell lies
    /// beyond the last plane.
    pub fn run(&self, planes: &mut [Plane<'_>], cells: Option<&[u32]>, workspace: &mut [f32]) {
        let shape = |plane: &Plane| match self.geometry.shape(plane.height, plane.width) {
            Ok(shape) => shape,
            Err(error) => panic!("convolution: plane: {error}"),
        };
        match &self.algorithm {
            Algorithm::Direct(direct) => direct.run(shape, planes, cells, workspace),
            Algorithm::Winograd(winograd) => winograd.run(planes, cells, workspace),
        }
    }
}

fn check_len(what: &str, numbers: &[f32], expected: usize) -> Result<(), ShapeError> {
    if numbers.len() == expected { Ok(()) } else { Err(ShapeError::new(what, expected, numbers.len())) }
}
