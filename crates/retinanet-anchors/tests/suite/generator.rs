//! Anchor generation on numbers worked by hand, and what it refuses.

use retinanet_anchors::{
    AnchorConfig, AnchorGenerator, AnchorRounding, AnchorStride, BBox, ImageSize, Pyramid, PyramidLevel,
};

fn config(sizes: &[f32], octave_scales: &[f64], aspect_ratios: &[f64]) -> AnchorConfig {
    AnchorConfig {
        sizes: sizes.to_vec(),
        octave_scales: octave_scales.to_vec(),
        aspect_ratios: aspect_ratios.to_vec(),
        ..AnchorConfig::default()
    }
}

fn grids(finest: PyramidLevel, sides: &[(usize, usize)]) -> Pyramid<ImageSize> {
    Pyramid::new(finest, sides.iter().map(|&(width, height)| ImageSize::new(width, height)).collect()).unwrap()
}

#[track_caller]
fn check(
    config: &AnchorConfig,
    finest: PyramidLevel,
    padded: (usize, usize),
    grid: (usize, usize),
    expected: &[[f32; 4]],
) {
    let generator = AnchorGenerator::new(config, finest).unwrap();
    let anchors = generator.generate(ImageSize::new(padded.0, padded.1), &grids(finest, &[grid])).unwrap();
    let expected: Vec<BBox> = expected.iter().copied().map(BBox::from).collect();
    assert_eq!(anchors.finest(), finest);
    assert_eq!(anchors.into_values(), [expected]);
}

#[test]
fn ratio_is_height_over_width_and_comes_before_scale() {
    check(
        &config(&[32.0], &[1.0, 2.0], &[0.25, 1.0, 4.0]),
        PyramidLevel::P2,
        (4, 4),
        (1, 1),
        &[
            [-32.0, -8.0, 32.0, 8.0],
            [-64.0, -16.0, 64.0, 16.0],
            [-16.0, -16.0, 16.0, 16.0],
            [-32.0, -32.0, 32.0, 32.0],
            [-8.0, -32.0, 8.0, 32.0],
            [-16.0, -64.0, 16.0, 64.0],
        ],
    );
}

#[test]
fn locations_run_along_rows() {
    let one = config(&[2.0], &[1.0], &[1.0]);
    check(
        &one,
        PyramidLevel::P3,
        (24, 16),
        (3, 2),
        &[
            [-1.0, -1.0, 1.0, 1.0],
            [7.0, -1.0, 9.0, 1.0],
            [15.0, -1.0, 17.0, 1.0],
            [-1.0, 7.0, 1.0, 9.0],
            [7.0, 7.0, 9.0, 9.0],
            [15.0, 7.0, 17.0, 9.0],
        ],
    );
    let middle = AnchorConfig { offset: 0.5, ..one };
    check(&middle, PyramidLevel::P3, (16, 8), (2, 1), &[[3.0, 3.0, 5.0, 5.0], [11.0, 3.0, 13.0, 5.0]]);
}

#[test]
fn stride_is_the_levels_or_the_grids() {
    // 25 pixels over 4 cells: 6; 9 over 2: 4.
    let declared = config(&[2.0], &[1.0], &[1.0]);
    let last = |config: &AnchorConfig| {
        let generator = AnchorGenerator::new(config, PyramidLevel::P3).unwrap();
        let anchors = generator.generate(ImageSize::new(25, 9), &grids(PyramidLevel::P3, &[(4, 2)])).unwrap();
        assert_eq!(anchors.values()[0].len(), 8);
        anchors.values()[0][7]
    };
    assert_eq!(last(&declared), BBox::new(23.0, 7.0, 25.0, 9.0));
    assert_eq!(last(&AnchorConfig { stride: AnchorStride::FromGrid, ..declared }), BBox::new(17.0, 3.0, 19.0, 5.0));
}

#[test]
fn torchvision_rounding_truncates_sizes_and_rounds_halves_to_even() {
    // 101.9 becomes 101, of which half is 50.5: 50. 103 / 2 = 51.5: 52.
    let rounded = |size| AnchorConfig { rounding: AnchorRounding::Torchvision, ..config(&[size], &[1.0], &[1.0]) };
    check(&rounded(101.9), PyramidLevel::P3, (8, 8), (1, 1), &[[-50.0, -50.0, 50.0, 50.0]]);
    check(&rounded(103.0), PyramidLevel::P3, (8, 8), (1, 1), &[[-52.0, -52.0, 52.0, 52.0]]);
}

#[test]
fn the_papers_anchors() {
    let generator = AnchorGenerator::new(&AnchorConfig::default(), PyramidLevel::P3).unwrap();
    assert_eq!(generator.anchors_per_location(), 9);
    let levels = [PyramidLevel::P3, PyramidLevel::P4, PyramidLevel::P5, PyramidLevel::P6, PyramidLevel::P7];
    assert!(generator.levels().eq(levels));
    // A padded 1333 x 800 image; the grids of P6 and P7 are odd.
    let sides = [(168, 100), (84, 50), (42, 25), (21, 13), (11, 7)];
    let anchors = generator.generate(ImageSize::new(1344, 800), &grids(PyramidLevel::P3, &sides)).unwrap();
    let counts: Vec<usize> = anchors.values().iter().map(Vec::len).collect();
    assert_eq!(counts, [151_200, 37_800, 9_450, 2_457, 693]);
    for (level, anchors) in anchors.iter() {
        let size = 4.0 * level.stride() as f64;
        for (idx, anchor) in anchors.iter().enumerate() {
            let scale = (((idx % 3) as f64) / 3.0).exp2();
            let ratio = [0.5, 1.0, 2.0][idx % 9 / 3];
            let (width, height) = (f64::from(anchor.width()), f64::from(anchor.height()));
            assert!((width * height / (size * scale).powi(2) - 1.0).abs() < 1e-4, "{level}: {anchor:?}");
            assert!((height / width / ratio - 1.0).abs() < 1e-4, "{level}: {anchor:?}");
        }
    }
}

