//! Measures the memory that reading takes on its thread, which a hostile file must not drive up.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// What reading may take whatever the file says, in bytes: the most values a pickle may have, and their growth.
const FIXED: usize = 64 << 20;

/// What reading may take for each byte of the file.
const PER_BYTE: usize = 16;

thread_local! {
    /// Bytes in use now and at most, since the measurement began; other threads' memory may be freed here.
    static IN_USE: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

struct Measured;

#[global_allocator]
static ALLOCATOR: Measured = Measured;

/// The cells are constants without destructors, so that they can be reached from within the allocator.
fn count(change: isize) {
    let in_use = IN_USE.get().saturating_add(change);
    IN_USE.set(in_use);
    PEAK.set(PEAK.get().max(in_use));
}

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Measured {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller keeps the contract of `alloc_zeroed`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // Old and new may both be there for a moment.
        count(new_size as isize);
        count(-(layout.size() as isize));
        // SAFETY: the caller keeps the contract of `realloc`.
        unsafe { System.realloc(pointer, layout, new_size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// Fails if `read`, of a file of this length, takes more memory than such a file may.
#[track_caller]
pub(crate) fn bounded<T>(file_len: usize, read: impl FnOnce() -> T) -> T {
    IN_USE.set(0);
    PEAK.set(0);
    let result = read();
    let (peak, limit) = (PEAK.get() as usize, FIXED + PER_BYTE * file_len);
    assert!(peak <= limit, "memory: expected at most {limit} bytes for a file of {file_len}, found {peak}");
    result
}

#[test]
fn memory_is_measured() {
    let failed = std::panic::catch_unwind(|| bounded(0, || drop(std::hint::black_box(vec![1u8; FIXED + 1]))));
    assert!(failed.is_err());
    bounded(0, || drop(std::hint::black_box(vec![1u8; FIXED / 2])));
}
