//! Post-processing as nodes: what [`PostProcessing`](crate::PostProcessing) does, for every image of a batch.

use super::BATCH;
use crate::config::Config;
use retinanet_anchors::{BoxCoder, Pyramid};
use retinanet_onnx::{Attribute, Dim, ElementType, Graph, Value};

/// What the head says of the R anchors of a level.
pub(super) struct Level {
    /// `[N, R, K]`
    pub(super) logits: Value,
    /// `[N, R, 4]`
    pub(super) deltas: Value,
    /// `[R, 4]`
    pub(super) anchors: Value,
}

/// The best pairs of an anchor and a class, of which there are P: level after level, the best of a level first.
struct Candidates {
    /// `[N, P]`
    logits: Value,
    /// `[N, P]`
    labels: Value,
    /// `[N, P, 4]`
    deltas: Value,
    /// `[N, P, 4]`
    anchors: Value,
}

const BATCHED: (&str, Attribute<'static>) = ("batch_dims", Attribute::Int(1));

/// Adds the outputs `boxes`, `scores`, `labels` and `num_detections`.
///
/// The threshold on the score is that of the suppression, behind the choice of the best pairs of a level, which is the
/// same as before it.
pub(super) fn add(graph: &mut Graph, levels: &Pyramid<Level>, sizes: &Value, config: &Config, num_classes: usize) {
    let candidates = candidates(graph, levels, config.post_processing.pre_nms_top_k, num_classes);
    let boxes = decoded(graph, &candidates, &config.box_coder);
    let boxes = clipped(graph, &boxes, sizes);
    let scores = graph.node("Sigmoid", "candidates.scores", &[&candidates.logits], &[]);
    let kept = suppressed(graph, &boxes, &scores, &candidates.labels, config, num_classes);
    let max_detections = config.post_processing.max_detections;
    outputs(graph, &kept, &boxes, &candidates.labels, max_detections);
}

fn candidates(graph: &mut Graph, levels: &Pyramid<Level>, top_k: usize, num_classes: usize) -> Candidates {
    let limit = graph.ints(&[top_k as i64]);
    let classes = graph.int(num_classes as i64);
    let mut parts: [Vec<Value>; 4] = Default::default();
    for (level, Level { logits, deltas, anchors }) in levels.iter() {
        let name = |part: &str| format!("candidates.{level}.{part}");
        let pairs = graph.reshape(&name("pairs"), logits, &[0, -1]);
        let count = graph.shape(&name("count"), &pairs, 1, 2);
        let count = graph.node("Min", &name("limit"), &[&count, &limit], &[]);
        // The best first, the first of equal ones first.
        let names = [name("logits"), name("indices")];
        let names = names.each_ref().map(String::as_str);
        let best = [Some(&pairs), Some(&count)];
        let [logits, pairs] = graph.node_with("TopK", names, &best, &[("axis", Attribute::Int(1))]);
        let anchor = graph.node("Div", &name("anchor"), &[&pairs, &classes], &[]);
        let label = graph.node("Mod", &name("label"), &[&pairs, &classes], &[]);
        let index = graph.unsqueeze(&name("index"), &anchor, 2);
        let deltas = graph.node("GatherND", &name("deltas"), &[deltas, &index], &[BATCHED]);
        let anchors = graph.node("Gather", &name("anchors"), &[anchors, &anchor], &[]);
        for (part, value) in parts.iter_mut().zip([logits, label, deltas, anchors]) {
            part.push(value);
        }
    }
    let mut all = |part: usize, name: &str| graph.concat(&format!("candidates.{name}"), &parts[part], 1);
    Candidates {
        logits: all(0, "logits"),
        labels: all(1, "labels"),
        deltas: all(2, "deltas"),
        anchors: all(3, "anchors"),
    }
}

/// `[N, P, 4]`: corners, from deltas in centre form; see [`BoxCoder::decode`].
fn decoded(graph: &mut Graph, candidates: &Candidates, coder: &BoxCoder) -> Value {
    let mut halves = |x: &Value, name: &str| {
        let axis = graph.ints(&[2]);
        [(0, "first"), (2, "second")].map(|(start, half)| {
            let (from, to) = (graph.ints(&[start]), graph.ints(&[start + 2]));
            graph.node("Slice", &format!("{name}.{half}"), &[x, &from, &to, &axis], &[])
        })
    };
    let [mut moves, mut growth] = halves(&candidates.deltas, "decode.deltas");
    let [low, high] = halves(&candidates.anchors, "decode.anchors");
    let [wx, wy, ww, wh] = coder.weights;
    for (deltas, weights, name) in [(&mut moves, [wx, wy], "decode.moves"), (&mut growth, [ww, wh], "decode.growth")] {
        if weights != [1.0, 1.0] {
            let weights = graph.floats(&format!("{name}.weights"), &[2], &weights);
            *deltas = graph.node("Div", name, &[deltas, &weights], &[]);
        }
    }
    let half = graph.float(0.5);
    let anchor_size = graph.node("Sub", "decode.anchor_sizes", &[&high, &low], &[]);
    let anchor_half = graph.node("Mul", "decode.anchor_halves", &[&anchor_size, &half], &[]);
    let anchor_centre = graph.node("Add", "decode.anchor_centres", &[&low, &anchor_half], &[]);
    let moves = graph.node("Mul", "decode.shifts", &[&moves, &anchor_size], &[]);
    let centre = graph.node("Add", "decode.centres", &[&moves, &anchor_centre], &[]);

    let limit = graph.float(coder.clamp);
    let growth = graph.node("Min", "decode.clamped", &[&growth, &limit], &[]);
    let growth = graph.node("Exp", "decode.factors", &[&growth], &[]);
    let size = graph.node("Mul", "decode.sizes", &[&growth, &anchor_size], &[]);
    let size = graph.node("Mul", "decode.halves", &[&size, &half], &[]);
    let low = graph.node("Sub", "decode.low", &[&centre, &size], &[]);
    let high = graph.node("Add", "decode.high", &[&centre, &size], &[]);
    graph.concat("decode.corners", &[low, high], 2)
}

fn clipped(graph: &mut Graph, boxes: &Value, sizes: &Value) -> Value {
    // Height and width to x, y, x, y.
    let (order, zero) = (graph.ints(&[1, 0, 1, 0]), graph.float(0.0));
    let limits = graph.node("Gather", "clip.sizes", &[sizes, &order], &[("axis", Attribute::Int(1))]);
    let limits = graph.cast("clip.pixels", &limits, ElementType::F32);
    let limits = graph.unsqueeze("clip.limits", &limits, 1);
    let boxes = graph.node("Max", "clip.low", &[boxes, &zero], &[]);
    graph.node("Min", "clip.boxes", &[&boxes, &limits], &[])
}

/// `[N, P + M]`: the scores of those that suppression within each class keeps; of the others, and of the M that follow so
/// that there are enough to choose from, -1.
fn suppressed(
    graph: &mut Graph,
    boxes: &Value,
    scores: &Value,
    labels: &Value,
    config: &Config,
    num_classes: usize,
) -> Value {
    let post = &config.post_processing;
    // `[N, K, P]`: each score in the row of its class, and nothing that passes a threshold in the other rows.
    let (none, max_detections) = (graph.float(-1.0), graph.ints(&[post.max_detections as i64]));
    let [first, end, step] = [0, num_classes as i64, 1].map(|number| graph.int(number));
    let classes = graph.node("Range", "suppress.classes", &[&first, &end, &step], &[]);
    let classes = graph.unsqueeze("suppress.rows", &classes, 1);
    let labels = graph.unsqueeze("suppress.labels", labels, 1);
    let is_of_class = graph.node("Equal", "suppress.is_of_class", &[&labels, &classes], &[]);
    let rows = graph.unsqueeze("suppress.scores", scores, 1);
    let rows = graph.node("Where", "suppress.class_scores", &[&is_of_class, &rows, &none], &[]);

    // The overlap of two boxes is the same with x and y exchanged, which ONNX has the other way round.
    let iou = graph.floats("suppress.iou_threshold", &[1], &[post.nms_iou_threshold]);
    let threshold = graph.floats("suppress.score_threshold", &[1], &[post.score_threshold]);
    let inputs = [boxes, &rows, &max_detections, &iou, &threshold];
    let selected = graph.node("NonMaxSuppression", "suppress.selected", &inputs, &[]);
    // Image, class, candidate.
    let columns = graph.ints(&[0, 2]);
    let along = [("axis", Attribute::Int(1))];
    let selected = graph.node("Gather", "suppress.places", &[&selected, &columns], &along);
    let kept = graph.node("GatherND", "suppress.kept", &[scores, &selected], &[]);

    let images = graph.shape("suppress.images", scores, 0, 1);
    let count = graph.shape("suppress.candidates", scores, 1, 2);
    let count = graph.node("Add", "suppress.columns", &[&count, &max_detections], &[]);
    let shape = graph.concat("suppress.shape", &[images, count], 0);
    let table = graph.node("Expand", "suppress.none", &[&none, &shape], &[]);
    graph.node("ScatterND", "suppress.table", &[&table, &selected, &kept], &[])
}

/// The M best of each image; the first of equal scores first, which is that of the finest level.
fn outputs(graph: &mut Graph, kept: &Value, boxes: &Value, labels: &Value, max_detections: usize) {
    let count = graph.ints(&[max_detections as i64]);
    let names = ["best.scores", "best.places"];
    let inputs = [Some(kept), Some(&count)];
    let [best, places] = graph.node_with("TopK", names, &inputs, &[("axis", Attribute::Int(1))]);
    let (zero, first, nothing) = (graph.float(0.0), graph.int(0), graph.int(-1));
    let is_found = graph.node("Greater", "best.is_found", &[&best, &zero], &[]);
    let places = graph.node("Where", "best.candidates", &[&is_found, &places, &first], &[]);

    let index = graph.unsqueeze("best.index", &places, 2);
    let found = graph.node("GatherND", "best.boxes", &[boxes, &index], &[BATCHED]);
    let is_box = graph.unsqueeze("best.is_box", &is_found, 2);
    let boxes = graph.node("Where", "boxes", &[&is_box, &found, &zero], &[]);
    let scores = graph.node("Where", "scores", &[&is_found, &best, &zero], &[]);
    let along = [("axis", Attribute::Int(1))];
    let found = graph.node("GatherElements", "best.labels", &[labels, &places], &along);
    let labels = graph.node("Where", "labels", &[&is_found, &found, &nothing], &[]);
    let ones = graph.cast("best.ones", &is_found, ElementType::I64);
    let axes = graph.ints(&[1]);
    let counts = [("keepdims", Attribute::Int(0))];
    let counts = graph.node("ReduceSum", "num_detections", &[&ones, &axes], &counts);

    let rows = Dim::Fixed(max_detections);
    let doc = "x0, y0, x1, y1 of each detection, best first, in pixels of the resized image";
    graph.output(&boxes, ElementType::F32, &[BATCH, rows, Dim::Fixed(4)], doc);
    graph.output(&scores, ElementType::F32, &[BATCH, rows], "score of each detection");
    let doc = "index of each detection's class in the metadata's classes; -1 behind the last";
    graph.output(&labels, ElementType::I64, &[BATCH, rows], doc);
    graph.output(&counts, ElementType::I64, &[BATCH], "number of detections of each image");
}
