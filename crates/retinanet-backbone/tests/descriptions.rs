//! The descriptions against torchvision's parameter counts, and small networks of every kind run on odd sizes.

use candle_core::{DType, Device, Tensor};
use retinanet_anchors::{Pyramid, PyramidLevel};
use retinanet_backbone::{Fpn, FpnConfig, P6Source, ResNet, ResNetConfig, ResNetDepth};
use retinanet_ops::network::{ConvLayer, InferenceEngine, NormKind, ParameterKind, Parameters, TrainingEngine};

/// Weights without running statistics; torchvision's published count less that of the classifier.
#[track_caller]
fn check_count(depth: ResNetDepth, groups: usize, width_per_group: usize, published: usize, classifier: usize) {
    let config = ResNetConfig { depth, groups, width_per_group, ..Default::default() };
    let resnet = ResNet::new(&config, "body").expect("a network");
    let is_running = |kind| matches!(kind, ParameterKind::RunningMean | ParameterKind::RunningVariance);
    let specs = resnet.layers().flat_map(ConvLayer::parameters).filter(|spec| !is_running(spec.kind));
    let found: usize = specs.map(|spec| spec.shape.iter().product::<usize>()).sum();
    assert_eq!(found, published - classifier, "{depth:?} {groups}x{width_per_group}");
}

#[test]
fn parameter_counts_are_torchvisions() {
    let (basic, bottleneck) = (513_000, 2_049_000);
    check_count(ResNetDepth::R18, 1, 64, 11_689_512, basic);
    check_count(ResNetDepth::R34, 1, 64, 21_797_672, basic);
    check_count(ResNetDepth::R50, 1, 64, 25_557_032, bottleneck);
    check_count(ResNetDepth::R101, 1, 64, 44_549_160, bottleneck);
    check_count(ResNetDepth::R152, 1, 64, 60_192_808, bottleneck);
    check_count(ResNetDepth::R50, 32, 4, 25_028_904, bottleneck);
    check_count(ResNetDepth::R101, 32, 8, 88_791_336, bottleneck);
    check_count(ResNetDepth::R101, 64, 4, 83_455_272, bottleneck);
}

#[test]
fn blocks_are_named_as_their_layers() {
    for depth in [ResNetDepth::R18, ResNetDepth::R50] {
        let resnet = ResNet::new(&ResNetConfig { depth, ..Default::default() }, "body").expect("a network");
        assert!(resnet.block_prefixes(0).is_empty());
        assert_eq!(resnet.block_prefixes(1)[..2], ["body.layer1.0.", "body.layer1.1."]);
        let prefixes = resnet.block_prefixes(4);
        assert_eq!(prefixes.len(), depth.blocks().iter().sum::<usize>());
        // Each layer but the stem is in one block.
        let blocks_of = |layer: &ConvLayer| prefixes.iter().filter(|prefix| layer.name.starts_with(*prefix)).count();
        assert_eq!(resnet.layers().skip(1).filter(|layer| blocks_of(layer) == 1).count(), resnet.layers().count() - 1);
    }
}

/// Every tensor of the layers, from a counter; variances and norms' weights above 0.
fn parameters<'a>(layers: impl Iterator<Item = &'a ConvLayer>) -> Parameters {
    let tensor = |spec: retinanet_ops::network::ParameterSpec| {
        let count = spec.shape.iter().product::<usize>();
        let is_positive = matches!(spec.kind, ParameterKind::NormWeight | ParameterKind::RunningVariance);
        let value = |i: usize| ((i * 37 % 101) as f32 / 101.0 - 0.5) * 0.2 + if is_positive { 1.0 } else { 0.0 };
        let values: Vec<f32> = (0..count).map(value).collect();
        (spec.name, Tensor::from_vec(values, spec.shape, &Device::Cpu).expect("a tensor"))
    };
    Parameters::new(layers.flat_map(ConvLayer::parameters).map(tensor)).expect("parameters")
}

fn shapes(pyramid: &Pyramid<Tensor>) -> Vec<(u8, Vec<usize>)> {
    pyramid.iter().map(|(level, tensor)| (level.number(), tensor.dims().to_vec())).collect()
}

