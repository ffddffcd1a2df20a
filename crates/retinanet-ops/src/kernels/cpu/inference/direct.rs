//! Convolutions of every kind by the direct kernel, in the precision that their input is stored in.

use super::super::Isa;
use super::super::conv::direct::{CELL_PIXELS, Direct, Layer, Plane as DirectPlane, run, run_cells, workspace_len};
use super::super::conv::finish::{Finish, Stores};
use super::super::conv::{Arithmetic, Bf16, Int8, Panels, Real};
use super::super::stored::Sum;
use super::conv::{CellSize, ConvSpec, Plane};
use super::lines::{Lines, Plain};
use super::{Numbers, Precision, Storage};
use crate::kernels::{Activation, ConvShape};
use half::bf16;

/// The largest weight of 8 bits: as far from zero on both sides.
const MAX_WEIGHT: f32 = 127.0;

#[derive(Debug)]
pub(super) struct DirectConv {
    isa: Isa,
    input: Storage,
    output: Storage,
    residual: Option<Storage>,
    panels: Panels,
    out_channels: usize,
    packed: Lines,
    /// Of sums of integers.
    scale: Option<Vec<f32>>,
    shift: Vec<f32>,
    residual_scale: f32,
    relu: bool,
    low: f32,
}

fn stores(storage: Storage) -> Stores {
    match storage {
        Storage::F32 => Stores::Full,
        Storage::Bf16 => Stores::Bf16,
        Storage::U8(_) => Stores::U8,
    }
}

impl DirectConv {
    /// `weight` is the folded one, `shape` that of any input.
    pub(super) fn new(isa: Isa, spec: &ConvSpec, shape: &ConvShape, weight: &[f32]) -> Self {
        let isa = isa.or_portable();
        let mut shift: Vec<f64> = spec.shift.iter().copied().map(f64::from).collect();
        let per_channel = weight.len() / spec.out_channels;
        let (panels, packed, scale) = match spec.input {
            Storage::F32 => {
                let (panels, packed) = pack::<Real<f32>>(isa, shape, weight);
                (panels, packed, None)
            }
            Storage::Bf16 => {
                let weight: Vec<bf16> = weight.iter().copied().map(bf16::from_f32).collect();
                let (panels, packed) = pack::<Bf16>(isa, shape, &weight);
                (panels, packed, None)
            }
            Storage::U8(quantization) => {
                let mut quantized = Vec::with_capacity(weight.len());
                let mut scales = Vec::with_capacity(spec.out_channels);
                for (channel, weight) in weight.chunks_exact(per_channel).enumerate() {
                    let scale = weight_scale(weight);
                    let first = quantized.len();
                    quantized.extend(weight.iter().map(|weight| quantized_weight(*weight, scale)));
                    let sum: i64 = quantized[first..].iter().copied().map(i64::from).sum();
                    let scale = f64::from(scale) * f64::from(quantization.scale);
                    // The sums are of bytes: what their zero adds to them is taken off again.
                    shift[channel] -= f64::from(quantization.zero_point) * sum as f64 * scale;
                    scales.push(scale);
                }
                let (panels, packed) = pack::<Int8>(isa, shape, &quantized);
                (panels, packed, Some(scales))
            }
        };
        let is_relu = spec.activation == Activation::Relu;
        let mut residual_scale = 1.0;
        if let Some(Storage::U8(quantization)) = spec.residual {
            residual_scale = f64::from(quantization.scale);
            for shift in &mut shift {
                *shift -= f64::from(quantization.zero_point) * residual_scale;
            }
        }
        // An output of bytes is computed in its own steps, from its zero on.
        let (mut step, mut zero, mut low, mut relu) = (1.0, 0.0, 0.0, is_relu);
        if let Storage::U8(quantization) = spec.output {
            (step, zero) = (f64::from(quantization.scale), f64::from(quantization.zero_point));
            low = if is_relu { f32::from(quantization.zero_point) } else { 0.0 };
            relu = false;
        }
        let scale = match scale {
            Some(scale) => Some(scale.into_iter().map(|scale| (scale / step) as f32).collect()),
            None => (step != 1.0).then(|| vec![(1.0 / step) as f32; spec.out_channels]),
        };
        Self {
            isa,
            input: spec.input,
            output: spec.output,
            residual: spec.residual,
            panels,
            out_channels: spec.out_channels,
            packed,
            scale,
            shift: shift.into_iter().map(|shift| (shift / step + zero) as f32).collect(),
            residual_scale: (residual_scale / step) as f32,
            relu,
            low,
        }
    }

    pub(super) fn cell_size(&self) -> CellSize {
        CellSize { height: 1, width: CELL_PIXELS }
    }

    pub(super) fn workspace_len(&self, shapes: impl Iterator<Item = ConvShape>) -> usize {
        let slot_bytes = |shape: ConvShape| match self.input.precision() {
            Precision::F32 | Precision::F16 => slot_bytes::<Real<f32>>(&shape),
            Precision::Bf16 => slot_bytes::<Bf16>(&shape),
            Precision::Int8 => slot_bytes::<Int8>(&shape),
        };
        workspace_len::<f32>(shapes.map(slot_bytes).max().unwrap_or(0))
    }

