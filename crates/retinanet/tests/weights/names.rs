//! Older and plain names become today's.

use retinanet::weights::names::canonical;
use std::collections::{BTreeMap, BTreeSet};

fn map(names: &[&str]) -> BTreeMap<String, usize> {
    names.iter().enumerate().map(|(i, name)| ((*name).to_owned(), i)).collect()
}

#[track_caller]
fn check(found: &str, expected: &str) {
    // Beside a name that shows a detector, so that the file is not taken for an ImageNet network.
    let tensors = map(&[found, "backbone.body.conv1.weight"]);
    let renamed = canonical(tensors).unwrap();
    assert_eq!(renamed.tensors.get(expected), Some(&0), "{found}: {:?}", renamed.tensors);
    assert!(renamed.dropped.is_empty());
}

#[test]
fn torchvision_names_of_both_versions() {
    for i in 0..4 {
        for leaf in ["weight", "bias"] {
            for subnet in ["head.classification_head", "head.regression_head"] {
                check(&format!("{subnet}.conv.{}.{leaf}", 2 * i), &format!("{subnet}.conv.{i}.0.{leaf}"));
                check(&format!("{subnet}.conv.{i}.0.{leaf}"), &format!("{subnet}.conv.{i}.0.{leaf}"));
                check(&format!("{subnet}.conv.{i}.1.{leaf}"), &format!("{subnet}.conv.{i}.1.{leaf}"));
            }
            for blocks in ["backbone.fpn.inner_blocks", "backbone.fpn.layer_blocks"] {
                check(&format!("{blocks}.{i}.{leaf}"), &format!("{blocks}.{i}.0.{leaf}"));
                check(&format!("{blocks}.{i}.0.{leaf}"), &format!("{blocks}.{i}.0.{leaf}"));
            }
        }
    }
    for same in [
        "backbone.fpn.extra_blocks.p6.weight",
        "head.classification_head.cls_logits.bias",
        "backbone.body.layer1.0.downsample.0.weight",
    ] {
        check(same, same);
    }
    check("module.head.regression_head.conv.2.bias", "head.regression_head.conv.1.0.bias");
    check("_orig_mod.module.backbone.body.bn1.bias", "backbone.body.bn1.bias");
    // No ReLU has weights: an odd index is not what we know, and stays to be reported.
    check("head.regression_head.conv.3.bias", "head.regression_head.conv.3.bias");
}

#[test]
fn imagenet_names_become_a_backbone() {
    let tensors = map(&[
        "conv1.weight",
        "bn1.running_mean",
        "bn1.num_batches_tracked",
        "layer1.0.downsample.0.weight",
        "fc.weight",
        "fc.bias",
    ]);
    let renamed = canonical(tensors.clone()).unwrap();
    let expected =
        ["backbone.body.bn1.running_mean", "backbone.body.conv1.weight", "backbone.body.layer1.0.downsample.0.weight"];
    assert_eq!(renamed.tensors.keys().collect::<Vec<_>>(), expected);
    assert_eq!(renamed.dropped, ["fc.bias", "fc.weight"]);
    let wrapped = tensors.into_iter().map(|(name, i)| (format!("module.{name}"), i)).collect();
    assert_eq!(canonical(wrapped).unwrap().tensors, renamed.tensors);
}

#[test]
fn counters_of_batches_are_left_out() {
    let renamed = canonical(map(&["backbone.body.bn1.num_batches_tracked", "backbone.body.bn1.weight"])).unwrap();
    assert_eq!(renamed.tensors.keys().collect::<Vec<_>>(), ["backbone.body.bn1.weight"]);
}

#[test]
fn two_tensors_of_one_name_are_refused() {
    let error =
        canonical(map(&["head.regression_head.conv.2.bias", "head.regression_head.conv.1.0.bias"])).unwrap_err();
    let expected = "weights: head.regression_head.conv.1.0.bias: expected one tensor of this name, \
                    found another one, named head.regression_head.conv.2.bias in the file";
    assert_eq!(error.to_string(), expected);
}

/// The names that torchvision gave the parameters of its own networks come back after renaming them to the older ones.
#[test]
fn golden_names_survive_the_older_ones() {
    for case in ["r18_v1", "r50_v1"] {
        let path = format!("{}/../../../shared/fixtures/torchvision/{case}.safetensors", env!("CARGO_MANIFEST_DIR"));
        if !std::path::Path::new(&path).exists() {
            println!("skipped: {case}.safetensors is not there");
            continue;
        }
        let metadata = retinanet::weights::read(path.as_ref()).unwrap().metadata;
        let meta: serde_json::Value = serde_json::from_str(&metadata["meta"]).unwrap();
        let names: BTreeSet<String> = meta["grad_norms"].as_object().unwrap().keys().cloned().collect();
        let older = names.iter().map(|name| (older(name), ())).collect::<BTreeMap<_, _>>();
        assert!(
            older.contains_key("head.classification_head.conv.6.weight")
                && older.contains_key("backbone.fpn.inner_blocks.2.bias")
        );
        assert_eq!(canonical(older).unwrap().tensors.into_keys().collect::<BTreeSet<_>>(), names, "{case}");
    }
}

/// The name in the released v1 file: the inner `0` goes, and the subnets' convolutions count every other layer.
fn older(name: &str) -> String {
    let parts: Vec<&str> = name.split('.').collect();
    match parts[..] {
        [head, subnet, "conv", index, "0", leaf] => {
            format!("{head}.{subnet}.conv.{}.{leaf}", 2 * index.parse::<usize>().unwrap())
        }
        [backbone, fpn, blocks, index, "0", leaf] if blocks.ends_with("_blocks") => {
            format!("{backbone}.{fpn}.{blocks}.{index}.{leaf}")
        }
        _ => name.to_owned(),
    }
}
