//! Advice to the operating system about large blocks of memory.

/// Bytes of a large page.
#[cfg(target_os = "linux")]
const LARGE_PAGE: usize = 2 << 20;

/// Asks for large pages behind numbers that nobody has touched yet: a gradient of a hundred megabytes is then a few dozen
/// page faults instead of tens of thousands, which would take longer than the loss.
pub(super) fn ask_for_large_pages<T>(numbers: &mut [T]) {
    #[cfg(target_os = "linux")]
    {
        let start = numbers.as_ptr().cast::<u8>().align_offset(LARGE_PAGE);
        let whole = size_of_val(numbers).saturating_sub(start) / LARGE_PAGE * LARGE_PAGE;
        if whole > 0 {
            // SAFETY: whole pages within the slice; the advice changes no contents, and where the system does not take it,
            // all stays as it was.
            unsafe {
                libc::madvise(numbers.as_mut_ptr().cast::<u8>().add(start).cast(), whole, libc::MADV_HUGEPAGE);
            }
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = numbers;
}
