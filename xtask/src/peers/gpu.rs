//! The GPU that is measured on, as nvidia-smi shows it.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;

use anyhow::{Context as _, Result, bail};

use crate::workspace::printed;

/// The first GPU.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Gpu {
    pub(crate) name: String,
    pub(crate) driver: String,
    /// Such as `81559 MiB`.
    memory: String,
    /// The highest of the multiprocessors and of the memory, such as `1980 MHz`.
    clocks: [String; 2],
    power_limit: String,
}

const FIELDS: &str = "name,driver_version,memory.total,clocks.max.sm,clocks.max.mem,power.limit";

impl Gpu {
    /// # Errors
    /// There is none, or nothing that shows it.
    pub(crate) fn find() -> Result<Self> {
        let mut command = Command::new("nvidia-smi");
        command.args([&format!("--query-gpu={FIELDS}"), "--format=csv,noheader"]);
        let text = printed(command)
            .context("--cuda: expected an NVIDIA GPU and its driver, found no nvidia-smi that shows one")?;
        Self::parse(&text)
    }

    fn parse(text: &str) -> Result<Self> {
        let fields: Vec<&str> = text.lines().next().unwrap_or_default().split(',').map(str::trim).collect();
        let [name, driver, memory, clock, memory_clock, power_limit] = fields[..] else {
            bail!("nvidia-smi: expected {FIELDS}, found {text:?}");
        };
        let clocks = [clock, memory_clock].map(str::to_string);
        let [name, driver, memory, power_limit] = [name, driver, memory, power_limit].map(str::to_string);
        Ok(Self { name, driver, memory, clocks, power_limit })
    }

    /// One line for the head of the table.
    pub(crate) fn description(&self) -> String {
        let Self { name, driver, memory, clocks: [clock, memory_clock], power_limit } = self;
        format!("{name}, {memory}, driver {driver}, up to {clock}, memory {memory_clock}, {power_limit}")
    }
}

/// Looks at the clocks while something runs.
pub(crate) struct Clocks {
    child: Child,
    lines: JoinHandle<Vec<String>>,
}

impl Clocks {
    pub(crate) fn watch() -> Result<Self> {
        let mut command = Command::new("nvidia-smi");
        command.args([
            "--query-gpu=clocks.sm,clocks.mem,utilization.gpu",
            "--format=csv,noheader,nounits",
            "--loop-ms=200",
        ]);
        let mut child =
            command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().context("nvidia-smi: could not start")?;
        let Some(output) = child.stdout.take() else { bail!("nvidia-smi: expected a pipe, found none") };
        let lines = std::thread::spawn(move || BufReader::new(output).lines().map_while(Result::ok).collect());
        Ok(Self { child, lines })
    }

    /// What they were, in one line.
    pub(crate) fn finish(mut self) -> String {
        // It may have ended already.
        _ = self.child.kill();
        _ = self.child.wait();
        summary(&self.lines.join().unwrap_or_default())
    }
}

/// Of lines `clock, memory clock, busy`: the range of each while the GPU was busy.
fn summary(lines: &[String]) -> String {
    let samples = lines.iter().filter_map(|line| {
        let numbers: Vec<u32> = line.split(',').map_while(|field| field.trim().parse().ok()).collect();
        <[u32; 3]>::try_from(numbers).ok()
    });
    let busy: Vec<[u32; 3]> = samples.filter(|[.., busy]| *busy > 0).collect();
    let range = |field: usize| {
        let values = || busy.iter().map(|sample| sample[field]);
        Some(format!("{} to {} MHz", values().min()?, values().max()?))
    };
    match (range(0), range(1)) {
        (Some(clock), Some(memory)) => {
            format!("clocks while it ran: {clock}, memory {memory}, in {} samples", busy.len())
        }
        _ => "clocks while it ran: the GPU was not seen busy".to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nvidia_smi_says_is_read() -> Result<()> {
        let gpu =
            Gpu::parse("NVIDIA H100 80GB HBM3, 580.65.06, 81559 MiB, 1980 MHz, 2619 MHz, 700.00 W\nanother, line\n")?;
        let expected = "NVIDIA H100 80GB HBM3, 81559 MiB, driver 580.65.06, up to 1980 MHz, memory 2619 MHz, 700.00 W";
        assert_eq!(gpu.description(), expected);
        assert!(
            Gpu::parse("No devices were found").is_err_and(|error| error.to_string().contains("No devices were found"))
        );
        Ok(())
    }

    #[test]
    fn clocks_are_those_of_a_busy_gpu() {
        let lines = ["210, 405, 0", "1980, 2619, 97", "1755, 2619, 100", "[N/A], 2619, 100", ""].map(str::to_string);
        assert_eq!(summary(&lines), "clocks while it ran: 1755 to 1980 MHz, memory 2619 to 2619 MHz, in 2 samples");
        assert_eq!(summary(&lines[..1]), "clocks while it ran: the GPU was not seen busy");
    }
}
