//! Convolutions prepared for inference: every instruction set, precision and combination of storages against plain sums in
//! double precision; integers equal everywhere; cells and threads without a trace.

mod reference;

use half::bf16;
use reference::numbers;
use retinanet_ops::kernels::cpu::Isa;
use retinanet_ops::kernels::cpu::inference::{
    ConvSpec, Numbers, NumbersMut, Plane, Precision, PreparedConv, Quantization, Residual, Runs, Storage,
};
use retinanet_ops::kernels::{Activation, ConvShape, ImageShape};
use std::sync::Once;

#[derive(Clone, Copy, Debug)]
struct Case {
    in_channels: usize,
    out_channels: usize,
    kernel: usize,
    stride: usize,
    padding: usize,
    groups: usize,
}

const fn case(
    in_channels: usize,
    out_channels: usize,
    kernel: usize,
    stride: usize,
    padding: usize,
    groups: usize,
) -> Case {
    Case { in_channels, out_channels, kernel, stride, padding, groups }
}

const SIGNED: Storage = Storage::U8(Quantization { scale: 0.0173, zero_point: 128 });
const POSITIVE: Storage = Storage::U8(Quantization { scale: 0.011, zero_point: 0 });
const STORAGES: [Storage; 4] = [Storage::F32, Storage::Bf16, SIGNED, POSITIVE];

/// Numbers in memory of a storage; the padding of pixels is filled too.
#[derive(Clone, Debug)]
enum Memory {
    F32(Vec<f32>),
    Bf16(Vec<bf16>),
    U8(Vec<u8>),
}

impl Memory {
    fn new(storage: Storage, values: &[f64]) -> Self {
        match storage {
            Storage::F32 => Self::F32(values.iter().map(|&value| value as f32).collect()),
            Storage::Bf16 => Self::Bf16(values.iter().map(|&value| bf16::from_f64(value)).collect()),
            Storage::U8(quantization) => {
                let byte = |value: &f64| {
                    (value / f64::from(quantization.scale) + f64::from(quantization.zero_point)).round() as u8
                };
                Self::U8(values.iter().map(byte).collect())
            }
        }
    }

    /// What a kernel must not read, and must overwrite.
    fn poisoned(storage: Storage, len: usize) -> Self {
        match storage {
            Storage::F32 => Self::F32(vec![f32::NAN; len]),
            Storage::Bf16 => Self::Bf16(vec![bf16::NAN; len]),
            Storage::U8(_) => Self::U8(vec![0xa5; len]),
        }
    }

    fn real(&self, storage: Storage) -> Vec<f64> {
        match (self, storage) {
            (Self::F32(numbers), _) => numbers.iter().map(|&number| f64::from(number)).collect(),
            (Self::Bf16(numbers), _) => numbers.iter().map(|&number| number.to_f64()).collect(),
            (Self::U8(numbers), Storage::U8(quantization)) => {
                let (zero, scale) = (f64::from(quantization.zero_point), f64::from(quantization.scale));
                numbers.iter().map(|&number| (f64::from(number) - zero) * scale).collect()
            }
            (Self::U8(_), _) => unreachable!("bytes are of a quantised storage"),
        }
    }

    fn numbers(&self) -> Numbers<'_> {
        match self {
            Self::F32(numbers) => Numbers::F32(numbers),
            Self::Bf16(numbers) => Numbers::Bf16(numbers),
            Self::U8(numbers) => Numbers::U8(numbers),
        }
    }

    fn numbers_mut(&mut self) -> NumbersMut<'_> {
        match self {
            Self::F32(numbers) => NumbersMut::F32(numbers),
            Self::Bf16(numbers) => NumbersMut::Bf16(numbers),
            Self::U8(numbers) => NumbersMut::U8(numbers),
        }
    }

    /// Pixel by pixel, so that parts can be compared.
    fn bits(&self, pixel_len: usize) -> Vec<Vec<u32>> {
        let bits: Vec<u32> = match self {
            Self::F32(numbers) => numbers.iter().map(|number| number.to_bits()).collect(),
            Self::Bf16(numbers) => numbers.iter().map(|number| u32::from(number.to_bits())).collect(),
            Self::U8(numbers) => numbers.iter().copied().map(u32::from).collect(),
        };
        bits.chunks(pixel_len).map(<[u32]>::to_vec).collect()
    }
}

