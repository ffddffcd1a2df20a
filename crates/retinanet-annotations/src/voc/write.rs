//! The same XML files, written.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use crate::convert::{NamedSplit, image_folder, write_text};
use crate::file::stem_of;
use crate::{AnnotatedImage, AnnotationError, Class, Format};

/// Writes a file for each image, and a list of names for each split.
pub(crate) fn write(root: &Path, classes: &[Class], splits: &[NamedSplit]) -> Result<(), AnnotationError> {
    let annotations = root.join("Annotations");
    let lists = root.join("ImageSets").join("Main");
    let is_divided = splits.iter().any(|split| !split.name.is_empty());
    for folder in [Some(&annotations), is_divided.then_some(&lists)].into_iter().flatten() {
        fs::create_dir_all(folder).map_err(|source| AnnotationError::Io { path: folder.clone(), source })?;
    }
    let mut written = HashSet::new();
    for split in splits {
        let folder = image_folder(Format::Voc, split.name);
        let mut list = String::new();
        for image in split.images {
            let stem = stem_of(Path::new(&image.file_name));
            list += &format!("{stem}\n");
            // Several splits may have one image.
            if written.insert(stem.clone()) {
                write_text(&annotations.join(format!("{stem}.xml")), &xml(&folder, image, classes))?;
            }
        }
        if !split.name.is_empty() {
            write_text(&lists.join(format!("{}.txt", split.name)), &list)?;
        }
    }
    Ok(())
}

fn xml(folder: &str, image: &AnnotatedImage, classes: &[Class]) -> String {
    let mut text =
        format!("<annotation>\n  <folder>{folder}</folder>\n  <filename>{}</filename>\n", escaped(&image.file_name));
    if let Some(size) = image.size {
        let (width, height) = (size.width, size.height);
        text += &format!(
            "  <size>\n    <width>{width}</width>\n    <height>{height}</height>\n    <depth>3</depth>\n  </size>\n"
        );
    }
    for annotation in &image.annotations {
        let details = annotation.details.as_deref();
        let name = escaped(&classes[annotation.class_idx].name);
        let pose = details.and_then(|details| details.pose.as_deref()).map_or("Unspecified".to_owned(), escaped);
        text += &format!("  <object>\n    <name>{name}</name>\n    <pose>{pose}</pose>\n");
        let flags = [
            ("truncated", details.and_then(|details| details.is_truncated)),
            ("occluded", details.and_then(|details| details.is_occluded)),
            ("difficult", Some(annotation.is_difficult)),
        ];
        for (name, value) in flags {
            if let Some(value) = value {
                text += &format!("    <{name}>{}</{name}>\n", u8::from(value));
            }
        }
        // Counted from 1, the last pixel included.
        let [x, y, width, height] = annotation.xywh;
        let corners = [("xmin", x + 1.0), ("ymin", y + 1.0), ("xmax", x + width), ("ymax", y + height)];
        text += "    <bndbox>\n";
        for (name, value) in corners {
            // A text is never out of room.
            let _ = writeln!(text, "      <{name}>{value}</{name}>");
        }
        text += "    </bndbox>\n  </object>\n";
    }
    text + "</annotation>\n"
}

/// Text that XML may hold: its own signs as entities, and a question mark for what it cannot hold at all.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '\u{0}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => escaped.push('?'),
            c => escaped.push(c),
        }
    }
    escaped
}
