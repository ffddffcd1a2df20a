//! Criterion's estimates, read from its folder and written as two small files that can be committed.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::machine::Machine;

/// One bench, with times in nanoseconds an iteration.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Measurement {
    pub(crate) id: String,
    pub(crate) median: f64,
    /// Ends of the confidence interval of the median, 95 % unless the suite says otherwise.
    pub(crate) low: f64,
    pub(crate) high: f64,
    /// What one iteration works through.
    pub(crate) throughput: Option<Throughput>,
    pub(crate) commit: String,
    pub(crate) is_quick: bool,
}

/// How much of what.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Throughput {
    pub(crate) amount: f64,
    /// As criterion calls it: `Elements`, `Bytes`.
    pub(crate) unit: String,
}

/// The estimates of criterion's last runs, each with the time it was written.
pub(crate) type Estimates = HashMap<PathBuf, SystemTime>;

/// All estimates under criterion's folder; none where there is no such folder.
pub(crate) fn estimates(folder: &Path) -> Estimates {
    let mut found = Estimates::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries.flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push(entry.path());
            }
        }
        // Beside `new` there is `base`, what it was compared with.
        let path = folder.join("estimates.json");
        let changed = fs::metadata(&path).and_then(|metadata| metadata.modified());
        if let (true, Ok(changed)) = (folder.ends_with("new"), changed) {
            found.insert(path, changed);
        }
    }
    found
}

/// The measurements that were written since the estimates were listed.
pub(crate) fn collect(folder: &Path, before: &Estimates, commit: &str, is_quick: bool) -> Result<Vec<Measurement>> {
    let now = estimates(folder);
    let written = now.iter().filter(|(path, changed)| before.get(*path) != Some(changed));
    let read = |path: &PathBuf| {
        let benchmark = read_json(&path.with_file_name("benchmark.json"))?;
        let measurement = from_criterion(&benchmark, &read_json(path)?)
            .with_context(|| format!("{}: not as criterion writes it", path.display()))?;
        Ok(Measurement { commit: commit.to_string(), is_quick, ..measurement })
    };
    written.map(|(path, _)| read(path)).collect()
}

fn read_json(path: &Path) -> Result<Value> {
    let text = fs::read_to_string(path).with_context(|| format!("{}: could not read", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{}: not JSON", path.display()))
}

fn from_criterion(benchmark: &Value, estimates: &Value) -> Option<Measurement> {
    let median = &estimates["median"];
    let interval = &median["confidence_interval"];
    Some(Measurement {
        id: benchmark["full_id"].as_str()?.to_string(),
        median: median["point_estimate"].as_f64()?,
        low: interval["lower_bound"].as_f64()?,
        high: interval["upper_bound"].as_f64()?,
        throughput: throughput(&benchmark["throughput"]),
        ..Measurement::default()
    })
}

/// `{"Elements": 5}`; `None` where a suite gave none, or more than one number.
fn throughput(value: &Value) -> Option<Throughput> {
    let (unit, amount) = value.as_object()?.iter().next()?;
    Some(Throughput { amount: amount.as_f64()?, unit: unit.clone() })
}

/// The measurements in a results folder; none where there is no such folder yet.
pub(crate) fn read(folder: &Path) -> Result<Vec<Measurement>> {
    let path = folder.join("results.json");
    if !path.exists() {
        return Ok(Vec::new());
    }
    let document = read_json(&path)?;
    let measurements = document["measurements"].as_array();
    let parsed = measurements.and_then(|list| list.iter().map(from_json).collect::<Option<Vec<_>>>());
    parsed.with_context(|| format!("{}: not as this command writes it", path.display()))
}

fn from_json(value: &Value) -> Option<Measurement> {
    let throughput = value["throughput"].as_object().and_then(|throughput| {
        let amount = throughput.get("amount")?.as_f64()?;
        Some(Throughput { amount, unit: throughput.get("unit")?.as_str()?.to_string() })
    });
    Some(Measurement {
        id: value["id"].as_str()?.to_string(),
        median: value["median_ns"].as_f64()?,
        low: value["low_ns"].as_f64()?,
        high: value["high_ns"].as_f64()?,
        throughput,
        commit: value["commit"].as_str()?.to_string(),
        is_quick: value["quick"].as_bool()?,
    })
}

fn to_json(measurement: &Measurement) -> Value {
    let throughput = measurement.throughput.as_ref();
    json!({
        "id": measurement.id,
        "median_ns": measurement.median,
        "low_ns": measurement.low,
        "high_ns": measurement.high,
        "throughput": throughput.map(|throughput| json!({ "amount": throughput.amount, "unit": throughput.unit })),
        "commit": measurement.commit,
        "quick": measurement.is_quick,
    })
}

/// Writes results.json and results.md, each whole or not at all.
pub(crate) fn write(folder: &Path, machine: &Machine, date: &str, measurements: &[Measurement]) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("{}: could not create", folder.display()))?;
    let document = json!({
        "date": date,
        "machine": {
            "processor": machine.processor,
            "cores": machine.cores,
            "memory": machine.memory,
            "system": machine.system,
            "compiler": machine.compiler,
        },
        "measurements": measurements.iter().map(to_json).collect::<Vec<_>>(),
    });
    write_whole(&folder.join("results.json"), &format!("{document:#}\n"))?;
    write_whole(&folder.join("results.md"), &markdown(machine, date, measurements))
}

