//! The running statistics of batch norms.

use super::prepared::Prepared;
use super::tensors::Tensors;
use crate::device::{Device, Memory, Span};
use crate::error::Result;
use crate::kernels::update_running_statistics;
use retinanet_ops::network::NormKind;
use retinanet_ops::network::schedule::{Graph, SlotIdx, Work};
use std::sync::Arc;

/// What a batch norm has seen in one use.
#[derive(Clone, Debug)]
struct Seen {
    /// Prefix of the norm's parameters.
    name: String,
    momentum: f64,
    channels: usize,
    /// N * H * W.
    count: usize,
    /// Start and length of its statistics in bytes.
    place: (usize, usize),
}

/// What the batch norms of a network have seen in the passes of a step.
#[derive(Debug, Default)]
pub(super) struct Running {
    /// Of passes whose statistics were copied, as others followed.
    kept: Vec<(Memory, Vec<Seen>)>,
    /// Of the last pass.
    last: Vec<Seen>,
}

impl Running {
    /// Forgets all.
    pub(super) fn forget(&mut self) {
        self.kept.clear();
        self.last.clear();
    }

    /// Notes where the statistics of the pass lie that just ran.
    pub(super) fn see(&mut self, graph: &Graph, prepared: &Prepared) {
        self.last.clear();
        for (work_idx, work) in graph.forward().iter().enumerate() {
            let Work::Conv { layer, norm: Some(NormKind::Batch { momentum, .. }), lanes, .. } = work else { continue };
            let Some((name, _)) = &layer.norm else { continue };
            self.last.extend(lanes.iter().enumerate().map(|(lane_idx, lane)| Seen {
                name: name.clone(),
                momentum: *momentum,
                channels: layer.out_channels,
                count: prepared.layout.shape(graph, SlotIdx::from(lane.y)).num_pixels(),
                place: prepared.statistics(work_idx, lane_idx),
            }));
        }
    }

    /// Copies the statistics of the last pass, before another pass writes its own there.
    pub(super) fn keep(&mut self, device: &Arc<dyn Device>, statistics: Option<Span<'_>>) -> Result<()> {
        let (Some(statistics), Some(end)) =
            (statistics, self.last.iter().map(|seen| seen.place.0 + seen.place.1).max())
        else {
            return Ok(());
        };
        let memory = Memory::new(device, end)?;
        statistics.part(0, end).copy_to(memory.span())?;
        self.kept.push((memory, std::mem::take(&mut self.last)));
        Ok(())
    }

    /// Moves the running statistics, in the order of the passes; not where the i32 in `go` is 0.
    pub(super) fn update(
        &self,
        parameters: &Tensors,
        statistics: Option<Span<'_>>,
        go: Option<Span<'_>>,
    ) -> Result<()> {
        let kept = self.kept.iter().map(|(memory, seen)| (memory.span(), seen));
        let all = kept.chain(statistics.map(|statistics| (statistics, &self.last)));
        for (statistics, seen) in all.flat_map(|(span, seen)| seen.iter().map(move |seen| (span, seen))) {
            let moved = (
                parameters.find(&format!("{}.running_mean", seen.name))?,
                parameters.find(&format!("{}.running_var", seen.name))?,
            );
            let statistics = statistics.part(seen.place.0, seen.place.1);
            update_running_statistics(seen.channels, seen.count, seen.momentum, statistics, moved, go)?;
        }
        Ok(())
    }
}
