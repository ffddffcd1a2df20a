//! One XML file: the image it is about and its objects.

use retinanet_anchors::ImageSize;
use roxmltree::{Document, Node, ParsingOptions};

use crate::file::quoted;

/// What one file says.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct XmlFile {
    pub(crate) file_name: Option<String>,
    pub(crate) size: Option<ImageSize>,
    pub(crate) objects: Vec<Object>,
}

/// One `<object>`.
#[derive(Debug, PartialEq)]
pub(crate) struct Object {
    pub(crate) name: Option<String>,
    /// The line it starts at, from 1.
    pub(crate) line: usize,
    /// xmin, ymin, xmax, ymax as written, or what is wrong.
    pub(crate) corners: Result<[f64; 4], String>,
    pub(crate) is_difficult: bool,
    pub(crate) is_truncated: Option<bool>,
    pub(crate) is_occluded: Option<bool>,
    pub(crate) pose: Option<String>,
}

/// Why a file is none: line, column and reason.
pub(crate) type XmlError = (usize, usize, String);

/// A hundred thousand objects have fewer nodes; a bomb has more.
const NODE_LIMIT: u32 = 8_000_000;

pub(crate) fn parse(text: &str) -> Result<XmlFile, XmlError> {
    let options = ParsingOptions { nodes_limit: NODE_LIMIT, ..ParsingOptions::default() };
    let document = Document::parse_with_options(text, options).map_err(|error| {
        let position = error.pos();
        (position.row as usize, position.col as usize, format!("XML: {error}"))
    })?;
    let root = document.root_element();
    if !root.has_tag_name("annotation") {
        let found = quoted(root.tag_name().name());
        return Err((1, 1, format!("root element: expected \"annotation\", found {found}")));
    }
    let mut lines = Lines { text, position: 0, line: 1 };
    let objects = root.children().filter(|node| node.has_tag_name("object"));
    Ok(XmlFile {
        file_name: child_text(root, "filename").map(str::to_owned),
        size: child(root, "size").and_then(size),
        objects: objects
            .map(|node| Object {
                name: child_text(node, "name").map(str::to_owned),
                line: lines.at(node.range().start),
                corners: corners(node),
                is_difficult: flag(node, "difficult").unwrap_or(false),
                is_truncated: flag(node, "truncated"),
                is_occluded: flag(node, "occluded"),
                // What tools write where nobody said.
                pose: child_text(node, "pose").filter(|pose| *pose != "Unspecified").map(str::to_owned),
            })
            .collect(),
    })
}

fn child<'a, 'input>(node: Node<'a, 'input>, name: &str) -> Option<Node<'a, 'input>> {
    node.children().find(|child| child.has_tag_name(name))
}

/// The text of a child, trimmed; none where it is empty.
fn child_text<'a>(node: Node<'a, '_>, name: &str) -> Option<&'a str> {
    child(node, name)?.text().map(str::trim).filter(|text| !text.is_empty())
}

/// Set by anything but 0.
fn flag(node: Node<'_, '_>, name: &str) -> Option<bool> {
    child_text(node, name).map(|text| text != "0")
}

/// The size, unless a side is missing or 0, as some tools write.
fn size(node: Node<'_, '_>) -> Option<ImageSize> {
    let side = |name| {
        let side: f64 = child_text(node, name)?.parse().ok()?;
        (side >= 1.0 && side <= f64::from(u32::MAX)).then_some(side as usize)
    };
    Some(ImageSize::new(side("width")?, side("height")?))
}

/// The box of the object itself: its parts (head, hand) have boxes of their own, which are not its children.
fn corners(object: Node<'_, '_>) -> Result<[f64; 4], String> {
    let bounds = child(object, "bndbox").ok_or("bndbox: expected one, found nothing")?;
    let mut corners = [0.0; 4];
    for (corner, name) in corners.iter_mut().zip(["xmin", "ymin", "xmax", "ymax"]) {
        let text = child_text(bounds, name);
        *corner = text
            .and_then(|text| text.parse().ok())
            .filter(|value: &f64| value.is_finite())
            .ok_or_else(|| format!("{name}: expected a number, found {}", text.map_or("nothing".to_owned(), quoted)))?;
    }
    Ok(corners)
}

/// Counts lines once for positions that only grow, since the parser counts from the start each time.
struct Lines<'a> {
    text: &'a str,
    position: usize,
    line: usize,
}

impl Lines<'_> {
    fn at(&mut self, position: usize) -> usize {
        let passed = self.text.as_bytes().get(self.position..position).unwrap_or_default();
        self.line += passed.iter().filter(|&&byte| byte == b'\n').count();
        self.position = self.position.max(position);
        self.line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_read_with_its_line_and_without_its_parts() {
        let text = "<annotation>\n<filename> a b.JPG </filename><size><width>640</width><height>480</height></size>\n\
            <object><name>čaj</name><pose>Left</pose><part><bndbox><xmin>9</xmin></bndbox></part><difficult>1</difficult>\n\
            <bndbox><ymin>2</ymin><xmin>1.5</xmin><xmax>3</xmax><ymax>4</ymax></bndbox></object>\n\
            <object><name>b</name></object></annotation>";
        let file = parse(text).unwrap();
        assert_eq!(file.file_name.as_deref(), Some("a b.JPG"));
        assert_eq!(file.size, Some(ImageSize::new(640, 480)));
        let first = Object {
            name: Some("čaj".into()),
            line: 3,
            corners: Ok([1.5, 2.0, 3.0, 4.0]),
            is_difficult: true,
            is_truncated: None,
            is_occluded: None,
            pose: Some("Left".into()),
        };
        assert_eq!(file.objects[0], first);
        assert_eq!(file.objects[1].line, 5);
        assert_eq!(file.objects[1].corners, Err("bndbox: expected one, found nothing".into()));
    }

    #[test]
    fn sizes_of_zero_are_unknown() {
        let text = "<annotation><size><width>0</width><height>480</height></size></annotation>";
        assert_eq!(parse(text).unwrap().size, None);
    }

    #[test]
    fn errors_have_a_place() {
        let (line, _, message) = parse("<annotation>\n<object>\n</annotation>").unwrap_err();
        assert_eq!(line, 3, "{message}");
        assert_eq!(parse("<html/>").unwrap_err().2, "root element: expected \"annotation\", found \"html\"");
    }

    #[test]
    fn deep_nesting_is_no_stack_overflow() {
        for depth in [1_000, 200_000] {
            let text = format!("<annotation>{}{}</annotation>", "<a>".repeat(depth), "</a>".repeat(depth));
            let _ = parse(&text);
            let _ = parse(&"<a>".repeat(depth));
        }
    }
}
