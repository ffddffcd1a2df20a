//! What is asked of a box, whatever the format.

use std::fmt;

use retinanet_anchors::ImageSize;

/// A number of a message; hundreds of digits are no help.
struct Shown(f64);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_plain = self.0 == 0.0 || !self.0.is_finite() || (1e-9..1e15).contains(&self.0.abs());
        if is_plain { self.0.fmt(f) } else { write!(f, "{:e}", self.0) }
    }
}

/// Whether the corners and the area of a box are finite, too.
pub(crate) fn is_finite([x, y, width, height]: [f64; 4]) -> bool {
    [x, y, width, height, x + width, y + height, width * height].iter().all(|value| value.is_finite())
}

/// Why a network cannot be trained on a box (left, top, width, height), in the error grammar; none for a good box.
pub(crate) fn defect([x, y, width, height]: [f64; 4]) -> Option<String> {
    if !is_finite([x, y, width, height]) {
        let [x, y, width, height] = [x, y, width, height].map(Shown);
        return Some(format!("box is not finite: expected four finite numbers, found {x}, {y}, {width}, {height}"));
    }
    let side = |name: &str, length| format!("box has non-positive {name}: expected > 0, found {}", Shown(length));
    if width <= 0.0 {
        return Some(side("width", width));
    }
    (height <= 0.0).then(|| side("height", height))
}

/// Where a box has no point in common with its image.
pub(crate) fn outside([x, y, width, height]: [f64; 4], size: Option<ImageSize>) -> Option<String> {
    let size = size?;
    let inside = x < size.width as f64 && y < size.height as f64 && x + width > 0.0 && y + height > 0.0;
    (!inside).then(|| {
        let [x, y, width, height] = [x, y, width, height].map(Shown);
        format!("box is outside the image: expected it within {size}, found left {x}, top {y}, width {width}, height {height}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defects_name_the_side_and_the_value() {
        assert_eq!(defect([1.0, 2.0, 0.5, 3.0]), None);
        assert_eq!(defect([1.0, 2.0, 0.0, 3.0]).unwrap(), "box has non-positive width: expected > 0, found 0");
        assert_eq!(defect([1.0, 2.0, 1.0, -3.0]).unwrap(), "box has non-positive height: expected > 0, found -3");
        assert!(defect([f64::NAN, 2.0, 1.0, 1.0]).unwrap().contains("not finite"));
        // Each number is finite, and the area is not.
        assert!(defect([0.0, 0.0, 1e200, 1e200]).unwrap().contains("not finite"));
    }

    #[test]
    fn touching_from_outside_is_outside() {
        let size = Some(ImageSize::new(10, 20));
        assert!(outside([10.0, 0.0, 5.0, 5.0], size).is_some());
        assert!(outside([-5.0, 0.0, 5.0, 5.0], size).is_some());
        assert!(outside([0.0, 20.0, 5.0, 5.0], size).is_some());
        assert!(outside([-4.9, -4.9, 5.0, 5.0], size).is_none());
        assert!(outside([9.9, 19.9, 500.0, 500.0], size).is_none());
        assert!(outside([1e9, 1e9, 1.0, 1.0], None).is_none());
    }
}
