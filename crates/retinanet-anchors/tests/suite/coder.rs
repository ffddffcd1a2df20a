//! The box coder on numbers worked by hand, and on numbers that are none.

use retinanet_anchors::{BBox, BoxCoder};

const ANCHOR: BBox = BBox::new(0.0, 0.0, 10.0, 20.0);
const NAN: f32 = f32::NAN;
const INF: f32 = f32::INFINITY;

#[test]
fn encodes_in_centre_form() {
    // Centre (5, 10) to (8, 6): 3/10 and -4/20; sides 10 to 20 and 20 to 5.
    let ground_truth = BBox::new(-2.0, 3.5, 18.0, 8.5);
    let two = 2.0f32.ln();
    let deltas = BoxCoder::default().encode(&ground_truth, &ANCHOR);
    assert_eq!(deltas, [0.3, -0.2, two, -2.0 * two]);
    assert_eq!(BoxCoder::default().encode(&ANCHOR, &ANCHOR), [0.0; 4]);

    let coder = BoxCoder { weights: [10.0, 10.0, 5.0, 4.0], ..BoxCoder::default() };
    assert_eq!(coder.encode(&ground_truth, &ANCHOR), [3.0, -2.0, 5.0 * two, -8.0 * two]);
}

#[test]
fn decodes_with_weights() {
    let coder = BoxCoder { weights: [10.0, 10.0, 5.0, 5.0], ..BoxCoder::default() };
    let bbox = coder.decode([5.0, -5.0, 5.0 * 2.0f32.ln(), 0.0], &ANCHOR);
    // Centre (5 + 5, 10 - 10), sides 20 and 20.
    for (found, expected) in bbox.to_array().into_iter().zip([0.0, -10.0, 20.0, 10.0]) {
        assert!((found - expected).abs() < 1e-5, "{bbox:?}");
    }
}

#[test]
fn growth_is_clamped_and_shrinking_is_not() {
    let coder = BoxCoder::default();
    // At most 1000 / 16 times the anchor.
    for dw in [4.2, 80.0, 1e4, INF] {
        let bbox = coder.decode([0.0, 0.0, dw, dw], &ANCHOR);
        assert!((bbox.width() - 625.0).abs() < 1e-3 && (bbox.height() - 1250.0).abs() < 1e-3, "{dw}: {bbox:?}");
    }
    let shrunk = coder.decode([0.0, 0.0, -10.0, -INF], &ANCHOR);
    assert!(shrunk.width() < 1e-3 && shrunk.height() == 0.0);
    // The clamp is on the log ratio, after the weight.
    let weighted = BoxCoder { weights: [1.0, 1.0, 5.0, 5.0], ..coder };
    assert!((weighted.decode([0.0, 0.0, 1e4, 1e4], &ANCHOR).width() - 625.0).abs() < 1e-3);
    let clamp_is_a_field = BoxCoder { clamp: 0.0, ..coder };
    assert_eq!(clamp_is_a_field.decode([0.0, 0.0, 3.0, 3.0], &ANCHOR), ANCHOR);
}

#[test]
fn a_ground_truth_without_sides_has_finite_deltas() {
    for ground_truth in [BBox::new(3.0, 3.0, 3.0, 9.0), BBox::new(9.0, 9.0, 3.0, 3.0), BBox::default()] {
        let deltas = BoxCoder::default().encode(&ground_truth, &ANCHOR);
        assert!(deltas.iter().all(|d| d.is_finite()), "{deltas:?}");
        assert!(deltas[2] < -80.0, "{deltas:?}");
    }
}

#[test]
fn what_is_not_finite_is_not_hidden() {
    let coder = BoxCoder::default();
    for idx in 0..4 {
        let mut deltas = [0.0; 4];
        deltas[idx] = NAN;
        assert!(!coder.decode(deltas, &ANCHOR).is_finite(), "{deltas:?}");
        let mut corners = [1.0, 1.0, 5.0, 5.0];
        corners[idx] = NAN;
        assert!(coder.encode(&corners.into(), &ANCHOR).iter().any(|d| d.is_nan()), "{corners:?}");
    }
    assert!(!coder.decode([INF, 0.0, 0.0, 0.0], &ANCHOR).is_finite());
    assert!(!coder.decode([0.0, -INF, 0.0, 0.0], &ANCHOR).is_finite());
}

#[test]
fn configuration() {
    let coder: BoxCoder = serde_json::from_str(r#"{"weights": [10, 10, 5, 5]}"#).unwrap();
    assert_eq!(coder, BoxCoder { weights: [10.0, 10.0, 5.0, 5.0], clamp: 62.5f32.ln() });
    assert!(serde_json::from_str::<BoxCoder>(r#"{"weight": [10, 10, 5, 5]}"#).is_err());
}
