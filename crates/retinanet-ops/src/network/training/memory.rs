//! The memory of a step, seen slot by slot.

use super::super::plan::arena::Arena;
use super::super::plan::record::Value;
use super::super::schedule::{Graph, Layout, SlotIdx};
use crate::kernels::ImageShape;
use crate::kernels::cpu::inference::{Numbers, NumbersMut, Storage};

/// The slots of a session during a step.
///
/// The layout gives slots that live at the same time disjoint memory. What a step reads lives at least until the step, what
/// it writes at least from then on; so what it writes overlaps nothing else but where two names mean one slot.
#[derive(Clone, Copy)]
pub(super) struct Views<'a> {
    pub(super) arena: &'a Arena,
    pub(super) graph: &'a Graph,
    pub(super) layout: &'a Layout,
}

impl<'a> Views<'a> {
    pub(super) fn storage(&self, slot: SlotIdx) -> Storage {
        self.graph.storage(slot)
    }

    pub(super) fn shape(&self, slot: SlotIdx) -> ImageShape {
        self.layout.shape(self.graph, slot)
    }

    pub(super) fn shape_of(&self, value: Value) -> ImageShape {
        self.shape(value.into())
    }

    /// # Safety
    /// The running step does not write the slot while the numbers are borrowed.
    pub(super) unsafe fn numbers(&self, slot: SlotIdx) -> Numbers<'a> {
        // SAFETY: the caller vouches for the slot itself, and the layout for all others.
        unsafe { self.arena.numbers(self.layout.region(slot), self.storage(slot)) }
    }

    /// # Safety
    /// As for [`Self::numbers`].
    pub(super) unsafe fn value(&self, value: Value) -> Numbers<'a> {
        // SAFETY: the caller vouches for it.
        unsafe { self.numbers(value.into()) }
    }

    /// # Safety
    /// The running step writes the slot, and has borrowed it nowhere else.
    pub(super) unsafe fn numbers_mut(&self, slot: SlotIdx) -> NumbersMut<'a> {
        // SAFETY: as above.
        unsafe { self.arena.numbers_mut(self.layout.region(slot), self.storage(slot)) }
    }

    /// # Safety
    /// As for [`Self::numbers_mut`].
    pub(super) unsafe fn value_mut(&self, value: Value) -> NumbersMut<'a> {
        // SAFETY: the caller vouches for it.
        unsafe { self.numbers_mut(value.into()) }
    }
}
