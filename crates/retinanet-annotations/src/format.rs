//! The formats.

use std::fmt;

/// A format of annotations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Format {
    /// COCO's JSON files.
    Coco,
    /// Pascal VOC: an XML file for each image.
    Voc,
    /// YOLO: a text file for each image, boxes relative to its size.
    Yolo,
    /// A table with a row for each box, as keras-retinanet reads it.
    Csv,
    /// Open Images: a table with a row for each box, relative to the image's size.
    OpenImages,
}

impl Format {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Coco, Self::Voc, Self::Yolo, Self::Csv, Self::OpenImages];
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Coco => "COCO",
            Self::Voc => "Pascal VOC",
            Self::Yolo => "YOLO",
            Self::Csv => "CSV",
            Self::OpenImages => "Open Images",
        })
    }
}
