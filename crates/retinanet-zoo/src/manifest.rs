//! The list of models.

use crate::error::ZooError;
use crate::model::{Entry, Source};
use serde::Deserialize;
use std::collections::BTreeSet;
use std::path::Path;
use toml::Spanned;

/// Published models, each under a name of its own.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Manifest {
    models: Vec<Entry>,
}

/// As it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(rename = "model", default)]
    models: Vec<Spanned<Entry>>,
}

/// The manifest of this workspace.
const EMBEDDED: &str = include_str!("../manifest.toml");

impl Manifest {
    /// The models of this workspace's `weights/manifest.toml`.
    pub fn embedded() -> Self {
        Self::parse(EMBEDDED, "weights/manifest.toml").expect("the tests read it")
    }

    /// Reads a manifest of the same form.
    ///
    /// # Errors
    /// The file cannot be read, or is no manifest.
    pub fn read(path: &Path) -> Result<Self, ZooError> {
        let text = std::fs::read_to_string(path).map_err(ZooError::io(path, "cannot read"))?;
        Self::parse(&text, &path.display().to_string())
    }

    /// A manifest from its text; `origin` is named in errors.
    ///
    /// # Errors
    /// The text is no TOML, a field is missing, unknown or out of its range, or two models share a name.
    pub fn parse(text: &str, origin: &str) -> Result<Self, ZooError> {
        let line =
            |offset: usize| 1 + text.as_bytes()[..offset.min(text.len())].iter().filter(|&&b| b == b'\n').count();
        let error = |offset: usize, message: String| ZooError::Manifest {
            origin: origin.to_owned(),
            line: line(offset),
            message,
        };
        let document: Document =
            toml::from_str(text).map_err(|e| error(e.span().map_or(0, |span| span.start), e.message().to_owned()))?;
        let mut names = BTreeSet::new();
        for model in &document.models {
            let (entry, offset) = (model.get_ref(), model.span().start);
            check(entry).map_err(|message| error(offset, message))?;
            if !names.insert(&entry.name) {
                return Err(error(offset, format!("name: expected one model {:?}, found two", entry.name)));
            }
        }
        Ok(Self { models: document.models.into_iter().map(Spanned::into_inner).collect() })
    }

    /// All of these models and of those of `other`; where both have a name, this one's counts.
    #[must_use]
    pub fn or(mut self, other: Self) -> Self {
        let others: Vec<Entry> = other.models.into_iter().filter(|entry| self.find(&entry.name).is_none()).collect();
        self.models.extend(others);
        self
    }

    /// All models, in the order of the file.
    pub fn models(&self) -> &[Entry] {
        &self.models
    }

    /// The model of this name.
    pub fn find(&self, name: &str) -> Option<&Entry> {
        self.models.iter().find(|entry| entry.name == name)
    }

    /// The model of this name.
    ///
    /// # Errors
    /// There is none; the names that are most like it are in the error.
    pub fn get(&self, name: &str) -> Result<&Entry, ZooError> {
        self.find(name).ok_or_else(|| ZooError::UnknownModel { name: name.to_owned(), nearest: self.nearest(name) })
    }

    /// The names that a person may have meant, at most three, the nearest first.
    fn nearest(&self, name: &str) -> Vec<String> {
        // A third of the letters may differ, as after forgetting a part of a long name.
        let limit = (name.chars().count() / 3).max(2);
        let name = name.to_lowercase();
        let mut near: Vec<(usize, &str)> = self
            .models
            .iter()
            .map(|entry| (strsim::damerau_levenshtein(&name, &entry.name), entry.name.as_str()))
            .filter(|(distance, _)| *distance <= limit)
            .collect();
        near.sort();
        near.into_iter().take(3).map(|(_, name)| name.to_owned()).collect()
    }
}

/// What the types do not say already.
fn check(entry: &Entry) -> Result<(), String> {
    let is_plain = |name: &str| {
        !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-')
    };
    if !is_plain(&entry.name) {
        return Err(format!("name: expected lower-case letters, digits, _ and -, found {:?}", entry.name));
    }
    let wrong = |field: &str, expected: &str, found: &str| {
        Err(format!("{}: {field}: expected {expected}, found {found:?}", entry.name))
    };
    // The name of a file in the cache's own folder, and nothing that leads out of it.
    let is_file_name = Path::new(&entry.file).file_name().is_some_and(|name| name == entry.file.as_str())
        && !entry.file.contains(['/', '\\', ':', '\0'])
        && !entry.file.starts_with('.');
    if !is_file_name {
        return wrong("file", "a plain file name", &entry.file);
    }
    match &entry.source {
        Source::Url(url) if !(url.starts_with("https://") || url.starts_with("http://")) => {
            return wrong("source.url", "an address that begins with https:// or http://", url);
        }
        Source::Shipped(path) if Path::new(path).is_absolute() || path.split(['/', '\\']).any(|part| part == "..") => {
            return wrong("source.shipped", "a relative path without ..", path);
        }
        Source::Url(_) | Source::Shipped(_) => {}
    }
    if !(0.0..=100.0).contains(&entry.metric.percent) {
        return wrong("metric.percent", "0 to 100", &entry.metric.percent.to_string());
    }
    Ok(())
}
