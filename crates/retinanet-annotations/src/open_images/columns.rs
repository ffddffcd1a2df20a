//! The columns of a table of boxes, by name.

use std::path::Path;

use csv::StringRecord;
use retinanet_anchors::ImageSize;

use super::classes::Labels;
use crate::file::quoted;
use crate::geometry::{defect, outside};
use crate::table::{cell, column, first_rows};
use crate::{Annotation, Details};

/// Which column is which, by position.
#[derive(Clone, Debug)]
pub(super) struct Columns {
    image_id: usize,
    label: usize,
    /// XMin, XMax, YMin, YMax.
    extent: [usize; 4],
    source: Option<usize>,
    confidence: Option<usize>,
    is_occluded: Option<usize>,
    is_truncated: Option<usize>,
    is_group: Option<usize>,
    is_depiction: Option<usize>,
    is_inside: Option<usize>,
}

const EXTENT: [&str; 4] = ["XMin", "XMax", "YMin", "YMax"];

impl Columns {
    /// The columns of a table of boxes; none where it is another.
    pub(super) fn of(path: &Path) -> Option<Self> {
        let (image_id, header) = Self::image_id(path)?;
        let mut extent = [0; 4];
        for (column, name) in extent.iter_mut().zip(EXTENT) {
            *column = self::column(&header, &[name])?;
        }
        let find = |name| column(&header, &[name]);
        Some(Self {
            image_id,
            label: find("LabelName")?,
            extent,
            source: find("Source"),
            confidence: find("Confidence"),
            is_occluded: find("IsOccluded"),
            is_truncated: find("IsTruncated"),
            is_group: find("IsGroupOf"),
            is_depiction: find("IsDepiction"),
            is_inside: find("IsInside"),
        })
    }

    /// Whether a table is one of images, without boxes or labels.
    pub(super) fn is_image_list(path: &Path) -> bool {
        Self::image_id(path).is_some_and(|(_, header)| column(&header, &["LabelName", "XMin"]).is_none())
    }

    /// The column of the image's id, and the header.
    pub(super) fn image_id(path: &Path) -> Option<(usize, StringRecord)> {
        let (_, header) = first_rows(path).into_iter().find(|(delimiter, _)| *delimiter == b',')?;
        Some((column(&header, &["ImageID"])?, header))
    }

    pub(super) fn image_id_of<'a>(&self, row: &'a StringRecord) -> &'a str {
        cell(row, self.image_id)
    }

    pub(super) fn label_of<'a>(&self, row: &'a StringRecord) -> &'a str {
        cell(row, self.label)
    }

    pub(super) fn annotation(
        &self,
        row: &StringRecord,
        size: Option<ImageSize>,
        labels: &Labels,
        with_details: bool,
    ) -> Result<Annotation, String> {
        let label = self.label_of(row);
        let class_idx = labels.class_idx(label);
        let class_idx =
            class_idx.ok_or_else(|| format!("LabelName: expected a described label, found {}", quoted(label)))?;
        let mut extent = [0.0; 4];
        for ((value, column), name) in extent.iter_mut().zip(self.extent).zip(EXTENT) {
            let text = cell(row, column);
            let number = text.parse().ok().filter(|number: &f64| number.is_finite());
            *value = number.ok_or_else(|| format!("{name}: expected a finite number, found {}", quoted(text)))?;
        }
        let [left, right, top, bottom] = extent;
        let (width, height) = size.map_or((1.0, 1.0), |size| (size.width as f64, size.height as f64));
        let xywh = [left * width, top * height, (right - left) * width, (bottom - top) * height];
        if let Some(what) = defect(xywh).or_else(|| outside(xywh, size)) {
            return Err(what);
        }
        let mut annotation = Annotation::new(class_idx, xywh);
        annotation.is_crowd = flag(row, self.is_group) == Some(true);
        if with_details {
            let details = Details {
                is_occluded: flag(row, self.is_occluded),
                is_truncated: flag(row, self.is_truncated),
                is_depiction: flag(row, self.is_depiction),
                is_inside: flag(row, self.is_inside),
                source: self.source.map(|column| cell(row, column)).filter(|text| !text.is_empty()).map(str::to_owned),
                confidence: self
                    .confidence
                    .and_then(|column| cell(row, column).parse().ok())
                    .filter(|value: &f64| value.is_finite()),
                ..Details::default()
            };
            annotation.details = details.boxed();
        }
        Ok(annotation)
    }
}

/// 0, 1, or -1 for nobody knows.
fn flag(row: &StringRecord, column: Option<usize>) -> Option<bool> {
    match cell(row, column?) {
        "0" => Some(false),
        "1" => Some(true),
        _ => None,
    }
}
