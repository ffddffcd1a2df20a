//! `peers.json` and `peers.md`: the sections of a day on one machine.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::{Map, Value, json};

use super::gpu::Gpu;
use super::sections;
use crate::machine::Machine;
use crate::results::write_whole;

/// All sections so far, each as [`super::section::Section::finish`] made it.
pub(crate) struct Document {
    date: String,
    machine: Machine,
    /// What the GPU is, if one is measured.
    gpu: Option<String>,
    sections: Map<String, Value>,
}

impl Document {
    /// The day's document, with the sections that it has if they are to be kept.
    pub(crate) fn open(folder: &Path, machine: &Machine, gpu: Option<&Gpu>, date: &str, keeps: bool) -> Result<Self> {
        let path = folder.join("peers.json");
        let mut sections = Map::new();
        if keeps && path.exists() {
            let text = fs::read_to_string(&path).with_context(|| format!("{}: could not read", path.display()))?;
            let document: Value =
                serde_json::from_str(&text).with_context(|| format!("{}: not JSON", path.display()))?;
            sections = document["sections"].as_object().cloned().unwrap_or_default();
        }
        let (date, machine, gpu) = (date.to_string(), machine.clone(), gpu.map(Gpu::description));
        Ok(Self { date, machine, gpu, sections })
    }

    pub(crate) fn insert(&mut self, name: &str, section: Value) {
        self.sections.insert(name.to_string(), section);
    }

    /// Whether the section is there, of this commit, measured in full and without failures.
    pub(crate) fn is_complete(&self, name: &str, commit: &str) -> bool {
        self.sections.get(name).is_some_and(|section| {
            section["commit"] == commit && section["quick"] == false && list(&section["failures"]).is_empty()
        })
    }

    /// Everything that failed, with its section.
    pub(crate) fn failures(&self) -> Vec<String> {
        let of = |(name, section): (&String, &Value)| {
            texts(&section["failures"]).map(|failure| format!("{name}: {failure}")).collect::<Vec<_>>()
        };
        self.sections.iter().flat_map(of).collect()
    }

    pub(crate) fn write(&self, folder: &Path) -> Result<()> {
        fs::create_dir_all(folder).with_context(|| format!("{}: could not create", folder.display()))?;
        let Machine { processor, cores, memory, system, compiler, .. } = &self.machine;
        let document = json!({
            "date": self.date,
            "machine": { "processor": processor, "cores": cores, "memory": memory, "system": system, "compiler": compiler },
            "gpu": self.gpu,
            "sections": self.sections,
        });
        write_whole(&folder.join("peers.json"), &format!("{document:#}\n"))?;
        write_whole(&folder.join("peers.md"), &self.markdown())
    }

    fn markdown(&self) -> String {
        let Machine { processor, cores, memory, system, compiler, .. } = &self.machine;
        let (gpu, threads) = match &self.gpu {
            Some(gpu) => (format!("{gpu}\n\n"), "All"),
            None => (String::new(), "Two threads each unless said otherwise; all"),
        };
        let mut text = format!(
            "# Ours and the peers, {}\n\n{gpu}{processor}, {cores} cores, {memory} memory, {system}, {compiler}\n\n\
             {threads} sides measured in turn in one run; the best of all their runs. \
             `python` is that of the peers' environment, `$CACHE` a folder for exported networks, `$DATA` the data.\n",
            self.date
        );
        for name in sections::names().filter(|name| self.sections.contains_key(*name)) {
            text.push_str(&format!("\n{}", self.section_text(name)));
        }
        text
    }

