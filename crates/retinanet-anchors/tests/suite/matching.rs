//! How the rule of matching reads in a configuration.

use retinanet_anchors::{Atss, Matcher, Matching};

#[track_caller]
fn check(written: &str, expected: Matching) {
    let found: Matching = serde_json::from_str(written).expect(written);
    assert_eq!(found, expected, "{written}");
    let again = serde_json::to_string(&found).expect("a table");
    assert_eq!(serde_json::from_str::<Matching>(&again).expect(&again), expected, "{again}");
}

#[test]
fn thresholds_are_a_plain_table_and_the_other_rule_is_named() {
    check("{}", Matching::default());
    let strict = Matcher { foreground_iou: 0.75, background_iou: 0.5, allow_low_quality: false };
    check(r#"{"foreground_iou": 0.75, "background_iou": 0.5, "allow_low_quality": false}"#, Matching::Iou(strict));
    check(r#"{"background_iou": 0.25}"#, Matching::Iou(Matcher { background_iou: 0.25, ..Matcher::default() }));
    check(r#"{"atss": {}}"#, Matching::Atss(Atss { candidates: 9 }));
    check(r#"{"atss": {"candidates": 15}}"#, Matching::Atss(Atss { candidates: 15 }));
}

#[track_caller]
fn check_error(written: &str, part: &str) {
    let message = serde_json::from_str::<Matching>(written).expect_err(written).to_string();
    assert!(message.contains(part), "{written}: expected {part:?} in {message:?}");
}

#[test]
fn errors_name_the_field() {
    check_error(r#"{"foreground": 0.5}"#, "unknown field `foreground`");
    check_error(r#"{"atss": {"candidate": 9}}"#, "unknown field `candidate`");
    check_error(r#"{"atss": {}, "foreground_iou": 0.5}"#, "expected either atss or thresholds, found both");
}
