//! Counts what a thread allocates, so that tests can bound it. Not part of the library: its unit tests and the integration tests
//! (`tests/it`) each include this file.
#![allow(dead_code, reason = "neither uses all of it")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

thread_local! {
    /// Bytes that this thread holds; negative when it freed what others allocated.
    static HELD: Cell<i64> = const { Cell::new(0) };
    static PEAK: Cell<i64> = const { Cell::new(0) };
    /// How often it asked for memory.
    static ASKED: Cell<u64> = const { Cell::new(0) };
}

fn count(change: i64) {
    if change > 0 {
        let _ = ASKED.try_with(|asked| asked.set(asked.get() + 1));
    }
    // A thread that ends may free memory after its counters are gone.
    let _ = HELD.try_with(|held| {
        held.set(held.get() + change);
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(held.get())));
    });
}

#[expect(unsafe_code, reason = "an allocator cannot be written otherwise; every call goes to the system's unchanged")]
// SAFETY: all four functions pass on what they are given to `System`, which keeps the contract.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as i64);
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as i64);
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count(-(layout.size() as i64));
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // Both are there while the content is moved.
        count(size as i64);
        count(-(layout.size() as i64));
        unsafe { System.realloc(at, layout, size) }
    }
}

/// Runs `f` and returns what it gave, and the most bytes this thread held meanwhile beyond those it held before. What other threads
/// allocate is not counted.
pub(crate) fn peak<T>(f: impl FnOnce() -> T) -> (T, usize) {
    let before = HELD.get();
    PEAK.set(before);
    let result = f();
    (result, usize::try_from(PEAK.get() - before).unwrap_or(0))
}

/// Runs `f` and returns what it gave, and how often this thread asked for memory meanwhile.
pub(crate) fn allocations<T>(f: impl FnOnce() -> T) -> (T, u64) {
    let before = ASKED.get();
    let result = f();
    (result, ASKED.get() - before)
}

#[test]
fn each_request_is_counted() {
    let (kept, asked) = allocations(|| (Box::new(1u64), vec![0u8; 100]));
    assert_eq!((asked, allocations(|| drop(kept)).1), (2, 0));
}

#[test]
fn the_largest_amount_held_at_once_is_counted() {
    let (kept, bytes) = peak(|| {
        drop(vec![0u8; 3_000_000]);
        vec![0u8; 1_000_000]
    });
    assert!((3_000_000..3_100_000).contains(&bytes), "{bytes}");
    let (_, bytes) = peak(|| drop(kept));
    assert!(bytes < 10_000, "{bytes}");
}
