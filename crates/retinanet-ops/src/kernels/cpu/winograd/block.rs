//! One task of a Winograd convolution: some tiles of the output, some panels of its channels.

use super::super::conv::with_rows;
use super::super::products::Products;
use super::super::stored::{Conversions, Stored};
use super::super::tasks::split;
use super::transform::Transform;
use half::bf16;

/// The most lanes of a vector.
pub(super) const MAX_LANES: usize = 16;

/// A feature map as a task sees it. Residual and gate are null where there is none.
#[derive(Clone, Copy)]
pub(super) struct RawPlane {
    pub(super) x: *const u8,
    pub(super) residual: *const u8,
    /// Laid out as the output, which becomes 0 where this is not positive.
    pub(super) gate: *const u8,
    pub(super) y: *mut u8,
    /// Rows and columns, of input and output alike.
    pub(super) height: usize,
    pub(super) width: usize,
    /// Columns of tiles.
    pub(super) tile_columns: usize,
    /// The number of the first tile, and of the one behind the last.
    pub(super) first_tile: usize,
    pub(super) end_tile: usize,
}

impl RawPlane {
    /// A place in a list that is not filled yet.
    pub(super) const NOWHERE: Self = Self {
        x: std::ptr::null(),
        residual: std::ptr::null(),
        gate: std::ptr::null(),
        y: std::ptr::null_mut(),
        height: 0,
        width: 0,
        tile_columns: 0,
        first_tile: 0,
        end_tile: 0,
    };
}

/// How outputs and residuals are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    F32,
    Bf16,
}

/// A feature map's numbers: their form, and how many there are from one pixel to the next.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pixels {
    pub(super) form: Form,
    pub(super) step: usize,
}

impl Pixels {
    /// Reads numbers from number `at` on.
    ///
    /// # Safety
    /// The numbers are readable, and the processor has the instruction set of `V`.
    #[inline(always)]
    unsafe fn load<V: Conversions>(self, from: *const u8, at: usize) -> V {
        // SAFETY: the caller vouches for it.
        unsafe {
            match self.form {
                Form::F32 => V::load(from.cast::<f32>().add(at)),
                Form::Bf16 => V::load_bf16(from.cast::<bf16>().add(at)),
            }
        }
    }

    /// Writes numbers from number `at` on.
    ///
    /// # Safety
    /// The numbers are writable, and the processor has the instruction set of `V`.
    #[inline(always)]
    unsafe fn store<V: Conversions>(self, value: V, to: *mut u8, at: usize) {
        // SAFETY: the caller vouches for it.
        unsafe {
            match self.form {
                Form::F32 => value.store(to.cast::<f32>().add(at)),
                Form::Bf16 => value.store_bf16(to.cast::<bf16>().add(at)),
            }
        }
    }

    /// Reads the first `lanes` numbers of a vector, the rest 0.
    ///
    /// # Safety
    /// As for [`Self::load`].
    #[inline(always)]
    unsafe fn load_part<V: Conversions>(self, from: *const u8, at: usize, lanes: usize) -> V {
        let mut buffer = [0.0; MAX_LANES];
        // SAFETY: the caller vouches for it.
        unsafe {
            for lane in 0..lanes {
                buffer[lane] = match self.form {
                    Form::F32 => *from.cast::<f32>().add(at + lane),
                    Form::Bf16 => (*from.cast::<bf16>().add(at + lane)).to_f32(),
                };
            }
            V::load(buffer.as_ptr())
        }
    }

    /// Writes the first `lanes` numbers of a vector.
    ///
    /// # Safety
    /// As for [`Self::store`].
    #[inline(always)]
    unsafe fn store_part<V: Conversions>(self, value: V, to: *mut u8, at: usize, lanes: usize) {
        let mut buffer = [0.0; MAX_LANES];
        // SAFETY: the caller vouches for it.
        unsafe {
            value.store(buffer.as_mut_ptr());
            for lane in 0..lanes {
                match self.form {
                    Form::F32 => *to.cast::<f32>().add(at + lane) = buffer[lane],
                    Form::Bf16 => *to.cast::<bf16>().add(at + lane) = bf16::from_f32(buffer[lane]),
                }
            }
        }
    }
}