/// Writes a file whole or not at all.
pub(crate) fn write_whole(path: &Path, text: &str) -> Result<()> {
    let beside = path.with_extension("partial");
    let written = fs::write(&beside, text).and_then(|()| fs::rename(&beside, path));
    if written.is_err() {
        // Nothing half written stays; the first error is the one to tell.
        _ = fs::remove_file(&beside);
    }
    written.with_context(|| format!("{}: could not write", path.display()))
}

fn markdown(machine: &Machine, date: &str, measurements: &[Measurement]) -> String {
    let mut text = format!(
        "# Benches of {date}\n\n{}, {} cores, {} memory, {}, {}\n\n\
         Median time of an iteration with its confidence interval.\n\n\
         | id | median | low | high | throughput | commit |\n| :-- | --: | --: | --: | --: | :-- |\n",
        machine.processor, machine.cores, machine.memory, machine.system, machine.compiler,
    );
    for measurement in measurements {
        let Measurement { id, median, low, high, throughput, commit, is_quick } = measurement;
        let rate = throughput.as_ref().map_or_else(String::new, |throughput| rate(throughput, *median));
        let quick = if *is_quick { " (quick)" } else { "" };
        let id = id.replace('|', "\\|");
        let [median, low, high] = [*median, *low, *high].map(time);
        text.push_str(&format!("| `{id}` | {median} | {low} | {high} | {rate} | {commit}{quick} |\n"));
    }
    text
}

/// Nanoseconds with three or more digits and the unit that fits.
fn time(nanoseconds: f64) -> String {
    scaled(nanoseconds, 1000.0, &["ns", "µs", "ms"]).unwrap_or_else(|| format!("{:.3} s", nanoseconds / 1e9))
}

fn rate(throughput: &Throughput, nanoseconds: f64) -> String {
    let a_second = throughput.amount / nanoseconds * 1e9;
    match throughput.unit.as_str() {
        "Bytes" | "BytesDecimal" => scaled(a_second, 1000.0, &["B/s", "kB/s", "MB/s", "GB/s"]),
        _ => scaled(a_second, 1000.0, &["/s", "k/s", "M/s", "G/s"]),
    }
    .unwrap_or_else(|| format!("{a_second:.3e} /s"))
}

