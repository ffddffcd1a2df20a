//! The architecture comes back from the shapes that torchvision's networks have.

use retinanet::weights::architecture::{BackboneNorm, P6Source, ResNetDepth, infer, infer_with};
use retinanet::weights::{is_torchvision_coco_v1, is_torchvision_v2_coco_v1};
use retinanet_anchors::PyramidLevel;
use std::collections::BTreeMap;

type Shapes = BTreeMap<String, Vec<usize>>;

/// The numbers a RetinaNet of torchvision's names is made of.
struct Network {
    bottleneck: bool,
    blocks: [usize; 4],
    width: usize,
    groups: usize,
    width_per_group: usize,
    fpn: usize,
    laterals: usize,
    p6_inputs: usize,
    extra: Vec<u8>,
    head_norm: bool,
    head_depth: usize,
    anchors: usize,
    classes: usize,
}

impl Network {
    fn resnet50() -> Self {
        Self {
            bottleneck: true,
            blocks: [3, 4, 6, 3],
            width: 64,
            groups: 1,
            width_per_group: 64,
            fpn: 256,
            laterals: 3,
            p6_inputs: 256,
            extra: vec![6, 7],
            head_norm: false,
            head_depth: 4,
            anchors: 9,
            classes: 91,
        }
    }

    fn resnet18() -> Self {
        Self { bottleneck: false, blocks: [2, 2, 2, 2], ..Self::resnet50() }
    }

    fn shapes(&self) -> Shapes {
        let mut shapes = Shapes::new();
        let mut put = |name: String, shape: &[usize]| drop(shapes.insert(name, shape.to_vec()));
        let body = "backbone.body";
        put(format!("{body}.conv1.weight"), &[self.width, 3, 7, 7]);
        put(format!("{body}.bn1.running_mean"), &[self.width]);
        let expansion = if self.bottleneck { 4 } else { 1 };
        let mut inputs = self.width;
        let mut stage_channels = Vec::new();
        for stage in 0..4 {
            let planes = self.width << stage;
            let outputs = planes * expansion;
            for block in 0..self.blocks[stage] {
                let path = format!("{body}.layer{}.{block}", stage + 1);
                if self.bottleneck {
                    let inner = planes * self.width_per_group / 64 * self.groups;
                    put(format!("{path}.conv1.weight"), &[inner, inputs, 1, 1]);
                    put(format!("{path}.conv2.weight"), &[inner, inner / self.groups, 3, 3]);
                    put(format!("{path}.conv3.weight"), &[outputs, inner, 1, 1]);
                } else {
                    put(format!("{path}.conv1.weight"), &[planes, inputs, 3, 3]);
                    put(format!("{path}.conv2.weight"), &[planes, planes, 3, 3]);
                }
                inputs = outputs;
            }
            stage_channels.push(outputs);
        }
        let fpn = "backbone.fpn";
        for (i, channels) in stage_channels[4 - self.laterals..].iter().enumerate() {
            put(format!("{fpn}.inner_blocks.{i}.0.weight"), &[self.fpn, *channels, 1, 1]);
            put(format!("{fpn}.layer_blocks.{i}.0.weight"), &[self.fpn, self.fpn, 3, 3]);
        }
        for level in &self.extra {
            let inputs = if *level == 6 { self.p6_inputs } else { self.fpn };
            put(format!("{fpn}.extra_blocks.p{level}.weight"), &[self.fpn, inputs, 3, 3]);
        }
        for (subnet, last, outputs) in
            [("classification_head", "cls_logits", self.classes), ("regression_head", "bbox_reg", 4)]
        {
            for i in 0..self.head_depth {
                put(format!("head.{subnet}.conv.{i}.0.weight"), &[self.fpn, self.fpn, 3, 3]);
                if self.head_norm {
                    put(format!("head.{subnet}.conv.{i}.1.weight"), &[self.fpn]);
                }
            }
            put(format!("head.{subnet}.{last}.weight"), &[self.anchors * outputs, self.fpn, 3, 3]);
        }
        shapes
    }
}

