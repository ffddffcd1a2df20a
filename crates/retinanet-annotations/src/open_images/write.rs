//! The same tables, written.

use std::path::Path;

use super::classes::LABEL_FIELD;
use crate::convert::{NamedSplit, relative};
use crate::file::stem_of;
use crate::table::write_rows;
use crate::{AnnotationError, Class, Details, SetDetails};

const HEADER: [&str; 13] = [
    "ImageID",
    "Source",
    "LabelName",
    "Confidence",
    "XMin",
    "XMax",
    "YMin",
    "YMax",
    "IsOccluded",
    "IsTruncated",
    "IsGroupOf",
    "IsDepiction",
    "IsInside",
];

/// Writes the tables of boxes and of images of each split, and the names of the labels.
pub(crate) fn write(
    root: &Path,
    classes: &[Class],
    details: Option<&SetDetails>,
    splits: &[NamedSplit],
) -> Result<(), AnnotationError> {
    let labels: Vec<String> = classes.iter().map(|class| label(class, details)).collect();
    write_rows(&root.join("class-descriptions-boxable.csv"), &mut |output| {
        labels.iter().zip(classes).try_for_each(|(label, class)| output.write_record([label, &class.name]))
    })?;
    for split in splits {
        let prefix = if split.name.is_empty() { String::new() } else { format!("{}-", split.name) };
        write_rows(&root.join(format!("{prefix}images.csv")), &mut |output| {
            output.write_record(["ImageID", "Subset"])?;
            split
                .images
                .iter()
                .try_for_each(|image| output.write_record([&*stem_of(Path::new(&image.file_name)), split.name]))
        })?;
        write_rows(&root.join(format!("{prefix}annotations-bbox.csv")), &mut |output| {
            output.write_record(HEADER)?;
            for image in split.images {
                let image_id = stem_of(Path::new(&image.file_name));
                for annotation in &image.annotations {
                    let Some([left, top, right, bottom]) = relative(annotation, image.size) else { continue };
                    let none = Details::default();
                    let details = annotation.details.as_deref().unwrap_or(&none);
                    output.write_record([
                        &*image_id,
                        details.source.as_deref().unwrap_or_default(),
                        &labels[annotation.class_idx],
                        &details.confidence.map_or(String::new(), |value| value.to_string()),
                        &left.to_string(),
                        &right.to_string(),
                        &top.to_string(),
                        &bottom.to_string(),
                        flag(details.is_occluded),
                        flag(details.is_truncated),
                        flag(Some(annotation.is_crowd)),
                        flag(details.is_depiction),
                        flag(details.is_inside),
                    ])?;
                }
            }
            Ok(())
        })?;
    }
    Ok(())
}

/// The label that a class had, else its name.
fn label(class: &Class, details: Option<&SetDetails>) -> String {
    let field = details.and_then(|details| details.class_fields.get(&class.name)?.get(LABEL_FIELD));
    let label = field.and_then(|json| serde_json::from_str(json).ok());
    label.unwrap_or_else(|| class.name.clone())
}

fn flag(value: Option<bool>) -> &'static str {
    match value {
        Some(true) => "1",
        Some(false) => "0",
        None => "-1",
    }
}
