//! One step on the memory of a session.

use super::PlanError;
use super::arena::Arena;
use super::layout::{Layout, pool_shape};
use super::masks::StepMask;
use super::steps::{Lane, SlotIdx, Step, Steps, Work};
use crate::kernels::cpu::inference::{
    GroupNorm, Map, MapMut, Numbers, NumbersMut, Plane, PreparedConv, Residual, Storage, convert, max_pool,
    upsample_add,
};

/// What steps read and write.
#[derive(Debug)]
pub(super) struct Memory {
    pub(super) arena: Arena,
    workspace: Vec<f32>,
    norm_workspace: Vec<f64>,
    norm_coefficients: Vec<f32>,
    /// Empty between steps; its memory is kept.
    planes: Vec<Plane<'static>>,
}

impl Memory {
    pub(super) const fn empty() -> Self {
        Self {
            arena: Arena::empty(),
            workspace: Vec::new(),
            norm_workspace: Vec::new(),
            norm_coefficients: Vec::new(),
            planes: Vec::new(),
        }
    }

    /// Makes room for a layout.
    pub(super) fn reserve(&mut self, layout: &Layout) -> Result<(), PlanError> {
        self.arena.reserve(layout.arena_len)?;
        grow(&mut self.workspace, layout.workspace_len);
        grow(&mut self.norm_workspace, layout.norm_workspace_len);
        grow(&mut self.norm_coefficients, 2 * layout.norm_channels);
        self.planes.reserve(layout.max_planes);
        Ok(())
    }

    /// Bytes.
    pub(super) fn len(&self) -> usize {
        self.arena.len() + size_of_val(&self.workspace[..]) + size_of_val(&self.norm_workspace[..])
    }

    /// Runs a step on every image, or on what the mask says.
    pub(super) fn execute(&mut self, steps: &Steps, layout: &Layout, step: &Step, mask: Option<StepMask<'_>>) {
        let views = Views { arena: &self.arena, steps, layout };
        let is_active = |plane_idx: usize| mask.is_none_or(|mask| mask.is_active[plane_idx]);
        let num_images = layout.num_images();
        match &step.work {
            Work::Conv { conv, norm, lanes, .. } => {
                let cells = mask.and_then(|mask| mask.cells);
                let mut planes = std::mem::take(&mut self.planes);
                let job = Conv { conv, lanes, cells, views };
                planes = job.run(planes, is_active, &mut self.workspace);
                self.planes = planes;
                if let Some(norm) = norm {
                    let workspace = (&mut self.norm_coefficients[..], &mut self.norm_workspace[..]);
                    job.norm(norm, is_active, workspace);
                }
            }
            &Work::MaxPool { x, kernel, stride, padding, y } => {
                for image in (0..num_images).filter(|&image| is_active(image)) {
                    let shape = pool_shape(steps, layout, x, image, (kernel, stride, padding));
                    let shape = shape.expect("the layout was made of the same shapes");
                    // SAFETY: see `Views`: `y` is written by this step alone and is none of what it reads.
                    let (x, y) = unsafe { (views.map(x, image), views.map_mut(y, image)) };
                    max_pool(steps.isa, &shape, x, y);
                }
            }
            &Work::UpsampleAdd { coarse, fine, y } => {
                let channels = steps.slots[y.0].channels;
                for image in (0..num_images).filter(|&image| is_active(image)) {
                    let sizes = [coarse, fine].map(|slot| {
                        let place = layout.place(slot, image);
                        (place.height, place.width)
                    });
                    // SAFETY: as above.
                    let [coarse, fine] = [coarse, fine].map(|slot| unsafe { views.map(slot, image) });
                    // SAFETY: as above.
                    let y = unsafe { views.map_mut(y, image) };
                    upsample_add(steps.isa, channels, (sizes[0], coarse), (sizes[1], fine), y);
                }
            }
            &Work::Convert { x, activation, y } => {
                let channels = steps.slots[y.0].channels;
                for image in (0..num_images).filter(|&image| is_active(image)) {
                    // SAFETY: as above.
                    let (x, y) = unsafe { (views.map(x, image), views.map_mut(y, image)) };
                    convert(steps.isa, channels, activation, x, y);
                }
            }
        }
    }
}

/// The feature maps of a session during a step.
///
/// The layout gives slots that live at the same time disjoint regions. What a step reads lives at least until the step,
/// what it writes at least from then on; so what it writes overlaps neither what it reads nor anything else it writes, but
/// for a convolution's result laid over its residual.
#[derive(Clone, Copy)]
struct Views<'a> {
    arena: &'a Arena,
    steps: &'a Steps,
    layout: &'a Layout,
}

impl<'a> Views<'a> {
    /// Whether one slot was laid over the other.
    fn share_memory(&self, a: SlotIdx, b: SlotIdx) -> bool {
        self.layout.place(a, 0).offset == self.layout.place(b, 0).offset
    }

