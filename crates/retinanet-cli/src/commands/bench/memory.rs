//! The memory of this process, as the system accounts it.

const MIB: f64 = (1u64 << 20) as f64;

/// Most memory that was resident at once since the process started, in MiB; none where the system does not say.
pub(super) fn peak_rss_mib() -> Option<f64> {
    if let Ok(status) = std::fs::read_to_string("/proc/self/status") {
        return high_water_mark(&status);
    }
    resource_usage()
}

/// `VmHWM:     1234 kB` of Linux's `/proc/self/status`.
fn high_water_mark(status: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024.0 / MIB)
}

#[cfg(unix)]
fn resource_usage() -> Option<f64> {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: the pointer is to a `rusage` of our own, which the call fills.
    let status = unsafe { libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr()) };
    if status != 0 {
        return None;
    }
    // SAFETY: zeroed before, and the call has succeeded.
    let usage = unsafe { usage.assume_init() };
    // Apple counts bytes, all others kibibytes.
    let unit = if cfg!(target_vendor = "apple") { 1.0 } else { 1024.0 };
    Some(usage.ru_maxrss as f64 * unit / MIB)
}

#[cfg(not(unix))]
fn resource_usage() -> Option<f64> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_the_status_file() {
        assert_eq!(high_water_mark("VmPeak:\t 9 kB\nVmHWM:\t    2048 kB\nVmRSS:\t1 kB\n"), Some(2.0));
        assert_eq!(high_water_mark("VmRSS:\t1 kB\n"), None);
    }

    #[test]
    #[cfg(unix)]
    fn touched_memory_is_counted() {
        let before = peak_rss_mib().expect("unix says");
        let block = std::hint::black_box(vec![1u8; 64 << 20]);
        let after = peak_rss_mib().expect("unix says");
        assert!(after >= 64.0 && after >= before, "{before} MiB, then {after} MiB with {} bytes", block.len());
    }
}
