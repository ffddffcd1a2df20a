//! A detector as torchvision has it: tensors for `load_state_dict`, and the Python that builds the model.

use crate::config::Config;
use crate::detector::Detector;
use crate::error::{Error, Result};
use crate::import::Toolkit;
use candle_core::Tensor;
use retinanet_anchors::{AnchorRounding, AnchorStride, BoxCoder, PyramidLevel};
use retinanet_backbone::{P6Source, ResNet};
use retinanet_data::ResizeMethod;
use retinanet_ops::network::NormKind;
use std::collections::BTreeMap;
use std::fmt::{Debug, Display, Write as _};

use crate::postprocess::Borders;

/// What torchvision needs of a detector.
#[derive(Clone, Debug)]
pub struct TorchvisionModel {
    /// The state dict.
    pub tensors: BTreeMap<String, Tensor>,
    /// Python that builds `model`, which the state dict fits strictly, with this preprocessing and post-processing.
    pub python: String,
}

/// The detector for torchvision's `RetinaNet`; output i is label i.
///
/// Source: torchvision, `models/detection/retinanet.py`, `models/detection/backbone_utils.py`.
///
/// # Errors
/// [`Error::Inexpressible`] with everything in which torchvision would compute something else.
pub fn to_torchvision(detector: &Detector) -> Result<TorchvisionModel> {
    let body = ResNet::new(&detector.config.backbone, "backbone.body")?;
    let c5_channels = body.out_channels()[3];
    let differences = differences(detector, c5_channels);
    if !differences.is_empty() {
        return Err(Error::Inexpressible { toolkit: Toolkit::Torchvision, differences });
    }
    let python = python(&detector.config, detector.classes.len(), body.out_channels());
    Ok(TorchvisionModel { tensors: detector.tensors(), python })
}

/// One line for each field that torchvision has otherwise and that cannot be changed there.
fn differences(detector: &Detector, c5_channels: usize) -> Vec<String> {
    let Config { backbone, fpn, head, anchors, box_coder, preprocessing, post_processing, .. } = &detector.config;
    let mut differences = Vec::new();
    let mut expect = |field: &str, holds: bool, expected: &dyn Display, found: &dyn Debug| {
        if !holds {
            differences.push(format!("{field}: expected {expected}, found {}", format!("{found:?}").to_lowercase()));
        }
    };
    let is_quantized = detector.quantization.is_some();
    expect("quantization", !is_quantized, &"none", &format_args!("layers in 8 bits"));
    expect("backbone.width", backbone.width == 64, &64, &backbone.width);
    expect("backbone.stride_in_1x1", !backbone.stride_in_1x1, &false, &backbone.stride_in_1x1);
    expect("fpn.coarsest", fpn.coarsest == PyramidLevel::P7, &"p7", &format_args!("{}", fpn.coarsest));
    expect("fpn.relu_before_p7", fpn.relu_before_p7, &true, &fpn.relu_before_p7);
    // torchvision tells by the channels alone.
    let is_p5 = c5_channels == fpn.channels;
    let expected = format!("p5 where C5 has {c5_channels} channels as the pyramid has");
    expect("fpn.p6_source", !is_p5 || fpn.p6_source == P6Source::P5, &expected, &fpn.p6_source);
    expect("head.depth", head.depth == 4, &4, &head.depth);
    let expected = format!("{} as fpn.channels", fpn.channels);
    expect("head.channels", head.channels == fpn.channels, &expected, &head.channels);
    let rounding = anchors.rounding;
    expect("anchors.rounding", rounding == AnchorRounding::Torchvision, &"torchvision", &rounding);
    expect("anchors.stride", anchors.stride == AnchorStride::FromGrid, &"from_grid", &anchors.stride);
    expect("anchors.offset", anchors.offset == 0.0, &0, &anchors.offset);
    let BoxCoder { weights, clamp } = BoxCoder::default();
    expect("box_coder.weights", box_coder.weights == weights, &"ones", &box_coder.weights);
    expect("box_coder.clamp", (box_coder.clamp - clamp).abs() < 1e-5, &clamp, &box_coder.clamp);
    let resize = preprocessing.resize;
    expect("preprocessing.resize", resize == ResizeMethod::Torchvision, &"torchvision", &resize);
    let borders = post_processing.borders;
    expect("post_processing.borders", borders == Borders::Torchvision, &"torchvision", &borders);
    differences
}