#[track_caller]
fn check_forward(resnet: ResNetConfig, fpn: FpnConfig, expected: &[(u8, [usize; 2])]) -> candle_core::Result<()> {
    let resnet = ResNet::new(&resnet, "backbone.body").expect("a network");
    let fpn = Fpn::new(&fpn, resnet.out_channels(), "backbone.fpn").expect("a pyramid");
    let parameters = parameters(resnet.layers().chain(fpn.layers()));
    let images = Tensor::arange(0f32, 2.0 * 75.0 * 101.0 * 3.0, &Device::Cpu)?.reshape((2, 75, 101, 3))?;
    let images = (images / 22_725.0)?.sin()?;
    let mut engine = InferenceEngine::new(&parameters);
    let stages = resnet.forward(&mut engine, &images)?;
    let inference = fpn.forward(&mut engine, &stages)?;
    let channels = fpn.output[0].out_channels;
    let expected: Vec<_> = expected.iter().map(|(level, [h, w])| (*level, vec![2, *h, *w, channels])).collect();
    assert_eq!(shapes(&inference), expected);
    assert_eq!(
        fpn.levels().iter().map(|level| level.number()).collect::<Vec<_>>(),
        expected.iter().map(|(level, _)| *level).collect::<Vec<_>>()
    );

    // Where nothing depends on the batch, the engine of training computes the same, and every trainable weight has a gradient.
    if resnet.stem.norm.as_ref().is_some_and(|(_, kind)| !matches!(kind, NormKind::Batch { .. })) {
        let mut engine = TrainingEngine::new(&parameters);
        let stages = resnet.forward(&mut engine, &images)?;
        let training = fpn.forward(&mut engine, &stages)?;
        let mut sum = Tensor::zeros((), DType::F32, &Device::Cpu)?;
        for (a, b) in training.values().iter().zip(inference.values()) {
            let scale = b.abs()?.max_all()?.to_scalar::<f32>()?;
            let difference = (a - b)?.abs()?.max_all()?.to_scalar::<f32>()?;
            assert!(difference <= 1e-5 * scale, "difference {difference} of {scale}");
            sum = (sum + a.sqr()?.sum_all()?)?;
        }
        let gradients = sum.backward()?;
        for spec in resnet.layers().chain(fpn.layers()).flat_map(ConvLayer::parameters) {
            let has_gradient = gradients.get(parameters.variable(&spec.name)?).is_some();
            assert_eq!(has_gradient, spec.trainable, "{}", spec.name);
        }
    }
    Ok(())
}

const PAPER: [(u8, [usize; 2]); 5] = [(3, [10, 13]), (4, [5, 7]), (5, [3, 4]), (6, [2, 2]), (7, [1, 1])];

#[test]
fn networks_of_every_kind_run_on_odd_sizes() -> candle_core::Result<()> {
    let small = |depth| ResNetConfig { depth, width: 8, ..Default::default() };
    let thin = |p6_source| FpnConfig { channels: 8, p6_source, ..Default::default() };
    check_forward(small(ResNetDepth::R18), thin(P6Source::C5), &PAPER)?;
    check_forward(small(ResNetDepth::R50), thin(P6Source::P5), &PAPER)?;
    let grouped = ResNetConfig { groups: 4, width_per_group: 32, frozen_stages: 0, ..small(ResNetDepth::R50) };
    check_forward(grouped, thin(P6Source::C5), &PAPER)?;
    let group_norm = NormKind::Group { groups: 4, epsilon: 1e-5 };
    check_forward(
        ResNetConfig { norm: group_norm, stride_in_1x1: true, ..small(ResNetDepth::R50) },
        thin(P6Source::C5),
        &PAPER,
    )?;
    let batch_norm = NormKind::Batch { epsilon: 1e-5, momentum: 0.1 };
    check_forward(
        ResNetConfig { norm: batch_norm, frozen_stages: 5, ..small(ResNetDepth::R34) },
        thin(P6Source::C5),
        &PAPER,
    )?;
    let fine = FpnConfig { channels: 8, finest: PyramidLevel::P2, coarsest: PyramidLevel::P6, ..Default::default() };
    check_forward(small(ResNetDepth::R18), fine, &[(2, [19, 26]), (3, [10, 13]), (4, [5, 7]), (5, [3, 4]), (6, [2, 2])])
}

#[test]
fn what_describes_no_network_is_named() {
    let resnet = |config: ResNetConfig| ResNet::new(&config, "body").expect_err("no network").to_string();
    assert_eq!(resnet(ResNetConfig { width: 0, ..Default::default() }), "backbone.width: expected at least 1, found 0");
    assert_eq!(
        resnet(ResNetConfig { frozen_stages: 6, ..Default::default() }),
        "backbone.frozen_stages: expected 0 to 5, found 6"
    );
    assert!(resnet(ResNetConfig { depth: ResNetDepth::R18, groups: 32, ..Default::default() }).contains("r18"));
    let groups = NormKind::Group { groups: 7, epsilon: 1e-5 };
    assert!(resnet(ResNetConfig { norm: groups, ..Default::default() }).contains("divisor"));
    let fpn = |config: FpnConfig| Fpn::new(&config, [64, 128, 256, 512], "fpn").expect_err("no pyramid").to_string();
    assert_eq!(fpn(FpnConfig { channels: 0, ..Default::default() }), "fpn.channels: expected at least 1, found 0");
    assert_eq!(
        fpn(FpnConfig { finest: PyramidLevel::P6, ..Default::default() }),
        "fpn.finest: expected P2 to P5, found P6"
    );
    assert_eq!(
        fpn(FpnConfig { coarsest: PyramidLevel::P4, ..Default::default() }),
        "fpn.coarsest: expected P5 to P7, found P4"
    );
}