/// What the tasks of a run share.
pub(super) struct Job<'a> {
    pub(super) planes: &'a [RawPlane],
    /// The number of the first tile of the planes.
    pub(super) first_cell: usize,
    /// The numbers of the tiles to compute; all of them if absent.
    pub(super) cells: Option<&'a [u32]>,
    pub(super) in_channels: usize,
    pub(super) out_channels: usize,
    /// Numbers of the input from one pixel to the next.
    pub(super) x_step: usize,
    pub(super) residual: Pixels,
    pub(super) y: Pixels,
    /// Words: `[panel][place][depth][panel width]`.
    pub(super) packed: *const u8,
    /// `[Cout]`, padded to whole vectors.
    pub(super) shift: *const f32,
    pub(super) relu: bool,
}

/// A task's tiles and panels, from and to.
pub(super) struct Part {
    pub(super) tiles: (usize, usize),
    pub(super) panels: (usize, usize),
}

/// Where the parts of a task's workspace lie, in words of four bytes.
#[derive(Clone, Copy)]
pub(super) struct Layout {
    /// From one tile's transformed inputs to the next one's, within a place.
    input_step: usize,
    /// From one place to the next.
    input_place_step: usize,
    product_step: usize,
    product_place_step: usize,
    product_start: usize,
    patch_start: usize,
    chunk_panels: usize,
    pub(super) len: usize,
}

/// Words by which places lie apart beyond what their size would give: a power of two between them would put all places
/// of a tile into one set of the cache.
const SKEW: usize = 16;

impl Layout {
    /// For tasks of `tiles` tiles of `words` words of channels, whose products are kept for `chunk_panels` panels of
    /// `panel_width` channels until the output transform reads them.
    pub(super) fn new(places: usize, tiles: usize, words: usize, chunk_panels: usize, panel_width: usize) -> Self {
        let input_step = words.next_multiple_of(MAX_LANES);
        let product_step = chunk_panels * panel_width;
        let input_place_step = tiles * input_step + SKEW;
        let product_place_step = tiles * product_step + SKEW;
        let product_start = places * input_place_step;
        let patch_start = product_start + places * product_place_step;
        let len = patch_start + places * input_step;
        Self {
            input_step,
            input_place_step,
            product_step,
            product_place_step,
            product_start,
            patch_start,
            chunk_panels,
            len,
        }
    }
}

/// Runs a task: input numbers of `X`, products of `P`, transforms on vectors of `V`.
///
/// # Safety
/// The job's pointers reach as far as its numbers say; no other task writes the same tiles of the same panels; the workspace
/// holds `layout.len` words; the processor has the instruction sets of `P` and `V`.
#[inline(always)]
pub(super) unsafe fn run<X, P, V, T, const N: usize, const M: usize>(
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
    const { assert!(P::LANES == V::LANES && size_of::<P::Word>() == size_of::<f32>()) };
    let (first_tile, end_tile) = part.tiles;
    let num_tiles = end_tile - first_tile;
    let width = 2 * P::LANES;
    let depth = job.in_channels.div_ceil(size_of::<f32>() / size_of::<X>());
    let groups = num_tiles.div_ceil(P::ROWS);
    let padded = job.out_channels.next_multiple_of(P::LANES);
    // SAFETY: places within the workspace, the planes and the packed weights, as the caller vouches.
    unsafe {
        let products = workspace.add(layout.product_start);
        for tile in 0..num_tiles {
            let place = locate(job, first_tile + tile);
            let to = workspace.add(tile * layout.input_step);
            let patch = workspace.add(layout.patch_start);
            let input =
                Input { channels: job.in_channels, step: job.x_step, patch, place_step: layout.input_place_step };
            transform_input::<X, X, V, T, N, M>(&input, &place, to);
        }
        for first_panel in (part.panels.0..part.panels.1).step_by(layout.chunk_panels) {
            let end_panel = part.panels.1.min(first_panel + layout.chunk_panels);
            for place in 0..N * N {
                let inputs = workspace.add(place * layout.input_place_step);
                for panel in first_panel..end_panel {
                    let channel = panel * width;
                    let vectors = if padded - channel < width { 1 } else { 2 };
                    let packed = (channel * N * N + place * vectors * P::LANES) * depth;
                    let out = products.add(place * layout.product_place_step + (panel - first_panel) * width);
                    for group in 0..groups {
                        let (start, end) = split(num_tiles, groups, group);
                        let product = Product {
                            inputs: inputs.add(start * layout.input_step).cast::<P::Word>().cast_const(),
                            input_step: layout.input_step,
                            depth,
                            packed: job.packed.cast::<P::Word>().add(packed),
                            out: out.add(start * layout.product_step),
                            out_step: layout.product_step,
                        };
                        with_rows!(P::ROWS, end - start, vectors, multiply, (P), (&product));
                    }
                }
            }
            let channels = (first_panel * width, job.out_channels.min(end_panel * width));
            for tile in 0..num_tiles {
                let place = locate(job, first_tile + tile);
                let from = products.add(tile * layout.product_step);
                transform_output::<V, T, N, M>(job, &place, layout, from, channels);
            }
        }
    }
}