#[test]
fn depths_and_groups_of_every_backbone() {
    let cases = [
        (ResNetDepth::R18, false, [2, 2, 2, 2], 1, 64),
        (ResNetDepth::R34, false, [3, 4, 6, 3], 1, 64),
        (ResNetDepth::R50, true, [3, 4, 6, 3], 1, 64),
        (ResNetDepth::R101, true, [3, 4, 23, 3], 1, 64),
        (ResNetDepth::R152, true, [3, 8, 36, 3], 1, 64),
        (ResNetDepth::R50, true, [3, 4, 6, 3], 32, 4),
        (ResNetDepth::R101, true, [3, 4, 23, 3], 32, 8),
        (ResNetDepth::R101, true, [3, 4, 23, 3], 64, 4),
    ];
    for (depth, bottleneck, blocks, groups, width_per_group) in cases {
        for width in [64, 32, 128] {
            let network = Network {
                bottleneck,
                blocks,
                groups,
                width_per_group,
                width,
                fpn: 96,
                p6_inputs: 96,
                ..Network::resnet50()
            };
            let found = infer(&network.shapes()).unwrap();
            assert_eq!(
                (found.depth, found.width, found.groups, found.width_per_group),
                (depth, width, groups, width_per_group)
            );
            assert_eq!((found.fpn_channels, found.p6_source), (96, P6Source::P5));
            assert_eq!(found.backbone_norm, BackboneNorm::Batch);
        }
    }
    let mut group_norm = Network::resnet50().shapes();
    group_norm.remove("backbone.body.bn1.running_mean");
    assert_eq!(infer(&group_norm).unwrap().backbone_norm, BackboneNorm::Group);
}

#[test]
fn torchvision_v1_and_v2() {
    let v1 = infer(&Network::resnet50().shapes()).unwrap();
    assert_eq!((v1.p6_source, v1.is_p6_source_ambiguous, v1.head_group_norm), (P6Source::P5, false, None));
    assert_eq!((v1.finest, v1.coarsest), (PyramidLevel::P3, PyramidLevel::P7));
    assert_eq!((v1.head_depth, v1.head_channels, v1.anchors_per_location, v1.num_classes), (4, 256, 9, 91));
    let v2 = infer(&Network { p6_inputs: 2048, head_norm: true, ..Network::resnet50() }.shapes()).unwrap();
    assert_eq!((v2.p6_source, v2.is_p6_source_ambiguous, v2.head_group_norm), (P6Source::C5, false, Some(32)));
}

#[test]
fn ranges_of_levels() {
    let cases: [(usize, &[u8], PyramidLevel, PyramidLevel); 4] = [
        (3, &[6, 7], PyramidLevel::P3, PyramidLevel::P7),
        (4, &[6], PyramidLevel::P2, PyramidLevel::P6),
        (4, &[], PyramidLevel::P2, PyramidLevel::P5),
        (1, &[6, 7], PyramidLevel::P5, PyramidLevel::P7),
    ];
    for (laterals, extra, finest, coarsest) in cases {
        let found = infer(&Network { laterals, extra: extra.to_vec(), ..Network::resnet50() }.shapes()).unwrap();
        assert_eq!((found.finest, found.coarsest), (finest, coarsest));
    }
}

#[test]
fn equal_channels_leave_p6_open() {
    // C5 of a ResNet-18 of half the width has 256 channels, as P5.
    let shapes = Network { width: 32, ..Network::resnet18() }.shapes();
    let assumed = infer(&shapes).unwrap();
    assert_eq!((assumed.p6_source, assumed.is_p6_source_ambiguous), (P6Source::P5, true));
    for told in [P6Source::C5, P6Source::P5] {
        let found = infer_with(&shapes, Some(told)).unwrap();
        assert_eq!((found.p6_source, found.is_p6_source_ambiguous), (told, false));
    }
    let error = infer_with(&Network::resnet18().shapes(), Some(P6Source::C5)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "weights: backbone.fpn.extra_blocks.p6.weight: expected the inputs of C5, found 256, those of P5"
    );
}

