//! A small network with everything that a RetinaNet has.

use candle_core::{Device, Result, Tensor};
use retinanet_ops::kernels::cpu::inference::{Precision, Quantization};
use retinanet_ops::network::plan::{Plan, PlanOptions, Recorder, Session};
use retinanet_ops::network::{
    ConvLayer, Engine, InferenceEngine, NormKind, Parameters, QuantizationTable, QuantizedLayer,
};
use std::collections::BTreeMap;

/// Two stages with a residual block, a top-down step, and two subnets that serve three levels.
pub(crate) struct Network {
    stem: ConvLayer,
    block: [ConvLayer; 2],
    shortcut: ConvLayer,
    laterals: [ConvLayer; 2],
    extra: ConvLayer,
    pub(crate) class: Vec<ConvLayer>,
    pub(crate) boxes: Vec<ConvLayer>,
}

/// Runs a network and keeps the smallest and largest number that each layer reads.
struct Observer<'a> {
    engine: InferenceEngine<'a>,
    ranges: BTreeMap<String, (f32, f32)>,
}

impl Observer<'_> {
    fn observe(&mut self, name: &str, x: &Tensor) -> Result<()> {
        let (min, max) = self.ranges.entry(name.to_owned()).or_default();
        for value in x.flatten_all()?.to_vec1::<f32>()? {
            (*min, *max) = (min.min(value), max.max(value));
        }
        Ok(())
    }
}

impl Engine for Observer<'_> {
    type Value = Tensor;

    fn conv(&mut self, layer: &ConvLayer, x: &Tensor, residual: Option<&Tensor>) -> Result<Tensor> {
        self.observe(&layer.name, x)?;
        let y = self.engine.conv(layer, x, residual)?;
        self.observe(&format!("{} output", layer.name), &y)?;
        Ok(y)
    }

    fn max_pool(&mut self, x: &Tensor, kernel: usize, stride: usize, padding: usize) -> Result<Tensor> {
        self.engine.max_pool(x, kernel, stride, padding)
    }

    fn upsample_add(&mut self, coarse: &Tensor, fine: &Tensor) -> Result<Tensor> {
        self.engine.upsample_add(coarse, fine)
    }

    fn relu(&mut self, x: &Tensor) -> Result<Tensor> {
        self.engine.relu(x)
    }
}

/// Channels of the pyramid; odd, so that pixels are padded in some storages.
const CHANNELS: usize = 9;

impl Network {
    /// `group_norm` in the subnets, stored statistics before them.
    pub(crate) fn new(group_norm: bool) -> Self {
        Self::with_norms(NormKind::FrozenBatch { epsilon: 1e-5 }, group_norm)
    }

    /// `norm` before the subnets, and `group_norm` in them.
    pub(crate) fn with_norms(norm: NormKind, group_norm: bool) -> Self {
        let normed = |name: &str, from, to, kernel, stride| {
            ConvLayer::new(name, from, to, kernel, stride).with_norm(format!("{name}.bn"), norm)
        };
        let subnet = |name: &str, outputs| {
            let mut layers: Vec<ConvLayer> = (0..2)
                .map(|i| {
                    let layer = ConvLayer::new(format!("{name}.{i}"), CHANNELS, CHANNELS, 3, 1).with_relu();
                    let norm = NormKind::Group { groups: 3, epsilon: 1e-5 };
                    if group_norm { layer.with_norm(format!("{name}.{i}.gn"), norm) } else { layer }
                })
                .collect();
            layers.push(ConvLayer::new(format!("{name}.last"), CHANNELS, outputs, 3, 1));
            layers
        };
        Self {
            stem: normed("stem", 3, 8, 7, 2).with_relu(),
            block: [normed("block.1", 8, 12, 3, 2).with_relu(), normed("block.2", 12, 16, 3, 1).with_relu()],
            shortcut: normed("shortcut", 8, 16, 1, 2),
            laterals: [ConvLayer::new("lateral.0", 8, CHANNELS, 1, 1), ConvLayer::new("lateral.1", 16, CHANNELS, 1, 1)],
            extra: ConvLayer::new("extra", CHANNELS, CHANNELS, 3, 2),
            class: subnet("class", 10),
            boxes: subnet("box", 4),
        }
    }

    /// Class logits and box deltas, a level each.
    pub(crate) fn forward<E: Engine>(&self, engine: &mut E, x: &E::Value) -> Result<[Vec<E::Value>; 2]> {
        let x = engine.conv(&self.stem, x, None)?;
        let c2 = engine.max_pool(&x, 3, 2, 1)?;
        let shortcut = engine.conv(&self.shortcut, &c2, None)?;
        let y = engine.conv(&self.block[0], &c2, None)?;
        let c3 = engine.conv(&self.block[1], &y, Some(&shortcut))?;
        let coarse = engine.conv(&self.laterals[1], &c3, None)?;
        let fine = engine.conv(&self.laterals[0], &c2, None)?;
        let fine = engine.upsample_add(&coarse, &fine)?;
        let positive = engine.relu(&coarse)?;
        let extra = engine.conv(&self.extra, &positive, None)?;
        let mut subnet = |layers: &[ConvLayer]| {
            let level =
                |level: &E::Value| layers.iter().try_fold(level.clone(), |x, layer| engine.conv(layer, &x, None));
            [&fine, &coarse, &extra].into_iter().map(level).collect::<Result<Vec<_>>>()
        };
        Ok([subnet(&self.class)?, subnet(&self.boxes)?])
    }

