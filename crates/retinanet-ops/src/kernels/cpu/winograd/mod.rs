//! Convolutions 3x3 of stride 1 by Winograd's minimal filtering: fewer multiplications, the same result but for rounding.
//!
//! A task transforms the inputs of a block of tiles, multiplies them place by place with the transformed weights, and
//! transforms the products back, within the second-level cache. Tiles are numbered over all feature maps of a call, so
//! that small pyramid levels share a task, and any subset of them can be computed: the bits of a tile do not depend on
//! its neighbours in a task.

mod block;
mod pack;
mod training;
mod transform;
mod weight_gradient;

pub(crate) use training::{Direction, Map, convolve, fits, scratch_len, transform_weight, transformed_len};
pub(crate) use weight_gradient::{GradientMap, weight_gradient, weight_gradient_workspace_len};

use super::Isa;
use super::inference::{CellSize, ConvSpec, Numbers, Plane, Runs, Storage};
use super::products::{Floats, Products, WidenedBf16};
use super::stored::{Conversions, Stored};
use super::tasks::{for_each_task, slots_len, split};
use super::vector::Lanes;
use crate::kernels::Activation;
use block::{Form, Job, Layout, MAX_LANES, Part, Pixels, RawPlane};
use half::bf16;
use pack::Packed;
use transform::{F2, F4, F6, Transform};

/// m of F(m x m, 3 x 3): the rows and columns of outputs that are computed together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TileSize {
    /// 2.25 times fewer multiplications; inputs and weights rounded to bf16 lose little.
    Two,
    /// 4 times fewer.
    Four,
    /// 5.06 times fewer, for 1.8 times the weights of four.
    Six,
}

impl TileSize {
    /// m.
    fn outputs(self) -> usize {
        match self {
            Self::Two => 2,
            Self::Four => 4,
            Self::Six => 6,
        }
    }

    fn places(self) -> usize {
        (self.outputs() + 2).pow(2)
    }

    /// The tiles of a feature map of this size, without its numbers.
    fn plane(self, (height, width): (usize, usize), first_tile: usize) -> RawPlane {
        let tile_columns = width.div_ceil(self.outputs());
        let end_tile = first_tile + height.div_ceil(self.outputs()) * tile_columns;
        RawPlane { height, width, tile_columns, first_tile, end_tile, ..RawPlane::NOWHERE }
    }
}

/// How a convolution is cut into tasks.
#[derive(Clone, Copy, Debug)]
struct Cut {
    isa: Isa,
    tile_size: TileSize,
    input: Form,
    in_channels: usize,
    out_channels: usize,
    /// Tiles of a task, at most.
    task_tiles: usize,
    chunk_panels: usize,
}

/// A 3x3 convolution of stride 1 and padding 1 with transformed weights.
#[derive(Debug)]
pub(crate) struct Winograd {
    cut: Cut,
    residual: Option<Pixels>,
    output: Pixels,
    packed: Packed,
    /// Padded to whole vectors.
    shift: Vec<f32>,
    relu: bool,
}

/// Channels below which the transforms cost more than they save.
const MIN_CHANNELS: usize = 32;
/// Feature maps of one parallel region.
const MAX_PLANES: usize = 32;
/// Bytes of a task's transformed inputs and products: what the second-level cache holds beside the weights that stream by.
const TASK_BYTES: usize = 900 * 1024;
/// Bytes of transformed weights beyond which they come from memory, and should be read few times.
const LARGE_WEIGHT: usize = 18 << 20;
/// Tiles of a task where they do not fit, and where weights are large.
const MIN_TASK_TILES: usize = 24;
const MAX_TASK_TILES: usize = 48;
/// Channels up to which the larger weights of tiles of six outputs are small all the same.
const SMALL_CHANNELS: usize = 128;
/// Input channels above which those weights cost more time than they save, as they are read from memory.
const MAX_SIX_CHANNELS: usize = 256;

impl Winograd {
    /// Whether the algorithm computes such convolutions, and is the faster one.
    pub(crate) fn fits(spec: &ConvSpec) -> bool {
        let is_kind = (spec.kernel, spec.stride, spec.padding, spec.groups) == (3, 1, 1, 1);
        let is_float = |storage: Storage| form(storage).is_some();
        is_kind
            && spec.in_channels.min(spec.out_channels) >= MIN_CHANNELS
            && is_float(spec.input)
            && is_float(spec.output)
            && spec.residual.is_none_or(is_float)
    }

