//! Tables.

use maud::{Markup, html};

use super::{Tone, shown};

/// Rows under headings.
#[derive(Clone, Debug)]
pub struct Table {
    headings: Vec<String>,
    rows: Vec<Vec<Cell>>,
    caption: String,
}

/// What stands in a row under one heading.
#[derive(Clone, Debug)]
pub struct Cell {
    text: String,
    is_number: bool,
    tone: Tone,
}

impl Cell {
    /// Text, which begins at the left.
    #[must_use]
    pub fn text(text: impl Into<String>) -> Self {
        Self { text: text.into(), is_number: false, tone: Tone::Plain }
    }

    /// A number, which ends at the right: as it is written, with its unit if it has one.
    #[must_use]
    pub fn number(number: impl ToString) -> Self {
        Self { text: number.to_string(), is_number: true, tone: Tone::Plain }
    }

    /// The same, meant like this.
    #[must_use]
    pub fn tone(self, tone: Tone) -> Self {
        Self { tone, ..self }
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::text(text)
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::text(text)
    }
}

impl Table {
    /// A table with these headings and no rows yet.
    #[must_use]
    pub fn new(headings: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { headings: headings.into_iter().map(Into::into).collect(), rows: Vec::new(), caption: String::new() }
    }

    /// Says what the table shows.
    #[must_use]
    pub fn caption(self, caption: impl Into<String>) -> Self {
        Self { caption: caption.into(), ..self }
    }

    /// Adds a row: a cell for each heading, in their order.
    pub fn push(&mut self, row: impl IntoIterator<Item = impl Into<Cell>>) {
        self.rows.push(row.into_iter().map(Into::into).collect());
    }

    /// Adds rows.
    #[must_use]
    pub fn rows(mut self, rows: impl IntoIterator<Item = Vec<Cell>>) -> Self {
        self.rows.extend(rows);
        self
    }

    /// Whether there are no rows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    pub(super) fn markup(&self) -> Markup {
        // A heading stands where the cells below it do.
        let is_number = |column: usize| self.rows.first().and_then(|row| row.get(column)).is_some_and(|c| c.is_number);
        let class = |is_number: bool| if is_number { "number" } else { "text" };
        html! {
            div.wide {
                table {
                    @if !self.caption.is_empty() { caption { (shown(&self.caption)) } }
                    thead {
                        tr {
                            @for (column, heading) in self.headings.iter().enumerate() {
                                th.(class(is_number(column))) scope="col" { span { (shown(heading)) } }
                            }
                        }
                    }
                    tbody {
                        @for row in &self.rows {
                            tr {
                                @for cell in row {
                                    td.(class(cell.is_number)).(cell.tone.class()) { span { (shown(&cell.text)) } }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}
