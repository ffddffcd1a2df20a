//! One block of memory for all feature maps.

use super::PlanError;
use crate::kernels::cpu::inference::{Numbers, NumbersMut, Storage};
use half::bf16;
use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ptr::NonNull;

/// A cache line, and as wide as the widest vector.
pub(in super::super) const ALIGNMENT: usize = 64;

/// A block of memory, always initialised.
#[derive(Debug)]
pub(in super::super) struct Arena {
    pointer: NonNull<u8>,
    len: usize,
}

// SAFETY: it owns its memory, as a vector of bytes does; the views are the caller's to vouch for.
unsafe impl Send for Arena {}
// SAFETY: as above.
unsafe impl Sync for Arena {}

/// Numbers of one storage within the arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct Region {
    /// Bytes from the start, a multiple of [`ALIGNMENT`].
    pub(in super::super) offset: usize,
    /// Numbers.
    pub(in super::super) len: usize,
}

impl Arena {
    pub(in super::super) const fn empty() -> Self {
        Self { pointer: NonNull::dangling(), len: 0 }
    }

    /// Bytes.
    pub(in super::super) fn len(&self) -> usize {
        self.len
    }

    /// Makes room for this many bytes; what was there is lost where it grows.
    pub(in super::super) fn reserve(&mut self, len: usize) -> Result<(), PlanError> {
        if len <= self.len {
            return Ok(());
        }
        // The old block goes first, so that the two never take memory together.
        *self = Self::empty();
        let layout = Layout::from_size_align(len, ALIGNMENT).map_err(|_| PlanError::TooLarge)?;
        // SAFETY: the layout has a size above 0.
        let pointer = unsafe { alloc_zeroed(layout) };
        let pointer = NonNull::new(pointer).ok_or(PlanError::TooLarge)?;
        ask_for_large_pages(pointer, len);
        *self = Self { pointer, len };
        Ok(())
    }

    fn start<T>(&self, region: Region) -> *mut T {
        let end = region.len.checked_mul(size_of::<T>()).and_then(|bytes| bytes.checked_add(region.offset));
        assert!(end.is_some_and(|end| end <= self.len), "arena: a region lies within it");
        assert!(region.offset.is_multiple_of(ALIGNMENT), "arena: a region is aligned");
        // SAFETY: within the block, as just checked.
        unsafe { self.pointer.as_ptr().add(region.offset).cast() }
    }

    /// The numbers of a region.
    ///
    /// # Safety
    /// Nobody writes to the region while they are borrowed.
    pub(in super::super) unsafe fn numbers(&self, region: Region, storage: Storage) -> Numbers<'_> {
        // SAFETY: initialised memory within the block, aligned for any number; every pattern of bits is a number of each
        // type; that nobody writes is the caller's to know.
        unsafe {
            match storage {
                Storage::F32 => Numbers::F32(std::slice::from_raw_parts(self.start(region), region.len)),
                Storage::Bf16 => Numbers::Bf16(std::slice::from_raw_parts(self.start::<bf16>(region), region.len)),
                Storage::U8(_) => Numbers::U8(std::slice::from_raw_parts(self.start(region), region.len)),
            }
        }
    }

    /// The numbers of a region, to be written.
    ///
    /// # Safety
    /// Nobody else reads or writes the region while they are borrowed.
    pub(in super::super) unsafe fn numbers_mut(&self, region: Region, storage: Storage) -> NumbersMut<'_> {
        // SAFETY: as above.
        unsafe {
            match storage {
                Storage::F32 => NumbersMut::F32(std::slice::from_raw_parts_mut(self.start(region), region.len)),
                Storage::Bf16 => {
                    NumbersMut::Bf16(std::slice::from_raw_parts_mut(self.start::<bf16>(region), region.len))
                }
                Storage::U8(_) => NumbersMut::U8(std::slice::from_raw_parts_mut(self.start(region), region.len)),
            }
        }
    }
}

/// Tells the system that the block is read and written as a whole: pages of 2 MiB instead of 4 KiB are found by the
/// processor without a walk through the page tables, and are a five hundredth of the faults of the first run.
fn ask_for_large_pages(pointer: NonNull<u8>, len: usize) {
    #[cfg(target_os = "linux")]
    {
        const LARGE_PAGE: usize = 2 << 20;
        let start = pointer.as_ptr().align_offset(LARGE_PAGE);
        let whole = len.saturating_sub(start) / LARGE_PAGE * LARGE_PAGE;
        if whole > 0 {
            // SAFETY: whole pages within a block of ours; the advice changes no contents. Where the system does not take
            // it, all stays as it was.
            unsafe { libc::madvise(pointer.as_ptr().add(start).cast(), whole, libc::MADV_HUGEPAGE) };
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (pointer, len);
}

impl Drop for Arena {
    fn drop(&mut self) {
        if self.len > 0 {
            let layout = Layout::from_size_align(self.len, ALIGNMENT).expect("it was allocated with this layout");
            // SAFETY: allocated by `reserve` with this layout.
            unsafe { dealloc(self.pointer.as_ptr(), layout) };
        }
    }
}