/// A layer and its planes.
struct Problem {
    case: Case,
    input: Storage,
    output: Storage,
    residual: Option<Storage>,
    activation: Activation,
    weight: Vec<f32>,
    scale: Vec<f32>,
    shift: Vec<f32>,
    sizes: Vec<(usize, usize)>,
    x: Vec<Memory>,
    residuals: Vec<Memory>,
}

impl Problem {
    fn new(
        case: Case,
        sizes: &[(usize, usize)],
        (input, output, residual): (Storage, Storage, Option<Storage>),
        activation: Activation,
    ) -> Self {
        let Case { in_channels, out_channels, kernel, groups, .. } = case;
        let f32s = |len, seed| numbers(len, seed).into_iter().map(|value| value as f32).collect::<Vec<f32>>();
        let mut problem = Self {
            case,
            input,
            output,
            residual,
            activation,
            weight: f32s(out_channels * in_channels / groups * kernel * kernel, 1),
            scale: f32s(out_channels, 2),
            shift: f32s(out_channels, 3),
            sizes: Vec::new(),
            x: Vec::new(),
            residuals: Vec::new(),
        };
        problem.sizes = sizes.iter().copied().filter(|&size| problem.shape(size).is_some()).collect();
        assert!(!problem.sizes.is_empty(), "{case:?}: a size that fits");
        for (idx, &size) in problem.sizes.iter().enumerate() {
            let shape = problem.shape(size).unwrap();
            let len = shape.input().num_pixels() * input.pixel_len(in_channels);
            problem.x.push(Memory::new(input, &numbers(len, 10 + idx as u64)));
            if let Some(residual) = residual {
                let len = shape.output().num_pixels() * residual.pixel_len(out_channels);
                problem.residuals.push(Memory::new(residual, &numbers(len, 50 + idx as u64)));
            }
        }
        problem
    }

    fn shape(&self, (height, width): (usize, usize)) -> Option<ConvShape> {
        let Case { in_channels, out_channels, kernel, stride, padding, groups } = self.case;
        let input = ImageShape { batch: 1, height, width, channels: in_channels };
        ConvShape::new(input, [out_channels, in_channels / groups, kernel, kernel], stride, padding, groups).ok()
    }

    fn prepared(&self, isa: Isa) -> PreparedConv {
        let Case { in_channels, out_channels, kernel, stride, padding, groups } = self.case;
        let spec = ConvSpec {
            in_channels,
            out_channels,
            kernel,
            stride,
            padding,
            groups,
            weight: &self.weight,
            scale: Some(&self.scale),
            shift: &self.shift,
            activation: self.activation,
            input: self.input,
            output: self.output,
            residual: self.residual,
            runs: Runs::default(),
        };
        PreparedConv::new(isa, &spec).unwrap()
    }

    fn run(&self, conv: &PreparedConv, cells: Option<&[u32]>) -> Vec<Memory> {
        let out_pixel = self.output.pixel_len(self.case.out_channels);
        let poisoned = |&(height, width): &(usize, usize)| {
            let (out_height, out_width) = conv.output_size(height, width).unwrap();
            Memory::poisoned(self.output, out_height * out_width * out_pixel)
        };
        let residual = |idx: usize| self.residuals.get(idx).map_or(Residual::None, |m| Residual::Apart(m.numbers()));
        self.run_into(conv, cells, self.sizes.iter().map(poisoned).collect(), residual)
    }

    /// With the residuals where the outputs will be.
    fn run_in_place(&self, conv: &PreparedConv) -> Vec<Memory> {
        self.run_into(conv, None, self.residuals.clone(), |_| Residual::InPlace)
    }

