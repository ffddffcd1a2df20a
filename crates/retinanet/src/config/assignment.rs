//! One `key=value` of `--set`, merged into a table before it is read.

use super::ConfigError;

/// Sets one `a.b.c=value` in the table.
///
/// # Errors
/// It is no assignment, or its key leads through something that is not a table.
pub(super) fn assign(table: &mut toml::Table, assignment: &str) -> Result<(), ConfigError> {
    let error = |expected: String| ConfigError::Assignment { assignment: assignment.to_owned(), expected };
    let (path, value) = assignment.split_once('=').ok_or_else(|| error("key=value".to_owned()))?;
    let value = value.trim();
    let parse = |value: &str| toml::from_str::<toml::Table>(&format!("value = {value}")).ok()?.remove("value");
    let number = |value: &str| value.parse().ok().map(toml::Value::Float);
    let value =
        parse(value).or_else(|| parse(&with_zeros(value))).or_else(|| number(value)).unwrap_or_else(|| value.into());

    let keys: Vec<&str> = path.trim().split('.').collect();
    let (last, parents) = keys.split_last().ok_or_else(|| error("key=value".to_owned()))?;
    let mut here = table;
    for key in parents {
        let entry = here.entry((*key).to_owned()).or_insert_with(|| toml::Value::Table(toml::Table::new()));
        here = entry.as_table_mut().ok_or_else(|| error(format!("{key} to be a table")))?;
    }
    // Whole numbers are accepted where the field holds a fraction.
    let value = match (here.get(*last), value) {
        (Some(toml::Value::Float(_)), toml::Value::Integer(integer)) => toml::Value::Float(integer as f64),
        (_, value) => value,
    };
    here.insert((*last).to_owned(), value);
    Ok(())
}

/// The text with a zero before each number that begins with its point, as people type them; TOML wants one. Quoted text stays.
fn with_zeros(text: &str) -> String {
    let mut written = String::with_capacity(text.len() + 8);
    let (mut last, mut is_quoted) = (' ', false);
    for (idx, letter) in text.char_indices() {
        is_quoted ^= letter == '"';
        let begins = letter == '.' && !is_quoted && !last.is_alphanumeric() && !"_.\"".contains(last);
        if begins && text[idx + 1..].starts_with(|next: char| next.is_ascii_digit()) {
            written.push('0');
        }
        written.push(letter);
        last = letter;
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_go_before_points_that_begin_a_number() {
        assert_eq!(with_zeros("[.5,-.25, +.5]"), "[0.5,-0.25, +0.5]");
        assert_eq!(with_zeros("a = \".5\", b.5 = [1.5, .5], ..5 é.5"), "a = \".5\", b.5 = [1.5, 0.5], ..5 é.5");
        assert_eq!(with_zeros("."), ".");
    }
}
