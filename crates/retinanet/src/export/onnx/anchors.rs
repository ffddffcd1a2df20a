//! Anchors from the sizes that the feature maps turn out to have.

use retinanet_anchors::{AnchorGenerator, AnchorStride, BBox, Pyramid, PyramidLevel};
use retinanet_onnx::{ElementType, Graph, Value};

/// `[R, 4]` a level, in the order (y, x, anchor).
///
/// # Shapes
/// - `images`: `[N, 3, H, W]`
/// - `maps`: `[N, C, H, W]` a level
///
/// # Numerics
/// In f32: whole strides times whole cells are exact, and so are offsets of halves.
pub(super) fn add(
    graph: &mut Graph,
    generator: &AnchorGenerator,
    images: &Value,
    maps: &Pyramid<Value>,
) -> Pyramid<Value> {
    let padded = match generator.stride() {
        AnchorStride::Declared => None,
        AnchorStride::FromGrid => Some(graph.shape("anchors.padded", images, 2, 4)),
    };
    let mut base_anchors = generator.base_anchors().values().iter();
    maps.map(|level, map| {
        let base_anchors = base_anchors.next().expect("a list for each level of the network");
        let grid = graph.shape(&format!("anchors.{level}.grid"), map, 2, 4);
        let strides = strides(graph, level, &grid, padded.as_ref());
        let shift = shifts(graph, level, &grid, &strides, generator.offset());
        let flat: Vec<f32> = base_anchors.iter().flat_map(BBox::to_array).collect();
        let base = graph.floats(&format!("anchors.{level}.base"), &[base_anchors.len(), 4], &flat);
        let moved = graph.node("Add", &format!("anchors.{level}.moved"), &[&shift, &base], &[]);
        graph.reshape(&format!("anchors.{level}"), &moved, &[-1, 4])
    })
}

/// `[2]`, f32: pixels from a cell to the next, down and across.
fn strides(graph: &mut Graph, level: PyramidLevel, grid: &Value, padded: Option<&Value>) -> Value {
    match padded {
        None => {
            let stride = level.stride() as f32;
            graph.floats(&format!("anchors.{level}.strides"), &[2], &[stride, stride])
        }
        Some(padded) => {
            // Division of whole numbers has no remainder.
            let strides = graph.node("Div", &format!("anchors.{level}.whole_strides"), &[padded, grid], &[]);
            graph.cast(&format!("anchors.{level}.strides"), &strides, ElementType::F32)
        }
    }
}

/// `[H, W, 1, 4]`: what to add to the corners around the origin.
fn shifts(graph: &mut Graph, level: PyramidLevel, grid: &Value, strides: &Value, offset: f32) -> Value {
    let [down, across] = [0, 1].map(|axis| {
        let name = format!("anchors.{level}.{}", ["y", "x"][axis]);
        let (index, zero, one) = (graph.int(axis as i64), graph.int(0), graph.int(1));
        let count = graph.node("Gather", &format!("{name}.count"), &[grid, &index], &[]);
        let stride = graph.node("Gather", &format!("{name}.stride"), &[strides, &index], &[]);
        let cells = graph.node("Range", &format!("{name}.cells"), &[&zero, &count, &one], &[]);
        let mut cells = graph.cast(&format!("{name}.positions"), &cells, ElementType::F32);
        if offset != 0.0 {
            let offset = graph.float(offset);
            cells = graph.node("Add", &format!("{name}.offset"), &[&cells, &offset], &[]);
        }
        let pixels = graph.node("Mul", &format!("{name}.pixels"), &[&cells, &stride], &[]);
        let along = [&[-1, 1, 1, 1][..], &[1, -1, 1, 1]][axis];
        let pixels = graph.reshape(&format!("{name}.along"), &pixels, along);
        // Corners are x0, y0, x1, y1.
        let (corners, chosen) = [("down", [0.0, 1.0, 0.0, 1.0]), ("across", [1.0, 0.0, 1.0, 0.0])][axis];
        let corners = graph.floats(&format!("anchors.{corners}"), &[4], &chosen);
        graph.node("Mul", &format!("{name}.corners"), &[&pixels, &corners], &[])
    });
    graph.node("Add", &format!("anchors.{level}.shifts"), &[&down, &across], &[])
}
