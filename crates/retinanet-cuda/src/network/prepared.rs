//! What is known of images of one size, and the memory that it needs.

use super::slots::ALIGNMENT;
use crate::device::{Device, Memory, Span};
use crate::error::Result;
use crate::kernels::{batch_norm_statistics_bytes, group_norm_statistics_bytes, norm_workspace_bytes};
use retinanet_ops::network::NormKind;
use retinanet_ops::network::schedule::{Graph, Layout, SlotIdx, Work};
use std::collections::HashMap;
use std::sync::Arc;

/// N, H and W of images.
pub(super) type Size = (usize, usize, usize);

/// Where all is for images of one size.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) layout: Layout,
    /// Start and length in bytes of what the norm of each step and lane finds of its map.
    statistics: Vec<Vec<(usize, usize)>>,
    statistics_len: usize,
    /// Of the most demanding kernel.
    workspace_len: usize,
}

impl Prepared {
    fn new(graph: &Graph, images: Size) -> Result<Self> {
        let layout = Layout::new(graph, images, ALIGNMENT)?;
        let (mut end, mut workspace_len) = (0, 0);
        let mut statistics = Vec::with_capacity(graph.works().len());
        for work in graph.works() {
            let mut lanes_statistics = Vec::new();
            if let Work::Conv { norm, lanes, .. } = work {
                for lane in lanes {
                    let shape = layout.shape(graph, SlotIdx::from(lane.y));
                    workspace_len = workspace_len.max(norm_workspace_bytes(&shape));
                    let len = match norm {
                        Some(NormKind::Batch { .. }) => batch_norm_statistics_bytes(shape.channels),
                        Some(NormKind::Group { groups, .. }) => group_norm_statistics_bytes(shape.batch, *groups),
                        Some(NormKind::FrozenBatch { .. }) | None => 0,
                    };
                    lanes_statistics.push((end, len));
                    end += len.next_multiple_of(ALIGNMENT);
                }
            }
            statistics.push(lanes_statistics);
        }
        Ok(Self { layout, statistics, statistics_len: end, workspace_len })
    }

    /// Start and length of a lane's statistics.
    pub(super) fn statistics(&self, work: usize, lane: usize) -> (usize, usize) {
        self.statistics[work][lane]
    }
}

/// Memory that grows with what is asked of it, and is then another.
#[derive(Debug, Default)]
pub(super) struct Room(Option<Memory>);

impl Room {
    /// Makes room; whether what was there is lost.
    pub(super) fn reserve(&mut self, device: &Arc<dyn Device>, bytes: usize) -> Result<bool> {
        if self.0.as_ref().is_some_and(|memory| memory.span().bytes() >= bytes) {
            return Ok(false);
        }
        // The old goes first, so that the two never take memory together.
        self.0 = None;
        self.0 = Some(Memory::new(device, bytes)?);
        Ok(true)
    }

    /// All of it.
    ///
    /// # Panics
    /// Nothing was ever reserved.
    pub(super) fn span(&self) -> Span<'_> {
        self.0.as_ref().expect("room is made before it is used").span()
    }
}

/// The memory of a network's runs, for images of sizes that change from run to run.
#[derive(Debug, Default)]
pub(super) struct Rooms {
    prepared: HashMap<Size, Arc<Prepared>>,
    pub(super) slots: Room,
    pub(super) statistics: Room,
    pub(super) workspace: Room,
}

/// Sizes that are remembered: more than a training on images of many sizes has.
const MOST_SIZES: usize = 256;

impl Rooms {
    /// What is known of images of this size, with memory for it; and whether memory has moved.
    pub(super) fn prepare(
        &mut self,
        device: &Arc<dyn Device>,
        graph: &Graph,
        images: Size,
    ) -> Result<(Arc<Prepared>, bool)> {
        let prepared = match self.prepared.get(&images) {
            Some(prepared) => Arc::clone(prepared),
            None => {
                let prepared = Arc::new(Prepared::new(graph, images)?);
                if self.prepared.len() >= MOST_SIZES {
                    self.prepared.clear();
                }
                self.prepared.insert(images, Arc::clone(&prepared));
                prepared
            }
        };
        let moved = self.slots.reserve(device, prepared.layout.len())?
            | self.statistics.reserve(device, prepared.statistics_len)?
            | self.workspace.reserve(device, prepared.workspace_len)?;
        Ok((prepared, moved))
    }

    /// Where norms leave their statistics, if anything was prepared.
    pub(super) fn statistics_span(&self) -> Option<Span<'_>> {
        self.statistics.0.as_ref().map(Memory::span)
    }

    /// Bytes of all maps and gradients.
    pub(super) fn len(&self) -> usize {
        self.slots.0.as_ref().map_or(0, |memory| memory.span().bytes())
    }
}
