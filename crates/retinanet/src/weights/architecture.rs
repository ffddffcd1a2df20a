//! The network that a file's tensors belong to, from their names and shapes alone.

use super::error::WeightsError;
use retinanet_anchors::PyramidLevel;
pub use retinanet_backbone::{P6Source, ResNetDepth};
use std::collections::BTreeMap;

/// The groups of a group norm in torchvision; the shapes do not tell.
pub const ASSUMED_NORM_GROUPS: usize = 32;

const BODY: &str = "backbone.body";
const FPN: &str = "backbone.fpn";
const CLASS_SUBNET: &str = "head.classification_head";
const BOX_SUBNET: &str = "head.regression_head";

/// What names and shapes say of a RetinaNet.
///
/// Not told by them: anchor sizes, preprocessing, epsilons, strides, which norms were trained, class names.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Architecture {
    /// Blocks of the residual network.
    pub depth: ResNetDepth,
    /// Channels of the stem, 64 in the papers.
    pub width: usize,
    /// Groups of the 3x3 convolutions: 1 for ResNet, 32 or 64 for ResNeXt.
    pub groups: usize,
    /// Channels a group has in the first stage when the width is 64: 64 for ResNet, 4 for ResNeXt-50 32x4d.
    pub width_per_group: usize,
    /// The backbone's norm.
    pub backbone_norm: BackboneNorm,
    /// Channels of the pyramid's levels.
    pub fpn_channels: usize,
    /// The finest level.
    pub finest: PyramidLevel,
    /// The coarsest level that has a layer of its own.
    pub coarsest: PyramidLevel,
    /// What P6 is computed from; C5 if there is no P6.
    pub p6_source: P6Source,
    /// Whether C5 and P5 have the same number of channels, so that `p6_source` is an assumption.
    pub is_p6_source_ambiguous: bool,
    /// Layers of each subnet before its last.
    pub head_depth: usize,
    /// Channels of these layers.
    pub head_channels: usize,
    /// Groups of the group norm behind each of these layers, assumed to be [`ASSUMED_NORM_GROUPS`]; none in torchvision
    /// v1.
    pub head_group_norm: Option<usize>,
    /// Anchors at a location, A.
    pub anchors_per_location: usize,
    /// Outputs of the class subnet for an anchor, K.
    pub num_classes: usize,
}

/// The norm of a backbone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackboneNorm {
    /// With running statistics; whether they were trained or frozen cannot be seen.
    Batch,
    /// Without; [`ASSUMED_NORM_GROUPS`] groups.
    Group,
}

/// Derives the network from the shapes of its tensors, under today's names
/// ([`names::canonical`](super::names::canonical)).
///
/// P6 comes from whatever has as many channels as its layer takes. If C5 and P5 have the same, P5 is assumed, as
/// torchvision does; [`infer_with`] takes another answer.
///
/// # Errors
/// A tensor that decides is missing or has a shape that no RetinaNet has. Tensors that decide nothing are not looked
/// at; compare all of them with [`check`](super::check) once the network is built.
///
/// ```
/// use retinanet::weights::architecture::infer;
///
/// let error = infer(&Default::default()).unwrap_err();
/// let expected = "weights: backbone.body.conv1.weight: expected a tensor of 4 axes, found no such tensor";
/// assert_eq!(error.to_string(), expected);
/// ```
pub fn infer(shapes: &BTreeMap<String, Vec<usize>>) -> Result<Architecture, WeightsError> {
    infer_with(shapes, None)
}

/// As [`infer`], with what P6 is computed from where the shapes leave it open.
///
/// # Errors
/// As [`infer`], and where the shapes contradict `p6_source`.
pub fn infer_with(
    shapes: &BTreeMap<String, Vec<usize>>,
    p6_source: Option<P6Source>,
) -> Result<Architecture, WeightsError> {
    let shapes = Shapes(shapes);
    let body = infer_body(&shapes)?;
    let [fpn_channels, _, _, _] = shapes.kernel(&format!("{FPN}.layer_blocks.0.0.weight"))?;

    let lateral_count = shapes.count(|i| format!("{FPN}.inner_blocks.{i}.0.weight"));
    let finest = u8::try_from(lateral_count)
        .ok()
        .filter(|count| (1..=4).contains(count))
        .and_then(|count| PyramidLevel::new(6 - count));
    let finest = finest.ok_or_else(|| layout(&format!("{FPN}.inner_blocks"), "1 to 4 of them", lateral_count))?;
    let extra = |level: u8| format!("{FPN}.extra_blocks.p{level}.weight");
    let (coarsest, (p6_source, is_p6_source_ambiguous)) = match (shapes.has(&extra(6)), shapes.has(&extra(7))) {
        (false, false) => (PyramidLevel::P5, (P6Source::C5, false)),
        (false, true) => return Err(layout(&extra(6), "the layer before that of P7", "no such tensor")),
        (true, has_p7) => {
            let coarsest = if has_p7 { PyramidLevel::P7 } else { PyramidLevel::P6 };
            (coarsest, infer_p6_source(&shapes, &extra(6), body.c5_channels, fpn_channels, p6_source)?)
        }
    };

    let head_depth = shapes.count(|i| format!("{CLASS_SUBNET}.conv.{i}.0.weight"));
    let box_depth = shapes.count(|i| format!("{BOX_SUBNET}.conv.{i}.0.weight"));
    if head_depth != box_depth {
        return Err(layout(
            &format!("{BOX_SUBNET}.conv"),
            &format!("{head_depth} layers as the class subnet has"),
            box_depth,
        ));
    }
    let (class_name, box_name) = (format!("{CLASS_SUBNET}.cls_logits.weight"), format!("{BOX_SUBNET}.bbox_reg.weight"));
    let [box_outputs, head_channels, _, _] = shapes.kernel(&box_name)?;
    if box_outputs == 0 || box_outputs % 4 != 0 {
        return Err(layout(&box_name, "a multiple of 4 outputs", box_outputs));
    }
    let anchors_per_location = box_outputs / 4;
    let [class_outputs, _, _, _] = shapes.kernel(&class_name)?;
    if class_outputs == 0 || class_outputs % anchors_per_location != 0 {
        return Err(layout(
            &class_name,
            &format!("a multiple of {anchors_per_location} outputs, the anchors at a location"),
            class_outputs,
        ));
    }

    Ok(Architecture {
        depth: body.depth,
        width: body.width,
        groups: body.groups,
        width_per_group: body.width_per_group,
        backbone_norm: body.norm,
        fpn_channels,
        finest,
        coarsest,
        p6_source,
        is_p6_source_ambiguous,
        head_depth,
        head_channels,
        head_group_norm: shapes.has(&format!("{CLASS_SUBNET}.conv.0.1.weight")).then_some(ASSUMED_NORM_GROUPS),
        anchors_per_location,
        num_classes: class_outputs / anchors_per_location,
    })
}

