//! Contact sheets: many pictures on one.

use image::{Rgb, RgbImage, imageops};

use crate::DrawError;

/// The most pixels of a sheet: a gigabyte and a half of bytes.
const MAX_SHEET_PIXELS: u64 = 1 << 29;

/// Between and around the pictures: near white, so that dark pictures and light ones both have an edge.
const PAPER: Rgb<u8> = Rgb([236, 236, 236]);

/// The pictures in rows of `columns`, each in the middle of a cell as large as the widest and the highest of them, with
/// `gap` pixels between cells and around them.
///
/// With fewer pictures than columns the sheet is as wide as they need; `columns` 0 counts as 1; no pictures give an
/// empty sheet, `0x0`.
///
/// # Errors
/// The sheet would have more than 2^29 pixels.
pub fn grid(pictures: &[RgbImage], columns: usize, gap: u32) -> Result<RgbImage, DrawError> {
    if pictures.is_empty() {
        return Ok(RgbImage::new(0, 0));
    }
    let columns = columns.clamp(1, pictures.len());
    let rows = pictures.len().div_ceil(columns);
    let cell_width = pictures.iter().map(RgbImage::width).max().unwrap_or(0);
    let cell_height = pictures.iter().map(RgbImage::height).max().unwrap_or(0);

    let side = |cells: usize, cell: u32| {
        let (cells, cell, gap) = (cells as u64, u64::from(cell), u64::from(gap));
        cells.saturating_mul(cell + gap).saturating_add(gap)
    };
    let (width, height) = (side(columns, cell_width), side(rows, cell_height));
    let found = width.saturating_mul(height);
    let (Ok(width), Ok(height), true) = (u32::try_from(width), u32::try_from(height), found <= MAX_SHEET_PIXELS) else {
        return Err(DrawError::TooLarge { what: "contact sheet", limit: MAX_SHEET_PIXELS, found });
    };

    let mut sheet = RgbImage::from_pixel(width, height, PAPER);
    for (idx, picture) in pictures.iter().enumerate() {
        let (column, row) = ((idx % columns) as i64, (idx / columns) as i64);
        let corner =
            |cell: u32, at: i64, side: u32| i64::from(gap) + at * i64::from(cell + gap) + i64::from((cell - side) / 2);
        let x = corner(cell_width, column, picture.width());
        let y = corner(cell_height, row, picture.height());
        imageops::replace(&mut sheet, picture, x, y);
    }
    Ok(sheet)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_stand_in_rows_in_the_middle_of_their_cells() {
        let red = RgbImage::from_pixel(4, 2, Rgb([255, 0, 0]));
        let blue = RgbImage::from_pixel(2, 4, Rgb([0, 0, 255]));
        let sheet = grid(&[red.clone(), blue, red], 2, 1).expect("small");
        assert_eq!(sheet.dimensions(), (1 + 2 * 5, 1 + 2 * 5));
        assert_eq!(sheet.get_pixel(0, 0), &PAPER);
        assert_eq!(sheet.get_pixel(1, 1), &PAPER, "above the wide one");
        assert_eq!(sheet.get_pixel(1, 2), &Rgb([255, 0, 0]));
        assert_eq!(sheet.get_pixel(7, 1), &Rgb([0, 0, 255]));
        assert_eq!(sheet.get_pixel(1, 7), &Rgb([255, 0, 0]), "second row");
        assert_eq!(sheet.get_pixel(8, 8), &PAPER, "no fourth picture");
    }

    #[test]
    fn nothing_zero_and_too_much() {
        assert_eq!(grid(&[], 3, 5).expect("empty").dimensions(), (0, 0));
        let one = [RgbImage::new(3, 3)];
        assert_eq!(grid(&one, 0, 0).expect("one").dimensions(), (3, 3));
        assert_eq!(grid(&one, 9, 2).expect("one").dimensions(), (7, 7));
        assert_eq!(grid(&[RgbImage::new(0, 0)], 1, 0).expect("none").dimensions(), (0, 0));
        let error = grid(&one, 1, u32::MAX / 4).expect_err("too large");
        assert!(error.to_string().starts_with("contact sheet: pixels: expected at most 536870912"));
    }
}