    /// Transforms and packs the folded weight, `[Cout, Cin, 3, 3]`.
    ///
    /// # Panics
    /// The convolution is not of the kind that [`Self::fits`] tells.
    pub(crate) fn new(isa: Isa, spec: &ConvSpec, weight: &[f32]) -> Self {
        let isa = isa.or_portable();
        let pixels = |storage: Storage| Pixels {
            form: form(storage).expect("the storage is checked by `fits`"),
            step: storage.pixel_len(spec.out_channels),
        };
        let input = form(spec.input).expect("the storage is checked by `fits`");
        let tile_size = match input {
            Form::Bf16 => TileSize::Two,
            Form::F32 => match spec.runs {
                Runs::OneMap if spec.in_channels.max(spec.out_channels) <= SMALL_CHANNELS => TileSize::Six,
                Runs::ManyMaps if spec.in_channels <= MAX_SIX_CHANNELS => TileSize::Six,
                _ => TileSize::Four,
            },
        };
        let cut = Cut::new(isa, tile_size, input, spec.in_channels, spec.out_channels);
        let (in_channels, out_channels) = (spec.in_channels, spec.out_channels);
        let weight = pack::Weight { values: weight, in_channels, out_channels, is_gradient: false };
        let packed = match cut.tile_size {
            TileSize::Two => pack::pack::<F2, 4, 2>(isa, input, lanes(isa), weight),
            TileSize::Four => pack::pack::<F4, 6, 4>(isa, input, lanes(isa), weight),
            TileSize::Six => pack::pack::<F6, 8, 6>(isa, input, lanes(isa), weight),
        };
        let mut shift = spec.shift.to_vec();
        shift.resize(spec.out_channels.next_multiple_of(MAX_LANES), 0.0);
        let relu = spec.activation == Activation::Relu;
        Self { cut, residual: spec.residual.map(pixels), output: pixels(spec.output), packed, shift, relu }
    }

    pub(crate) fn cell_size(&self) -> CellSize {
        let outputs = self.cut.tile_size.outputs();
        CellSize { height: outputs, width: outputs }
    }

    /// Numbers of workspace for the current number of threads.
    pub(crate) fn workspace_len(&self) -> usize {
        self.cut.workspace_len()
    }

    /// As [`PreparedConv::run`](super::inference::PreparedConv::run).
    ///
    /// # Panics
    /// A plane is not of the sizes or storages that were prepared for, or a cell lies beyond the last.
    pub(crate) fn run(&self, planes: &mut [Plane<'_>], cells: Option<&[u32]>, workspace: &mut [f32]) {
        let mut first_tile = 0;
        let mut cells = cells;
        for planes in planes.chunks_mut(MAX_PLANES) {
            let mut raw = [RawPlane::NOWHERE; MAX_PLANES];
            let mut end_tile = 0;
            for (raw, plane) in raw.iter_mut().zip(planes.iter_mut()) {
                *raw = self.raw_plane(plane, end_tile);
                end_tile = raw.end_tile;
            }
            let end_cell = cells.map(|cells| cells.partition_point(|&cell| (cell as usize) < first_tile + end_tile));
            let job = Job {
                planes: &raw[..planes.len()],
                first_cell: first_tile,
                cells: cells.zip(end_cell).map(|(cells, end)| &cells[..end]),
                in_channels: self.cut.in_channels,
                out_channels: self.cut.out_channels,
                x_step: self.cut.input.storage().pixel_len(self.cut.in_channels),
                residual: self.residual.unwrap_or(self.output),
                y: self.output,
                packed: self.packed.as_ptr(),
                shift: self.shift.as_ptr(),
                relu: self.relu,
            };
            self.cut.run(&job, end_tile, workspace);
            cells = cells.zip(end_cell).map(|(cells, end)| &cells[end..]);
            first_tile += end_tile;
        }
        assert!(cells.is_none_or(<[u32]>::is_empty), "convolution: cells: expected cells below {first_tile}");
    }

    fn raw_plane(&self, plane: &mut Plane<'_>, first_tile: usize) -> RawPlane {
        let pixels = plane.height * plane.width;
        let x_len = pixels * self.cut.input.storage().pixel_len(self.cut.in_channels);
        assert!(
            self.cut.input.is(&plane.x) && plane.x.len() == x_len,
            "convolution: input: expected {x_len} numbers of {:?}, found {}",
            self.cut.input,
            plane.x.len()
        );
        let storage = |pixels: Pixels| pixels.form.storage();
        let (residual, output) = (self.residual.map(storage), storage(self.output));
        plane.check_residual(residual, output, pixels, self.cut.out_channels);
        let fits = self.output.form.is_mut(&plane.y) && plane.y.len() == pixels * self.output.step;
        assert!(fits, "convolution: output: expected {} numbers", pixels * self.output.step);
        RawPlane {
            x: plane.x.pointer(),
            residual: plane.residual_pointer(),
            gate: std::ptr::null(),
            y: plane.y.shared_pointer(),
            ..self.cut.tile_size.plane((plane.height, plane.width), first_tile)
        }
    }
}

impl Cut {
    fn new(isa: Isa, tile_size: TileSize, input: Form, in_channels: usize, out_channels: usize) -> Self {
        let places = tile_size.places();
        let packed_bytes = size_of::<f32>() * pack::packed_len(input, lanes(isa), places, in_channels, out_channels);
        let is_large = packed_bytes > LARGE_WEIGHT;
        let chunk_channels = if is_large && tile_size != TileSize::Six { 128 } else { 64 };
        let tile_bytes = places * (in_channels * input.storage().bytes() + chunk_channels * size_of::<f32>());
        let fitting = (TASK_BYTES / tile_bytes / MAX_ROWS * MAX_ROWS).clamp(MIN_TASK_TILES, MAX_TASK_TILES);
        let task_tiles = if is_large { MAX_TASK_TILES } else { fitting };
        let chunk_panels = chunk_channels / (2 * lanes(isa));
        Self { isa, tile_size, input, in_channels, out_channels, task_tiles, chunk_panels }
    }

