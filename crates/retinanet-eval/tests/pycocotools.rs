//! Number for number what pycocotools gives: committed random cases, and published sets where they lie beside the
//! workspace.

use std::fs;
use std::path::Path;

use retinanet_annotations::coco::{read_detections, read_ground_truth};
use retinanet_eval::{CocoMetrics, CocoSummary, coco};
use serde_json::Value;

/// The largest difference allowed.
const TOLERANCE: f64 = 1e-12;

#[track_caller]
fn check_summary(name: &str, found: &CocoSummary, expected: &Value) {
    for (key, value) in found.entries() {
        let expected = expected[key].as_f64().expect("each of the twelve numbers is in the golden file");
        assert!((value - expected).abs() <= TOLERANCE, "{name}: {key}: expected {expected}, found {value}");
    }
}

#[track_caller]
fn score(ground_truth: &Path, detections: &Path) -> CocoMetrics {
    let ground_truth = read_ground_truth(ground_truth).unwrap();
    coco::evaluate(&ground_truth, &read_detections(detections).unwrap()).unwrap()
}

#[test]
fn random_cases() {
    let cases: Value = serde_json::from_str(include_str!("goldens/synthetic.json")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (gt, dt) = (folder.path().join("gt.json"), folder.path().join("dt.json"));
    for case in cases.as_array().unwrap() {
        let name = format!("seed {}", case["seed"]);
        fs::write(&gt, case["ground_truth"].to_string()).unwrap();
        fs::write(&dt, case["detections"].to_string()).unwrap();
        let metrics = score(&gt, &dt);
        check_summary(&name, &metrics.summary, &case["stats"]);
        let per_class = case["per_class"].as_array().unwrap();
        assert_eq!(per_class.len(), metrics.per_class.len());
        for (found, expected) in metrics.per_class.iter().zip(per_class) {
            assert_eq!(found.category_id, expected["category_id"].as_i64().unwrap(), "{name}");
            assert_eq!(found.num_ground_truth as u64, expected["num_ground_truth"].as_u64().unwrap(), "{name}");
            for (key, value) in [("AP", found.ap), ("AP50", found.ap50), ("AR100", found.ar100)] {
                let expected = expected[key].as_f64().unwrap();
                assert!((value - expected).abs() <= TOLERANCE, "{name}: {found:?}: {key}: expected {expected}");
            }
        }
    }
}

#[test]
fn published_sets() {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/fixtures/coco_eval"));
    let Ok(expected) = fs::read_to_string(folder.join("expected_pycocotools_2.0.11.json")) else {
        println!("skipped: no {}", folder.display());
        return;
    };
    let expected: Value = serde_json::from_str(&expected).unwrap();
    let file = |case: &str, key: &str| folder.join(expected[case][key].as_str().unwrap());
    for case in ["coco_val2014_100_bbox", "review_sampled", "review_toy", "fce_ignore"] {
        let metrics = score(&file(case, "gt"), &file(case, "dt"));
        check_summary(case, &metrics.summary, &expected[case]["stats"]);
    }
    // Annotation ids from 0, where pycocotools errs: the right numbers are those of ids from 1.
    let metrics = score(&file("review_toy_id0", "gt"), &file("review_toy_id0", "dt"));
    check_summary("review_toy_id0", &metrics.summary, &expected["review_toy"]["stats"]);
}