#[track_caller]
fn check_refused(config: AnchorConfig, finest: PyramidLevel, expected: &str) {
    assert_eq!(AnchorGenerator::new(&config, finest).unwrap_err().to_string(), expected);
}

#[test]
fn bad_configurations_are_refused() {
    let p3 = PyramidLevel::P3;
    check_refused(config(&[], &[1.0], &[1.0]), p3, "anchors: sizes: expected at least 1 value, found 0");
    check_refused(config(&[8.0], &[], &[1.0]), p3, "anchors: octave_scales: expected at least 1 value, found 0");
    check_refused(config(&[8.0], &[1.0], &[]), p3, "anchors: aspect_ratios: expected at least 1 value, found 0");
    let not_positive =
        |place: &str, found: &str| format!("anchors: {place}: expected a positive finite number, found {found}");
    check_refused(config(&[8.0, 0.0], &[1.0], &[1.0]), p3, &not_positive("sizes[1]", "0"));
    check_refused(config(&[8.0], &[f64::NAN], &[1.0]), p3, &not_positive("octave_scales[0]", "NaN"));
    check_refused(config(&[8.0], &[1.0], &[1.0, 2.0, -0.5]), p3, &not_positive("aspect_ratios[2]", "-0.5"));
    check_refused(config(&[f32::INFINITY], &[1.0], &[1.0]), p3, &not_positive("sizes[0]", "inf"));
    let offset = |offset| AnchorConfig { offset, ..AnchorConfig::default() };
    check_refused(offset(1.0), p3, "anchors: offset: expected 0 <= offset < 1, found 1");
    check_refused(offset(-0.5), p3, "anchors: offset: expected 0 <= offset < 1, found -0.5");
    check_refused(offset(f32::NAN), p3, "anchors: offset: expected 0 <= offset < 1, found NaN");
    check_refused(
        config(&[8.0; 3], &[1.0], &[1.0]),
        PyramidLevel::P7,
        "anchors: sizes: pyramid: levels from P7: expected at most 2, found 3",
    );
    let degenerate = "octave scale 1, aspect ratio 1: expected positive finite sides, found";
    let rounded = AnchorConfig { rounding: AnchorRounding::Torchvision, ..config(&[8.0, 0.9], &[1.0], &[1.0]) };
    check_refused(rounded, p3, &format!("anchors: P4: {degenerate} 0 x 0"));
    let huge = AnchorGenerator::new(&config(&[1e30], &[1.0], &[1.0]), p3).unwrap_err().to_string();
    assert!(huge.starts_with(&format!("anchors: P3: {degenerate} 1000")), "{huge}");
}

#[test]
fn bad_grids_are_refused() {
    let generator = AnchorGenerator::new(&config(&[8.0, 16.0], &[1.0], &[1.0]), PyramidLevel::P3).unwrap();
    let refused = |padded: (usize, usize), grids: Pyramid<ImageSize>| {
        generator.generate(ImageSize::new(padded.0, padded.1), &grids).unwrap_err().to_string()
    };
    let levels = |found: &str| format!("anchors: feature grids: expected 2 levels from P3, found {found}");
    assert_eq!(refused((8, 8), grids(PyramidLevel::P3, &[(1, 1)])), levels("1 from P3"));
    assert_eq!(refused((8, 8), grids(PyramidLevel::P4, &[(1, 1); 2])), levels("2 from P4"));
    let cells = |level: &str, padded: &str, found: &str| {
        format!(
            "anchors: {level}: expected a grid of at least 1x1 cells and at most {padded} (one a pixel), found {found}"
        )
    };
    assert_eq!(refused((16, 8), grids(PyramidLevel::P3, &[(2, 1), (1, 0)])), cells("P4", "16x8", "1x0"));
    assert_eq!(refused((16, 8), grids(PyramidLevel::P3, &[(2, 9), (1, 1)])), cells("P3", "16x8", "2x9"));
    assert_eq!(refused((0, 0), grids(PyramidLevel::P3, &[(1, 1); 2])), cells("P3", "0x0", "1x1"));
    let side = 1 << 40;
    assert_eq!(
        refused((side, side), grids(PyramidLevel::P3, &[(side, side); 2])),
        format!("anchors: P3: expected a grid whose anchors fit in memory, found {side}x{side}")
    );
}

#[test]
fn configuration() {
    assert_eq!(serde_json::from_str::<AnchorConfig>("{}").unwrap(), AnchorConfig::default());
    let torchvision = AnchorConfig::torchvision();
    let written = serde_json::to_string(&torchvision).unwrap();
    assert!(written.contains(r#""rounding":"torchvision","stride":"from_grid""#), "{written}");
    assert_eq!(serde_json::from_str::<AnchorConfig>(&written).unwrap(), torchvision);
    let error = serde_json::from_str::<AnchorConfig>(r#"{"size": [32]}"#).unwrap_err().to_string();
    assert!(error.contains("unknown field `size`"), "{error}");
}
