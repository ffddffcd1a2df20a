//! Antialiased text in the embedded font.

use std::borrow::Cow;

use ab_glyph::{Font as _, FontRef, PxScaleFont, ScaleFont as _};
use image::RgbImage;

use crate::Color;
use crate::canvas::blend;

/// Stems of small letters are a pixel wide and lie over two: without this they would be gray, not black or white.
const EMPHASIS: f32 = 1.3;

/// The font at one size.
pub(crate) struct Text {
    font: PxScaleFont<FontRef<'static>>,
}

impl Text {
    /// Text whose lines, from the top of the tallest letter to the bottom of the deepest, are `height` pixels high.
    pub(crate) fn new(height: f32) -> Self {
        let font = FontRef::try_from_slice(epaint_default_fonts::HACK_REGULAR)
            .expect("the font is a constant of the program, and every test parses it");
        Self { font: font.into_scaled(height) }
    }

    /// Height of a line in whole pixels.
    pub(crate) fn line_height(&self) -> i64 {
        self.font.height().ceil() as i64
    }

    /// Width of a text on one line, in whole pixels.
    pub(crate) fn width(&self, text: &str) -> i64 {
        let advance: f32 = text.chars().map(|letter| self.advance(letter)).sum();
        // The cast saturates, and half of the range leaves room to add margins.
        (advance.ceil() as i64).min(i64::MAX / 2)
    }

    /// The text, or as much of its beginning as fits with an ellipsis; `None` where not even one letter does.
    pub(crate) fn fitted<'a>(&self, text: &'a str, max_width: i64) -> Option<Cow<'a, str>> {
        if self.width(text) <= max_width {
            return Some(Cow::Borrowed(text));
        }
        let room = max_width as f32 - self.advance('…');
        let mut used = 0.0;
        let mut end = 0;
        for (start, letter) in text.char_indices() {
            used += self.advance(letter);
            if used > room {
                break;
            }
            end = start + letter.len_utf8();
        }
        let kept = text[..end].trim_end();
        (!kept.is_empty()).then(|| Cow::Owned(format!("{kept}…")))
    }

    /// Draws one line with its top left corner at a pixel; what is outside the picture is left out.
    pub(crate) fn draw(&self, picture: &mut RgbImage, x: i64, y: i64, text: &str, color: Color) {
        let right = picture.width() as f32;
        // A whole baseline keeps the feet of the letters sharp.
        let baseline = self.font.ascent().round();
        let mut pen = 0.0;
        for letter in text.chars() {
            if x as f32 + pen > right {
                break;
            }
            let glyph = self
                .font
                .glyph_id(shown(letter))
                .with_scale_and_position(self.font.scale(), ab_glyph::point(pen, baseline));
            if let Some(outline) = self.font.outline_glyph(glyph) {
                let bounds = outline.px_bounds();
                let (left, top) = (x + bounds.min.x as i64, y + bounds.min.y as i64);
                outline.draw(|dx, dy, coverage| {
                    let coverage = EMPHASIS * coverage;
                    blend(picture, left + i64::from(dx), top + i64::from(dy), color, coverage);
                });
            }
            pen += self.advance(letter);
        }
    }

    fn advance(&self, letter: char) -> f32 {
        self.font.h_advance(self.font.glyph_id(shown(letter)))
    }
}

/// Control characters (line ends, tabs) become spaces: a text is one line.
fn shown(letter: char) -> char {
    if letter.is_control() { ' ' } else { letter }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_text_ends_in_an_ellipsis() {
        let text = Text::new(16.0);
        let full = text.width("platelets");
        assert_eq!(text.fitted("platelets", full).as_deref(), Some("platelets"));
        let cut = text.fitted("platelets", full - 1).expect("a letter fits");
        assert!(cut.starts_with("plate") && cut.ends_with('…'), "{cut}");
        assert!(text.width(&cut) < full);
        assert_eq!(text.fitted("platelets", 3), None);
        assert_eq!(text.fitted("", 0).as_deref(), Some(""));
    }

    #[test]
    fn letters_leave_ink_inside_their_line() {
        let text = Text::new(20.0);
        let mut picture = RgbImage::from_pixel(200, 60, image::Rgb([255; 3]));
        text.draw(&mut picture, 10, 15, "Ågjé", Color::BLACK);
        let (left, right) = (10, 10 + text.width("Ågjé") as u32);
        let (top, bottom) = (15, 15 + text.line_height() as u32);
        let mut darkest = 255;
        for (x, y, pixel) in picture.enumerate_pixels() {
            darkest = darkest.min(pixel.0[0]);
            let inside = (left..right).contains(&x) && (top..bottom).contains(&y);
            assert!(inside || pixel.0[0] == 255, "ink at {x}, {y}");
        }
        assert!(darkest < 40, "{darkest}");
    }

    #[test]
    fn control_characters_are_spaces() {
        let text = Text::new(16.0);
        assert_eq!(text.width("a\nb\tc"), text.width("a b c"));
    }
}
