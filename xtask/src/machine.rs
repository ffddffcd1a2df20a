//! What a bench ran on.

use std::path::Path;
use std::process::Command;
use std::thread::available_parallelism;

use crate::workspace::printed;

const UNKNOWN: &str = "unknown";

/// The machine, the compiler and the state of the sources.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    pub(crate) processor: String,
    /// Threads that can run at once, as the system says.
    pub(crate) cores: usize,
    /// Such as `15.6 GiB`.
    pub(crate) memory: String,
    pub(crate) system: String,
    pub(crate) compiler: String,
    /// Short hash, with `-modified` where files differ from it.
    pub(crate) commit: String,
}

impl Machine {
    pub(crate) fn here(root: &Path) -> Self {
        let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        Self {
            processor: processor().unwrap_or_else(|| UNKNOWN.to_string()),
            cores: available_parallelism().map_or(1, usize::from),
            memory: memory_bytes().map_or_else(|| UNKNOWN.to_string(), gibibytes),
            system: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
            compiler: printed_by(rustc, &["--version"]).unwrap_or_else(|| UNKNOWN.to_string()),
            commit: commit(root).unwrap_or_else(|| UNKNOWN.to_string()),
        }
    }

    /// For the name of a folder: `amd-epyc-7b13-16c`.
    pub(crate) fn slug(&self) -> String {
        format!("{}-{}c", slug(&self.processor), self.cores)
    }
}

fn printed_by(program: impl AsRef<std::ffi::OsStr>, arguments: &[&str]) -> Option<String> {
    let mut command = Command::new(program);
    command.args(arguments);
    printed(command)
}

fn processor() -> Option<String> {
    if let Ok(text) = std::fs::read_to_string("/proc/cpuinfo") {
        return field(&text, "model name").map(str::to_string);
    }
    printed_by("sysctl", &["-n", "machdep.cpu.brand_string"]).or_else(|| std::env::var("PROCESSOR_IDENTIFIER").ok())
}

fn memory_bytes() -> Option<u64> {
    if let Ok(text) = std::fs::read_to_string("/proc/meminfo") {
        let kibibytes = field(&text, "MemTotal")?.strip_suffix("kB")?.trim();
        return Some(kibibytes.parse::<u64>().ok()? * 1024);
    }
    printed_by("sysctl", &["-n", "hw.memsize"])?.parse().ok()
}

fn commit(root: &Path) -> Option<String> {
    let git = |arguments: &[&str]| {
        let mut command = Command::new("git");
        command.current_dir(root).args(arguments);
        printed(command)
    };
    let hash = git(&["rev-parse", "--short=12", "HEAD"])?;
    // Results of earlier runs are no part of what is measured.
    let is_clean = git(&["status", "--porcelain", "--", ":(exclude)benches/results"])?.is_empty();
    Some(if is_clean { hash } else { format!("{hash}-modified") })
}

/// The value of the first `name : value` line.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let pairs = text.lines().filter_map(|line| line.split_once(':'));
    pairs.map(|(key, value)| (key.trim(), value.trim())).find(|(key, _)| *key == name).map(|(_, value)| value)
}

fn gibibytes(bytes: u64) -> String {
    format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30))
}

/// Lower case letters and digits, with one hyphen for each run of anything else; marks of trade left out.
pub(crate) fn slug(name: &str) -> String {
    let name = name.to_lowercase().replace("(r)", " ").replace("(tm)", " ");
    let words = name.split(|letter: char| !letter.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let slug = words.collect::<Vec<_>>().join("-");
    if slug.is_empty() { UNKNOWN.to_string() } else { slug }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slugs() {
        assert_eq!(slug("AMD EPYC 7B13"), "amd-epyc-7b13");
        assert_eq!(slug("Intel(R) Core(TM) i7-8650U CPU @ 1.90GHz"), "intel-core-i7-8650u-cpu-1-90ghz");
        assert_eq!(slug("../../"), "unknown");
    }

    #[test]
    fn fields_of_proc_files() {
        let text = "processor\t: 0\nmodel name\t: A: B\nmodel name\t: C\n";
        assert_eq!(field(text, "model name"), Some("A: B"));
        assert_eq!(field(text, "flags"), None);
        assert_eq!(gibibytes(16 * 1024 * 1024 * 1024), "16.0 GiB");
    }
}
