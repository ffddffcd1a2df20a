//! `retinanet models`: what there is by name, fetching, checking.

use crate::args::{ModelsArgs, ModelsCommand};
use crate::interrupt::Interrupt;
use crate::zoo::{self, explain, mebibytes};
use crate::{Status, table};
use retinanet_zoo::{Checked, Entry, MetricKind, Source, State, Task, Zoo};
use serde_json::json;

pub(crate) fn run(args: &ModelsArgs) -> anyhow::Result<Status> {
    let zoo = zoo::open(&args.zoo)?;
    match &args.command {
        None | Some(ModelsCommand::List) => list(&zoo, args.json),
        Some(ModelsCommand::Fetch { names }) => fetch(&zoo, names, args.json),
        Some(ModelsCommand::Verify { names }) => verify(&zoo, names, args.json),
    }
}

fn list(zoo: &Zoo, is_json: bool) -> anyhow::Result<Status> {
    let models = zoo.manifest.models();
    if is_json {
        let models: Vec<_> = models.iter().map(|entry| document(zoo, entry)).collect();
        crate::out!("{}", json!({ "cache": zoo.cache.folder().display().to_string(), "models": models }))?;
        return Ok(Status::Done);
    }
    for (task, heading, metric) in
        [(Task::Detector, "detector", "AP"), (Task::Backbone, "backbone, to train from", "top-1")]
    {
        let mut rows = vec![[heading, "network", metric, "of", "size", "licence", "here"].map(str::to_owned).to_vec()];
        rows.extend(models.iter().filter(|entry| entry.task == task).map(|entry| {
            let here = match zoo.cache.state(entry) {
                State::Missing => "-".to_owned(),
                State::Partial(bytes) => format!("{} of it", mebibytes(bytes)),
                State::Here(_) => "yes".to_owned(),
            };
            vec![
                entry.name.clone(),
                entry.backbone.title().to_owned(),
                format!("{:.1}", entry.metric.percent),
                entry.metric.data.clone(),
                entry.size.map_or("-".to_owned(), |size| mebibytes(size.approximate_bytes())),
                entry.licence.clone(),
                here,
            ]
        }));
        crate::out!("{}\n", table::render(&rows))?;
    }
    let program = crate::program();
    crate::out!("kept in {}", zoo.cache.folder().display())?;
    crate::out!("a name stands wherever a model file does: {program} detect --model NAME IMAGE...")?;
    Ok(Status::Done)
}

/// All that the manifest says of a model, and what there is of it.
fn document(zoo: &Zoo, entry: &Entry) -> serde_json::Value {
    let (state, bytes_here) = match zoo.cache.state(entry) {
        State::Missing => ("missing", 0),
        State::Partial(bytes) => ("partial", bytes),
        State::Here(path) => ("here", std::fs::metadata(path).map_or(0, |metadata| metadata.len())),
    };
    let lower = |value: &dyn std::fmt::Debug| format!("{value:?}").to_lowercase();
    let metric = match entry.metric.kind {
        MetricKind::BoxAp => "box_ap",
        MetricKind::Top1 => "top1",
    };
    json!({
        "name": entry.name,
        "task": lower(&entry.task),
        "format": lower(&entry.format),
        "network": entry.backbone.title(),
        "preset": entry.preset,
        "url": match &entry.source { Source::Url(url) => Some(url), Source::Shipped(_) => None },
        "digest": entry.digest.known().map(|(algorithm, digits)| json!({ algorithm.to_string(): digits })),
        "bytes": entry.size.map(retinanet_zoo::Size::approximate_bytes),
        "licence": entry.licence,
        "page": entry.page,
        "classes": entry.classes.num_classes(),
        "metric": json!({ metric: entry.metric.percent, "data": entry.metric.data }),
        "path": zoo.cache.place(entry).display().to_string(),
        "state": state,
        "bytes_here": bytes_here,
    })
}

fn fetch(zoo: &Zoo, names: &[String], is_json: bool) -> anyhow::Result<Status> {
    // Before the first is fetched.
    let entries = names.iter().map(|name| zoo::get(zoo, name)).collect::<anyhow::Result<Vec<_>>>()?;
    let interrupt = Interrupt::listen(zoo::INTERRUPTED)?;
    let (mut paths, mut errors) = (Vec::new(), Vec::new());
    for entry in entries {
        match zoo::fetch(zoo, entry, &interrupt) {
            Ok(Some(path)) => {
                if !is_json {
                    crate::out!("{}", path.display())?;
                }
                paths.push((entry.name.as_str(), path));
            }
            Ok(None) => break,
            Err(error) if names.len() == 1 => return Err(error),
            Err(error) => {
                let error = crate::message(&error);
                eprintln!("failed: {error}");
                errors.push(error);
            }
        }
    }
    if is_json {
        let paths: serde_json::Map<_, _> =
            paths.iter().map(|(name, path)| ((*name).to_owned(), json!(path.display().to_string()))).collect();
        crate::out!("{}", json!({ "paths": paths, "errors": errors }))?;
    }
    Ok(if errors.is_empty() && !interrupt.is_set() { Status::Done } else { Status::DoneWithFailures })
}

fn verify(zoo: &Zoo, names: &[String], is_json: bool) -> anyhow::Result<Status> {
    let entries = if names.is_empty() {
        let here = |entry: &&Entry| matches!(zoo.cache.state(entry), State::Here(_));
        zoo.manifest.models().iter().filter(here).collect()
    } else {
        names.iter().map(|name| zoo::get(zoo, name)).collect::<anyhow::Result<Vec<_>>>()?
    };
    let (mut verified, mut errors) = (Vec::new(), Vec::new());
    for entry in &entries {
        match zoo.cache.verify(entry) {
            Ok(Some(found)) => {
                if !is_json {
                    crate::out!("{}: sha256 {}, {}", entry.name, found.sha256, explain(found.checked))?;
                }
                verified.push(json!({
                    "name": entry.name,
                    "path": found.path.display().to_string(),
                    "sha256": found.sha256,
                    "published_digits": match found.checked {
                        Checked::Published => entry.digest.known().map_or(0, |(_, digits)| digits.len()),
                        Checked::Leading(digits) => digits,
                        Checked::FirstSeen | Checked::Noted => 0,
                    },
                }));
            }
            Ok(None) => {
                let place = zoo.cache.place(entry);
                errors.push(format!("{}: {}: expected a file, found none", entry.name, place.display()));
            }
            Err(error) => errors.push(format!("{}: {error}", entry.name)),
        }
    }
    errors.iter().for_each(|error| eprintln!("failed: {error}"));
    if is_json {
        crate::out!("{}", json!({ "verified": verified, "errors": errors }))?;
    } else if entries.is_empty() {
        crate::out!("no models are kept in {}", zoo.cache.folder().display())?;
    }
    Ok(if errors.is_empty() { Status::Done } else { Status::DoneWithFailures })
}