struct Body {
    depth: ResNetDepth,
    width: usize,
    groups: usize,
    width_per_group: usize,
    norm: BackboneNorm,
    c5_channels: usize,
}

fn infer_body(shapes: &Shapes) -> Result<Body, WeightsError> {
    let [width, _, _, _] = shapes.kernel(&format!("{BODY}.conv1.weight"))?;
    let blocks = [1, 2, 3, 4].map(|stage| shapes.count(|i| format!("{BODY}.layer{stage}.{i}.conv1.weight")));
    let is_bottleneck = shapes.has(&format!("{BODY}.layer1.0.conv3.weight"));
    let depths = [ResNetDepth::R18, ResNetDepth::R34, ResNetDepth::R50, ResNetDepth::R101, ResNetDepth::R152];
    let depth = depths
        .into_iter()
        .find(|depth| depth.is_bottleneck() == is_bottleneck && depth.blocks() == blocks)
        .ok_or_else(|| {
            let kind = if is_bottleneck { "bottlenecks" } else { "basic blocks" };
            layout(BODY, "the blocks of ResNet-18, 34, 50, 101 or 152", format!("{kind} {blocks:?}"))
        })?;

    let (groups, width_per_group) = if is_bottleneck {
        // torchvision's width of the 3x3: planes * (width_per_group / 64) * groups, with planes the stem's width in the
        // first stage.
        let name = format!("{BODY}.layer1.0.conv2.weight");
        let [inner, group_inner, _, _] = shapes.kernel(&name)?;
        if group_inner == 0 || inner % group_inner != 0 {
            return Err(layout(
                &name,
                "outputs that are a multiple of the inputs of a group",
                format!("[{inner}, {group_inner}, ...]"),
            ));
        }
        (inner / group_inner, group_inner.saturating_mul(64).checked_div(width).unwrap_or(0).max(1))
    } else {
        (1, 64)
    };
    let last = blocks[3] - 1;
    let c5 = format!("{BODY}.layer4.{last}.conv{}.weight", if is_bottleneck { 3 } else { 2 });
    let [c5_channels, _, _, _] = shapes.kernel(&c5)?;
    let norm = if shapes.has(&format!("{BODY}.bn1.running_mean")) { BackboneNorm::Batch } else { BackboneNorm::Group };
    Ok(Body { depth, width, groups, width_per_group, norm, c5_channels })
}

/// What P6 is computed from, and whether that is an assumption.
fn infer_p6_source(
    shapes: &Shapes,
    name: &str,
    c5_channels: usize,
    fpn_channels: usize,
    hint: Option<P6Source>,
) -> Result<(P6Source, bool), WeightsError> {
    let [_, inputs, _, _] = shapes.kernel(name)?;
    let seen = match (inputs == c5_channels, inputs == fpn_channels) {
        (true, true) => return Ok((hint.unwrap_or(P6Source::P5), hint.is_none())),
        (true, false) => P6Source::C5,
        (false, true) => P6Source::P5,
        (false, false) => {
            return Err(layout(name, &format!("{c5_channels} inputs as C5 has, or {fpn_channels} as P5"), inputs));
        }
    };
    match hint {
        Some(hint) if hint != seen => {
            Err(layout(name, &format!("the inputs of {hint:?}"), format!("{inputs}, those of {seen:?}")))
        }
        _ => Ok((seen, false)),
    }
}

struct Shapes<'s>(&'s BTreeMap<String, Vec<usize>>);

impl Shapes<'_> {
    fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// How many tensors there are of names counted from 0.
    fn count(&self, name: impl Fn(usize) -> String) -> usize {
        (0..).take_while(|&i| self.has(&name(i))).count()
    }

    /// The shape of a convolution's weight: outputs, inputs, height, width.
    fn kernel(&self, name: &str) -> Result<[usize; 4], WeightsError> {
        const EXPECTED: &str = "a tensor of 4 axes";
        let shape = self.0.get(name).ok_or_else(|| layout(name, EXPECTED, "no such tensor"))?;
        shape[..].try_into().map_err(|_| layout(name, EXPECTED, format!("shape {shape:?}")))
    }
}

fn layout(what: &str, expected: &str, found: impl ToString) -> WeightsError {
    WeightsError::Layout { what: what.to_owned(), expected: expected.to_owned(), found: found.to_string() }
}