    fn layout(&self, tiles: usize) -> Layout {
        let words = self.in_channels.div_ceil(self.input.per_word());
        Layout::new(self.tile_size.places(), tiles, words, self.chunk_panels, 2 * lanes(self.isa))
    }

    /// Numbers of workspace for the current number of threads.
    fn workspace_len(&self) -> usize {
        slots_len(usize::MAX, self.layout(self.task_tiles).len + MAX_LANES)
    }

    fn run(&self, job: &Job, all_tiles: usize, workspace: &mut [f32]) {
        match self.tile_size {
            TileSize::Two => self.run_job::<F2, 4, 2>(job, all_tiles, workspace),
            TileSize::Four => self.run_job::<F4, 6, 4>(job, all_tiles, workspace),
            TileSize::Six => self.run_job::<F6, 8, 6>(job, all_tiles, workspace),
        }
    }

    fn run_job<T: Transform<N, M>, const N: usize, const M: usize>(
        &self,
        job: &Job,
        all_tiles: usize,
        workspace: &mut [f32],
    ) {
        let num_tiles = job.cells.map_or(all_tiles, <[u32]>::len);
        if num_tiles == 0 {
            return;
        }
        let threads = rayon::current_num_threads();
        let num_panels = self.out_channels.div_ceil(2 * lanes(self.isa));
        let blocks = num_tiles.div_ceil(self.task_tiles);
        // With tasks for some threads only, the output channels are divided too.
        let chunks = num_panels.div_ceil(self.chunk_panels);
        let parts = if blocks >= threads { 1 } else { threads.div_ceil(blocks).min(chunks) };
        let layout = self.layout(num_tiles.div_ceil(blocks));
        let run = self.block::<T, N, M>();
        let shared = Shared(job);
        for_each_task(blocks * parts, workspace, layout.len + MAX_LANES, |task_idx, workspace| {
            let Shared(job) = &shared;
            let (first_chunk, end_chunk) = split(chunks, parts, task_idx % parts);
            let part = Part {
                tiles: split(num_tiles, blocks, task_idx / parts),
                panels: (first_chunk * self.chunk_panels, num_panels.min(end_chunk * self.chunk_panels)),
            };
            // From the beginning of a line of the cache on, so that no vector lies in two.
            let aligned = workspace.as_ptr().align_offset(MAX_LANES * size_of::<f32>()).min(MAX_LANES);
            let workspace = &mut workspace[aligned..][..layout.len];
            // SAFETY: the instruction set is there (`or_portable`), sizes are checked in `raw_plane`, the workspace is as
            // long as the layout, and no two tasks share an output.
            unsafe { run(job, &part, &layout, workspace.as_mut_ptr()) }
        });
    }

