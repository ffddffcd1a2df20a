//! Labelled boxes on a picture.

use std::borrow::Cow;

use image::RgbImage;
use retinanet_anchors::{BBox, Detection};

use crate::canvas::{PixelRect, fill, frame};
use crate::tag::TagLayout;
use crate::text::Text;
use crate::{Color, class_color};

/// A box to draw, with the text of its tag.
#[derive(Clone, Debug, PartialEq)]
pub struct LabelledBox {
    /// Where, in pixels of the picture.
    pub bbox: BBox,
    /// What the tag says, one line; no tag where it is empty.
    pub text: String,
    /// Of the line and of the tag's ground; [`class_color`] has one for each class.
    pub color: Color,
}

/// Boxes with a class's name, score and colour, the strongest first, as [`draw_detections`] wants them.
///
/// A label without a name is called `class 7`. A NaN score counts as the weakest.
///
/// ```
/// use retinanet_anchors::{BBox, Detection};
/// use retinanet_draw::label_detections;
///
/// let bbox = BBox::new(0.0, 0.0, 9.0, 9.0);
/// let detections = [Detection { bbox, label: 0, score: 0.5 }, Detection { bbox, label: 7, score: 0.918 }];
/// let boxes = label_detections(&detections, &["cat"]);
/// assert_eq!(boxes[0].text, "class 7 0.92");
/// assert_eq!(boxes[1].text, "cat 0.50");
/// ```
#[must_use]
pub fn label_detections(detections: &[Detection], class_names: &[impl AsRef<str>]) -> Vec<LabelledBox> {
    let strength = |d: &Detection| if d.score.is_nan() { f32::NEG_INFINITY } else { d.score };
    let mut sorted: Vec<&Detection> = detections.iter().collect();
    sorted.sort_by(|a, b| strength(b).total_cmp(&strength(a)));
    let labelled = |detection: &Detection| {
        let name = match class_names.get(detection.label) {
            Some(name) => Cow::Borrowed(name.as_ref()),
            None => Cow::Owned(format!("class {}", detection.label)),
        };
        LabelledBox {
            bbox: detection.bbox,
            text: format!("{name} {:.2}", detection.score),
            color: class_color(detection.label),
        }
    };
    sorted.into_iter().map(labelled).collect()
}

/// Draws boxes on a picture, each with a tag that says what it is.
///
/// The first box is the most important: it is drawn last, over the others, and its tag chooses its place first. A line
/// runs between two hairlines of black or white, whichever stands out from its colour, so it is seen on any ground; the
/// text of a tag is black or white by the same rule. Lines and letters grow with the picture. Tags are above all lines
/// and inside the picture, and hide each other and the boxes as little as there is room for; one that could not be read
/// for the stronger tags on it is left out, and its box shows its colour alone.
///
/// Boxes are clipped to the picture. One with a NaN, or with nothing inside the picture, is left out. A text too long
/// for the picture is set smaller, then cut. Pictures less than six tags high (about 80 pixels) get boxes alone: to
/// have names there too, enlarge the picture and the boxes first.
pub fn draw_detections(picture: &mut RgbImage, boxes: &[LabelledBox]) {
    let bounds = PixelRect::of(picture);
    let style = Style::for_picture(&bounds);
    let visible: Vec<(PixelRect, &LabelledBox)> =
        boxes.iter().filter_map(|labelled| Some((to_pixels(&labelled.bbox, &bounds)?, labelled))).collect();

    for (rect, labelled) in visible.iter().rev() {
        style.draw_box(picture, rect, labelled.color);
    }

    let mut layout = TagLayout::new(bounds, visible.iter().map(|(rect, _)| *rect).collect());
    let tags: Vec<Tag> = visible.iter().filter_map(|(rect, labelled)| style.tag(&mut layout, rect, labelled)).collect();
    for tag in tags.iter().rev() {
        style.draw_tag(picture, tag);
    }
}

