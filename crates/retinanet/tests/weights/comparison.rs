//! All differences come in one message that a person can read.

use super::tensor;
use candle_core::{DType, Device, Tensor};
use retinanet::weights::{WeightsError, check};
use std::collections::BTreeMap;

const CLASS_LAYER: &str = "head.classification_head.cls_logits.weight";
const BOX_LAYER: &str = "head.regression_head.bbox_reg.weight";

fn zeros(shape: &[usize]) -> Tensor {
    Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap()
}

fn expected(entries: &[(&str, &[usize])]) -> BTreeMap<String, Vec<usize>> {
    entries.iter().map(|(name, shape)| ((*name).to_owned(), shape.to_vec())).collect()
}

fn found(entries: &[(&str, &[usize])]) -> BTreeMap<String, Tensor> {
    entries.iter().map(|(name, shape)| ((*name).to_owned(), zeros(shape))).collect()
}

#[track_caller]
fn refused(expected: &BTreeMap<String, Vec<usize>>, found: &BTreeMap<String, Tensor>) -> String {
    check(expected, found).unwrap_err().to_string()
}

#[test]
fn equal_sets_pass() {
    let entries: [(&str, &[usize]); 2] = [("a", &[1, 2]), ("b", &[])];
    assert!(check(&expected(&entries), &found(&entries)).is_ok());
    assert!(check(&BTreeMap::new(), &BTreeMap::new()).is_ok());
}

#[test]
fn every_difference_is_told_at_once() {
    let message = refused(
        &expected(&[("d", &[2]), ("a", &[1]), (CLASS_LAYER, &[720, 4, 3, 3]), (BOX_LAYER, &[36, 4, 3, 3])]),
        &found(&[
            ("d", &[2, 1]),
            ("z", &[1]),
            ("y", &[1]),
            (CLASS_LAYER, &[819, 4, 3, 3]),
            (BOX_LAYER, &[36, 4, 3, 3]),
        ]),
    );
    let lines = [
        "weights: tensors: expected 4, found 5: 1 missing, 2 unexpected, 2 of another shape",
        "  likely: the file has 91 classes, the configuration 80",
        "  missing:",
        "    a",
        "  unexpected:",
        "    y",
        "    z",
        "  of another shape:",
        "    d: expected [2], found [2, 1]",
        "    head.classification_head.cls_logits.weight: expected [720, 4, 3, 3], found [819, 4, 3, 3]",
    ];
    assert_eq!(message, lines.join("\n"));
}

#[test]
fn long_lists_end_with_a_count() {
    let expected = (0..57).map(|i| (format!("layer {i:02}"), vec![1])).collect();
    let error = check(&expected, &BTreeMap::new()).unwrap_err();
    let message = error.to_string();
    assert!(message.contains("    layer 19\n    and 37 more"), "{message}");
    assert!(!message.contains("layer 20"), "{message}");
    // The whole list is there for programs.
    let WeightsError::Mismatch(mismatch) = error else { panic!("{error}") };
    assert_eq!(mismatch.missing.len(), 57);
}

#[test]
fn likely_reasons_are_named() {
    let anchors = |n: usize| (BOX_LAYER, [4 * n, 8, 3, 3]);
    let (nine, fifteen) = (anchors(9), anchors(15));
    let message = refused(&expected(&[(fifteen.0, &fifteen.1)]), &found(&[(nine.0, &nine.1)]));
    assert!(message.contains("likely: the file has 9 anchors a location, the configuration 15"), "{message}");

    let p6 = "backbone.fpn.extra_blocks.p6.weight";
    let message = refused(&expected(&[(p6, &[8, 16, 3, 3])]), &found(&[(p6, &[8, 8, 3, 3])]));
    assert!(message.contains("likely: the file computes P6 from 8 channels, the configuration from 16"), "{message}");

    let norm = "head.classification_head.conv.0.1.weight";
    assert!(refused(&BTreeMap::new(), &found(&[(norm, &[8])])).contains("likely: the file has a norm in its head"));
    assert!(
        refused(&expected(&[(norm, &[8])]), &found(&[(CLASS_LAYER, &[8])]))
            .contains("likely: the configuration has a norm in its head")
    );

    let third = "backbone.body.layer1.0.conv3.weight";
    let second = "backbone.body.layer1.0.conv2.weight";
    assert!(
        refused(&expected(&[(third, &[8]), (second, &[8])]), &found(&[(second, &[8])]))
            .contains("likely: the file has basic blocks")
    );
    assert!(
        refused(&expected(&[(second, &[8])]), &found(&[(third, &[8]), (second, &[8])]))
            .contains("likely: the file has bottleneck")
    );

    let message = refused(&expected(&[(CLASS_LAYER, &[8]), (second, &[8])]), &found(&[(second, &[8])]));
    assert!(message.contains("likely: the file has no head"), "{message}");
}

#[test]
fn names_from_files_cannot_disturb_the_terminal() {
    let name = format!("\u{1b}[2J{}", "x".repeat(1000));
    let message = refused(&BTreeMap::new(), &[(name, tensor(&[1.0], &[1]))].into());
    assert!(!message.contains('\u{1b}') && message.len() < 400, "{message}");
    // Shapes that make no whole number of anchors give no hint, and no division by zero.
    let message = refused(
        &expected(&[(CLASS_LAYER, &[9]), (BOX_LAYER, &[0])]),
        &found(&[(CLASS_LAYER, &[8]), (BOX_LAYER, &[3])]),
    );
    assert!(!message.contains("classes"), "{message}");
}
