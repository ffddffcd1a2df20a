//! Reports as single HTML files: no script, no font, no picture from elsewhere, so that they open anywhere and for ever.
//!
//! A [`Page`] is a title and [`Section`]s of [`Block`]s. Every text is escaped and stays inside its element whatever it holds;
//! pictures lie in the file; a content security policy forbids the rest. The page is readable at 400 pixels, light, dark and
//! printed.
//!
//! ```
//! use retinanet_draw::page::{Bars, Cell, Facts, Page, Section, Table, Tone};
//!
//! let mut table = Table::new(["class", "boxes"]);
//! table.push([Cell::text("cell <1>"), Cell::number(12)]);
//! let section = Section::new("Classes")
//!     .tag(Tone::Warning, "1 class")
//!     .with(Facts::new().fact("boxes", 12))
//!     .with(table)
//!     .with(Bars::new("boxes by size").bar("small", 9).bar("large", 3));
//! let html = Page::new("My data").lead("Checked today.").section(section).to_html();
//! assert!(html.starts_with("<!DOCTYPE html>") && html.contains("cell &lt;1&gt;"));
//! ```

mod bars;
mod picture;
mod plot;
mod table;

pub use bars::Bars;
pub use picture::Picture;
pub use table::{Cell, Table};

use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::Plot;

const STYLE: &str = include_str!("style.css");

/// Nothing is fetched and nothing runs, even if a mistake let something through.
const POLICY: &str = "default-src 'none'; img-src data:; style-src 'unsafe-inline'";

/// How a text is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// Nothing special.
    Plain,
    /// As it should be.
    Good,
    /// Worth knowing.
    Note,
    /// Probably wrong.
    Warning,
    /// Wrong.
    Error,
}

impl Tone {
    fn class(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Good => "good",
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// A report.
#[derive(Clone, Debug)]
pub struct Page {
    title: String,
    lead: Vec<String>,
    sections: Vec<Section>,
    footer: Vec<String>,
}

impl Page {
    /// An empty page.
    #[must_use]
    pub fn new(title: impl Into<String>) -> Self {
        Self { title: title.into(), lead: Vec::new(), sections: Vec::new(), footer: Vec::new() }
    }

    /// Adds a line below the title.
    #[must_use]
    pub fn lead(mut self, text: impl Into<String>) -> Self {
        self.lead.push(text.into());
        self
    }

    /// Adds a section.
    #[must_use]
    pub fn section(mut self, section: Section) -> Self {
        self.sections.push(section);
        self
    }

    /// Adds a line at the end.
    #[must_use]
    pub fn footer(mut self, text: impl Into<String>) -> Self {
        self.footer.push(text.into());
        self
    }

    /// The complete file, in UTF-8.
    #[must_use]
    pub fn to_html(&self) -> String {
        let page = html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta http-equiv="Content-Security-Policy" content=(POLICY);
                    title { (shown(&self.title)) }
                    // The style is a constant of the program: nothing in it comes from outside.
                    style { (PreEscaped(STYLE)) }
                }
                body {
                    header {
                        h1 { (shown(&self.title)) }
                        @for line in &self.lead { p.lead { (shown(line)) } }
                    }
                    @for section in &self.sections { (section.markup(2)) }
                    @if !self.footer.is_empty() {
                        footer { @for line in &self.footer { p { (shown(line)) } } }
                    }
                }
            }
        };
        page.into_string()
    }
}

/// A part of a page under a heading.
#[derive(Clone, Debug)]
pub struct Section {
    title: String,
    tags: Vec<(Tone, String)>,
    fold: Fold,
    blocks: Vec<Block>,
}

/// Whether a reader can close a section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fold {
    Never,
    Open,
    Closed,
}

impl Section {
    /// A section that is always open.
    #[must_use]
    pub fn new(title: impl Into<String>) -> Self {
        Self { title: title.into(), tags: Vec::new(), fold: Fold::Never, blocks: Vec::new() }
    }

    /// A section that is open, and can be closed.
    #[must_use]
    pub fn open(title: impl Into<String>) -> Self {
        Self { fold: Fold::Open, ..Self::new(title) }
    }

    /// A section that is closed, and can be opened.
    #[must_use]
    pub fn closed(title: impl Into<String>) -> Self {
        Self { fold: Fold::Closed, ..Self::new(title) }
    }