    /// Every layer, to be changed.
    #[allow(dead_code, reason = "each test file uses a part")]
    pub(crate) fn layers_mut(&mut self) -> impl Iterator<Item = &mut ConvLayer> {
        let backbone = std::iter::once(&mut self.stem).chain(&mut self.block).chain([&mut self.shortcut]);
        let pyramid = self.laterals.iter_mut().chain([&mut self.extra]);
        backbone.chain(pyramid).chain(&mut self.class).chain(&mut self.boxes)
    }

    pub(crate) fn layers(&self) -> impl Iterator<Item = &ConvLayer> {
        let backbone = [&self.stem, &self.block[0], &self.block[1], &self.shortcut];
        backbone.into_iter().chain(&self.laterals).chain([&self.extra]).chain(&self.class).chain(&self.boxes)
    }

    /// 8 bits for every layer whose name passes, in the ranges that some images have.
    pub(crate) fn quantization(&self, passes: impl Fn(&str) -> bool) -> QuantizationTable {
        let parameters = self.parameters();
        let mut observer = Observer { engine: InferenceEngine::new(&parameters), ranges: BTreeMap::new() };
        for seed in 0..3 {
            let pixels = Tensor::from_vec(image((75, 96), seed), (1, 75, 96, 3), &Device::Cpu).expect("an image");
            self.forward(&mut observer, &pixels).expect("outputs");
        }
        let quantization = |name: &str| {
            let &(min, max) = &observer.ranges[name];
            if min < 0.0 {
                Quantization { scale: max.max(-min) / 127.0, zero_point: 128 }
            } else {
                Quantization { scale: max / 255.0, zero_point: 0 }
            }
        };
        let layer = |layer: &ConvLayer| {
            let output = (layer.name == "shortcut").then(|| quantization("shortcut output"));
            let layer_ranges = QuantizedLayer { input: quantization(&layer.name), output, weight_scale: Vec::new() };
            (layer.name.clone(), layer_ranges)
        };
        QuantizationTable { layers: self.layers().filter(|layer| passes(&layer.name)).map(layer).collect() }
    }

    pub(crate) fn plan(&self, precision: Precision, quantization: Option<&QuantizationTable>) -> Plan {
        let (mut recorder, image) = Recorder::new(3);
        let [class, boxes] = self.forward(&mut recorder, &image).expect("a network");
        let options = PlanOptions { precision, quantization, ..PlanOptions::default() };
        Plan::new(&recorder, &class, &boxes, &self.parameters(), &options).expect("a plan")
    }

    /// Weights that keep the activations at about 1.
    pub(crate) fn parameters(&self) -> Parameters {
        let tensor = |(seed, spec): (usize, retinanet_ops::network::ParameterSpec)| {
            let count = spec.shape.iter().product();
            let fan_in: usize = spec.shape[1..].iter().product();
            let scale = (6.0 / fan_in as f32).sqrt();
            let leaf = spec.name.rsplit('.').next().unwrap_or_default();
            let values = noise(count, seed as u64).into_iter().map(|x| match (leaf, spec.shape.len()) {
                (_, 4) => scale * x,
                ("running_var" | "weight", _) => 1.0 + 0.3 * x,
                _ => 0.2 * x,
            });
            let tensor = Tensor::from_vec(values.collect(), spec.shape, &Device::Cpu).expect("a shape");
            (spec.name, tensor)
        };
        let specs = self.layers().flat_map(ConvLayer::parameters).enumerate();
        Parameters::new(specs.map(tensor)).expect("tensors")
    }
}

/// Numbers in [-1, 1), the same for the same seed.
pub(crate) fn noise(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0xD1B5_4A32_D192_ED03;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

/// An image of this size, the same for the same seed.
pub(crate) fn image((height, width): (usize, usize), seed: u64) -> Vec<f32> {
    noise(height * width * 3, seed)
}

/// The first outputs of images, level by level, image by image.
pub(crate) fn run_first(session: &mut Session, sizes: &[(usize, usize)], first_seed: u64) -> Vec<Vec<f32>> {
    session.resize(sizes).expect("a layout");
    for (image_idx, &size) in sizes.iter().enumerate() {
        session.input_mut(image_idx).copy_from_slice(&image(size, first_seed + image_idx as u64));
    }
    session.run_first();
    let outputs = (0..3).flat_map(|level| (0..sizes.len()).map(move |image| (level, image)));
    outputs.map(|(level, image)| session.first_output(level, image).values.to_vec()).collect()
}

/// The other outputs after [`run_first`].
pub(crate) fn run_rest(session: &mut Session, num_images: usize) -> Vec<Vec<f32>> {
    session.run_rest();
    let outputs = (0..3).flat_map(|level| (0..num_images).map(move |image| (level, image)));
    outputs.map(|(level, image)| session.rest_output(level, image).values.to_vec()).collect()
}

/// Norm of the difference over norm of the expected.
pub(crate) fn relative_error(found: &[f32], expected: &[f32]) -> f64 {
    assert_eq!(found.len(), expected.len(), "number of values");
    let difference: f64 = found.iter().zip(expected).map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2)).sum();
    let norm: f64 = expected.iter().map(|&b| f64::from(b).powi(2)).sum();
    (difference / norm).sqrt()
}