/// The pixels of a box inside the picture, at least one across and down; `None` where there is nothing to see.
pub(crate) fn to_pixels(bbox: &BBox, picture: &PixelRect) -> Option<PixelRect> {
    let sides = [bbox.x0, bbox.y0, bbox.x1, bbox.y1];
    let (width, height) = (picture.x1 as f32, picture.y1 as f32);
    let outside = bbox.x0 >= width || bbox.y0 >= height || bbox.x1 <= 0.0 || bbox.y1 <= 0.0;
    let drawn = !sides.iter().any(|side| side.is_nan()) && bbox.x1 > bbox.x0 && bbox.y1 > bbox.y0;
    if outside || !drawn {
        return None;
    }
    let span = |low: f32, high: f32, end: i64| {
        let low = (low.max(0.0).round() as i64).min(end - 1);
        let high = (high.min(end as f32).round() as i64).clamp(low + 1, end);
        (low, high)
    };
    let (x0, x1) = span(bbox.x0, bbox.x1, picture.x1);
    let (y0, y1) = span(bbox.y0, bbox.y1, picture.y1);
    Some(PixelRect::new(x0, y0, x1, y1))
}

/// Sizes of what is drawn, from the size of the picture.
struct Style {
    /// Width of a box's line.
    line: i64,
    /// Width of the hairlines beside it.
    hairline: i64,
    /// Between a tag's edge and its text.
    padding: i64,
    /// Height of a line of text.
    text_height: f32,
    text: Text,
}

/// A tag in its place.
struct Tag<'a> {
    rect: PixelRect,
    text: Cow<'a, str>,
    /// Smaller than the style's where the text is long.
    text_height: f32,
    color: Color,
}

impl Style {
    fn for_picture(bounds: &PixelRect) -> Self {
        // The side of a square of the same area: a panorama is not judged by its height alone.
        let side = (bounds.area() as f32).sqrt();
        // Two pixels and 15-pixel letters at 640x480, a little less than in proportion on larger pictures.
        let line = (side / 280.0).round().max(1.0) as i64;
        let text_height = (6.0 + side / 60.0).max(11.0).round();
        Self {
            line,
            hairline: (line / 3).max(1),
            padding: (text_height / 7.0).round() as i64,
            text_height,
            text: Text::new(text_height),
        }
    }

    /// The line of a box lies on its edge, half of it inside and half outside, and never outside the picture.
    fn draw_box(&self, picture: &mut RgbImage, rect: &PixelRect, color: Color) {
        // The lines of a small box are thin, so that what it holds is still seen.
        let side = rect.width().min(rect.height());
        let line = self.line.min((side / 6).max(1));
        let hairline = self.hairline.min(line);
        let outer = rect.grown(line / 2).clipped(&PixelRect::of(picture));
        frame(picture, outer.grown(hairline), hairline, color.legible(), 0.7);
        frame(picture, outer, line, color, 1.0);
        // Inside a box of a few pixels a second hairline would hide everything.
        if side >= 6 * (line + hairline) {
            frame(picture, outer.grown(-line), hairline, color.legible(), 0.7);
        }
    }

    /// The tag of a box in the best place that is left.
    fn tag<'a>(&self, layout: &mut TagLayout, rect: &PixelRect, labelled: &'a LabelledBox) -> Option<Tag<'a>> {
        // Below this, letters are no longer told apart.
        const SMALLEST_TEXT: f32 = 9.0;
        if labelled.text.trim().is_empty() {
            return None;
        }
        let room = layout.width() - 2 * self.padding;
        let full = self.text.width(&labelled.text);
        let mut text_height = self.text_height;
        let mut text = Cow::Borrowed(labelled.text.as_str());
        if full > room {
            let shrunk = (text_height * room.max(0) as f32 / full as f32).floor();
            text_height = shrunk.clamp(SMALLEST_TEXT.min(text_height), text_height);
            text = Text::new(text_height).fitted(&labelled.text, room)?;
        }
        let font = Text::new(text_height);
        let width = font.width(&text) + 2 * self.padding;
        let height = font.line_height() + 2 * (self.padding / 2);
        let anchor = rect.grown(self.line / 2 + self.hairline);
        let rect = layout.place(anchor, width, height)?;
        Some(Tag { rect, text, text_height, color: labelled.color })
    }

    fn draw_tag(&self, picture: &mut RgbImage, tag: &Tag) {
        let ink = tag.color.legible();
        frame(picture, tag.rect.grown(self.hairline), self.hairline, ink, 0.7);
        fill(picture, tag.rect, tag.color, 1.0);
        let (x, y) = (tag.rect.x0 + self.padding, tag.rect.y0 + self.padding / 2);
        Text::new(tag.text_height).draw(picture, x, y, &tag.text, ink);
    }
}
