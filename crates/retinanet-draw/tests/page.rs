//! Pages: whole whatever the texts are, and without anything from elsewhere.

use proptest::prelude::*;
use retinanet_draw::page::{Bars, Block, Cell, Facts, Page, Picture, Section, Table, Tone};
use retinanet_draw::{Plot, RgbImage, Series};

/// A page with a text at every place that takes one.
fn page_of(text: &str) -> Page {
    let picture = || Picture::photo(&RgbImage::new(8, 6), text).expect("a picture");
    let mut table = Table::new([text, "number"]).caption(text);
    table.push([Cell::text(text).tone(Tone::Error), Cell::number(text)]);
    let mut bars = Bars::new(text).parts([text, "b"]);
    bars.push(text, [1.0, 2.0]);
    let plot = Plot {
        title: text.to_owned(),
        x_label: text.to_owned(),
        y_label: text.to_owned(),
        series: vec![Series { name: text.to_owned(), points: vec![(0.0, 1.0), (1.0, f64::NAN), (2.0, 3.0)] }],
        ..Plot::default()
    };
    let section = Section::open(text)
        .tag(Tone::Warning, text)
        .with(text)
        .with(Block::Callout(Tone::Note, text.to_owned()))
        .with(Block::List(vec![text.to_owned()]))
        .with(Block::Code(text.to_owned()))
        .with(Facts::new().fact(text, text))
        .with(table)
        .with(bars)
        .with(plot)
        .with(picture())
        .with(Block::Gallery(vec![picture(), picture()]))
        .with(Block::Side(vec![text.into(), Section::closed(text).with(text).into()]));
    Page::new(text).lead(text).section(section).footer(text)
}

/// Elements that have no end.
const VOID: [&str; 2] = ["meta", "img"];

/// The opening tags of a page, after looking that every element is closed in its turn, and the texts between.
#[track_caller]
fn parse(html: &str) -> (Vec<String>, Vec<String>) {
    let rest = html.strip_prefix("<!DOCTYPE html>").expect("a document type");
    let (mut open, mut tags, mut texts) = (Vec::new(), Vec::new(), Vec::new());
    for part in rest.split('<').skip(1) {
        let (tag, text) = part.split_once('>').expect("the tag ends");
        let name = tag.split(' ').next().expect("a name");
        if let Some(name) = name.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name), "{tag}");
        } else {
            assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
            tags.push(tag.to_owned());
            if !VOID.contains(&name) {
                open.push(name);
            }
        }
        texts.push(text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&amp;", "&"));
    }
    assert_eq!(open, [""; 0]);
    (tags, texts)
}

/// The page has the elements of a harmless one, and the text at every place, as it was.
#[track_caller]
fn check(text: &str) {
    let (harmless, places) = parse(&page_of("harmless").to_html());
    let (tags, texts) = parse(&page_of(text).to_html());
    let names = |tags: &[String]| -> Vec<String> {
        tags.iter().map(|tag| tag.split(' ').next().expect("a name").to_owned()).collect()
    };
    assert_eq!(names(&tags), names(&harmless));
    for tag in &tags {
        let name = tag.split(' ').next().expect("a name");
        assert!(!["script", "link", "iframe", "object", "form", "base"].contains(&name), "{tag}");
    }
    let count = |texts: &[String], text: &str| texts.iter().filter(|found| found.as_str() == text).count();
    assert_eq!(count(&texts, text), count(&places, "harmless"));
    assert!(count(&places, "harmless") > 20);
}

#[test]
fn hostile_texts_stay_texts() {
    check("<script>alert(1)</script>");
    check("</style></title></textarea><img src=x onerror=alert(1)>");
    check("\" onmouseover=\"alert(1)\" x='");
    check("--> <!-- ]]> &lt; &#60;script&#62;");
    check("\u{202e}gnp.exe\u{2066}\u{200f}مرحبا");
    check(&"long".repeat(2500));
    check(&"<".repeat(10_000));
    check("two\nlines\tand a tab");
}

#[test]
fn control_characters_are_replaced() {
    let html = page_of("a\0b\u{1b}[31mc\u{85}").to_html();
    assert!(html.contains("a\u{fffd}b\u{fffd}[31mc\u{fffd}"));
    assert!(!html.contains(|letter: char| letter.is_control() && letter != '\n'));
}

proptest! {
    #[test]
    fn any_text_stays_text(text in "[^\\p{Cc}]{1,40}") {
        prop_assume!(text != "number" && text != "b" && text.chars().any(|letter| !letter.is_numeric()));
        check(&text);
    }
}

#[test]
fn nothing_comes_from_elsewhere() {
    let html = page_of("text").to_html();
    let (tags, _) = parse(&html);
    for tag in &tags {
        for attribute in ["src=\"", "href=\"", "xlink"] {
            let value = tag.split_once(attribute).map_or("data:", |(_, value)| value);
            assert!(value.starts_with("data:"), "{tag}");
        }
    }
    assert!(!html.contains("url(") && !html.contains("@import") && !html.contains("http:") && !html.contains("https:"));
    assert!(html.contains("default-src 'none'"));
}

#[test]
fn values_that_are_no_numbers_draw_nothing() {
    let mut bars = Bars::new("");
    bars.push("nan", [f64::NAN, f64::INFINITY, -1.0]);
    bars.push("none", []);
    let empty = Plot::default();
    let gaps = Plot { series: vec![Series { name: String::new(), points: vec![(f64::NAN, 1.0)] }], ..Plot::default() };
    let html = Page::new("").section(Section::new("").with(bars).with(empty).with(gaps)).to_html();
    parse(&html);
    assert!(!html.contains("NaN") && !html.contains("inf%"), "{html}");
}

#[test]
fn pictures_lie_in_the_page() {
    let picture = RgbImage::from_pixel(3, 2, [9, 8, 7].into());
    let section = Section::new("p").with(Picture::drawing(&picture, "a").expect("a picture"));
    let html = Page::new("p").section(section).to_html();
    assert!(html.contains("src=\"data:image/png;base64,iVBORw0KGgo") && html.contains("width=\"3\" height=\"2\""));
    assert!(Picture::photo(&RgbImage::new(0, 0), "").is_err());
}
