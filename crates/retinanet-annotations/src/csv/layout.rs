//! Which column of a table is which.

use std::path::Path;

use csv::StringRecord;
use retinanet_anchors::ImageSize;

use crate::file::quoted;
use crate::table::{cell, column, first_rows};

/// Which column is which, by position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) delimiter: u8,
    pub(super) has_header: bool,
    path: usize,
    /// Left, top, right, bottom.
    corners: [usize; 4],
    class: usize,
    /// Width and height of the image.
    size: Option<[usize; 2]>,
}

/// What a row says.
pub(super) struct Row<'a> {
    pub(super) path: &'a str,
    pub(super) class: &'a str,
    /// Left, top, right, bottom; none where all four are empty; or what is wrong.
    pub(super) corners: Result<Option<[f64; 4]>, String>,
    pub(super) size: Option<ImageSize>,
}

const PATHS: [&str; 11] = [
    "filename",
    "file_name",
    "image_path",
    "img_path",
    "path",
    "image",
    "img",
    "image_name",
    "image_id",
    "img_file",
    "file",
];
const CLASSES: [&str; 9] =
    ["class", "class_name", "label", "label_name", "category", "cell_type", "name", "species", "object"];
const CORNERS: [[&str; 4]; 4] = [
    ["xmin", "x_min", "x1", "left"],
    ["ymin", "y_min", "y1", "top"],
    ["xmax", "x_max", "x2", "right"],
    ["ymax", "y_max", "y2", "bottom"],
];

impl Layout {
    /// Told from the first row; none where the table holds no boxes.
    pub(super) fn of(path: &Path) -> Option<Self> {
        first_rows(path)
            .into_iter()
            .find_map(|(delimiter, row)| Self::of_header(delimiter, &row).or_else(|| Self::of_row(delimiter, &row)))
    }

    fn of_header(delimiter: u8, header: &StringRecord) -> Option<Self> {
        let mut corners = [0; 4];
        for (corner, names) in corners.iter_mut().zip(&CORNERS) {
            *corner = column(header, names)?;
        }
        let size = column(header, &["width", "image_width", "img_width"])
            .zip(column(header, &["height", "image_height", "img_height"]))
            .map(|(width, height)| [width, height]);
        let path = column(header, &PATHS)?;
        let mut used = corners.to_vec();
        used.push(path);
        used.extend(size.into_iter().flatten());
        let mut unused = (0..header.len()).filter(|idx| !used.contains(idx));
        // A single column that is left must be it, whatever it is called.
        let only = || unused.next().filter(|_| unused.next().is_none());
        let class = column(header, &CLASSES).filter(|class| !used.contains(class)).or_else(only)?;
        Some(Self { delimiter, has_header: true, path, corners, class, size })
    }

    /// keras-retinanet's columns, which have no header: four numbers, or four times nothing, behind a path.
    fn of_row(delimiter: u8, row: &StringRecord) -> Option<Self> {
        let is_number = |column: usize| cell(row, column).parse::<f64>().is_ok();
        let is_box = (1..5).all(is_number) || (1..6).all(|column| cell(row, column).is_empty());
        let fits = row.len() == 6 && !cell(row, 0).is_empty() && is_box;
        fits.then_some(Self { delimiter, has_header: false, path: 0, corners: [1, 2, 3, 4], class: 5, size: None })
    }

    pub(super) fn row<'a>(&self, row: &'a StringRecord) -> Row<'a> {
        let side = |column: usize| {
            let side: f64 = cell(row, column).parse().ok()?;
            (side >= 1.0 && side <= f64::from(u32::MAX)).then_some(side as usize)
        };
        let size = self.size.and_then(|[width, height]| Some(ImageSize::new(side(width)?, side(height)?)));
        Row { path: cell(row, self.path), class: cell(row, self.class), corners: self.corners(row), size }
    }

    fn corners(&self, row: &StringRecord) -> Result<Option<[f64; 4]>, String> {
        let texts = self.corners.map(|column| cell(row, column));
        if texts.iter().all(|text| text.is_empty()) {
            return Ok(None);
        }
        let mut corners = [0.0; 4];
        for ((corner, text), name) in corners.iter_mut().zip(texts).zip(["x1", "y1", "x2", "y2"]) {
            let value = text.parse().ok().filter(|value: &f64| value.is_finite());
            let found = || if text.is_empty() { "nothing".to_owned() } else { quoted(text) };
            *corner = value.ok_or_else(|| format!("{name}: expected a finite number, found {}", found()))?;
        }
        Ok(Some(corners))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Option<([usize; 4], usize, usize, bool)>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.csv");
        std::fs::write(&path, text).unwrap();
        let found = Layout::of(&path).map(|layout| (layout.corners, layout.path, layout.class, layout.has_header));
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn columns_are_found_by_name_or_place() {
        check("a.jpg,1,2,3,4,dog\n", Some(([1, 2, 3, 4], 0, 5, false)));
        check("a b.jpg,,,,,\r\n", Some(([1, 2, 3, 4], 0, 5, false)));
        check("a.jpg;1;2;3;4.5;dog\n", Some(([1, 2, 3, 4], 0, 5, false)));
        check("\u{feff}filename,cell_type,xmin,xmax,ymin,ymax\n", Some(([2, 4, 3, 5], 0, 1, true)));
        check("filename,width,height,class,xmin,ymin,xmax,ymax\n", Some(([4, 5, 6, 7], 0, 3, true)));
        check("image_path\tXMIN\tYMIN\tXMAX\tYMAX\tkind of bird\n", Some(([1, 2, 3, 4], 0, 5, true)));
        // Two columns could be the class.
        check("image_path,xmin,ymin,xmax,ymax,a,b\n", None);
        check("a.jpg,1,2,3,dog\n", None);
        check("dog,0\n", None);
        check("", None);
    }
}
