//! Colours, how light they are, and a distinct one for each class.

/// An opaque sRGB colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Color {
    /// Red, 0 to 255.
    pub red: u8,
    /// Green, 0 to 255.
    pub green: u8,
    /// Blue, 0 to 255.
    pub blue: u8,
}

impl Color {
    /// Black.
    pub const BLACK: Self = Self::new(0, 0, 0);
    /// White.
    pub const WHITE: Self = Self::new(255, 255, 255);

    /// The colour of these sRGB components.
    #[must_use]
    pub const fn new(red: u8, green: u8, blue: u8) -> Self {
        Self { red, green, blue }
    }

    /// `[red, green, blue]`.
    #[must_use]
    pub const fn to_array(self) -> [u8; 3] {
        [self.red, self.green, self.blue]
    }

    /// Relative luminance, 0 (black) to 1 (white).
    ///
    /// Y = 0.2126 R + 0.7152 G + 0.0722 B   over linear components
    ///
    /// Source: WCAG 2.1, "relative luminance".
    #[must_use]
    pub fn luminance(self) -> f64 {
        let [red, green, blue] = self.to_array().map(linear_from_srgb);
        0.2126 * red + 0.7152 * green + 0.0722 * blue
    }

    /// Contrast with another colour, 1 (the same) to 21 (black and white); text wants 4.5.
    ///
    /// Source: WCAG 2.1, "contrast ratio".
    ///
    /// ```
    /// use retinanet_draw::Color;
    ///
    /// assert!((Color::BLACK.contrast(Color::WHITE) - 21.0).abs() < 1e-9);
    /// ```
    #[must_use]
    pub fn contrast(self, other: Self) -> f64 {
        let (a, b) = (self.luminance(), other.luminance());
        (a.max(b) + 0.05) / (a.min(b) + 0.05)
    }

    /// Black or white, whichever stands out more on this colour.
    ///
    /// One of them always has a contrast of at least 4.58, the square root of 21.
    #[must_use]
    pub fn legible(self) -> Self {
        if self.contrast(Self::BLACK) >= self.contrast(Self::WHITE) { Self::BLACK } else { Self::WHITE }
    }
}

/// The colour of a class: the same for the same index, and distinct from those of near indices.
///
/// Hues a golden angle apart, so that any run of classes spreads evenly over the circle; lightness takes turns among
/// three levels, because hues of indices a Fibonacci number apart come close.
#[must_use]
pub fn class_color(class_idx: usize) -> Color {
    // The first hue is a red that stands out on most photographs.
    golden(class_idx, 25.0, [0.68, 0.80, 0.58])
}

/// The colour of a curve on white: darker than [`class_color`], so that each has a contrast of 3 with the paper.
pub(crate) fn curve_color(curve_idx: usize) -> Color {
    // The first hue is blue; red next to it reads as an alarm, so it comes later.
    golden(curve_idx, 255.0, [0.55, 0.62, 0.45])
}

/// The `idx`-th hue, a golden angle from the last, at the `idx`-th lightness in turn.
fn golden(idx: usize, first_hue: f64, lightnesses: [f64; 3]) -> Color {
    const GOLDEN_ANGLE: f64 = 137.507_764_050_037_85;
    // Colours repeat after so many that no eye tells them apart; the angle stays exact below it.
    let turn = (idx % 6765) as f64;
    let hue = (first_hue + turn * GOLDEN_ANGLE).rem_euclid(360.0);
    from_oklch(lightnesses[idx % lightnesses.len()], 0.19, hue)
}

/// The colour with this OKLCH lightness and hue, and as much of the chroma as sRGB can show.
///
/// Source: Ottosson 2020, "A perceptual color space for image processing" (OKLab in polar form).
fn from_oklch(lightness: f64, chroma: f64, hue_degrees: f64) -> Color {
    let (sine, cosine) = hue_degrees.to_radians().sin_cos();
    let linear = |chroma: f64| linear_from_oklab(lightness, chroma * cosine, chroma * sine);
    let shown = |rgb: [f64; 3]| rgb.iter().all(|c| (-1e-6..=1.0 + 1e-6).contains(c));

    let mut rgb = linear(chroma);
    if !shown(rgb) {
        // Gray is always shown: bisect between it and what was asked.
        let (mut low, mut high) = (0.0, chroma);
        for _ in 0..20 {
            let middle = 0.5 * (low + high);
            if shown(linear(middle)) {
                low = middle;
            } else {
                high = middle;
            }
        }
        rgb = linear(low);
    }
    let [red, green, blue] = rgb.map(srgb_from_linear);
    Color::new(red, green, blue)
}

