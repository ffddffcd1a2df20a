//! The order of execution: what the first outputs need comes first, and the uses of one layer become one step.

use super::record::{Kind, Operation, Recorder, Value};

/// Operations that run as one step, in the order they were recorded: one, or several uses of one layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct Group {
    /// Indices of the operations.
    pub(in super::super) operations: Vec<usize>,
}

/// Groups in the order of execution.
#[derive(Debug, PartialEq, Eq)]
pub(in super::super) struct Order {
    pub(in super::super) groups: Vec<Group>,
    /// How many of them the first outputs need.
    pub(in super::super) num_first: usize,
}

/// Orders what `first` and `rest` need; what neither needs is left out.
pub(in super::super) fn order(recorder: &Recorder, first: &[Value], rest: &[Value]) -> Order {
    let operations = &recorder.operations;
    let mut ready = vec![false; recorder.channels.len()];
    ready[0] = true;
    let needed = ancestors(recorder, first);
    let mut groups = phase(operations, &needed, &mut ready);
    let num_first = groups.len();
    let also_needed = ancestors(recorder, rest);
    let later: Vec<bool> = also_needed.iter().zip(&needed).map(|(&also, &needed)| also && !needed).collect();
    groups.extend(phase(operations, &later, &mut ready));
    Order { groups, num_first }
}

/// Whether each operation contributes to one of the values.
fn ancestors(recorder: &Recorder, values: &[Value]) -> Vec<bool> {
    let mut is_needed = vec![false; recorder.channels.len()];
    values.iter().for_each(|value| is_needed[value.0] = true);
    let mut needed = vec![false; recorder.operations.len()];
    for (operation_idx, operation) in recorder.operations.iter().enumerate().rev() {
        if is_needed[operation.y.0] {
            needed[operation_idx] = true;
            operation.kind.inputs().for_each(|input| is_needed[input.0] = true);
        }
    }
    needed
}

/// Takes, again and again, the first operation whose whole group is ready. Where two layers wait for each other by turns,
/// no group ever is; then the part of the first that is ready goes alone.
fn phase(operations: &[Operation], needed: &[bool], ready: &mut [bool]) -> Vec<Group> {
    let mut waiting: Vec<usize> = (0..operations.len()).filter(|&i| needed[i]).collect();
    let mut groups = Vec::new();
    while !waiting.is_empty() {
        let is_ready = |&i: &usize| operations[i].kind.inputs().all(|input| ready[input.0]);
        let peers = |i: usize| waiting.iter().copied().filter(move |&j| is_same_layer(&operations[i], &operations[j]));
        let complete = waiting.iter().copied().find(|&i| peers(i).all(|j| is_ready(&j)));
        let start = complete.or_else(|| waiting.iter().copied().find(is_ready));
        let start = start.expect("operations are recorded after what they read");
        let group: Vec<usize> = peers(start).filter(is_ready).collect();
        group.iter().for_each(|&i| ready[operations[i].y.0] = true);
        waiting.retain(|i| !group.contains(i));
        groups.push(Group { operations: group });
    }
    groups
}

/// Whether two operations are uses of one layer that one step can run, or the same operation.
fn is_same_layer(a: &Operation, b: &Operation) -> bool {
    match (&a.kind, &b.kind) {
        (Kind::Conv { layer, residual, .. }, Kind::Conv { layer: other, residual: other_residual, .. }) => {
            layer == other && residual.is_some() == other_residual.is_some()
        }
        _ => a.y == b.y,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::{ConvLayer, Engine};

    fn layer(name: &str) -> ConvLayer {
        ConvLayer::new(name, 4, 4, 3, 1)
    }

    fn groups(order: &Order) -> Vec<&[usize]> {
        order.groups.iter().map(|group| &group.operations[..]).collect()
    }

    #[test]
    fn uses_of_a_layer_are_joined_and_the_rest_comes_later() -> candle_core::Result<()> {
        let (mut recorder, x) = Recorder::new(4);
        let fine = recorder.conv(&layer("a"), &x, None)?; // 0
        let coarse = recorder.max_pool(&fine, 3, 2, 1)?; // 1
        let mut heads = Vec::new();
        for name in ["class", "box"] {
            for level in [fine, coarse] {
                let y = recorder.conv(&layer(&format!("{name}.0")), &level, None)?; // 2, 4; 6, 8
                heads.push(recorder.conv(&layer(&format!("{name}.1")), &y, None)?); // 3, 5; 7, 9
            }
        }
        recorder.relu(&x)?; // 10, needed by nothing
        let found = order(&recorder, &heads[..2], &heads[2..]);
        assert_eq!(groups(&found), [&[0][..], &[1], &[2, 4], &[3, 5], &[6, 8], &[7, 9]]);
        assert_eq!(found.num_first, 4);
        Ok(())
    }

    #[test]
    fn layers_that_wait_for_each_other_are_not_joined() -> candle_core::Result<()> {
        let (mut recorder, x) = Recorder::new(4);
        let one = recorder.conv(&layer("a"), &x, None)?; // 0
        let one = recorder.conv(&layer("b"), &one, None)?; // 1
        let two = recorder.conv(&layer("b"), &x, None)?; // 2
        let two = recorder.conv(&layer("a"), &two, None)?; // 3
        let found = order(&recorder, &[one, two], &[]);
        assert_eq!(groups(&found), [&[0][..], &[1, 2], &[3]]);
        // A layer on its own output can never be joined with itself.
        let again = recorder.conv(&layer("a"), &two, None)?; // 4
        assert_eq!(groups(&order(&recorder, &[again], &[])), [&[2][..], &[3], &[4]]);
        Ok(())
    }
}