    /// One section in markdown.
    pub(crate) fn section_text(&self, name: &str) -> String {
        let Some(section) = self.sections.get(name) else { return String::new() };
        let quick = if section["quick"] == true { ", quick: the numbers are rough" } else { "" };
        let mut text = format!(
            "## {name}\n\nCommit {}, {} s{quick}.\n\n",
            section["commit"].as_str().unwrap_or("unknown"),
            section["seconds"]
        );
        let rows = list(&section["rows"]);
        if !rows.is_empty() {
            let head = ["what", "ours", "other", "theirs", "figure", "asked", "met"].map(str::to_string).to_vec();
            text.push_str(&markdown_table(&std::iter::once(head).chain(rows.iter().map(cells)).collect::<Vec<_>>()));
        }
        for table in list(&section["tables"]) {
            let rows = list(&table["rows"]).iter().map(|row| texts(row).map(str::to_string).collect());
            let title = table["title"].as_str().unwrap_or_default();
            text.push_str(&format!("\n{title}\n\n{}", markdown_table(&rows.collect::<Vec<_>>())));
        }
        let notes = texts(&section["notes"]).map(|note| format!("- {note}\n")).collect::<String>();
        let failures = texts(&section["failures"]).map(|failure| format!("- FAILED {failure}\n")).collect::<String>();
        if !(notes.is_empty() && failures.is_empty()) {
            text.push_str(&format!("\n{notes}{failures}"));
        }
        let commands: Vec<&str> = texts(&section["commands"]).collect();
        if !commands.is_empty() {
            text.push_str(&format!("\n```text\n{}\n```\n", commands.join("\n")));
        }
        text
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn texts(value: &Value) -> impl Iterator<Item = &str> {
    list(value).iter().filter_map(Value::as_str)
}

/// The first row is the heading.
fn markdown_table(rows: &[Vec<String>]) -> String {
    let mut text = String::new();
    for (row_idx, row) in rows.iter().enumerate() {
        let row: Vec<String> = row.iter().map(|cell| cell.replace('|', "\\|")).collect();
        text.push_str(&format!("| {} |\n", row.join(" | ")));
        if row_idx == 0 {
            text.push_str(&format!("|{}\n", " --- |".repeat(row.len())));
        }
    }
    text
}

/// A row as cells of the table.
fn cells(row: &Value) -> Vec<String> {
    let unit = row["unit"].as_str().unwrap_or_default();
    let text = |key: &str| row[key].as_str().unwrap_or_default().to_string();
    let number = |key: &str| row[key].as_f64().map_or_else(String::new, |value| format!("{} {unit}", digits(value)));
    let figure = row["value"].as_f64().map_or_else(String::new, |value| format!("{value:.3}"));
    let asked = row["asked"].as_f64().map_or_else(String::new, |asked| format!("<= {}", digits(asked)));
    let met = row["is_met"].as_bool().map_or("", |is_met| if is_met { "yes" } else { "no" });
    let number = |key| number(key).trim_end().to_string();
    vec![text("what"), number("ours"), text("peer"), number("theirs"), figure, asked, met.to_string()]
}

/// Three digits, or all before the point.
pub(crate) fn digits(value: f64) -> String {
    let decimals = match value.abs() {
        size if size >= 100.0 => 0,
        size if size >= 10.0 => 1,
        size if size >= 1.0 => 2,
        _ => 3,
    };
    format!("{value:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::super::section::Section;
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_document_is_read_back_and_shows_what_failed() -> Result<()> {
        let folder = std::env::temp_dir().join(format!("xtask-peers-{}", std::process::id()));
        _ = fs::remove_dir_all(&folder);
        let machine = Machine {
            processor: "Some CPU".to_string(),
            cores: 2,
            memory: "4.0 GiB".to_string(),
            system: "linux x86_64".to_string(),
            compiler: "rustc 1.0".to_string(),
            commit: "abc".to_string(),
        };
        let mut document = Document::open(&folder, &machine, None, "2026-01-31", true)?;
        let mut section = Section::default();
        section.ratio("core", Some(250.0), "OpenVINO", Some(1000.0), Some(0.5));
        let finish = |section: Section| section.finish("abc", Duration::from_secs(3), false, str::to_string);
        document.insert("f32", finish(section));
        document.insert("bf16", finish(Section::of_failure("torchvision: the process ended".to_string())));
        document.write(&folder)?;

        let text = fs::read_to_string(folder.join("peers.md"))?;
        assert!(text.contains("| core | 250 ms | OpenVINO | 1000 ms | 0.250 | <= 0.500 | yes |"), "{text}");
        assert!(text.contains("FAILED torchvision: the process ended"), "{text}");
        let kept = Document::open(&folder, &machine, None, "2026-01-31", true)?;
        assert_eq!(kept.markdown(), text);
        assert!(kept.is_complete("f32", "abc") && !kept.is_complete("f32", "abd"));
        assert!(!kept.is_complete("bf16", "abc") && !kept.is_complete("int8", "abc"));
        assert_eq!(kept.failures(), ["bf16: torchvision: the process ended"]);
        assert!(Document::open(&folder, &machine, None, "2026-01-31", false)?.sections.is_empty());
        fs::remove_dir_all(&folder)?;
        Ok(())
    }

    #[test]
    fn the_gpu_stands_before_the_machine() {
        let text = |gpu: Option<&str>| {
            let machine = Machine {
                processor: "Some CPU".to_string(),
                cores: 2,
                memory: "4.0 GiB".to_string(),
                system: "linux x86_64".to_string(),
                compiler: "rustc 1.0".to_string(),
                commit: "abc".to_string(),
            };
            let (date, sections) = ("2026-01-31".to_string(), Map::new());
            Document { date, machine, gpu: gpu.map(str::to_string), sections }.markdown()
        };
        assert!(text(Some("Some GPU, driver 1")).contains("2026-01-31\n\nSome GPU, driver 1\n\nSome CPU, 2 cores"));
        assert!(text(None).contains("Two threads each") && !text(Some("a")).contains("Two threads each"));
    }
}