    /// Adds a short remark beside the heading, such as a count.
    #[must_use]
    pub fn tag(mut self, tone: Tone, text: impl Into<String>) -> Self {
        self.tags.push((tone, text.into()));
        self
    }

    /// Adds a block.
    #[must_use]
    pub fn with(mut self, block: impl Into<Block>) -> Self {
        self.blocks.push(block.into());
        self
    }

    /// Adds a block, where it comes out of a loop.
    pub fn push(&mut self, block: impl Into<Block>) {
        self.blocks.push(block.into());
    }

    fn markup(&self, level: u8) -> Markup {
        let head = html! {
            @if level <= 2 { h2 { (shown(&self.title)) } } @else { h3 { (shown(&self.title)) } }
            @for (tone, text) in &self.tags { span.tag.(tone.class()) { (shown(text)) } }
        };
        let body = html! { @for block in &self.blocks { (block.markup(level)) } };
        match self.fold {
            Fold::Never => html! { section { header { (head) } (body) } },
            Fold::Open => html! { details open { summary { (head) } (body) } },
            Fold::Closed => html! { details { summary { (head) } (body) } },
        }
    }
}

/// Something in a section.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Block {
    /// A paragraph.
    Text(String),
    /// A paragraph that stands out.
    Callout(Tone, String),
    /// A list of lines.
    List(Vec<String>),
    /// Text with its line ends and spaces, such as a configuration or a command.
    Code(String),
    /// Names with values.
    Facts(Facts),
    /// A table.
    Table(Table),
    /// Horizontal bars: a histogram, or counts by name.
    Bars(Bars),
    /// Curves over a pair of axes.
    Plot(Plot),
    /// A picture over the whole width.
    Picture(Picture),
    /// Small pictures in rows.
    Gallery(Vec<Picture>),
    /// Blocks side by side where there is room, else one below the other.
    Side(Vec<Block>),
    /// A section inside this one.
    Section(Section),
}

impl Block {
    fn markup(&self, level: u8) -> Markup {
        match self {
            Self::Text(text) => html! { p { (shown(text)) } },
            Self::Callout(tone, text) => html! { div.callout.(tone.class()) { p { (shown(text)) } } },
            Self::List(lines) => html! { ul { @for line in lines { li { (shown(line)) } } } },
            Self::Code(text) => html! { pre { (shown(text)) } },
            Self::Facts(facts) => facts.markup(),
            Self::Table(table) => table.markup(),
            Self::Bars(bars) => bars.markup(),
            Self::Plot(plot) => plot::markup(plot),
            Self::Picture(picture) => picture.markup(),
            Self::Gallery(pictures) => html! { div.gallery { @for picture in pictures { (picture.markup()) } } },
            Self::Side(blocks) => html! { div.side { @for block in blocks { div { (block.markup(level)) } } } },
            Self::Section(section) => section.markup(level + 1),
        }
    }
}

macro_rules! block_from {
    ($($kind:ident($content:ty)),*) => { $(
        impl From<$content> for Block {
            fn from(content: $content) -> Self {
                Self::$kind(content)
            }
        }
    )* };
}

block_from!(Facts(Facts), Table(Table), Bars(Bars), Plot(Plot), Picture(Picture), Section(Section), Text(String));

impl From<&str> for Block {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

/// Names with values.
#[derive(Clone, Debug, Default)]
pub struct Facts(Vec<(String, String)>);

impl Facts {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one.
    #[must_use]
    pub fn fact(mut self, name: impl Into<String>, value: impl ToString) -> Self {
        self.push(name, value);
        self
    }

    /// Adds one, where it comes out of a loop.
    pub fn push(&mut self, name: impl Into<String>, value: impl ToString) {
        self.0.push((name.into(), value.to_string()));
    }

    fn markup(&self) -> Markup {
        html! { dl { @for (name, value) in &self.0 { dt { (shown(name)) } dd { (shown(value)) } } } }
    }
}

/// A text as it may stand in a page: control characters, which HTML forbids, become the sign of replacement.
fn shown(text: &str) -> std::borrow::Cow<'_, str> {
    let forbidden = |letter: char| letter.is_control() && letter != '\n' && letter != '\t';
    if text.contains(forbidden) { text.replace(forbidden, "\u{fffd}").into() } else { text.into() }
}
