//! Convolutions of a RetinaNet on one thread, in each precision, beside what the multipliers can do at all:
//! `cargo run --release -p retinanet-ops --example conv_speed -- [f32|bf16|int8] [part of a name] [sparse]`.

use half::bf16;
use retinanet_ops::kernels::Activation;
use retinanet_ops::kernels::cpu::Isa;
use retinanet_ops::kernels::cpu::inference::{
    ConvSpec, Numbers, NumbersMut, Plane, Precision, PreparedConv, Quantization, Residual, Runs, Storage,
};

struct Case {
    name: &'static str,
    /// Of the input, and its channels.
    sizes: &'static [(usize, usize)],
    in_channels: usize,
    out_channels: usize,
    kernel: usize,
    stride: usize,
    groups: usize,
    residual: bool,
}

const fn case(
    name: &'static str,
    sizes: &'static [(usize, usize)],
    in_channels: usize,
    out_channels: usize,
    kernel: usize,
    stride: usize,
) -> Case {
    Case { name, sizes, in_channels, out_channels, kernel, stride, groups: 1, residual: false }
}

const PYRAMID: &[(usize, usize)] = &[(100, 168), (50, 84), (25, 42), (13, 21), (7, 11)];

const CASES: [Case; 17] = [
    case("stem_7x7_s2_3_64", &[(800, 1344)], 3, 64, 7, 2),
    case("1x1_64_64", &[(200, 336)], 64, 64, 1, 1),
    Case { residual: true, ..case("1x1_64_256_residual", &[(200, 336)], 64, 256, 1, 1) },
    case("1x1_64_256", &[(200, 336)], 64, 256, 1, 1),
    case("1x1_256_64", &[(200, 336)], 256, 64, 1, 1),
    case("3x3_64_64", &[(200, 336)], 64, 64, 3, 1),
    case("3x3_128_128", &[(100, 168)], 128, 128, 3, 1),
    case("3x3_s2_256_256", &[(100, 168)], 256, 256, 3, 2),
    case("1x1_s2_512_1024", &[(100, 168)], 512, 1024, 1, 2),
    case("1x1_512_128", &[(100, 168)], 512, 128, 1, 1),
    Case { residual: true, ..case("1x1_256_1024_residual", &[(50, 84)], 256, 1024, 1, 1) },
    case("3x3_512_512", &[(25, 42)], 512, 512, 3, 1),
    Case { residual: true, ..case("1x1_512_2048_residual", &[(25, 42)], 512, 2048, 1, 1) },
    case("3x3_256_256_pyramid", PYRAMID, 256, 256, 3, 1),
    case("3x3_256_819_pyramid", PYRAMID, 256, 819, 3, 1),
    Case { groups: 32, ..case("3x3_128_128_g32", &[(200, 336)], 128, 128, 3, 1) },
    Case { groups: 32, ..case("3x3_512_512_g32", &[(50, 84)], 512, 512, 3, 1) },
];

enum Memory {
    F32(Vec<f32>),
    Bf16(Vec<bf16>),
    U8(Vec<u8>),
}

impl Memory {
    fn new(storage: Storage, len: usize) -> Self {
        let values = (0..len).map(|idx| (idx.wrapping_mul(2_654_435_761) >> 9 & 255) as u8);
        match storage {
            Storage::F32 => Self::F32(values.map(|value| f32::from(value) / 256.0).collect()),
            Storage::Bf16 => Self::Bf16(values.map(|value| bf16::from_f32(f32::from(value) / 256.0)).collect()),
            Storage::U8(_) => Self::U8(values.collect()),
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
}

/// Seconds that this thread has computed for, so that others on the machine do not count.
#[cfg(unix)]
fn now() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call writes one `timespec`.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    time.tv_sec as f64 + 1e-9 * time.tv_nsec as f64
}

/// Seconds of the clock, where a thread's own are not known.
#[cfg(not(unix))]
fn now() -> f64 {
    use std::time::{SystemTime, UNIX_EPOCH};
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64())
}

/// The least seconds of several runs.
fn seconds(mut run: impl FnMut()) -> f64 {
    let (mut best, started) = (f64::INFINITY, now());
    while best == f64::INFINITY || now() - started < 0.3 {
        let before = now();
        run();
        best = best.min(now() - before);
    }
    best
}

/// Operations a second of a loop that never leaves the registers.
fn peak(isa: Isa, precision: Precision) -> f64 {
    #[cfg(target_arch = "x86_64")]
    {
        const STEPS: usize = 2_000_000;
        const SUMS: usize = 12;
        let (lanes, run): (_, unsafe fn(usize)) = match (isa, precision) {
            (Isa::Avx512, Precision::F32) => (16, peak::f32x16),
            (Isa::Avx512, Precision::Bf16) if isa.has_bf16_products() => (2 * 16, peak::bf16x32),
            (Isa::Avx512, Precision::Int8) if isa.has_int8_products() => (4 * 16, peak::i8x64),
            (Isa::Avx2, _) => (8, peak::f32x8),
            _ => return f64::NAN,
        };
        // SAFETY: `isa` is this processor's, and the features have been asked for.
        (2 * lanes * SUMS * STEPS) as f64 / seconds(|| unsafe { run(STEPS) })
    }
    #[cfg(not(target_arch = "x86_64"))]
    f64::NAN
}

