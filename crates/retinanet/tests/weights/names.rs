//! Older and plain names become today's.

use retinanet::weights::names::{Naming, canonical};
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

/// Every name becomes the one beside it.
#[track_caller]
fn check_naming(naming: Naming, names: &[(&str, &str)], dropped: &[&str]) {
    let tensors = map(&names.iter().map(|(name, _)| *name).chain(dropped.iter().copied()).collect::<Vec<_>>());
    for prefix in ["", "module."] {
        let wrapped = tensors.iter().map(|(name, i)| (format!("{prefix}{name}"), *i)).collect();
        let renamed = canonical(wrapped).unwrap();
        assert_eq!(renamed.naming, naming);
        assert_eq!(renamed.tensors.len(), names.len());
        for (i, (name, expected)) in names.iter().enumerate() {
            assert_eq!(renamed.tensors.get(*expected), Some(&i), "{name}: {:?}", renamed.tensors.keys());
        }
        let expected: Vec<String> = dropped.iter().map(|name| format!("{prefix}{name}")).collect();
        assert_eq!(renamed.dropped, expected);
    }
}

#[test]
fn detectron2_names() {
    let names = [
        ("backbone.bottom_up.stem.conv1.weight", "backbone.body.conv1.weight"),
        ("backbone.bottom_up.stem.conv1.norm.running_var", "backbone.body.bn1.running_var"),
        ("backbone.bottom_up.res2.0.shortcut.weight", "backbone.body.layer1.0.downsample.0.weight"),
        ("backbone.bottom_up.res2.0.shortcut.norm.bias", "backbone.body.layer1.0.downsample.1.bias"),
        ("backbone.bottom_up.res5.2.conv3.weight", "backbone.body.layer4.2.conv3.weight"),
        ("backbone.bottom_up.res4.22.conv2.norm.weight", "backbone.body.layer3.22.bn2.weight"),
        ("backbone.fpn_lateral3.weight", "backbone.fpn.inner_blocks.0.0.weight"),
        ("backbone.fpn_lateral5.bias", "backbone.fpn.inner_blocks.2.0.bias"),
        ("backbone.fpn_output4.weight", "backbone.fpn.layer_blocks.1.0.weight"),
        ("backbone.top_block.p7.bias", "backbone.fpn.extra_blocks.p7.bias"),
        ("head.cls_subnet.0.weight", "head.classification_head.conv.0.0.weight"),
        ("head.bbox_subnet.6.bias", "head.regression_head.conv.3.0.bias"),
        ("head.cls_score.weight", "head.classification_head.cls_logits.weight"),
        ("head.bbox_pred.bias", "head.regression_head.bbox_reg.bias"),
        // What is not known keeps its name, to be used or reported.
        ("pixel_mean", "pixel_mean"),
        ("backbone.fpn_output3.norm.weight", "backbone.fpn_output3.norm.weight"),
        ("roi_heads.box_head.fc1.weight", "roi_heads.box_head.fc1.weight"),
    ];
    check_naming(Naming::Detectron2, &names, &[]);
    let with_norms = [
        ("head.cls_subnet.1.weight", "head.classification_head.conv.0.1.weight"),
        ("head.cls_subnet.9.bias", "head.classification_head.conv.3.0.bias"),
        ("head.bbox_subnet.4.weight", "head.regression_head.conv.1.1.weight"),
    ];
    check_naming(Naming::Detectron2, &with_norms, &[]);
    let finer = [
        ("backbone.fpn_lateral2.weight", "backbone.fpn.inner_blocks.0.0.weight"),
        ("backbone.fpn_output5.weight", "backbone.fpn.layer_blocks.3.0.weight"),
        ("head.cls_subnet.2.bias", "head.classification_head.conv.1.0.bias"),
    ];
    check_naming(Naming::Detectron2, &finer, &[]);
    let backbone = [
        ("stem.conv1.weight", "backbone.body.conv1.weight"),
        ("res3.1.conv1.norm.running_mean", "backbone.body.layer2.1.bn1.running_mean"),
    ];
    check_naming(Naming::Detectron2, &backbone, &["stem.fc.bias", "stem.fc.weight"]);
}

#[test]
fn mmdetection_names() {
    let names = [
        ("backbone.conv1.weight", "backbone.body.conv1.weight"),
        ("backbone.layer3.0.downsample.1.running_mean", "backbone.body.layer3.0.downsample.1.running_mean"),
        ("neck.lateral_convs.0.conv.weight", "backbone.fpn.inner_blocks.0.0.weight"),
        ("neck.lateral_convs.1.conv.weight", "backbone.fpn.inner_blocks.1.0.weight"),
        ("neck.lateral_convs.2.conv.weight", "backbone.fpn.inner_blocks.2.0.weight"),
        ("neck.fpn_convs.2.conv.bias", "backbone.fpn.layer_blocks.2.0.bias"),
        ("neck.fpn_convs.3.conv.weight", "backbone.fpn.extra_blocks.p6.weight"),
        ("neck.fpn_convs.4.conv.bias", "backbone.fpn.extra_blocks.p7.bias"),
        ("bbox_head.cls_convs.0.conv.weight", "head.classification_head.conv.0.0.weight"),
        ("bbox_head.reg_convs.3.gn.bias", "head.regression_head.conv.3.1.bias"),
        ("bbox_head.retina_cls.weight", "head.classification_head.cls_logits.weight"),
        ("bbox_head.retina_reg.bias", "head.regression_head.bbox_reg.bias"),
        ("bbox_head.cls_convs.0.bn.weight", "bbox_head.cls_convs.0.bn.weight"),
        ("neck.fpn_convs.x.conv.weight", "neck.fpn_convs.x.conv.weight"),
    ];
    check_naming(Naming::Mmdetection, &names, &[]);
    check_naming(Naming::Mmdetection, &names[..2], &["head.fc.bias", "head.fc.weight"]);
}

#[test]
fn caffe2_names() {
    let names = [
        ("conv1_w", "backbone.body.conv1.weight"),
        ("res_conv1_bn_s", "backbone.body.bn1.weight"),
        ("res_conv1_bn_b", "backbone.body.bn1.bias"),
        ("res2_0_branch2a_w", "backbone.body.layer1.0.conv1.weight"),
        ("res2_0_branch2a_bn_s", "backbone.body.layer1.0.bn1.weight"),
        ("res2_0_branch1_w", "backbone.body.layer1.0.downsample.0.weight"),
        ("res2_0_branch1_bn_b", "backbone.body.layer1.0.downsample.1.bias"),
        ("res5_2_branch2c_w", "backbone.body.layer4.2.conv3.weight"),
        ("res4_22_branch2b_bn_b", "backbone.body.layer3.22.bn2.bias"),
        ("res4_22_branch2d_w", "res4_22_branch2d_w"),
        ("res4_22_branch2b_bn_x", "res4_22_branch2b_bn_x"),
    ];
    check_naming(Naming::Caffe2, &names, &["conv1_b", "conv1_w_momentum", "fc1000_b", "fc1000_w", "pred_w"]);
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
