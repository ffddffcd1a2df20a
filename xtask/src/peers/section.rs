//! One part of the comparison: rows, tables, notes, and how to repeat them.

use std::time::Duration;

use serde_json::{Value, json};

/// How ours is held against the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Figure {
    /// ours / theirs, to be at most what is asked.
    Ratio,
    /// theirs - ours, to be at most what is asked.
    Loss,
}

/// One line of the table.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) what: String,
    pub(crate) ours: f64,
    /// Who the other is.
    pub(crate) peer: String,
    pub(crate) theirs: f64,
    pub(crate) unit: &'static str,
    pub(crate) figure: Figure,
    /// The most that the figure may be, where something is asked.
    pub(crate) asked: Option<f64>,
}

impl Row {
    fn json(&self) -> Value {
        let (name, value) = match self.figure {
            Figure::Ratio => ("ratio", self.ours / self.theirs),
            Figure::Loss => ("loss", self.theirs - self.ours),
        };
        json!({
            "what": self.what, "ours": self.ours, "peer": self.peer, "theirs": self.theirs, "unit": self.unit,
            "figure": name, "value": value, "asked": self.asked, "is_met": self.asked.map(|asked| value <= asked),
        })
    }
}

/// Numbers that are not held against one other.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    pub(crate) title: String,
    /// The heading first.
    pub(crate) rows: Vec<Vec<String>>,
}

/// What a section found.
#[derive(Debug, Default)]
pub(crate) struct Section {
    pub(crate) rows: Vec<Row>,
    pub(crate) tables: Vec<Table>,
    pub(crate) notes: Vec<String>,
    pub(crate) commands: Vec<String>,
    /// What could not be measured, and why.
    pub(crate) failures: Vec<String>,
    /// Everything that was measured, as it came.
    pub(crate) measured: Value,
}

impl Section {
    pub(crate) fn of_failure(failure: String) -> Self {
        Self { failures: vec![failure], ..Self::default() }
    }

    /// Adds a row of times if both are there.
    pub(crate) fn ratio(&mut self, what: &str, ours: Option<f64>, peer: &str, theirs: Option<f64>, asked: Option<f64>) {
        self.push("ms", what, ours, (peer, theirs), asked);
    }

    /// Adds a row of peaks of memory if both are there.
    pub(crate) fn memory(
        &mut self,
        what: &str,
        ours: Option<f64>,
        peer: &str,
        theirs: Option<f64>,
        asked: Option<f64>,
    ) {
        self.push("MiB", what, ours, (peer, theirs), asked);
    }

    fn push(
        &mut self,
        unit: &'static str,
        what: &str,
        ours: Option<f64>,
        (peer, theirs): (&str, Option<f64>),
        asked: Option<f64>,
    ) {
        if let (Some(ours), Some(theirs)) = (ours, theirs) {
            let (what, peer) = (what.to_string(), peer.to_string());
            self.rows.push(Row { what, ours, peer, theirs, unit, figure: Figure::Ratio, asked });
        }
    }

    /// As it is kept, every text made portable.
    pub(crate) fn finish(self, commit: &str, took: Duration, quick: bool, portable: impl Fn(&str) -> String) -> Value {
        let mut value = json!({
            "commit": commit,
            "seconds": took.as_secs_f64().round(),
            "quick": quick,
            "rows": self.rows.iter().map(Row::json).collect::<Vec<_>>(),
            "tables": self.tables.iter().map(|table| json!({ "title": table.title, "rows": table.rows })).collect::<Vec<_>>(),
            "notes": self.notes,
            "commands": self.commands,
            "failures": self.failures,
            "measured": self.measured,
        });
        replace(&mut value, &portable);
        value
    }
}

fn replace(value: &mut Value, portable: &impl Fn(&str) -> String) {
    match value {
        Value::String(text) => *text = portable(text),
        Value::Array(values) => values.iter_mut().for_each(|value| replace(value, portable)),
        Value::Object(values) => values.values_mut().for_each(|value| replace(value, portable)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_and_what_is_asked_of_them() {
        let mut section = Section { commands: vec!["/here/run /here/a".to_string()], ..Section::default() };
        section.ratio("a", Some(1.0), "p", Some(4.0), Some(0.5));
        section.ratio("b", Some(3.0), "p", Some(4.0), Some(0.5));
        section.ratio("c", Some(3.0), "p", Some(4.0), None);
        section.ratio("d", None, "p", Some(4.0), None);
        let loss = Row { figure: Figure::Loss, ours: 0.5, theirs: 0.75, asked: Some(0.125), ..section.rows[0].clone() };
        section.rows.push(loss);
        let value = section.finish("abc", Duration::from_secs(2), false, |text| text.replace("/here/", ""));
        let column =
            |key: &str| value["rows"].as_array().unwrap().iter().map(|row| row[key].clone()).collect::<Vec<_>>();
        assert_eq!(column("value"), [json!(0.25), json!(0.75), json!(0.75), json!(0.25)]);
        assert_eq!(column("is_met"), [json!(true), json!(false), Value::Null, json!(false)]);
        assert_eq!(value["commands"], json!(["run a"]));
    }
}