/// Linear sRGB components of an OKLab colour; outside 0..1 where sRGB cannot show it.
fn linear_from_oklab(lightness: f64, a: f64, b: f64) -> [f64; 3] {
    let long = (lightness + 0.396_337_777_4 * a + 0.215_803_757_3 * b).powi(3);
    let medium = (lightness - 0.105_561_345_8 * a - 0.063_854_172_8 * b).powi(3);
    let short = (lightness - 0.089_484_177_5 * a - 1.291_485_548_0 * b).powi(3);
    [
        4.076_741_662_1 * long - 3.307_711_591_3 * medium + 0.230_969_929_2 * short,
        -1.268_438_004_6 * long + 2.609_757_401_1 * medium - 0.341_319_396_5 * short,
        -0.004_196_086_3 * long - 0.703_418_614_7 * medium + 1.707_614_701_0 * short,
    ]
}

/// The linear value of an sRGB component (IEC 61966-2-1).
fn linear_from_srgb(component: u8) -> f64 {
    let value = f64::from(component) / 255.0;
    if value <= 0.04045 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
}

/// The sRGB component of a linear value (IEC 61966-2-1).
fn srgb_from_linear(value: f64) -> u8 {
    let value = value.clamp(0.0, 1.0);
    let encoded = if value <= 0.003_130_8 { 12.92 * value } else { 1.055 * value.powf(1.0 / 2.4) - 0.055 };
    (encoded * 255.0).round() as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Distance of two colours, weighed as eyes do: the "redmean" approximation, 0 to about 765.
    fn distance(a: Color, b: Color) -> f64 {
        let mean = (f64::from(a.red) + f64::from(b.red)) / 2.0;
        let [red, green, blue] =
            [(a.red, b.red), (a.green, b.green), (a.blue, b.blue)].map(|(a, b)| (f64::from(a) - f64::from(b)).powi(2));
        ((2.0 + mean / 256.0) * red + 4.0 * green + (2.0 + (255.0 - mean) / 256.0) * blue).sqrt()
    }

    #[test]
    fn oklab_gives_known_colors() {
        // The published OKLab coordinates of sRGB's white, red and blue.
        assert_eq!(from_oklch(1.0, 0.0, 0.0), Color::WHITE);
        assert_eq!(from_oklch(0.627_96, 0.257_68, 29.234), Color::new(255, 0, 0));
        assert_eq!(from_oklch(0.452_01, 0.313_21, 264.052), Color::new(0, 0, 255));
        assert_eq!(from_oklch(0.0, 0.0, 0.0), Color::BLACK);
    }

    #[test]
    fn srgb_components_survive_the_linear_scale() {
        for component in 0..=255 {
            assert_eq!(srgb_from_linear(linear_from_srgb(component)), component);
        }
    }

    #[test]
    fn near_classes_differ() {
        for a in 0..80 {
            for b in 0..a {
                let least = if a < 12 { 70.0 } else { 10.0 };
                let found = distance(class_color(a), class_color(b));
                assert!(found > least, "classes {a} and {b}: {found}");
            }
        }
    }

    #[test]
    fn every_index_has_a_color() {
        assert_eq!(class_color(usize::MAX), class_color(usize::MAX));
        assert_ne!(class_color(0), class_color(1));
    }

    #[test]
    fn curves_stand_out_on_paper() {
        for idx in 0..40 {
            assert!(curve_color(idx).contrast(Color::WHITE) >= 3.0, "curve {idx}");
        }
    }

    #[test]
    fn black_or_white_is_legible_on_everything() {
        for red in (0..=255).step_by(15) {
            for green in (0..=255).step_by(5) {
                for blue in (0..=255).step_by(15) {
                    let color = Color::new(red, green, blue);
                    assert!(color.contrast(color.legible()) >= 4.5, "{color:?}");
                }
            }
        }
    }
}
