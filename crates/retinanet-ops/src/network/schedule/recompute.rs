//! Steps that run again in the reverse pass, so that their results need not be kept for it.

use super::super::plan::record::Value;
use super::graph::{Graph, Lane, Pass, Slot, Work};

/// Of each value, the one that it is a copy of; itself, if of none. Both have the same numbers and one gradient.
pub(super) struct Copies(Vec<Value>);

impl Copies {
    /// No value is one.
    pub(super) fn none(graph: &Graph) -> Self {
        Self((0..graph.slots.len()).map(Value).collect())
    }

    pub(super) fn original(&self, value: Value) -> Value {
        self.0[value.0]
    }
}

/// Gives the reverse pass the steps that run again: the layers whose names begin with one of `prefixes`, those of one prefix
/// together, right before the first reverse that needs them.
///
/// What runs again are copies with results of their own, which read the results of other steps and of each other. The
/// results of the steps themselves then live no longer than the pass forward needs them, but where others read them.
pub(super) fn insert(graph: &mut Graph, prefixes: &[String]) -> Copies {
    let Copies(mut originals) = Copies::none(graph);
    let is_trained = graph.trained();
    for prefix in prefixes {
        let is_member = |&idx: &usize| match &graph.works[idx] {
            Work::Conv { layer, lanes, .. } => {
                let is_reversed = lanes.iter().any(|lane| is_trained[lane.y.0]);
                // Those of an earlier prefix have their copies.
                layer.name.starts_with(prefix) && is_reversed && graph.backward.contains(&Pass::Reverse(idx))
            }
            _ => false,
        };
        let members: Vec<usize> = (0..graph.num_forward).filter(is_member).collect();
        let first_copy = graph.works.len();
        let mut copy_of: Vec<Option<Value>> = vec![None; graph.slots.len()];
        for &member in &members {
            let Work::Conv { layer, norm, lanes, .. } = graph.works[member].clone() else { continue };
            let copy = |lane: &Lane| {
                let y = Value(graph.slots.len());
                graph.slots.push(Slot { value: y, ..graph.slots[lane.y.0] });
                originals.push(lane.y);
                let read = |value: Value| copy_of[value.0].unwrap_or(value);
                let lane = Lane::new(read(lane.x), lane.residual.map(read), y);
                (lane, y)
            };
            let (copied, results): (Vec<Lane>, Vec<Value>) = lanes.iter().map(copy).unzip();
            lanes.iter().zip(results).for_each(|(lane, y)| copy_of[lane.y.0] = Some(y));
            graph.works.push(Work::Conv { layer, norm, lanes: copied, is_first: true });
        }
        replace(&mut graph.backward, &members, first_copy);
    }
    Copies(originals)
}

/// Reverses the copies in place of the members, and runs them right before the first of these.
fn replace(backward: &mut Vec<Pass>, members: &[usize], first_copy: usize) {
    let mut is_first = true;
    let passes = std::mem::take(backward);
    for pass in passes {
        let position = match pass {
            Pass::Reverse(work) => members.iter().position(|&member| member == work),
            Pass::Again(_) => None,
        };
        let Some(position) = position else {
            backward.push(pass);
            continue;
        };
        if std::mem::take(&mut is_first) {
            backward.extend((first_copy..first_copy + members.len()).map(Pass::Again));
        }
        backward.push(Pass::Reverse(first_copy + position));
    }
}
