//! A session allocates nothing for the second image of a size.

use retinanet_ops::kernels::cpu::inference::Precision;
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};

#[path = "plan/network.rs"]
#[allow(dead_code, reason = "shared with the other tests of plans")]
mod network;

/// The system's allocator, counting.
struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// Whether the thread is one of a session's; the test's own harness takes memory whenever it likes.
    static IS_COUNTED: Cell<bool> = const { Cell::new(false) };
}

fn count() {
    ALLOCATIONS.fetch_add(usize::from(IS_COUNTED.get()), Ordering::Relaxed);
}

// SAFETY: all is passed on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as the caller vouches.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as the caller vouches.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        count();
        // SAFETY: as the caller vouches.
        unsafe { System.realloc(pointer, layout, new_size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as the caller vouches.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// One test, as the count is the process's.
#[test]
fn the_second_image_of_a_size_takes_no_memory() {
    let sizes: [&[(usize, usize)]; 3] = [&[(90, 70)], &[(70, 90), (64, 64)], &[(33, 41)]];
    for num_threads in [1, 2] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(num_threads);
        let pool = pool.start_handler(|_| IS_COUNTED.set(true)).build().expect("a pool");
        // A worker takes memory of its own when it looks for its first task.
        pool.broadcast(|_| ());
        for group_norm in [false, true] {
            let network = network::Network::new(group_norm);
            let table = network.quantization(|name| name != "box.0");
            for precision in [Precision::F32, Precision::Bf16, Precision::Int8] {
                let plan = network.plan(precision, Some(&table));
                let counts = pool.install(|| {
                    let mut session = plan.session();
                    let mut counts = Vec::with_capacity(3);
                    for _ in 0..3 {
                        let before = ALLOCATIONS.load(Ordering::Relaxed);
                        for sizes in sizes {
                            session.resize(sizes).expect("a layout");
                            (0..sizes.len()).for_each(|image| session.input_mut(image).fill(0.25));
                            session.run_first();
                            session.run_rest();
                            session.clear_wanted();
                            for location in [0, 7, 30] {
                                session.wanted_mut(0, 0)[location] = 1;
                            }
                            session.run_rest_where_wanted();
                        }
                        counts.push(ALLOCATIONS.load(Ordering::Relaxed) - before);
                    }
                    counts
                });
                assert!(counts[0] > 0, "the counter counts");
                assert_eq!(counts[1..], [0, 0], "{precision:?}, {num_threads} threads, group norm {group_norm}");
            }
        }
    }
}