    /// [`block::run`] for the instruction set and the numbers of the input.
    fn block<T: Transform<N, M>, const N: usize, const M: usize>(&self) -> RunFn {
        match (self.isa, self.input) {
            #[cfg(target_arch = "x86_64")]
            (Isa::Avx512, Form::F32) => x86::avx512::<f32, Floats<f32, F32x16>, F32x16, T, N, M>,
            #[cfg(target_arch = "x86_64")]
            (Isa::Avx512, Form::Bf16) if self.isa.has_bf16_products() => {
                x86::avx512_bf16::<bf16, DotBf16x16, F32x16, T, N, M>
            }
            #[cfg(target_arch = "x86_64")]
            (Isa::Avx512, Form::Bf16) => x86::avx512::<bf16, WidenedBf16<16>, F32x16, T, N, M>,
            #[cfg(target_arch = "x86_64")]
            (Isa::Avx2, Form::F32) => x86::avx2::<f32, Floats<f32, F32x8>, F32x8, T, N, M>,
            #[cfg(target_arch = "x86_64")]
            (Isa::Avx2, Form::Bf16) => x86::avx2::<bf16, WidenedBf16<8>, F32x8, T, N, M>,
            #[cfg(target_arch = "aarch64")]
            (Isa::Neon, Form::F32) => block::run::<f32, Floats<f32, F32x4>, F32x4, T, N, M>,
            (_, Form::F32) => block::run::<f32, Floats<f32, Lanes<f32, 4>>, Lanes<f32, 4>, T, N, M>,
            (_, Form::Bf16) => block::run::<bf16, WidenedBf16<4>, Lanes<f32, 4>, T, N, M>,
        }
    }
}

#[cfg(target_arch = "aarch64")]
use super::vector::neon::F32x4;
#[cfg(target_arch = "x86_64")]
use super::{
    products::DotBf16x16,
    vector::x86::{F32x8, F32x16},
};

/// [`block::run`].
type RunFn = unsafe fn(&Job, &Part, &Layout, *mut f32);

/// The most rows of a register tile.
const MAX_ROWS: usize = 12;

/// A job whose tasks write different tiles or different channels.
struct Shared<'a, 'b>(&'a Job<'b>);

// SAFETY: as above.
unsafe impl Sync for Shared<'_, '_> {}

impl Form {
    fn storage(self) -> Storage {
        match self {
            Self::F32 => Storage::F32,
            Self::Bf16 => Storage::Bf16,
        }
    }

    /// Numbers in a word of four bytes.
    fn per_word(self) -> usize {
        4 / self.storage().bytes()
    }

    fn is(self, numbers: &Numbers) -> bool {
        numbers.storage_matches(self.storage())
    }

    fn is_mut(self, numbers: &super::inference::NumbersMut) -> bool {
        numbers.storage_matches(self.storage())
    }
}

fn form(storage: Storage) -> Option<Form> {
    match storage {
        Storage::F32 => Some(Form::F32),
        Storage::Bf16 => Some(Form::Bf16),
        Storage::U8(_) => None,
    }
}

/// Numbers of f32 in a vector of the instruction set.
fn lanes(isa: Isa) -> usize {
    match isa {
        Isa::Avx512 => 16,
        Isa::Avx2 => 8,
        Isa::Portable | Isa::Neon => 4,
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    //! [`block::run`] compiled for the instruction sets.

    use super::*;

    macro_rules! compiled_for {
        ($name:ident, $features:literal) => {
            /// # Safety
            /// As for [`block::run`].
            #[target_feature(enable = $features)]
            pub(super) unsafe fn $name<X, P, V, T, const N: usize, const M: usize>(
                job: &Job,
                part: &Part,
                layout: &Layout,
                workspace: *mut f32,
            ) where
                X: Stored<f32, V>,
                P: Products<Sum = f32>,
                V: Conversions,
                T: Transform<N, M>,
            {
                // SAFETY: the caller vouches for it.
                unsafe { block::run::<X, P, V, T, N, M>(job, part, layout, workspace) }
            }
        };
    }

    compiled_for!(avx2, "avx2,fma");
    compiled_for!(avx512, "avx512f,avx512vl,avx512dq,avx2,fma");
    compiled_for!(avx512_bf16, "avx512f,avx512vl,avx512dq,avx512bf16,avx2,fma");
}
