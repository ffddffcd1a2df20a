//! What is not the same in several trees of values.

use crate::config::Config;
use serde::Serialize;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// A value that is not the same in all runs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// Where it is, with the keys of a nested value joined by points.
    pub key: String,
    /// One for each run; none where a run does not have it.
    pub values: Vec<Option<Value>>,
}

impl Difference {
    /// The value of a run in words; a dash where it has none.
    pub fn text(&self, run_idx: usize) -> String {
        match self.values.get(run_idx).and_then(Option::as_ref) {
            None | Some(Value::Null) => "-".to_owned(),
            Some(Value::String(text)) => text.clone(),
            Some(Value::Array(items)) => {
                let text = |item: &Value| item.as_str().map_or_else(|| item.to_string(), str::to_owned);
                items.iter().map(text).collect::<Vec<_>>().join(", ")
            }
            Some(value) => value.to_string(),
        }
    }
}

/// The values of a tree by their path; lists are values.
pub(super) fn flattened(tree: Map<String, Value>) -> BTreeMap<String, Value> {
    let mut found = BTreeMap::new();
    let mut open: Vec<(String, Value)> = tree.into_iter().collect();
    while let Some((path, value)) = open.pop() {
        match value {
            Value::Object(fields) if !fields.is_empty() => {
                open.extend(fields.into_iter().map(|(key, value)| (format!("{path}.{key}"), value)));
            }
            value => _ = found.insert(path, value),
        }
    }
    found
}

/// The keys whose values are not the same in all trees; a tree that could not be read is different from none.
pub(super) fn differences(trees: &[Option<BTreeMap<String, Value>>]) -> Vec<Difference> {
    let mut keys: Vec<&String> = trees.iter().flatten().flat_map(BTreeMap::keys).collect();
    keys.sort();
    keys.dedup();
    let is_different = |key: &&&String| {
        let mut values = trees.iter().flatten().map(|tree| tree.get(**key));
        values.next().is_some_and(|first| values.any(|value| value != first))
    };
    let value = |key: &str| trees.iter().map(|tree| tree.as_ref()?.get(key).cloned()).collect();
    keys.iter().filter(is_different).map(|key| Difference { key: (*key).clone(), values: value(key) }).collect()
}

/// What is not the same in two configurations.
pub(crate) fn configuration_differences(first: &Config, second: &Config) -> Vec<Difference> {
    let tree = |config: &Config| match serde_json::to_value(config) {
        Ok(Value::Object(fields)) => Some(flattened(fields)),
        _ => None,
    };
    differences(&[tree(first), tree(second)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn tree(value: Value) -> Option<BTreeMap<String, Value>> {
        if let Value::Object(fields) = value { Some(flattened(fields)) } else { None }
    }

    #[test]
    fn only_what_differs_is_named_by_its_path() {
        let first = tree(json!({ "a": { "b": 1, "c": [1, 2] }, "same": "x", "loss": { "focal": { "gamma": 2.0 } } }));
        let second = tree(json!({ "a": { "b": 2, "c": [1, 2] }, "same": "x", "loss": { "quality": {} } }));
        let found = differences(&[first, None, second]);
        let keys: Vec<&str> = found.iter().map(|difference| difference.key.as_str()).collect();
        assert_eq!(keys, ["a.b", "loss.focal.gamma", "loss.quality"]);
        assert_eq!(found[0].values, [Some(json!(1)), None, Some(json!(2))]);
        assert_eq!(found[1].values, [Some(json!(2.0)), None, None]);
        assert_eq!([0, 1, 2].map(|idx| found[0].text(idx)), ["1", "-", "2"]);
    }

    #[test]
    fn one_tree_or_none_differs_from_nothing() {
        assert!(differences(&[]).is_empty() && differences(&[None, None]).is_empty());
        assert!(differences(&[tree(json!({ "a": 1 })), None]).is_empty());
    }

    #[test]
    fn values_in_words() {
        let values = [json!("x"), json!(["a", "b"]), json!([1, 2.5]), json!(null), json!(true)].map(Some).to_vec();
        let difference = Difference { key: String::new(), values };
        assert_eq!([0, 1, 2, 3, 4, 5].map(|idx| difference.text(idx)), ["x", "a, b", "1, 2.5", "-", "true", "-"]);
    }
}