/// The program, for any of the networks without a difference.
fn python(config: &Config, num_classes: usize, stage_channels: [usize; 4]) -> String {
    let Config { backbone, fpn, head, anchors, preprocessing, post_processing, .. } = config;
    let norm = |kind: NormKind| match kind {
        NormKind::FrozenBatch { epsilon } => format!("partial(FrozenBatchNorm2d, eps={epsilon:?})"),
        NormKind::Batch { epsilon, momentum } => {
            format!("partial(nn.BatchNorm2d, eps={epsilon:?}, momentum={momentum:?})")
        }
        NormKind::Group { groups, epsilon } => format!("partial(nn.GroupNorm, {groups}, eps={epsilon:?})"),
    };
    let block = if backbone.depth.is_bottleneck() { "Bottleneck" } else { "BasicBlock" };
    let (groups, width_per_group) = (backbone.groups, backbone.width_per_group);
    let first = usize::from(fpn.finest.number()) - 1;
    let layers: Vec<String> = (first..=4).map(|layer| format!("\"layer{layer}\": \"{}\"", layer - first)).collect();
    let p6_channels = if fpn.p6_source == P6Source::P5 { fpn.channels } else { stage_channels[3] };
    let sizes = anchors.sizes.iter().map(|&size| {
        let scaled = anchors.octave_scales.iter().map(|scale| (f64::from(size) * scale).trunc());
        tuple(&scaled.collect::<Vec<f64>>())
    });
    let sizes: Vec<String> = sizes.collect();
    let head_norm =
        head.group_norm.map_or(String::new(), |groups| format!(", norm_layer=partial(nn.GroupNorm, {groups})"));
    let mut text = String::new();
    let mut line = |arguments: std::fmt::Arguments| writeln!(text, "{arguments}").expect("a string takes any text");
    line(format_args!("from functools import partial"));
    line(format_args!("from torch import nn"));
    line(format_args!("from torchvision.models.detection.anchor_utils import AnchorGenerator"));
    line(format_args!("from torchvision.models.detection.backbone_utils import BackboneWithFPN"));
    line(format_args!("from torchvision.models.detection.retinanet import RetinaNet, RetinaNetHead"));
    line(format_args!("from torchvision.models.resnet import {block}, ResNet"));
    line(format_args!("from torchvision.ops import FrozenBatchNorm2d"));
    line(format_args!("from torchvision.ops.feature_pyramid_network import LastLevelP6P7"));
    line(format_args!(
        "body = ResNet({block}, {:?}, groups={groups}, width_per_group={width_per_group}, norm_layer={})",
        backbone.depth.blocks(),
        norm(backbone.norm)
    ));
    line(format_args!(
        "backbone = BackboneWithFPN(body, {{{}}}, {:?}, {channels}, extra_blocks=LastLevelP6P7({p6_channels}, {channels}))",
        layers.join(", "),
        &stage_channels[first - 1..],
        channels = fpn.channels
    ));
    line(format_args!(
        "anchors = AnchorGenerator(({},), ({},) * {})",
        sizes.join(", "),
        tuple(&anchors.aspect_ratios),
        sizes.len()
    ));
    line(format_args!(
        "head = RetinaNetHead({}, anchors.num_anchors_per_location()[0], {num_classes}{head_norm})",
        fpn.channels
    ));
    line(format_args!(
        "model = RetinaNet(backbone, {num_classes}, min_size={}, max_size={}, image_mean={:?}, image_std={:?}, \
         size_divisible={}, anchor_generator=anchors, head=head, score_thresh={:?}, nms_thresh={:?}, \
         detections_per_img={}, topk_candidates={})",
        preprocessing.min_size,
        preprocessing.max_size,
        preprocessing.mean,
        preprocessing.std,
        preprocessing.pad_to,
        post_processing.score_threshold,
        post_processing.nms_iou_threshold,
        post_processing.max_detections,
        post_processing.pre_nms_top_k
    ));
    text
}

/// A tuple of Python, also of one number.
fn tuple(numbers: &[f64]) -> String {
    format!("({},)", numbers.iter().map(f64::to_string).collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Model;
    use retinanet_annotations::Class;

    fn detector(preset: &str, assignments: &[&str]) -> Detector {
        let assignments: Vec<String> = assignments.iter().map(|&a| a.to_owned()).collect();
        let text = Config::preset_text(preset).expect("a preset");
        let config = Config::parse(text, &assignments).expect("a configuration");
        let classes = vec![Class { category_id: 0, name: "0".to_owned() }];
        let model = Model::new(&config, 1, 0).expect("a model");
        Detector::new(config, classes, model)
    }

    #[test]
    fn all_that_torchvision_lacks_is_listed() {
        let error =
            to_torchvision(&detector("small_r18", &["fpn.coarsest=P6", "anchors.sizes=[16.0, 32.0, 64.0, 128.0]"]));
        let message = error.expect_err("a small network").to_string();
        assert_eq!(
            message,
            "torchvision cannot express this detector:\n  backbone.width: expected 64, found 32\n  fpn.coarsest: expected p7, \
             found p6\n  head.depth: expected 4, found 2\n  anchors.rounding: expected torchvision, found exact\n  \
             anchors.stride: expected from_grid, found declared"
        );
        let assignments = [
            "backbone.depth=r18",
            "fpn.channels=512",
            "fpn.p6_source=c5",
            "fpn.relu_before_p7=false",
            "anchors.offset=0.5",
        ];
        let message =
            to_torchvision(&detector("torchvision_r50_v1", &assignments)).expect_err("other layers").to_string();
        for field in
            ["fpn.p6_source: expected p5", "fpn.relu_before_p7", "head.channels: expected 512", "anchors.offset"]
        {
            assert!(message.contains(field), "{field}: {message}");
        }
    }

    #[test]
    fn the_program_has_the_networks_numbers() {
        let model =
            to_torchvision(&detector("torchvision_r50_v1", &["backbone.depth=r18"])).expect("torchvision's own");
        for part in [
            "ResNet(BasicBlock, [2, 2, 2, 2], groups=1, width_per_group=64, norm_layer=partial(FrozenBatchNorm2d, eps=1e-5))",
            "{\"layer2\": \"0\", \"layer3\": \"1\", \"layer4\": \"2\"}, [128, 256, 512], 256, extra_blocks=LastLevelP6P7(256, 256))",
            "AnchorGenerator(((32, 40, 50,), (64, 80, 101,)",
            "((0.5, 1, 2,),) * 5)",
            "min_size=800, max_size=1333",
        ] {
            assert!(model.python.contains(part), "{part}:\n{}", model.python);
        }
        assert!(model.tensors.contains_key("head.classification_head.conv.3.0.weight"));
    }
}
