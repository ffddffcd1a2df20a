//! Convolutions 3x3 of stride 1 as they are prepared for inference, which is by Winograd's filtering where the channels
//! are many, against their definition in double precision.

use half::bf16;
use retinanet_ops::Activation;
use retinanet_ops::kernels::cpu::Isa;
use retinanet_ops::kernels::cpu::inference::{
    CellSize, ConvSpec, Numbers, NumbersMut, Plane, PreparedConv, Residual, Runs, Storage,
};

/// A convolution with numbers of its own, on feature maps of these sizes.
struct Case {
    in_channels: usize,
    out_channels: usize,
    sizes: Vec<(usize, usize)>,
    input: Storage,
    output: Storage,
    residual: Option<Storage>,
    in_place: bool,
    runs: Runs,
    activation: Activation,
    weight: Vec<f32>,
    shift: Vec<f32>,
    x: Vec<Vec<f32>>,
    residuals: Vec<Vec<f32>>,
}

/// Numbers within (-1, 1) that bf16 holds exactly, so that storing them loses nothing.
fn numbers(seed: u64, len: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 56) as f32 / 128.0 - 1.0
    };
    (0..len).map(|_| next()).collect()
}

impl Case {
    fn new(in_channels: usize, out_channels: usize, sizes: &[(usize, usize)], storage: Storage) -> Self {
        let map = |seed: usize, channels: usize| {
            let maps = sizes.iter().enumerate();
            maps.map(|(i, (height, width))| numbers((seed + i) as u64, height * width * channels)).collect()
        };
        Self {
            in_channels,
            out_channels,
            sizes: sizes.to_vec(),
            input: storage,
            output: Storage::F32,
            residual: None,
            in_place: false,
            runs: Runs::OneMap,
            activation: Activation::None,
            weight: numbers(1, out_channels * in_channels * 9),
            shift: numbers(2, out_channels),
            x: map(10, in_channels),
            residuals: map(1000, out_channels),
        }
    }

    fn prepared(&self, isa: Isa) -> PreparedConv {
        let spec = ConvSpec {
            in_channels: self.in_channels,
            out_channels: self.out_channels,
            kernel: 3,
            stride: 1,
            padding: 1,
            groups: 1,
            weight: &self.weight,
            scale: None,
            shift: &self.shift,
            activation: self.activation,
            input: self.input,
            output: self.output,
            residual: self.residual,
            runs: self.runs,
        };
        PreparedConv::new(isa, &spec).expect("the case is a convolution")
    }

    /// The outputs as f32, NaN where nothing was written, without what pads a pixel.
    fn run(&self, isa: Isa, cells: Option<&[u32]>) -> Vec<Vec<f32>> {
        let conv = self.prepared(isa);
        let mut workspace = vec![f32::NAN; conv.workspace_len(self.sizes.iter().copied())];
        let x: Vec<Stored> = self.x.iter().map(|x| Stored::new(x, self.in_channels, self.input)).collect();
        let residuals: Vec<Option<Stored>> = (self.residuals.iter())
            .map(|residual| self.residual.map(|storage| Stored::new(residual, self.out_channels, storage)))
            .collect();
        let before =
            |residual: &Vec<f32>| if self.in_place { residual.clone() } else { vec![f32::NAN; residual.len()] };
        let mut outputs: Vec<Stored> =
            self.residuals.iter().map(|r| Stored::new(&before(r), self.out_channels, self.output)).collect();
        let maps = self.sizes.iter().zip(&x).zip(&residuals).zip(&mut outputs);
        let mut planes: Vec<Plane> = maps
            .map(|(((&(height, width), x), residual), y)| Plane {
                height,
                width,
                x: x.numbers(),
                residual: match residual {
                    Some(_) if self.in_place => Residual::InPlace,
                    Some(residual) => Residual::Apart(residual.numbers()),
                    None => Residual::None,
                },
                y: y.numbers_mut(),
            })
            .collect();
        conv.run(&mut planes, cells, &mut workspace);
        outputs.iter().map(|y| y.to_f32(self.out_channels)).collect()
    }