/// A tile and its plane.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub(super) plane: RawPlane,
    pub(super) tile_row: usize,
    pub(super) tile_column: usize,
}

#[inline(always)]
fn locate(job: &Job, idx: usize) -> Place {
    Place::of(job.planes, job.cells.map_or(idx, |cells| cells[idx] as usize - job.first_cell))
}

impl Place {
    /// The tile of this number.
    #[inline(always)]
    pub(super) fn of(planes: &[RawPlane], tile: usize) -> Self {
        let plane = planes.iter().find(|plane| tile < plane.end_tile).expect("the tiles are checked before the run");
        let tile = tile - plane.first_tile;
        Self { plane: *plane, tile_row: tile / plane.tile_columns, tile_column: tile % plane.tile_columns }
    }
}

/// The input of a tile, and where it goes.
#[derive(Clone, Copy)]
pub(super) struct Input {
    pub(super) channels: usize,
    /// Numbers from one pixel to the next.
    pub(super) step: usize,
    /// Words of four bytes for a tile with its border: of each pixel as many as the channels take, in whole vectors.
    pub(super) patch: *mut f32,
    /// Words from one place to the next.
    pub(super) place_step: usize,
}

/// B^T d B of one tile, to the tile's row in each place, from numbers of `X` to numbers of `Y`.
///
/// # Safety
/// The plane's input and the patch reach as far as their numbers say; `to` has room for as many channels, in whole vectors,
/// in each place; the processor has the instruction set of `V`.
#[inline(always)]
pub(super) unsafe fn transform_input<X, Y, V, T, const N: usize, const M: usize>(
    input: &Input,
    place: &Place,
    to: *mut f32,
) where
    X: Stored<f32, V>,
    Y: Stored<f32, V>,
    V: Conversions,
    T: Transform<N, M>,
{
    let plane = &place.plane;
    let x = plane.x.cast::<X>();
    let channels = input.channels;
    let (row, column) = ((place.tile_row * M) as isize - 1, (place.tile_column * M) as isize - 1);
    let is_inside = row >= 0
        && column >= 0
        && row as usize + N <= plane.height
        && column as usize + N <= plane.width
        && channels.is_multiple_of(V::LANES);
    // SAFETY: what is read lies within the plane or has been copied to the patch.
    unsafe {
        let (from, row_step, pixel_step) = if is_inside {
            let start = (row as usize * plane.width + column as usize) * input.step;
            (x.add(start), plane.width * input.step, input.step)
        } else {
            let patch = input.patch.cast::<X>();
            let step = channels.next_multiple_of(MAX_LANES * (size_of::<f32>() / size_of::<X>()));
            for i in 0..N {
                for j in 0..N {
                    let (y, x_place) = (row + i as isize, column + j as isize);
                    let pixel = patch.add((i * N + j) * step);
                    let inside =
                        (0..plane.height as isize).contains(&y) && (0..plane.width as isize).contains(&x_place);
                    let copied = if inside { channels } else { 0 };
                    if inside {
                        let start = (y as usize * plane.width + x_place as usize) * input.step;
                        std::ptr::copy_nonoverlapping(x.add(start), pixel, channels);
                    }
                    std::ptr::write_bytes(pixel.add(copied), 0, step - copied);
                }
            }
            (patch.cast_const(), N * step, step)
        };
        for channel in (0..channels).step_by(V::LANES) {
            let mut columns = [[V::splat(0.0); N]; N];
            for j in 0..N {
                let mut d = [V::splat(0.0); N];
                for i in 0..N {
                    d[i] = X::load(from.add(i * row_step + j * pixel_step + channel));
                }
                columns[j] = T::input(d);
            }
            for i in 0..N {
                let mut d = [V::splat(0.0); N];
                for j in 0..N {
                    d[j] = columns[j][i];
                }
                let row = T::input(d);
                for j in 0..N {
                    let to = to.add((i * N + j) * input.place_step).cast::<Y>().add(channel);
                    Y::store(row[j], 0.0, to);
                }
            }
        }
    }
}