    fn run_into<'a>(
        &'a self,
        conv: &PreparedConv,
        cells: Option<&[u32]>,
        mut outputs: Vec<Memory>,
        residual: impl Fn(usize) -> Residual<'a>,
    ) -> Vec<Memory> {
        let mut workspace = vec![f32::NAN; conv.workspace_len(self.sizes.iter().copied())];
        let mut planes: Vec<Plane> = outputs
            .iter_mut()
            .enumerate()
            .map(|(idx, y)| Plane {
                height: self.sizes[idx].0,
                width: self.sizes[idx].1,
                x: self.x[idx].numbers(),
                residual: residual(idx),
                y: y.numbers_mut(),
            })
            .collect();
        conv.run(&mut planes, cells, &mut workspace);
        drop(planes);
        outputs
    }

    /// The folded weight as it is multiplied.
    fn real_weight(&self) -> Vec<f64> {
        let per_channel = self.weight.len() / self.case.out_channels;
        let channels = self.weight.chunks(per_channel).zip(&self.scale);
        channels
            .flat_map(|(weight, scale)| {
                let folded: Vec<f32> = weight.iter().map(|weight| weight * scale).collect();
                let largest = folded.iter().fold(0.0f32, |largest, weight| largest.max(weight.abs()));
                let step = f64::from(largest) / 127.0;
                let precision = self.input.precision();
                folded.into_iter().map(move |weight| match precision {
                    Precision::F32 | Precision::F16 => f64::from(weight),
                    Precision::Bf16 => bf16::from_f32(weight).to_f64(),
                    Precision::Int8 => (f64::from(weight) / step).round() * step,
                })
            })
            .collect()
    }

    /// Whether Winograd's filtering computes it.
    fn is_filtered(&self) -> bool {
        self.prepared(Isa::detect()).cell_size().height > 1
    }

    /// The definition, before it is rounded to the output's storage.
    fn expected(&self, plane: usize, weight: &[f64]) -> Vec<f64> {
        let shape = self.shape(self.sizes[plane]).unwrap();
        let pixels = |memory: &Memory, storage: Storage, channels: usize| -> Vec<f64> {
            let real = memory.real(storage);
            real.chunks(storage.pixel_len(channels)).flat_map(|pixel| pixel[..channels].to_vec()).collect()
        };
        let x = pixels(&self.x[plane], self.input, self.case.in_channels);
        let mut y = reference::conv2d(&shape, &x, weight);
        for (idx, y) in y.iter_mut().enumerate() {
            *y += f64::from(self.shift[idx % self.case.out_channels]);
        }
        if let Some(storage) = self.residual {
            for (y, residual) in y.iter_mut().zip(pixels(&self.residuals[plane], storage, self.case.out_channels)) {
                *y += residual;
            }
        }
        if self.activation == Activation::Relu {
            y.iter_mut().for_each(|y| *y = y.max(0.0));
        }
        y
    }

    #[track_caller]
    fn check(&self, isa: Isa, outputs: &[Memory], expected: &[Vec<f64>]) {
        let channels = self.case.out_channels;
        let pixel_len = self.output.pixel_len(channels);
        // The transforms of Winograd's filtering enlarge the rounding; tests of their own look at them closer.
        let tolerance = match (self.is_filtered(), self.input) {
            (false, _) => 3e-6,
            (true, Storage::Bf16) => 1e-2,
            (true, _) => 2e-5,
        };
        for (plane, (found, expected)) in outputs.iter().zip(expected).enumerate() {
            let found = found.real(self.output);
            let largest = expected.iter().fold(1.0f64, |largest, value| largest.max(value.abs()));
            for (idx, &found) in found.iter().enumerate() {
                let what = || {
                    let Self { case, input, output, residual, .. } = self;
                    format!("{case:?} {input:?} -> {output:?} + {residual:?} {isa:?}: plane {plane} number {idx}")
                };
                assert!(found.is_finite(), "{}: expected a number, found {found}", what());
                let (pixel, channel) = (idx / pixel_len, idx % pixel_len);
                if channel >= channels {
                    continue;
                }
                let expected = expected[pixel * channels + channel];
                let rounding = largest * tolerance;
                let (expected, tolerance) = match self.output {
                    Storage::F32 => (expected, rounding),
                    Storage::Bf16 => (expected, expected.abs() / 256.0 + rounding),
                    Storage::U8(quantization) => {
                        let (scale, zero) = (f64::from(quantization.scale), f64::from(quantization.zero_point));
                        (expected.clamp(-zero * scale, (255.0 - zero) * scale), 0.501 * scale + rounding)
                    }
                };
                let error = (found - expected).abs();
                assert!(error <= tolerance, "{}: expected {expected}, found {found}", what());
            }
        }
    }
}