    /// The definition, in double precision.
    fn expected(&self) -> Vec<Vec<f64>> {
        let maps = self.sizes.iter().zip(&self.x).zip(&self.residuals);
        let output = maps.map(|((&(height, width), x), residual)| {
            let mut y = Vec::with_capacity(height * width * self.out_channels);
            for (row, column) in (0..height * width).map(|pixel| (pixel / width, pixel % width)) {
                for out_channel in 0..self.out_channels {
                    let mut sum = f64::from(self.shift[out_channel]);
                    for (a, b) in (0..9).map(|tap| (tap / 3, tap % 3)) {
                        let (from_row, from_column) = ((row + a).wrapping_sub(1), (column + b).wrapping_sub(1));
                        if from_row >= height || from_column >= width {
                            continue;
                        }
                        for channel in 0..self.in_channels {
                            let weight = self.weight[(out_channel * self.in_channels + channel) * 9 + a * 3 + b];
                            let value = x[(from_row * width + from_column) * self.in_channels + channel];
                            sum += f64::from(weight) * f64::from(value);
                        }
                    }
                    if self.residual.is_some() {
                        sum += f64::from(residual[y.len()]);
                    }
                    y.push(if self.activation == Activation::Relu { sum.max(0.0) } else { sum });
                }
            }
            y
        });
        output.collect()
    }

    /// Compares a run on every instruction set with the definition, relative to the largest output.
    #[track_caller]
    fn check(&self, tolerance: f64) {
        let expected = self.expected();
        let largest = expected.iter().flatten().fold(0.0f64, |largest, value| largest.max(value.abs()));
        for isa in Isa::ALL.into_iter().filter(|isa| isa.is_available()) {
            for (found, expected) in self.run(isa, None).iter().zip(&expected) {
                for (idx, (&found, &expected)) in found.iter().zip(expected).enumerate() {
                    let error = (f64::from(found) - expected).abs() / largest;
                    assert!(error <= tolerance, "{isa:?}, number {idx}: expected {expected}, found {found}");
                }
            }
        }
    }
}

/// Numbers as a feature map stores them, pixels padded to whole words.
enum Stored {
    F32(Vec<f32>),
    Bf16(Vec<bf16>),
}

impl Stored {
    fn new(numbers: &[f32], channels: usize, storage: Storage) -> Self {
        let padding = storage.pixel_len(channels) - channels;
        let padded = numbers.chunks(channels).flat_map(|pixel| pixel.iter().copied().chain(vec![0.0; padding]));
        match storage {
            Storage::F32 => Self::F32(padded.collect()),
            Storage::Bf16 => Self::Bf16(padded.map(bf16::from_f32).collect()),
            Storage::U8(_) => panic!("these convolutions are not of bytes"),
        }
    }

    fn numbers(&self) -> Numbers<'_> {
        match self {
            Self::F32(numbers) => Numbers::F32(numbers),
            Self::Bf16(numbers) => Numbers::Bf16(numbers),
        }
    }

    fn numbers_mut(&mut self) -> NumbersMut<'_> {
        match self {
            Self::F32(numbers) => NumbersMut::F32(numbers),
            Self::Bf16(numbers) => NumbersMut::Bf16(numbers),
        }
    }

    fn to_f32(&self, channels: usize) -> Vec<f32> {
        match self {
            Self::F32(numbers) => numbers.clone(),
            Self::Bf16(numbers) => {
                let pixels = numbers.chunks(channels.next_multiple_of(2));
                pixels.flat_map(|pixel| pixel[..channels].iter().map(|number| number.to_f32())).collect()
            }
        }
    }
}

const SIZES: [(usize, usize); 4] = [(9, 14), (1, 1), (4, 5), (3, 30)];

/// Errors relative to the largest output; those of tiles of 6 x 6 outputs are twice those of 4 x 4.
const TOLERANCES: [(Runs, f64); 2] = [(Runs::FewCells, 8e-6), (Runs::ManyMaps, 1.6e-5)];

#[test]
fn f32_is_the_definition_but_for_rounding() {
    for (runs, tolerance) in TOLERANCES {
        Case { runs, ..Case::new(32, 32, &SIZES, Storage::F32) }.check(tolerance);
        // Channels that fill no vector, more panels than one chunk, a size that ends within a tile.
        Case { runs, ..Case::new(45, 163, &[(6, 7)], Storage::F32) }.check(tolerance);
        for in_place in [false, true] {
            let case = Case { runs, in_place, ..Case::new(40, 35, &SIZES, Storage::F32) };
            Case { residual: Some(Storage::F32), activation: Activation::Relu, ..case }.check(tolerance);
        }
    }
    // More input channels than large tiles are for.
    Case { runs: Runs::ManyMaps, ..Case::new(257, 32, &[(13, 9)], Storage::F32) }.check(8e-6);
}

