//! `data.yaml`: where the splits lie and what the classes are called.

use std::path::Path;

use serde_json::Value;

use crate::file::{quoted, read_text};
use crate::{AnnotationError, Class};

/// What the file says.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Config {
    /// The folder that the splits are relative to.
    pub(super) path: Option<String>,
    /// Name of the split and its folders or lists, in the order train, val, test.
    pub(super) splits: Vec<(String, Vec<String>)>,
    /// Sorted by id.
    pub(super) classes: Vec<Class>,
    /// Other keys with a text, which are splits where the text is a folder.
    pub(super) others: Vec<(String, String)>,
    /// What looks wrong, in the error grammar.
    pub(super) notes: Vec<String>,
}

/// The splits that every tool knows.
const USUAL: [&str; 5] = ["train", "val", "valid", "validation", "test"];

/// A number of classes that no label file needs, and a hostile `nc` would fill the memory with names.
const MAX_CLASSES: u64 = 1_000_000;

pub(super) fn read(path: &Path) -> Result<Config, AnnotationError> {
    parse(path, &read_text(path)?)
}

pub(super) fn parse(path: &Path, text: &str) -> Result<Config, AnnotationError> {
    // A class may be called yes or off: only true and false are truth values.
    let options = serde_saphyr::options! { strict_booleans: true };
    let value: Value =
        serde_saphyr::from_str_with_options(text, options).map_err(|error| syntax_error(path, &error))?;
    let Value::Object(map) = value else {
        return Err(AnnotationError::content(path, "content", "keys and values", kind(&value)));
    };
    let mut config = Config::default();
    if let Some(value) = map.get("path").filter(|value| !value.is_null()) {
        config.path = Some(text_of(path, "path", value)?);
    }
    for name in USUAL {
        let places = match map.get(name) {
            None | Some(Value::Null) => continue,
            Some(Value::Array(values)) => {
                values.iter().map(|value| text_of(path, name, value)).collect::<Result<_, _>>()?
            }
            Some(value) => vec![text_of(path, name, value)?],
        };
        // An empty text is how some tools say that there is none.
        let places: Vec<String> = places.into_iter().filter(|place: &String| !place.trim().is_empty()).collect();
        if !places.is_empty() {
            config.splits.push((name.to_owned(), places));
        }
    }
    for (name, value) in &map {
        if let Value::String(place) = value
            && !USUAL.contains(&name.as_str())
            && !["path", "names", "nc"].contains(&name.as_str())
        {
            config.others.push((name.clone(), place.clone()));
        }
    }
    let count = map.get("nc").and_then(Value::as_u64);
    config.classes = classes(path, map.get("names"), count)?;
    if let Some(count) = count
        && count != config.classes.len() as u64
    {
        config.notes.push(format!("nc: expected {} as there are names, found {count}", config.classes.len()));
    }
    Ok(config)
}

fn classes(path: &Path, names: Option<&Value>, count: Option<u64>) -> Result<Vec<Class>, AnnotationError> {
    let wrong = |expected: &str, found: &str| AnnotationError::content(path, "names", expected, found);
    let mut classes: Vec<Class> = match (names, count) {
        (Some(Value::Array(names)), _) => names
            .iter()
            .zip(0..)
            .map(|(name, category_id)| Ok(Class { category_id, name: text_of(path, "names", name)? }))
            .collect::<Result<_, AnnotationError>>()?,
        (Some(Value::Object(names)), _) => names
            .iter()
            .map(|(key, name)| {
                let id = key.trim().parse().ok().filter(|&id: &i64| id >= 0);
                let category_id = id.ok_or_else(|| wrong("class numbers from 0 as keys", &quoted(key)))?;
                Ok(Class { category_id, name: text_of(path, "names", name)? })
            })
            .collect::<Result<_, AnnotationError>>()?,
        (None | Some(Value::Null), Some(count)) if count <= MAX_CLASSES => {
            (0..count as i64).map(|category_id| Class { category_id, name: category_id.to_string() }).collect()
        }
        (None | Some(Value::Null), Some(count)) => {
            let expected = format!("at most {MAX_CLASSES}");
            return Err(AnnotationError::content(path, "nc", expected, count));
        }
        (None | Some(Value::Null), None) => return Err(wrong("a list or a map", "nothing")),
        (Some(other), _) => return Err(wrong("a list or a map", kind(other))),
    };
    classes.sort_by_key(|class| class.category_id);
    if let Some(pair) = classes.windows(2).find(|pair| pair[0].category_id == pair[1].category_id) {
        return Err(wrong("each class number once", &format!("{} twice", pair[0].category_id)));
    }
    Ok(classes)
}

