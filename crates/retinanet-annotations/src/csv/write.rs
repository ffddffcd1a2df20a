//! The same tables, written.

use std::path::Path;

use crate::convert::{NamedSplit, image_folder};
use crate::table::write_rows;
use crate::{AnnotationError, Class, Format};

/// Writes a table for each split, and the ids of the classes.
pub(crate) fn write(root: &Path, classes: &[Class], splits: &[NamedSplit]) -> Result<(), AnnotationError> {
    let path = root.join("classes.csv");
    write_rows(&path, &mut |output| {
        classes.iter().try_for_each(|class| output.write_record([class.name.as_str(), &class.category_id.to_string()]))
    })?;
    for split in splits {
        let name = if split.name.is_empty() { "annotations" } else { split.name };
        let folder = image_folder(Format::Csv, split.name);
        write_rows(&root.join(format!("{name}.csv")), &mut |output| {
            for image in split.images {
                let path = format!("{folder}/{}", image.file_name);
                if image.annotations.is_empty() {
                    output.write_record([path.as_str(), "", "", "", "", ""])?;
                }
                for annotation in &image.annotations {
                    let [x, y, width, height] = annotation.xywh;
                    let [left, top, right, bottom] = [x, y, x + width, y + height].map(|value| value.to_string());
                    let class = &classes[annotation.class_idx].name;
                    output.write_record([&path, &left, &top, &right, &bottom, class])?;
                }
            }
            Ok(())
        })?;
    }
    Ok(())
}
