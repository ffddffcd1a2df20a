//! The same files, written.

use std::fs;
use std::path::Path;

use super::corners;
use crate::convert::{NamedSplit, image_folder, relative, write_text};
use crate::file::stem_of;
use crate::{AnnotatedImage, Annotation, AnnotationError, Class, Format, Outline};

/// Writes `data.yaml` and a label file for each image.
pub(crate) fn write(root: &Path, classes: &[Class], splits: &[NamedSplit]) -> Result<(), AnnotationError> {
    write_text(&root.join("data.yaml"), &yaml(classes, splits))?;
    for split in splits {
        let images = image_folder(Format::Yolo, split.name);
        let labels = root.join(images.replacen("images", "labels", 1));
        // Where images are not copied, the folders say nevertheless where they belong.
        for folder in [&root.join(&images), &labels] {
            fs::create_dir_all(folder).map_err(|source| AnnotationError::Io { path: folder.clone(), source })?;
        }
        for image in split.images {
            let path = labels.join(format!("{}.txt", stem_of(Path::new(&image.file_name))));
            write_text(&path, &lines(image))?;
        }
    }
    Ok(())
}

/// Without `path`, whose meaning differs between tools: the folders are relative to the file.
fn yaml(classes: &[Class], splits: &[NamedSplit]) -> String {
    // JSON's texts in quotes are YAML's, too.
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let mut text = String::new();
    for split in splits.iter().filter(|split| !split.name.is_empty()) {
        text += &format!("{}: {}\n", quoted(split.name), quoted(&image_folder(Format::Yolo, split.name)));
    }
    text += &format!("nc: {}\nnames:\n", classes.len());
    classes.iter().enumerate().for_each(|(idx, class)| text += &format!("  {idx}: {}\n", quoted(&class.name)));
    if classes.is_empty() { text.replace("names:\n", "names: []\n") } else { text }
}

/// A line for each box. Tools take a file for one of polygons as soon as one line is, so boxes are polygons there, too.
fn lines(image: &AnnotatedImage) -> String {
    let has_polygons = image.annotations.iter().any(|annotation| polygon(annotation).is_some());
    let mut text = String::new();
    for annotation in &image.annotations {
        let Some(relative) = relative(annotation, image.size) else { continue };
        let numbers: Vec<f64> = match (polygon(annotation), image.size) {
            (Some(points), Some(size)) => {
                points.iter().flat_map(|[x, y]| [x / size.width as f64, y / size.height as f64]).collect()
            }
            _ if has_polygons => corners(relative).to_vec(),
            _ => {
                let [left, top, right, bottom] = relative;
                // The centre from both corners keeps a box within the image where it is.
                let size = image.size.map_or([1.0; 2], |size| [size.width as f64, size.height as f64]);
                let [_, _, width, height] = annotation.xywh;
                vec![(left + right) / 2.0, (top + bottom) / 2.0, width / size[0], height / size[1]]
            }
        };
        let numbers: Vec<String> = numbers.iter().map(f64::to_string).collect();
        text += &format!("{} {}\n", annotation.class_idx, numbers.join(" "));
    }
    text
}

/// The outline that a line can hold: one polygon, whose bounding box is the box, and which is more than that box.
pub(crate) fn polygon(annotation: &Annotation) -> Option<&[[f64; 2]]> {
    let Some(Outline::Polygons(polygons)) = &annotation.details.as_deref()?.outline else { return None };
    let [points] = polygons.as_slice() else { return None };
    let flat: Vec<f64> = points.iter().flatten().copied().collect();
    let [left, top, right, bottom] = super::extent(&flat);
    let [x, y, width, height] = annotation.xywh;
    let near = |found: f64, expected: f64, side: f64| (found - expected).abs() <= 1e-7 * side;
    let is_box = near(left, x, width)
        && near(right, x + width, width)
        && near(top, y, height)
        && near(bottom, y + height, height);
    (points.len() >= 3 && is_box && flat != corners([left, top, right, bottom])).then_some(points)
}