/// A name may look like a number or a truth value.
fn text_of(path: &Path, what: &str, value: &Value) -> Result<String, AnnotationError> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Number(number) => Ok(number.to_string()),
        Value::Bool(value) => Ok(value.to_string()),
        other => Err(AnnotationError::content(path, what, "text", kind(other))),
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) | Value::Number(_) | Value::String(_) => "a single value",
        Value::Array(_) => "a list",
        Value::Object(_) => "a map",
    }
}

fn syntax_error(path: &Path, error: &serde_saphyr::Error) -> AnnotationError {
    let place = error.location();
    let coordinate = |value: Option<u64>| value.and_then(|value| usize::try_from(value).ok()).unwrap_or(0);
    // The parser adds an excerpt below its first line.
    let message = error.without_snippet().to_string();
    AnnotationError::Syntax {
        path: path.to_owned(),
        line: coordinate(place.as_ref().map(serde_saphyr::Location::line)),
        column: coordinate(place.as_ref().map(serde_saphyr::Location::column)),
        message: format!("YAML: {}", message.lines().next().unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Result<Config, AnnotationError> {
        parse(Path::new("data.yaml"), text)
    }

    fn names(config: &Config) -> Vec<(i64, &str)> {
        config.classes.iter().map(|class| (class.category_id, class.name.as_str())).collect()
    }

    #[test]
    fn names_are_a_list_or_a_map() {
        let list = config("train: a\nval: [b, c]\nnames: ['x', 2, yes]\n").unwrap();
        assert_eq!(names(&list), [(0, "x"), (1, "2"), (2, "yes")]);
        assert_eq!(list.splits, [("train".into(), vec!["a".into()]), ("val".into(), vec!["b".into(), "c".into()])]);
        // Ten comes after nine, not after one.
        let map = config("path: ..\nnames:\n  10: ten\n  9: nine\n  1: one\n").unwrap();
        assert_eq!(names(&map), [(1, "one"), (9, "nine"), (10, "ten")]);
        assert_eq!(map.path.as_deref(), Some(".."));
        assert_eq!(names(&config("nc: 2\ntrain: a\n").unwrap()), [(0, "0"), (1, "1")]);
    }

    #[test]
    fn a_wrong_count_is_noted() {
        assert_eq!(config("nc: 3\nnames: [a]").unwrap().notes, ["nc: expected 1 as there are names, found 3"]);
    }

    #[track_caller]
    fn check_error(text: &str, expected: &str) {
        let error = config(text).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }

    #[test]
    fn errors_say_what_and_where() {
        check_error("names: [a\nb: }", "data.yaml: line ");
        check_error("- a", "content: expected keys and values, found a list");
        check_error("names: {a: b}", "names: expected class numbers from 0 as keys, found \"a\"");
        check_error("names: {1: b, 01: c}", "names: expected each class number once, found 1 twice");
        check_error("names: 3", "names: expected a list or a map, found a single value");
        check_error("names: [[a]]", "names: expected text, found a list");
        check_error("train: x", "names: expected a list or a map, found nothing");
        check_error("nc: 18446744073709551615", "nc: expected at most 1000000");
    }

    #[test]
    fn hostile_texts_are_errors_in_little_time() {
        for text in ["[".repeat(100_000), "{a: ".repeat(100_000), "- ".repeat(100_000)] {
            assert!(config(&text).is_err());
        }
        let mut bomb = "a: &a [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for (this, last) in ('b'..='i').zip('a'..) {
            bomb += &format!("{this}: &{this} [{}]\n", vec![format!("*{last}"); 10].join(", "));
        }
        assert!(config(&bomb).is_err());
    }
}
