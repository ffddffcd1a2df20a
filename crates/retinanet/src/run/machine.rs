//! The machine that a run is made on, and the memory that it takes.

use serde::{Deserialize, Serialize};
use sysinfo::{CpuRefreshKind, MemoryRefreshKind, ProcessRefreshKind, ProcessesToUpdate, RefreshKind, System};

/// A machine, as far as its system tells.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Machine {
    /// The processor's name.
    pub processor: Option<String>,
    /// Cores that can run at once.
    pub cores: usize,
    /// Threads that the network computes with.
    pub threads: usize,
    /// Memory in bytes.
    pub memory_bytes: Option<u64>,
    /// Name and version of the system.
    pub os: String,
    /// Such as `x86_64`.
    pub architecture: String,
}

impl Machine {
    /// This machine, with the threads of the pool that asks.
    pub fn detect() -> Self {
        let kinds = RefreshKind::nothing()
            .with_cpu(CpuRefreshKind::nothing())
            .with_memory(MemoryRefreshKind::nothing().with_ram());
        let system = System::new_with_specifics(kinds);
        let processor = system.cpus().first().map(|cpu| cpu.brand().trim().to_owned());
        Self {
            processor: processor.filter(|name| !name.is_empty()),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            threads: rayon::current_num_threads(),
            memory_bytes: Some(system.total_memory()).filter(|&bytes| bytes > 0),
            os: System::long_os_version().unwrap_or_else(|| std::env::consts::OS.to_owned()),
            architecture: std::env::consts::ARCH.to_owned(),
        }
    }
}

/// Memory of this process that is resident now, in bytes; none where the system does not say.
pub fn resident_bytes() -> Option<u64> {
    let pid = sysinfo::get_current_pid().ok()?;
    let mut system = System::new();
    let kind = ProcessRefreshKind::nothing().with_memory();
    system.refresh_processes_specifics(ProcessesToUpdate::Some(&[pid]), false, kind);
    system.process(pid).map(sysinfo::Process::memory).filter(|&bytes| bytes > 0)
}

/// Most memory that was resident at once since the process started, in bytes; none where the system does not say.
pub fn peak_resident_bytes() -> Option<u64> {
    match std::fs::read_to_string("/proc/self/status") {
        Ok(status) => high_water_mark(&status),
        Err(_) => resource_usage(),
    }
}

/// `VmHWM:     1234 kB` of Linux's `/proc/self/status`.
fn high_water_mark(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(unix)]
fn resource_usage() -> Option<u64> {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: the pointer is to a `rusage` of our own, which the call fills.
    let status = unsafe { libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr()) };
    if status != 0 {
        return None;
    }
    // SAFETY: zeroed before, and the call has succeeded.
    let usage = unsafe { usage.assume_init() };
    // Apple counts bytes, all others kibibytes.
    let unit = if cfg!(target_vendor = "apple") { 1 } else { 1024 };
    Some(u64::try_from(usage.ru_maxrss).ok()? * unit)
}

#[cfg(not(unix))]
fn resource_usage() -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_the_status_file() {
        assert_eq!(high_water_mark("VmPeak:\t 9 kB\nVmHWM:\t    2048 kB\nVmRSS:\t1 kB\n"), Some(2 << 20));
        assert_eq!(high_water_mark("VmRSS:\t1 kB\n"), None);
    }

    #[test]
    #[cfg(unix)]
    fn touched_memory_is_counted() {
        const BLOCK: u64 = 64 << 20;
        let block = std::hint::black_box(vec![1u8; BLOCK as usize]);
        let (resident, peak) = (resident_bytes().expect("unix says"), peak_resident_bytes().expect("unix says"));
        assert!(resident >= BLOCK && peak >= BLOCK, "{resident} and {peak} with {} bytes", block.len());
        let usage = resource_usage().expect("unix says");
        assert!(usage >= BLOCK, "{usage}");
    }

    #[test]
    fn a_machine_has_cores_and_a_system() {
        let machine = Machine::detect();
        assert!(machine.cores > 0 && machine.threads > 0 && !machine.os.is_empty(), "{machine:?}");
    }
}