/// A product of a register tile: rows of transformed inputs times a panel.
#[derive(Clone, Copy)]
struct Product<W> {
    inputs: *const W,
    input_step: usize,
    depth: usize,
    packed: *const W,
    out: *mut f32,
    out_step: usize,
}

/// # Safety
/// As for [`run`].
#[inline(always)]
unsafe fn multiply<P: Products<Sum = f32>, const ROWS: usize, const VECTORS: usize>(product: &Product<P::Word>) {
    let Product { inputs, input_step, depth, mut packed, out, out_step } = *product;
    // SAFETY: as the caller vouches.
    unsafe {
        let mut sums = [[P::zero(); VECTORS]; ROWS];
        for idx in 0..depth {
            let weights: [P::Weight; VECTORS] = std::array::from_fn(|vector| P::weight(packed.add(vector * P::LANES)));
            for row in 0..ROWS {
                let input = P::input(inputs.add(row * input_step + idx));
                for vector in 0..VECTORS {
                    sums[row][vector] = P::add_products(sums[row][vector], input, weights[vector]);
                }
            }
            packed = packed.add(VECTORS * P::LANES);
        }
        for row in 0..ROWS {
            for vector in 0..VECTORS {
                P::store(sums[row][vector], out.add(row * out_step + vector * P::LANES));
            }
        }
    }
}

/// A^T m A of one tile and some channels, with all that follows, to the output.
///
/// # Safety
/// As for [`run`].
#[inline(always)]
unsafe fn transform_output<V: Conversions, T: Transform<N, M>, const N: usize, const M: usize>(
    job: &Job,
    place: &Place,
    layout: &Layout,
    from: *const f32,
    (first_channel, end_channel): (usize, usize),
) {
    let plane = &place.plane;
    let (row, column) = (place.tile_row * M, place.tile_column * M);
    let (rows, columns) = (M.min(plane.height - row), M.min(plane.width - column));
    let (has_residual, has_gate) = (!plane.residual.is_null(), !plane.gate.is_null());
    // SAFETY: only pixels and channels that exist are touched.
    unsafe {
        for channel in (first_channel..end_channel).step_by(V::LANES) {
            let from = from.add(channel - first_channel);
            let mut inner = [[V::splat(0.0); M]; N];
            for j in 0..N {
                let mut m = [V::splat(0.0); N];
                for i in 0..N {
                    m[i] = V::load(from.add((i * N + j) * layout.product_place_step));
                }
                inner[j] = T::output(m);
            }
            let shift = V::load(job.shift.add(channel));
            let lanes = V::LANES.min(end_channel - channel);
            for i in 0..rows {
                let mut m = [V::splat(0.0); N];
                for j in 0..N {
                    m[j] = inner[j][i];
                }
                let out = T::output(m);
                let first_pixel = (row + i) * plane.width + column;
                for j in 0..columns {
                    let mut value = out[j].add(shift);
                    if has_residual {
                        let at = (first_pixel + j) * job.residual.step + channel;
                        value = value.add(if lanes == V::LANES {
                            job.residual.load(plane.residual, at)
                        } else {
                            job.residual.load_part(plane.residual, at, lanes)
                        });
                    }
                    if job.relu {
                        value = value.relu();
                    }
                    let at = (first_pixel + j) * job.y.step + channel;
                    if has_gate {
                        value = value.where_positive(if lanes == V::LANES {
                            job.y.load(plane.gate, at)
                        } else {
                            job.y.load_part(plane.gate, at, lanes)
                        });
                    }
                    if lanes == V::LANES {
                        job.y.store(value, plane.y, at);
                    } else {
                        // What pads the pixel is written too: zeros times zeros.
                        job.y.store_part(value, plane.y, at, job.y.step - channel);
                    }
                }
            }
        }
    }
}
