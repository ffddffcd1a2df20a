//! Dividing work among threads: numbered tasks, each with a part of the caller's workspace.

use rayon::prelude::*;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The workspace for `slot_len` numbers in each of the threads at work.
pub(crate) fn slots_len(num_tasks: usize, slot_len: usize) -> usize {
    num_tasks.min(rayon::current_num_threads()).max(1) * slot_len.max(1)
}

/// Runs tasks 0..`num_tasks`, each with exclusive use of `slot_len` numbers of the workspace, contents unspecified.
///
/// Which thread runs a task, and on which part of the workspace, is open; what a task does must not depend on it.
pub(crate) fn for_each_task<T: Send>(
    num_tasks: usize,
    workspace: &mut [T],
    slot_len: usize,
    task: impl Fn(usize, &mut [T]) + Sync,
) {
    let slot_len = slot_len.max(1);
    let num_slots = (workspace.len() / slot_len).min(num_tasks).min(rayon::current_num_threads());
    if num_slots <= 1 {
        for task_idx in 0..num_tasks {
            task(task_idx, &mut workspace[..slot_len]);
        }
        return;
    }
    let next = AtomicUsize::new(0);
    workspace[..num_slots * slot_len].par_chunks_exact_mut(slot_len).with_max_len(1).for_each(|slot| {
        loop {
            let task_idx = next.fetch_add(1, Ordering::Relaxed);
            if task_idx >= num_tasks {
                break;
            }
            task(task_idx, slot);
        }
    });
}

/// Runs tasks 0..`num_tasks`, which need no workspace.
pub(crate) fn for_each(num_tasks: usize, task: impl Fn(usize) + Send + Sync) {
    if num_tasks <= 1 {
        (0..num_tasks).for_each(task);
    } else {
        (0..num_tasks).into_par_iter().with_max_len(1).for_each(task);
    }
}

/// The part `idx` of `count` nearly equal parts of `0..len`: start and end.
pub(crate) fn split(len: usize, count: usize, idx: usize) -> (usize, usize) {
    let (size, extra) = (len / count, len % count);
    let start = idx * size + idx.min(extra);
    (start, start + size + usize::from(idx < extra))
}

/// A mutable slice that several tasks write, each to places of its own.
pub(crate) struct SharedMut<'a, T> {
    pointer: *mut T,
    len: usize,
    lifetime: PhantomData<&'a mut [T]>,
}

// SAFETY: it is a mutable slice; `slice` leaves it to the caller that no two tasks share a place.
unsafe impl<T: Send> Send for SharedMut<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for SharedMut<'_, T> {}

impl<'a, T> SharedMut<'a, T> {
    pub(crate) fn new(slice: &'a mut [T]) -> Self {
        Self { pointer: slice.as_mut_ptr(), len: slice.len(), lifetime: PhantomData }
    }

    /// The numbers `start..start + len`.
    ///
    /// # Safety
    /// No other task reads or writes them while the slice lives.
    #[expect(clippy::mut_from_ref, reason = "the caller vouches that no two slices overlap")]
    pub(crate) unsafe fn slice(&self, start: usize, len: usize) -> &mut [T] {
        assert!(start <= self.len && len <= self.len - start, "a task's range lies within the output");
        // SAFETY: within the slice, and exclusive as the caller vouches.
        unsafe { std::slice::from_raw_parts_mut(self.pointer.add(start), len) }
    }

    /// A pointer to number `start`, for strided writes.
    pub(crate) fn pointer(&self, start: usize) -> *mut T {
        assert!(start <= self.len, "a task's start lies within the output");
        // SAFETY: within the slice or one past it.
        unsafe { self.pointer.add(start) }
    }
}