fn isas() -> impl Iterator<Item = Isa> {
    static SKIPPED: Once = Once::new();
    SKIPPED.call_once(|| {
        for isa in Isa::ALL.into_iter().filter(|isa| !isa.is_available()) {
            println!("skipped: {isa:?} is not on this processor");
        }
    });
    Isa::ALL.into_iter().filter(|isa| isa.is_available())
}

/// On every instruction set: right, equal where integers are multiplied, and the same over cells.
#[track_caller]
fn check(case: Case, sizes: &[(usize, usize)], storages: (Storage, Storage, Option<Storage>), activation: Activation) {
    let problem = Problem::new(case, sizes, storages, activation);
    let weight = problem.real_weight();
    let expected: Vec<Vec<f64>> = (0..problem.sizes.len()).map(|plane| problem.expected(plane, &weight)).collect();
    let pixel_len = problem.output.pixel_len(case.out_channels);
    let bits = |outputs: &[Memory]| outputs.iter().flat_map(|memory| memory.bits(pixel_len)).collect::<Vec<_>>();
    let mut first: Option<Vec<Vec<u32>>> = None;
    for isa in isas() {
        let conv = problem.prepared(isa);
        let outputs = problem.run(&conv, None);
        problem.check(isa, &outputs, &expected);
        let dense = bits(&outputs);
        if problem.input.precision() == Precision::Int8 {
            let first = first.get_or_insert_with(|| dense.clone());
            assert!(*first == dense, "{case:?} {storages:?} {isa:?}: integers differ from the first instruction set");
        }
        if problem.residual.is_some_and(|residual| residual.bytes() == problem.output.bytes()) {
            let in_place = bits(&problem.run_in_place(&conv));
            assert!(in_place == dense, "{case:?} {storages:?} {isa:?}: residuals in place");
        }
        let (cells, asked) = some_cells(&problem, &conv);
        let sparse = bits(&problem.run(&conv, Some(&cells)));
        for (pixel, (sparse, dense)) in sparse.iter().zip(&dense).enumerate() {
            if asked[pixel] {
                assert!(sparse == dense, "{case:?} {storages:?} {isa:?}: pixel {pixel} of a sparse run differs");
            }
        }
    }
}

/// Some cells of all planes, and for each pixel of all planes whether it is in one of them.
fn some_cells(problem: &Problem, conv: &PreparedConv) -> (Vec<u32>, Vec<bool>) {
    let cell = conv.cell_size();
    let (mut cells, mut asked) = (Vec::new(), Vec::new());
    let mut first = 0;
    let mut state = 12345u32;
    for &(height, width) in &problem.sizes {
        let (height, width) = conv.output_size(height, width).unwrap();
        let (rows, columns) = (height.div_ceil(cell.height), width.div_ceil(cell.width));
        let chosen: Vec<bool> = (0..rows * columns)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                state >> 30 != 0
            })
            .collect();
        cells.extend((0..rows * columns).filter(|&idx| chosen[idx]).map(|idx| (first + idx) as u32));
        let pixels = (0..height).flat_map(|row| (0..width).map(move |column| (row, column)));
        asked.extend(pixels.map(|(row, column)| chosen[row / cell.height * columns + column / cell.width]));
        first += rows * columns;
    }
    (cells, asked)
}

const SIZES: [(usize, usize); 5] = [(6, 13), (1, 1), (5, 7), (2, 30), (9, 8)];