/// A number divided by the base until it is below it; `None` where the units run out.
fn scaled(number: f64, base: f64, units: &[&str]) -> Option<String> {
    let mut number = number;
    for unit in units {
        if number < base {
            let decimals = if number < 10.0 {
                2
            } else if number < 100.0 {
                1
            } else {
                0
            };
            return Some(format!("{number:.decimals$} {unit}"));
        }
        number /= base;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder of this process, removed at the end.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("xtask-{name}-{}", std::process::id()));
            _ = fs::remove_dir_all(&path);
            fs::create_dir_all(&path).expect("a temporary folder");
            Self(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            _ = fs::remove_dir_all(&self.0);
        }
    }

    fn write_criterion(folder: &Path, place: &str, id: &str, median: f64) {
        let folder = folder.join(place);
        fs::create_dir_all(&folder).expect("folder");
        let benchmark = json!({ "group_id": "g", "full_id": id, "throughput": { "Elements": 500 } });
        let estimates = json!({ "median": {
            "confidence_interval": { "confidence_level": 0.95, "lower_bound": median - 1.0, "upper_bound": median + 1.0 },
            "point_estimate": median,
            "standard_error": 0.1,
        } });
        fs::write(folder.join("benchmark.json"), benchmark.to_string()).expect("written");
        fs::write(folder.join("estimates.json"), estimates.to_string()).expect("written");
    }

    fn machine() -> Machine {
        Machine {
            processor: "Some CPU".to_string(),
            cores: 2,
            memory: "4.0 GiB".to_string(),
            system: "linux x86_64".to_string(),
            compiler: "rustc 1.0".to_string(),
            commit: "abc".to_string(),
        }
    }

    #[test]
    fn estimates_become_two_files_and_are_read_again() {
        let folder = Folder::new("estimates");
        let criterion = folder.0.join("criterion");
        write_criterion(&criterion, "cpu_focal/64/new", "cpu/focal/value/64/f32", 2_500.0);
        // What it was compared with is not a measurement of now.
        write_criterion(&criterion, "cpu_focal/64/base", "cpu/focal/value/64/f32", 9_000.0);
        let measured = collect(&criterion, &Estimates::new(), "abc", true).expect("readable");
        assert_eq!(measured.len(), 1);
        assert_eq!((measured[0].median, measured[0].low, measured[0].high), (2_500.0, 2_499.0, 2_501.0));

        let results = folder.0.join("results");
        write(&results, &machine(), "2026-01-31", &measured).expect("written");
        assert_eq!(read(&results).expect("readable"), measured);
        let table = fs::read_to_string(results.join("results.md")).expect("written");
        let row = "| `cpu/focal/value/64/f32` | 2.50 µs | 2.50 µs | 2.50 µs | 200 M/s | abc (quick) |";
        assert!(table.contains(row), "{table}");
        let names: Vec<_> = fs::read_dir(&results).expect("listed").flatten().map(|entry| entry.file_name()).collect();
        assert_eq!(names.len(), 2, "{names:?}");
    }

    #[test]
    fn only_what_was_written_since_is_collected() {
        let folder = Folder::new("since");
        write_criterion(&folder.0, "old/new", "old", 1.0);
        write_criterion(&folder.0, "again/new", "again", 1.0);
        let mut before = estimates(&folder.0);
        before.insert(folder.0.join("again/new/estimates.json"), SystemTime::UNIX_EPOCH);
        write_criterion(&folder.0, "first/new", "first", 1.0);
        let mut measured = collect(&folder.0, &before, "abc", false).expect("readable");
        measured.sort_by(|a, b| a.id.cmp(&b.id));
        let ids: Vec<&str> = measured.iter().map(|measurement| measurement.id.as_str()).collect();
        assert_eq!(ids, ["again", "first"]);
        assert_eq!(collect(&folder.0.join("none"), &before, "abc", false).expect("readable"), []);
        assert_eq!(read(&folder.0).expect("nothing yet"), []);
    }

    #[test]
    fn times_and_rates() {
        assert_eq!([0.5, 12.34, 999.0, 1.0e6, 2.5e9].map(time), ["0.50 ns", "12.3 ns", "999 ns", "1.00 ms", "2.500 s"]);
        let bytes = Throughput { amount: 64.0, unit: "Bytes".to_string() };
        assert_eq!(rate(&bytes, 2.0), "32.0 GB/s");
    }
}