    /// # Panics
    /// The planes are not of the sizes or storages that the convolution is for.
    pub(super) fn run(
        &self,
        shape: impl Fn(&Plane) -> ConvShape + Sync,
        planes: &mut [Plane<'_>],
        cells: Option<&[u32]>,
        workspace: &mut [f32],
    ) {
        match self.input {
            Storage::F32 => self.run_as::<Real<f32>>(0.0, f32s, shape, planes, cells, workspace),
            Storage::Bf16 => self.run_as::<Bf16>(bf16::ZERO, bf16s, shape, planes, cells, workspace),
            Storage::U8(quantization) => {
                self.run_as::<Int8>(quantization.zero_point, bytes, shape, planes, cells, workspace)
            }
        }
    }

    fn run_as<A: Arithmetic<Weight: Plain, Sum: Sum<Float = f32>>>(
        &self,
        outside: A::Number,
        numbers: impl for<'a> Fn(&Numbers<'a>) -> Option<&'a [A::Number]> + Sync,
        shape: impl Fn(&Plane) -> ConvShape + Sync,
        planes: &mut [Plane<'_>],
        cells: Option<&[u32]>,
        workspace: &mut [f32],
    ) {
        let bytes = |storage: Storage| (storage.bytes(), storage.pixel_len(self.out_channels) * storage.bytes());
        let residual = self.residual.unwrap_or(self.output);
        let layer = Layer::<A> {
            isa: self.isa,
            panels: &self.panels,
            packed: self.packed.numbers(),
            outside,
            finish: Finish {
                function: (A::path(self.isa).finish)(stores(self.output), stores(residual)),
                scale: self.scale.as_deref(),
                shift: Some(&self.shift),
                residual_scale: self.residual_scale,
                relu: self.relu,
                low: self.low,
                y_bytes: bytes(self.output),
                residual_bytes: bytes(residual),
                y_padding: self.output.pixel_len(self.out_channels) - self.out_channels,
            },
        };
        for plane in &*planes {
            self.check(plane, &shape(plane));
        }
        let planes = &*planes;
        let plane = |idx: usize| {
            let plane = &planes[idx];
            let shape = shape(plane);
            let direct = Direct::forward(&shape, A::PER_WORD);
            DirectPlane {
                direct: if shape.is_pointwise() && cells.is_none() { direct.flattened() } else { direct },
                x: numbers(&plane.x).expect("checked above"),
                mask: None,
                y: plane.y.shared_pointer(),
                residual: plane.residual_pointer(),
                gate: std::ptr::null(),
            }
        };
        // SAFETY: outputs and residuals have been checked to be of their planes' sizes and this convolution's storages, and
        // the planes are this call's alone; scale and shift have a number for each output channel.
        unsafe {
            match cells {
                None => run(&layer, planes.len(), plane, workspace),
                Some(cells) => run_cells(&layer, planes.len(), plane, cells, workspace),
            }
        }
    }

    fn check(&self, plane: &Plane, shape: &ConvShape) {
        let (input, output) = (shape.input(), shape.output());
        assert!(plane.x.storage_matches(self.input), "convolution: input: expected {:?}", self.input);
        assert!(plane.y.storage_matches(self.output), "convolution: output: expected {:?}", self.output);
        let expected = input.num_pixels() * self.input.pixel_len(input.channels);
        assert_eq!(plane.x.len(), expected, "convolution: numbers of the input");
        let expected = output.num_pixels() * self.output.pixel_len(output.channels);
        assert_eq!(plane.y.len(), expected, "convolution: numbers of the output");
        plane.check_residual(self.residual, self.output, output.num_pixels(), self.out_channels);
    }
}

fn f32s<'a>(numbers: &Numbers<'a>) -> Option<&'a [f32]> {
    if let Numbers::F32(numbers) = numbers { Some(numbers) } else { None }
}

fn bf16s<'a>(numbers: &Numbers<'a>) -> Option<&'a [bf16]> {
    if let Numbers::Bf16(numbers) = numbers { Some(numbers) } else { None }
}

fn bytes<'a>(numbers: &Numbers<'a>) -> Option<&'a [u8]> {
    if let Numbers::U8(numbers) = numbers { Some(numbers) } else { None }
}

/// The step of a channel's weights: its largest becomes 127.
fn weight_scale(weight: &[f32]) -> f32 {
    let largest = weight.iter().fold(0.0f32, |largest, weight| largest.max(weight.abs()));
    // Weights of nothing but zero are zero in any step.
    if largest > 0.0 { largest / MAX_WEIGHT } else { 1.0 }
}

fn quantized_weight(weight: f32, scale: f32) -> i8 {
    (weight / scale).round_ties_even().clamp(-MAX_WEIGHT, MAX_WEIGHT) as i8
}

fn pack<A: Arithmetic<Weight: Plain>>(isa: Isa, shape: &ConvShape, weight: &[A::Weight]) -> (Panels, Lines) {
    let lanes = A::path(isa).lanes;
    let panels = Panels::forward(shape, A::PER_WORD);
    let mut packed = Lines::zeros::<A::Weight>(panels.len(lanes) * A::PER_WORD);
    panels.pack(lanes, weight, packed.numbers_mut());
    (panels, packed)
}

/// Of a dense run or one over cells, whichever needs more.
fn slot_bytes<A: Arithmetic>(shape: &ConvShape) -> usize {
    let direct = Direct::forward(shape, A::PER_WORD);
    let dense = if shape.is_pointwise() { direct.flattened() } else { direct };
    dense.slot_bytes::<A::Number>(false).max(direct.cells_slot_bytes::<A::Number>())
}