#[test]
fn heads_of_any_size() {
    let found = infer(&Network { head_depth: 0, anchors: 15, classes: 3, ..Network::resnet18() }.shapes()).unwrap();
    assert_eq!((found.head_depth, found.head_channels, found.anchors_per_location, found.num_classes), (0, 256, 15, 3));
}

#[test]
fn what_decides_must_be_there_and_fit() {
    let spoil = |name: &str, shape: Option<&[usize]>| {
        let mut shapes = Network::resnet50().shapes();
        match shape {
            Some(shape) => drop(shapes.insert(name.to_owned(), shape.to_vec())),
            None => drop(shapes.remove(name).unwrap()),
        }
        infer(&shapes).expect_err(name).to_string()
    };
    let check = |found: String, expected: &str| assert_eq!(found, format!("weights: {expected}"));
    let class_layer = "head.classification_head.cls_logits.weight";
    let box_layer = "head.regression_head.bbox_reg.weight";
    check(
        spoil(class_layer, None),
        "head.classification_head.cls_logits.weight: expected a tensor of 4 axes, found no such tensor",
    );
    check(
        spoil(class_layer, Some(&[819])),
        "head.classification_head.cls_logits.weight: expected a tensor of 4 axes, found shape [819]",
    );
    check(
        spoil(class_layer, Some(&[820, 256, 3, 3])),
        "head.classification_head.cls_logits.weight: expected a multiple of 9 outputs, the anchors at a location, found 820",
    );
    check(
        spoil(class_layer, Some(&[0, 256, 3, 3])),
        "head.classification_head.cls_logits.weight: expected a multiple of 9 outputs, the anchors at a location, found 0",
    );
    check(
        spoil(box_layer, Some(&[38, 256, 3, 3])),
        "head.regression_head.bbox_reg.weight: expected a multiple of 4 outputs, found 38",
    );
    check(
        spoil(box_layer, Some(&[0, 256, 3, 3])),
        "head.regression_head.bbox_reg.weight: expected a multiple of 4 outputs, found 0",
    );
    check(
        spoil("backbone.body.layer3.5.conv1.weight", None),
        "backbone.body: expected the blocks of ResNet-18, 34, 50, 101 or 152, found bottlenecks [3, 4, 5, 3]",
    );
    check(
        spoil("backbone.fpn.inner_blocks.0.0.weight", None),
        "backbone.fpn.inner_blocks: expected 1 to 4 of them, found 0",
    );
    check(
        spoil("backbone.fpn.extra_blocks.p6.weight", None),
        "backbone.fpn.extra_blocks.p6.weight: expected the layer before that of P7, found no such tensor",
    );
    check(
        spoil("backbone.fpn.extra_blocks.p6.weight", Some(&[256, 100, 3, 3])),
        "backbone.fpn.extra_blocks.p6.weight: expected 2048 inputs as C5 has, or 256 as P5, found 100",
    );
    check(
        spoil("head.regression_head.conv.3.0.weight", None),
        "head.regression_head.conv: expected 4 layers as the class subnet has, found 3",
    );
    // Shapes that divide by zero or overflow.
    for shape in [[64, 0, 3, 3], [64, usize::MAX, 3, 3]] {
        assert!(spoil("backbone.body.layer1.0.conv2.weight", Some(&shape)).contains("outputs that are a multiple"));
    }
    let mut shapes = Network::resnet50().shapes();
    shapes.insert("backbone.body.conv1.weight".to_owned(), vec![0, 3, 7, 7]);
    assert_eq!(infer(&shapes).unwrap().width, 0);
}

#[test]
fn released_files_are_known_by_their_hash() {
    let v1 = format!("eeacb38b{}", "0".repeat(56));
    let v2 = format!("5905b1c5{}", "0".repeat(56));
    assert_eq!([is_torchvision_coco_v1(&v1), is_torchvision_coco_v1(&v2)], [true, false]);
    assert_eq!([is_torchvision_v2_coco_v1(&v1), is_torchvision_v2_coco_v1(&v2)], [false, true]);
}