#[test]
fn bf16_is_the_definition_but_for_rounding() {
    // Inputs and weights hold 8 bits before the transform and 8 after it: an error of 2^-9 in each of many products.
    Case::new(32, 32, &SIZES, Storage::Bf16).check(6e-3);
    Case { output: Storage::Bf16, ..Case::new(45, 163, &[(6, 7)], Storage::Bf16) }.check(1e-2);
    for residual in [Storage::F32, Storage::Bf16] {
        let case = Case::new(39, 35, &SIZES, Storage::Bf16);
        let in_place = residual == Storage::Bf16;
        Case { residual: Some(residual), in_place, output: Storage::Bf16, activation: Activation::Relu, ..case }
            .check(1e-2);
    }
}

#[test]
fn many_maps_are_many_calls() {
    let sizes: Vec<(usize, usize)> = (0..70).map(|i| (1 + i % 7, 1 + i % 5)).collect();
    Case::new(32, 33, &sizes, Storage::F32).check(1.6e-5);
}

/// The cells that hold pixel (row, column) of a map, over the maps of these sizes.
fn cell_at(cell: CellSize, sizes: &[(usize, usize)], map: usize, row: usize, column: usize) -> u32 {
    let columns = |width: usize| width.div_ceil(cell.width);
    let before: usize = sizes[..map].iter().map(|&(height, width)| height.div_ceil(cell.height) * columns(width)).sum();
    (before + row / cell.height * columns(sizes[map].1) + column / cell.width) as u32
}

#[test]
fn chosen_cells_have_the_bits_of_a_run_over_everything() {
    // More maps than one parallel region takes, cells in the first and in the last.
    let sizes: Vec<(usize, usize)> = (0..40).map(|i| (6 + i % 3, 13)).collect();
    for (storage, runs) in
        [(Storage::F32, Runs::FewCells), (Storage::F32, Runs::ManyMaps), (Storage::Bf16, Runs::FewCells)]
    {
        let case = Case { runs, ..Case::new(33, 36, &sizes, storage) };
        for isa in Isa::ALL.into_iter().filter(|isa| isa.is_available()) {
            let cell = case.prepared(isa).cell_size();
            let wanted = [(0, 0, 0), (0, 5, 12), (1, 6, 3), (33, 4, 9), (39, 0, 12)];
            let mut cells: Vec<u32> =
                wanted.iter().map(|&(map, row, column)| cell_at(cell, &sizes, map, row, column)).collect();
            cells.sort_unstable();
            let (dense, sparse) = (case.run(isa, None), case.run(isa, Some(&cells)));
            let mut written = 0;
            for (map, (dense, sparse)) in dense.iter().zip(&sparse).enumerate() {
                let width = sizes[map].1;
                for (pixel, (dense, sparse)) in dense.chunks(36).zip(sparse.chunks(36)).enumerate() {
                    if cells.contains(&cell_at(cell, &sizes, map, pixel / width, pixel % width)) {
                        let bits = |numbers: &[f32]| numbers.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
                        assert_eq!(bits(dense), bits(sparse), "{isa:?} {storage:?} map {map} pixel {pixel}");
                        written += 1;
                    } else {
                        assert!(sparse.iter().all(|x| x.is_nan()), "{isa:?} {storage:?} map {map} pixel {pixel}");
                    }
                }
            }
            assert!(written >= wanted.len());
            assert!(case.run(isa, Some(&[])).iter().flatten().all(|x| x.is_nan()));
        }
    }
}

#[test]
fn threads_do_not_change_a_bit() {
    let case = Case { residual: Some(Storage::F32), ..Case::new(64, 160, &[(13, 21), (5, 6)], Storage::F32) };
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads can be started");
        pool.install(|| case.run(Isa::detect(), None))
    };
    let bits = |maps: Vec<Vec<f32>>| maps.into_iter().flatten().map(f32::to_bits).collect::<Vec<_>>();
    let one = bits(run(1));
    for threads in [2, 3, 16] {
        assert_eq!(one, bits(run(threads)), "{threads} threads");
    }
}

#[test]
#[should_panic(expected = "cells")]
fn a_cell_beyond_the_maps_is_refused() {
    let case = Case::new(32, 32, &[(4, 4)], Storage::F32);
    case.run(Isa::detect(), Some(&[1]));
}
