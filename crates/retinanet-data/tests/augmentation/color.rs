//! Colours: torchvision's definitions.

use retinanet_data::augmentation::{ColorChange, adjust_colors};
use retinanet_data::retinanet_anchors::ImageSize;
use retinanet_data::{Augmentation, Image};

use crate::pictures::{Samples, apply, key, painted};

/// What torchvision makes of the picture that [`picture`] gives; `colors.py` beside it writes it.
const GOLDEN: &str = include_str!("../golden/colors.txt");

/// 8 x 8 colours all over the cube, every ninth of them gray.
fn picture() -> Image {
    let pixel = |i: usize| {
        let rgb = [i * 37 + 11, i * 91 + 5, i * 53 + 200].map(|v| (v % 256) as u8);
        if i.is_multiple_of(9) { [rgb[0]; 3] } else { rgb }
    };
    Image { size: ImageSize::new(8, 8), pixels: (0..64).flat_map(pixel).collect() }
}

#[test]
fn colours_are_torchvisions() {
    let mut cases = 0;
    for line in GOLDEN.lines().filter(|line| !line.starts_with('#')) {
        let mut fields = line.split(' ');
        let (name, factor) = (fields.next().unwrap(), fields.next().unwrap().parse().unwrap());
        let none = ColorChange::default();
        let change = match name {
            "brightness" => ColorChange { brightness: factor, ..none },
            "contrast" => ColorChange { contrast: factor, ..none },
            "saturation" => ColorChange { saturation: factor, ..none },
            "hue" => ColorChange { hue: factor, ..none },
            "grayscale" => ColorChange { is_gray: true, ..none },
            other => panic!("{other}"),
        };
        let mut image = picture();
        adjust_colors(&mut image, &change);
        let expected: Vec<u8> = fields.map(|value| value.parse().unwrap()).collect();
        assert_eq!(expected.len(), image.pixels.len());
        let far = image.pixels.iter().zip(&expected).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
        // torchvision cuts fractions off, the gray's too, where we round once: one level, and two where contrast stands on
        // cut grays.
        assert!(far <= if name == "contrast" { 2 } else { 1 }, "{name} {factor}: {far} levels apart");
        cases += 1;
    }
    assert!(cases >= 16, "{cases}");
}

#[test]
fn no_change_changes_nothing_and_a_whole_turn_of_the_hue_comes_back() {
    let mut image = picture();
    adjust_colors(&mut image, &ColorChange::default());
    assert_eq!(image, picture());
    for hue in [1.0 / 3.0, -1.0 / 3.0] {
        let mut image = picture();
        adjust_colors(&mut image, &ColorChange { hue, ..ColorChange::default() });
        // A third of the circle moves each value one channel on.
        for (rgb, from) in image.pixels.as_chunks::<3>().0.iter().zip(picture().pixels.as_chunks::<3>().0) {
            let expected = if hue > 0.0 { [from[2], from[0], from[1]] } else { [from[1], from[2], from[0]] };
            let far = rgb.iter().zip(expected).map(|(a, b)| a.abs_diff(b)).max().unwrap();
            assert!(far <= 1, "{from:?}: {rgb:?}");
        }
    }
    // As far from the end of a block as it may be.
    for width in [1, 31, 63, 64] {
        let mut image = Image { size: ImageSize::new(width, 1), pixels: picture().pixels[..3 * width].to_vec() };
        adjust_colors(&mut image, &ColorChange { saturation: 0.5, hue: 0.1, ..ColorChange::default() });
        let mut whole = picture();
        adjust_colors(&mut whole, &ColorChange { saturation: 0.5, hue: 0.1, ..ColorChange::default() });
        assert_eq!(image.pixels, whole.pixels[..3 * width]);
    }
}

#[test]
fn contrast_and_brightness_by_hand() {
    // 100 and 200, mean 150: far from the mean by 50.
    let mut sample = painted(2, 1, &[]);
    sample.image.pixels = vec![100, 100, 100, 200, 200, 200];
    let set = Samples::new((0..40).map(|_| Some(sample.clone())).collect());
    let spread = |augmentation: &Augmentation, index| {
        let pixels = apply(augmentation, &set, key(0, 0, index)).image.pixels;
        (f64::from(pixels[0]), f64::from(pixels[3]))
    };
    let contrast = Augmentation { contrast: 1.0, ..Augmentation::default() };
    let brightness = Augmentation { brightness: 0.2, ..Augmentation::default() };
    let mut different = 0;
    for index in 0..40 {
        let (low, high) = spread(&contrast, index);
        assert!((low + high - 300.0).abs() <= 1.0, "the mean stays: {low} {high}");
        different += usize::from(low != 100.0);
        let (low, high) = spread(&brightness, index);
        assert!((high - 2.0 * low).abs() <= 1.5 && (80.0..=120.0).contains(&low), "{low} {high}");
    }
    assert!(different > 30);
}
