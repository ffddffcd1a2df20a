//! Plots by their pixels, with data of every kind.

use proptest::prelude::*;
use retinanet_anchors::ImageSize;
use retinanet_draw::{Plot, RgbImage, Scale, Series, line_plot};

fn plot_of(points: &[(f64, f64)], y_scale: Scale) -> Plot {
    Plot {
        title: "Loss".to_string(),
        x_label: "step".to_string(),
        y_label: "loss".to_string(),
        y_scale,
        series: vec![Series { name: String::new(), points: points.to_vec() }],
    }
}

/// Whether a pixel has a colour of its own: paper, text, axes and grid are gray, or nearly.
fn is_colored(pixel: &image::Rgb<u8>) -> bool {
    let [red, green, blue] = pixel.0;
    red.max(green).max(blue) - red.min(green).min(blue) > 60
}

fn colored(picture: &RgbImage) -> usize {
    picture.pixels().filter(|pixel| is_colored(pixel)).count()
}

#[track_caller]
fn check_colored(points: &[(f64, f64)], y_scale: Scale, expected: std::ops::Range<usize>) {
    let picture = line_plot(&plot_of(points, y_scale), ImageSize::new(400, 300));
    assert_eq!(picture.dimensions(), (400, 300));
    let found = colored(&picture);
    assert!(expected.contains(&found), "expected {expected:?}, found {found}");
}

#[test]
fn curves_dots_and_gaps() {
    let (nan, infinity) = (f64::NAN, f64::INFINITY);
    check_colored(&[], Scale::Linear, 0..1);
    check_colored(&[(nan, 1.0), (1.0, infinity)], Scale::Linear, 0..1);
    // A dot is a few pixels, a line across is the plot's width at least.
    check_colored(&[(3.0, 2.0)], Scale::Linear, 4..30);
    check_colored(&[(3.0, 2.0)], Scale::Log, 4..30);
    check_colored(&[(0.0, 5.0), (10.0, 5.0)], Scale::Linear, 300..1200);
    check_colored(&[(0.0, 1.0), (1.0, nan), (2.0, 1.0)], Scale::Linear, 8..60);
    check_colored(&[(0.0, -1.0), (1.0, 0.0), (2.0, 3.0)], Scale::Log, 4..30);
    check_colored(&[(0.0, 1e308), (1.0, -1e308), (2.0, 0.0)], Scale::Linear, 4..30);
    check_colored(&[(0.0, 1e300), (1.0, -1e300)], Scale::Linear, 200..1500);
}

#[test]
fn up_is_up_and_right_is_right() {
    let picture = line_plot(&plot_of(&[(0.0, 0.0), (1.0, 1.0)], Scale::Linear), ImageSize::new(400, 300));
    // The mean height of the curve in some columns, from the top.
    let middle = |columns: std::ops::Range<u32>| {
        let pixels = columns.flat_map(|x| (0..300).map(move |y| (x, y)));
        let rows: Vec<u32> = pixels.filter(|(x, y)| is_colored(picture.get_pixel(*x, *y))).map(|(_, y)| y).collect();
        rows.iter().sum::<u32>() / rows.len() as u32
    };
    assert!(middle(320..340) + 60 < middle(90..110));
}

#[test]
fn a_legend_names_each_series() {
    let line = |name: &str| Series { name: name.to_string(), points: vec![(0.0, 0.0), (1.0, 1.0)] };
    let mut plot = Plot { series: vec![line(""), line("")], ..Plot::default() };
    let size = ImageSize::new(400, 300);
    let without = colored(&line_plot(&plot, size));
    plot.series = vec![line("train"), line("val")];
    let with = line_plot(&plot, size);
    assert!(colored(&with) > 20 && without > 100);
    // The samples of both lines are in the first rows.
    assert!(colored(&image::imageops::crop_imm(&with, 0, 0, 400, 30).to_image()) > 40);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn any_data_at_any_size(
        width in 0usize..200,
        height in 0usize..200,
        points in prop::collection::vec((any::<f64>(), any::<f64>()), 0..20),
        near in prop::collection::vec((0.0f64..9.0, -1.0f64..1.0), 0..5),
        is_log in any::<bool>(),
        names in prop::collection::vec(".{0,12}", 0..4),
    ) {
        let y_scale = if is_log { Scale::Log } else { Scale::Linear };
        let mut plot = plot_of(&points, y_scale);
        plot.series.extend(names.into_iter().map(|name| Series { name, points: near.clone() }));
        prop_assert_eq!(line_plot(&plot, ImageSize::new(width, height)).dimensions(), (width as u32, height as u32));
    }
}
