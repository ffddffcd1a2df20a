//! The maps of a network, in one block of memory.

use crate::device::{Convolution, Element, Span};
use retinanet_ops::kernels::cpu::inference::Storage;
use retinanet_ops::kernels::{ImageShape, PoolShape};
use retinanet_ops::network::ConvLayer;
use retinanet_ops::network::plan::Value;
use retinanet_ops::network::schedule::{Graph, Layout, SlotIdx, Storages};

/// Where slots begin: what the memory system of a GPU moves at once.
pub(super) const ALIGNMENT: usize = 128;

/// All maps are stored alike, images and outputs too: a convolution has one type.
pub(super) fn storages(element: Element) -> Storages {
    Storages::Uniform(match element {
        Element::F32 => Storage::F32,
        // Of both, only the size is asked.
        Element::Bf16 | Element::F16 => Storage::Bf16,
    })
}

/// The slots of a graph during a run.
///
/// The layout gives slots that live at the same time disjoint memory, so that what a step writes overlaps nothing else but
/// where two names mean one slot.
#[derive(Clone, Copy)]
pub(super) struct Slots<'a> {
    pub(super) graph: &'a Graph,
    pub(super) layout: &'a Layout,
    /// As long as the layout says.
    pub(super) memory: Span<'a>,
    pub(super) element: Element,
}

impl<'a> Slots<'a> {
    pub(super) fn shape(&self, slot: impl Into<SlotIdx>) -> ImageShape {
        self.layout.shape(self.graph, slot.into())
    }

    pub(super) fn span(&self, slot: impl Into<SlotIdx>) -> Span<'a> {
        let slot = slot.into();
        self.memory.part(self.layout.offset(slot), self.shape(slot).len() * self.element.size())
    }

    pub(super) fn convolution(&self, layer: &ConvLayer, x: Value) -> Convolution {
        let shape = self.layout.conv_shape(self.graph, layer, x).expect("the layout was made of it");
        Convolution { shape, element: self.element }
    }

    pub(super) fn pool(&self, x: Value, window: (usize, usize, usize)) -> PoolShape {
        self.layout.pool_shape(self.graph, x, window).expect("the layout was made of it")
    }
}