#[test]
fn storages() {
    for input in STORAGES {
        for output in STORAGES {
            for residual in [None, Some(Storage::F32), Some(Storage::Bf16), Some(SIGNED), Some(POSITIVE)] {
                for activation in [Activation::None, Activation::Relu] {
                    check(case(5, 35, 1, 1, 0, 1), &SIZES[..3], (input, output, residual), activation);
                }
                check(case(6, 18, 3, 1, 1, 1), &SIZES[..2], (input, output, residual), Activation::Relu);
            }
        }
    }
}

/// As the storages of a network go together, and f32 at the end.
const CHAINS: [(Storage, Storage, Option<Storage>); 5] = [
    (Storage::F32, Storage::F32, None),
    (Storage::Bf16, Storage::Bf16, Some(Storage::Bf16)),
    (POSITIVE, SIGNED, None),
    (SIGNED, POSITIVE, Some(POSITIVE)),
    (SIGNED, Storage::F32, None),
];

#[test]
fn kernels_strides_and_paddings() {
    for chain in CHAINS {
        for kernel in [1, 3, 7] {
            for stride in [1, 2, 3] {
                for padding in [0, kernel / 2, kernel - 1] {
                    check(case(3, 5, kernel, stride, padding, 1), &SIZES, chain, Activation::None);
                }
            }
        }
    }
}

#[test]
fn channels_around_words_and_vectors() {
    for chain in CHAINS {
        for in_channels in [1, 2, 3, 4, 17, 64] {
            for out_channels in [1, 4, 15, 16, 33, 64] {
                check(case(in_channels, out_channels, 3, 1, 1, 1), &SIZES[..2], chain, Activation::Relu);
            }
        }
        check(case(300, 36, 3, 1, 1, 1), &SIZES[..1], chain, Activation::None);
        check(case(1100, 20, 1, 1, 0, 1), &SIZES[..2], chain, Activation::None);
    }
}

#[test]
fn groups() {
    for chain in CHAINS {
        for groups in [2, 3, 6] {
            check(case(6, 6, 3, 1, 1, groups), &SIZES[..2], chain, Activation::None);
            check(case(24, 48, 3, 2, 1, groups), &SIZES[..2], chain, Activation::Relu);
        }
        check(case(9, 6, 3, 1, 1, 3), &SIZES[..2], chain, Activation::None);
        check(case(128, 128, 3, 1, 1, 32), &SIZES[..1], chain, Activation::Relu);
        check(case(64, 64, 3, 2, 1, 2), &SIZES[..1], chain, Activation::Relu);
        check(case(10, 10, 1, 1, 0, 10), &SIZES[..2], chain, Activation::None);
    }
}

/// Many tiles, of planes large and small; the number of threads shows nowhere.
#[test]
fn planes_and_threads() {
    let sizes = [(31, 62), (16, 31), (8, 16), (4, 8), (2, 4), (1, 1), (3, 900)];
    for (input, output, residual) in CHAINS {
        for case in [case(8, 40, 3, 1, 1, 1), case(8, 40, 1, 1, 0, 1), case(8, 7, 3, 2, 1, 1)] {
            let problem = Problem::new(case, &sizes, (input, output, residual), Activation::Relu);
            let pixel_len = output.pixel_len(case.out_channels);
            let run = |threads: usize, cells: bool| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                pool.install(|| {
                    let conv = problem.prepared(Isa::detect());
                    let cells = cells.then(|| some_cells(&problem, &conv).0);
                    let outputs = problem.run(&conv, cells.as_deref());
                    outputs.iter().flat_map(|memory| memory.bits(pixel_len)).collect::<Vec<_>>()
                })
            };
            let (dense, sparse) = (run(1, false), run(1, true));
            let asked = some_cells(&problem, &problem.prepared(Isa::detect())).1;
            for ((sparse, dense), asked) in sparse.iter().zip(&dense).zip(asked) {
                assert!(!asked || sparse == dense, "{case:?} {input:?}: a sparse run differs");
            }
            for threads in [2, 5] {
                assert!(run(threads, false) == dense, "{case:?} {input:?}: {threads} threads differ");
                assert!(run(threads, true) == sparse, "{case:?} {input:?}: {threads} threads differ, sparse");
            }
        }
        check(case(4, 6, 3, 1, 1, 1), &sizes, (input, output, residual), Activation::None);
    }
}