    fn storage(&self, slot: SlotIdx) -> Storage {
        self.steps.slots[slot.0].storage
    }

    /// # Safety
    /// The running step does not write the slot while the numbers are borrowed.
    unsafe fn numbers(&self, slot: SlotIdx, image: usize) -> Numbers<'a> {
        // SAFETY: the caller vouches for the slot itself, and the layout for all others.
        unsafe { self.arena.numbers(self.layout.place(slot, image).region(), self.storage(slot)) }
    }

    /// # Safety
    /// The running step writes the slot, and has borrowed it nowhere else.
    unsafe fn numbers_mut(&self, slot: SlotIdx, image: usize) -> NumbersMut<'a> {
        // SAFETY: as above.
        unsafe { self.arena.numbers_mut(self.layout.place(slot, image).region(), self.storage(slot)) }
    }

    /// # Safety
    /// As for [`Self::numbers`].
    unsafe fn map(&self, slot: SlotIdx, image: usize) -> Map<'a> {
        // SAFETY: as above.
        Map { storage: self.storage(slot), numbers: unsafe { self.numbers(slot, image) } }
    }

    /// # Safety
    /// As for [`Self::numbers_mut`].
    unsafe fn map_mut(&self, slot: SlotIdx, image: usize) -> MapMut<'a> {
        // SAFETY: as above.
        MapMut { storage: self.storage(slot), numbers: unsafe { self.numbers_mut(slot, image) } }
    }
}

/// A convolution on all its planes.
#[derive(Clone, Copy)]
struct Conv<'a> {
    conv: &'a PreparedConv,
    lanes: &'a [Lane],
    cells: Option<&'a [u32]>,
    views: Views<'a>,
}

impl Conv<'_> {
    fn planes(&self, is_active: impl Fn(usize) -> bool) -> impl Iterator<Item = (&Lane, usize)> {
        let num_images = self.views.layout.num_images();
        let planes = self.lanes.iter().flat_map(move |lane| (0..num_images).map(move |image| (lane, image)));
        planes.enumerate().filter(move |&(plane_idx, _)| is_active(plane_idx)).map(|(_, plane)| plane)
    }

    /// Takes an empty vector for the planes, and returns it.
    fn run(
        self,
        planes: Vec<Plane<'static>>,
        is_active: impl Fn(usize) -> bool,
        workspace: &mut [f32],
    ) -> Vec<Plane<'static>> {
        let mut planes: Vec<Plane<'_>> = planes;
        for (lane, image) in self.planes(is_active) {
            let place = self.views.layout.place(lane.x, image);
            // Behind the convolution, a norm adds the residual.
            let (y, residual) = match lane.scratch {
                Some(scratch) => (scratch, None),
                None => (lane.y, lane.residual),
            };
            let residual = match residual {
                None => Residual::None,
                Some(residual) if self.views.share_memory(residual, y) => Residual::InPlace,
                // SAFETY: see `Views`.
                Some(residual) => Residual::Apart(unsafe { self.views.numbers(residual, image) }),
            };
            // SAFETY: see `Views`: each lane writes slots of its own, and reads none that this step writes.
            planes.push(unsafe {
                Plane {
                    height: place.height,
                    width: place.width,
                    x: self.views.numbers(lane.x, image),
                    residual,
                    y: self.views.numbers_mut(y, image),
                }
            });
        }
        if !planes.is_empty() {
            self.conv.run(&mut planes, self.cells, workspace);
        }
        planes.clear();
        // Of an empty vector nothing is left but its memory, which the collection takes over.
        planes.into_iter().map(|_| unreachable!("no plane is left")).collect()
    }

    fn norm(self, norm: &GroupNorm, is_active: impl Fn(usize) -> bool, workspace: (&mut [f32], &mut [f64])) {
        let (coefficients, workspace) = workspace;
        let coefficients = &mut coefficients[..2 * norm.weight.len()];
        for (lane, image) in self.planes(is_active) {
            let scratch = lane.scratch.expect("a norm follows a convolution");
            // SAFETY: see `Views`: the convolution has written its scratch, and no view of it is left.
            let Numbers::F32(x) = (unsafe { self.views.numbers(scratch, image) }) else {
                unreachable!("a norm reads f32")
            };
            // SAFETY: as above.
            let residual = lane.residual.map(|residual| unsafe { self.views.map(residual, image) });
            // SAFETY: as above.
            let y = unsafe { self.views.map_mut(lane.y, image) };
            norm.run(self.views.steps.isa, x, residual, y, coefficients, workspace);
        }
    }
}

fn grow<T: Clone + Default>(workspace: &mut Vec<T>, len: usize) {
    if workspace.len() < len {
        workspace.clear();
        workspace.resize(len, T::default());
    }
}
