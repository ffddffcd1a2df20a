//! What a checkpoint says of itself beside its tensors: texts of the entry `meta`, and who wrote it.

use super::pickle::{Id, Value, Values};
use std::collections::BTreeMap;

/// The entry of MMDetection's checkpoints that holds configuration and class names.
const META: &str = "meta";

/// Who wrote a file, as Detectron2 has it.
const AUTHOR: &str = "__author__";

/// How deep texts may lie in the entry.
const MAX_DEPTH: usize = 3;

/// The most values that are looked at, as a dict may hold itself many times over.
const MAX_VISITS: usize = 100_000;

/// The most bytes of texts; a configuration takes some ten thousand.
const MAX_LEN: usize = 4 << 20;

/// The texts by their path, such as `meta.cfg`; lists of texts as JSON. Those beyond the limits are left out.
pub(super) fn of(values: &Values) -> BTreeMap<String, String> {
    let mut collection = Collection { values, visits: 0, len: 0, found: BTreeMap::new() };
    if let Value::Dict(entries) = values.get(values.root) {
        for &(key, value) in entries {
            match values.get(key) {
                Value::Text(META) => collection.visit(META.to_owned(), value, MAX_DEPTH),
                Value::Text(AUTHOR) => collection.visit(AUTHOR.to_owned(), value, 0),
                _ => {}
            }
        }
    }
    collection.found
}

struct Collection<'v, 'p> {
    values: &'v Values<'p>,
    visits: usize,
    len: usize,
    found: BTreeMap<String, String>,
}

impl Collection<'_, '_> {
    fn visit(&mut self, path: String, id: Id, depth: usize) {
        self.visits += 1;
        if self.visits > MAX_VISITS {
            return;
        }
        match self.values.get(id) {
            Value::Text(text) => self.insert(path, (*text).to_owned()),
            Value::Dict(entries) if depth > 0 => {
                for &(key, value) in entries {
                    if let Value::Text(key) = self.values.get(key) {
                        self.visit(format!("{path}.{}", super::error::shown(key)), value, depth - 1);
                    }
                }
            }
            Value::Tuple(items) | Value::List(items) if !items.is_empty() => {
                self.visits += items.len();
                if self.visits > MAX_VISITS {
                    return;
                }
                let texts = items.iter().map(|&item| match self.values.get(item) {
                    Value::Text(text) => Some(*text),
                    _ => None,
                });
                let Some(texts) = texts.collect::<Option<Vec<&str>>>() else { return };
                let len: usize = texts.iter().map(|text| text.len()).sum();
                if self.len + len <= MAX_LEN {
                    self.insert(path, serde_json::to_string(&texts).expect("texts have a form in JSON"));
                }
            }
            _ => {}
        }
    }

    fn insert(&mut self, path: String, text: String) {
        if self.len + text.len() <= MAX_LEN {
            self.len += text.len();
            self.found.insert(path, text);
        }
    }
}