#[cfg(target_arch = "x86_64")]
mod peak {
    //! Twelve sums: more than the latency of a product needs.

    use std::arch::x86_64::*;
    use std::hint::black_box;

    macro_rules! peak {
        ($name:ident, $features:literal, $sum:expr, $factor:expr, |$s:ident, $x:ident| $step:expr) => {
            #[target_feature(enable = $features)]
            pub(super) unsafe fn $name(steps: usize) {
                let mut sums = [$sum; 12];
                let $x = black_box($factor);
                for _ in 0..steps {
                    for $s in &mut sums {
                        *$s = $step;
                    }
                    // Nothing may be drawn together over steps.
                    sums = std::array::from_fn(|idx| sums[idx]);
                }
                black_box(sums);
            }
        };
    }

    peak!(f32x8, "avx2,fma", _mm256_setzero_ps(), _mm256_set1_ps(0.5), |s, x| _mm256_fmadd_ps(x, x, *s));
    peak!(f32x16, "avx512f", _mm512_setzero_ps(), _mm512_set1_ps(0.5), |s, x| _mm512_fmadd_ps(x, x, *s));
    peak!(
        bf16x32,
        "avx512f,avx512bf16",
        _mm512_setzero_ps(),
        _mm512_cvtne2ps_pbh(_mm512_set1_ps(0.5), _mm512_set1_ps(0.5)),
        |s, x| _mm512_dpbf16_ps(*s, x, x)
    );
    peak!(i8x64, "avx512f,avx512vnni", _mm512_setzero_si512(), _mm512_set1_epi8(3), |s, x| _mm512_dpbusd_epi32(
        *s, x, x
    ));
}

fn prepared(isa: Isa, case: &Case, input: Storage, output: Storage) -> PreparedConv {
    let len = case.out_channels * case.in_channels / case.groups * case.kernel * case.kernel;
    let weight: Vec<f32> = (0..len).map(|idx| (idx % 37) as f32 / 37.0 - 0.5).collect();
    let spec = ConvSpec {
        in_channels: case.in_channels,
        out_channels: case.out_channels,
        kernel: case.kernel,
        stride: case.stride,
        padding: case.kernel / 2,
        groups: case.groups,
        weight: &weight,
        scale: None,
        shift: &vec![0.1; case.out_channels],
        activation: Activation::Relu,
        input,
        output,
        residual: case.residual.then_some(output),
        runs: Runs::default(),
    };
    PreparedConv::new(isa, &spec).expect("a convolution")
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a thread");
    pool.install(|| run(&arguments));
}

fn run(arguments: &[String]) {
    let isas = [Isa::detect(), Isa::Avx2];
    let isa = if arguments.iter().any(|word| word == "avx2") { isas[1] } else { isas[0] };
    let byte = Storage::U8(Quantization { scale: 0.02, zero_point: 0 });
    for (name, storage) in [("f32", Storage::F32), ("bf16", Storage::Bf16), ("int8", byte)] {
        if arguments.first().is_some_and(|wanted| wanted != name && wanted != "all") {
            continue;
        }
        let peak = peak(isa, storage.precision());
        println!("{name} {isa:?}: {:.0} Gop/s in registers", peak * 1e-9);
        for case in &CASES {
            if arguments.get(1).is_some_and(|part| !case.name.contains(part)) {
                continue;
            }
            let conv = prepared(isa, case, storage, storage);
            let out_len = storage.pixel_len(case.out_channels);
            let out_pixels = |&(height, width): &(usize, usize)| {
                let (height, width) = conv.output_size(height, width).expect("fits");
                height * width
            };
            let x: Vec<Memory> = case
                .sizes
                .iter()
                .map(|(h, w)| Memory::new(storage, h * w * storage.pixel_len(case.in_channels)))
                .collect();
            let residuals: Vec<Memory> =
                case.sizes.iter().map(|size| Memory::new(storage, out_pixels(size) * out_len)).collect();
            let mut y: Vec<Memory> =
                case.sizes.iter().map(|size| Memory::new(storage, out_pixels(size) * out_len)).collect();
            let mut workspace = vec![0.0; conv.workspace_len(case.sizes.iter().copied())];
            let time = seconds(|| {
                let mut planes: Vec<Plane> = y
                    .iter_mut()
                    .enumerate()
                    .map(|(idx, y)| Plane {
                        height: case.sizes[idx].0,
                        width: case.sizes[idx].1,
                        x: x[idx].numbers(),
                        residual: if case.residual {
                            Residual::Apart(residuals[idx].numbers())
                        } else {
                            Residual::None
                        },
                        y: y.numbers_mut(),
                    })
                    .collect();
                conv.run(&mut planes, None, &mut workspace);
            });
            let products = case.out_channels * case.in_channels / case.groups * case.kernel * case.kernel;
            let operations = 2.0 * (case.sizes.iter().map(out_pixels).sum::<usize>() * products) as f64;
            println!(
                "{:24} {:8.2} ms {:6.0} Gop/s {:5.1} %",
                case.name,
                1e3 * time,
                operations / time * 1e-9,
                100.0 * operations / time / peak
            );
        }
    }
}
