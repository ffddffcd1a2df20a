//! Where the tags with the labels go.

use crate::canvas::PixelRect;

/// Chooses places for tags inside a picture, one after another, the most important first.
pub(crate) struct TagLayout {
    picture: PixelRect,
    /// All that tags should not hide.
    boxes: Vec<PixelRect>,
    placed: Vec<PixelRect>,
}

impl TagLayout {
    pub(crate) fn new(picture: PixelRect, boxes: Vec<PixelRect>) -> Self {
        Self { picture, boxes, placed: Vec::new() }
    }

    /// The most pixels a tag can be wide.
    pub(crate) fn width(&self) -> i64 {
        self.picture.width()
    }

    /// The place of a tag that belongs to a box; `None` where there is none that leaves it readable.
    ///
    /// The places around the box and in its corners are tried, moved into the picture; the one that hides least of the
    /// tags before it is taken, then the one that hides least of the boxes, then the first.
    pub(crate) fn place(&mut self, bounds: PixelRect, width: i64, height: i64) -> Option<PixelRect> {
        // A tag so high beside the picture would hide what it names.
        const PICTURE_TO_TAG: i64 = 6;
        // The stronger tag lies on top: of a weaker one this share may be hidden before it is only a nuisance.
        const MOST_HIDDEN: f64 = 0.3;

        if width > self.picture.width() || PICTURE_TO_TAG * height > self.picture.height() {
            return None;
        }
        let (left, right) = (bounds.x0, bounds.x1 - width);
        let (above, below) = (bounds.y0 - height, bounds.y1);
        let (top, bottom) = (bounds.y0, bounds.y1 - height);
        let corners = [
            (left, above),
            (left, below),
            (left, top),
            (right, above),
            (right, below),
            (right, top),
            (left, bottom),
            (right, bottom),
            (bounds.x1, top),
            (bounds.x0 - width, top),
            (bounds.x1, bottom),
            (bounds.x0 - width, bottom),
        ];

        let mut best: Option<(f64, PixelRect)> = None;
        for (order, (x, y)) in corners.into_iter().enumerate() {
            let x = x.clamp(self.picture.x0, self.picture.x1 - width);
            let y = y.clamp(self.picture.y0, self.picture.y1 - height);
            let tag = PixelRect::new(x, y, x + width, y + height);
            let hidden_boxes: f64 = self.boxes.iter().map(|hidden| share(hidden, &tag)).sum();
            let cost = 4.0 * self.hidden(&tag) + hidden_boxes + 0.02 * order as f64;
            if best.is_none_or(|(least, _)| cost < least) {
                best = Some((cost, tag));
            }
        }
        let (_, tag) = best.filter(|(_, tag)| self.hidden(tag) <= MOST_HIDDEN)?;
        self.placed.push(tag);
        Some(tag)
    }

    /// How much of a tag the ones before it hide.
    fn hidden(&self, tag: &PixelRect) -> f64 {
        self.placed.iter().map(|other| share(tag, other)).sum()
    }
}

/// The share of a rectangle that another one covers.
fn share(rect: &PixelRect, cover: &PixelRect) -> f64 {
    rect.clipped(cover).area() as f64 / rect.area().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rect([x0, y0, x1, y1]: [i64; 4]) -> PixelRect {
        PixelRect::new(x0, y0, x1, y1)
    }

    /// Tags of 30 x 10 for these boxes, one after another, on a picture of 100 x 80.
    #[track_caller]
    fn check(boxes: &[[i64; 4]], expected: &[Option<[i64; 4]>]) {
        let boxes: Vec<PixelRect> = boxes.iter().copied().map(rect).collect();
        let mut layout = TagLayout::new(rect([0, 0, 100, 80]), boxes.clone());
        let placed: Vec<Option<PixelRect>> = boxes.iter().map(|bounds| layout.place(*bounds, 30, 10)).collect();
        let expected: Vec<Option<PixelRect>> = expected.iter().map(|tag| tag.map(rect)).collect();
        assert_eq!(placed, expected);
    }

    #[test]
    fn a_tag_stands_on_its_box() {
        check(&[[20, 30, 60, 70]], &[Some([20, 20, 50, 30])]);
    }

    #[test]
    fn at_the_top_it_hangs_below_or_goes_inside() {
        check(&[[20, 0, 60, 40]], &[Some([20, 40, 50, 50])]);
        // Over the full height only the inside is left, and the sides, which come after it.
        check(&[[20, 0, 60, 80]], &[Some([20, 0, 50, 10])]);
        check(&[[0, 0, 100, 80]], &[Some([0, 0, 30, 10])]);
    }

    #[test]
    fn tags_hide_neither_tags_nor_boxes() {
        let same = [20, 30, 60, 70];
        check(&[same, same], &[Some([20, 20, 50, 30]), Some([20, 70, 50, 80])]);
        // A small box stands where the tag of the large one would.
        check(&[same, [25, 22, 30, 27]], &[Some([20, 70, 50, 80]), Some([25, 12, 55, 22])]);
    }

    #[test]
    fn tags_move_into_the_picture() {
        check(&[[90, 30, 100, 60]], &[Some([70, 20, 100, 30])]);
    }

    #[test]
    fn without_room_there_is_no_tag() {
        let mut small = TagLayout::new(rect([0, 0, 29, 80]), Vec::new());
        assert_eq!(small.place(rect([0, 0, 29, 80]), 30, 10), None);
        let mut low = TagLayout::new(rect([0, 0, 100, 59]), Vec::new());
        assert_eq!(low.place(rect([0, 0, 50, 59]), 30, 10), None);
        let mut full = TagLayout::new(rect([0, 0, 30, 60]), Vec::new());
        let places: Vec<bool> = (0..9).map(|_| full.place(rect([0, 0, 30, 60]), 30, 10).is_some()).collect();
        assert_eq!(places, [true, true, false, false, false, false, false, false, false]);
    }
}