#[test]
fn no_cells_and_all_cells() {
    let problem = Problem::new(case(4, 6, 3, 1, 1, 1), &SIZES, CHAINS[0], Activation::None);
    let conv = problem.prepared(Isa::detect());
    let bits = |outputs: Vec<Memory>| outputs.iter().flat_map(|memory| memory.bits(6)).collect::<Vec<_>>();
    let untouched = bits(problem.run(&conv, Some(&[])));
    assert!(untouched.iter().flatten().all(|&bits| f32::from_bits(bits).is_nan()), "nothing was asked for");
    let cell = conv.cell_size();
    let count: usize = SIZES.iter().map(|&(h, w)| h.div_ceil(cell.height) * w.div_ceil(cell.width)).sum();
    let all: Vec<u32> = (0..count as u32).collect();
    assert!(bits(problem.run(&conv, Some(&all))) == bits(problem.run(&conv, None)), "all cells are everything");
}

/// Bytes at the ends of their range: no product saturates.
#[test]
fn extremes() {
    let mut problem = Problem::new(case(64, 16, 3, 1, 1, 1), &[(4, 5)], (SIGNED, Storage::F32, None), Activation::None);
    for (sign, byte) in [(1.0, 255), (-1.0, 255), (1.0, 0), (-1.0, 0)] {
        problem.weight.fill(0.5 * sign);
        problem.scale.fill(1.0);
        if let Memory::U8(bytes) = &mut problem.x[0] {
            bytes.fill(byte);
        }
        let expected = problem.expected(0, &problem.real_weight());
        for isa in isas() {
            let outputs = problem.run(&problem.prepared(isa), None);
            problem.check(isa, &outputs, std::slice::from_ref(&expected));
        }
    }
}

#[test]
fn infinities_saturate_and_nan_is_zero() {
    let storages = (Storage::F32, POSITIVE, None);
    let mut problem = Problem::new(case(1, 17, 1, 1, 0, 1), &[(1, 4)], storages, Activation::Relu);
    problem.weight.fill(1.0);
    problem.scale.fill(1.0);
    problem.shift.fill(0.0);
    problem.x[0] = Memory::F32(vec![f32::INFINITY, f32::NEG_INFINITY, f32::NAN, 1e30]);
    for isa in isas() {
        let outputs = problem.run(&problem.prepared(isa), None);
        let bits = outputs[0].bits(20);
        for (pixel, expected) in bits.iter().zip([255, 0, 0, 255]) {
            assert!(pixel[..17].iter().all(|&byte| byte == expected), "{isa:?}: expected {expected}, found {pixel:?}");
        }
    }
}

#[test]
fn wrong_lengths_are_errors() {
    let spec = ConvSpec {
        in_channels: 2,
        out_channels: 2,
        kernel: 1,
        stride: 1,
        padding: 0,
        groups: 1,
        weight: &[0.0; 4],
        scale: None,
        shift: &[0.0; 2],
        activation: Activation::None,
        input: Storage::F32,
        output: Storage::F32,
        residual: None,
        runs: Runs::default(),
    };
    let error = |spec: ConvSpec| PreparedConv::new(Isa::Portable, &spec).unwrap_err().to_string();
    assert_eq!(error(ConvSpec { weight: &[0.0; 5], ..spec }), "weight: expected 4, found 5");
    assert_eq!(error(ConvSpec { shift: &[0.0; 1], ..spec }), "shift: expected 2, found 1");
    assert_eq!(error(ConvSpec { scale: Some(&[0.0; 3]), ..spec }), "scale: expected 2, found 3");
    assert_eq!(error(ConvSpec { groups: 0, ..spec }), "groups: expected at least 1, found 0");
}
