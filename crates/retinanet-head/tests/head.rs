//! Names, shapes, sharing and starts of the subnets.

use candle_core::{Device, Tensor};
use retinanet_anchors::{Pyramid, PyramidLevel};
use retinanet_head::{Head, HeadConfig};
use retinanet_ops::network::{ConvLayer, InferenceEngine, Parameters};

#[test]
fn names_are_torchvisions() {
    let names = |config: HeadConfig| {
        let head = Head::new(&config, 256, 9, 91).expect("a head");
        head.layers().flat_map(ConvLayer::parameters).map(|spec| (spec.name, spec.shape)).collect::<Vec<_>>()
    };
    let v1 = names(HeadConfig::default());
    assert_eq!(v1.len(), 2 * (4 * 2 + 2));
    assert!(v1.contains(&("head.classification_head.conv.3.0.bias".to_owned(), vec![256])));
    assert!(v1.contains(&("head.classification_head.cls_logits.weight".to_owned(), vec![819, 256, 3, 3])));
    assert!(v1.contains(&("head.regression_head.bbox_reg.weight".to_owned(), vec![36, 256, 3, 3])));
    let v2 = names(HeadConfig { group_norm: Some(32), ..Default::default() });
    assert_eq!(v2.len(), 2 * (4 * 3 + 2));
    assert!(v2.contains(&("head.regression_head.conv.0.1.weight".to_owned(), vec![256])));
    assert!(!v2.iter().any(|(name, _)| name == "head.regression_head.conv.0.0.bias"));
}

#[test]
fn levels_share_the_subnets_and_the_two_subnets_share_nothing() -> candle_core::Result<()> {
    let config = HeadConfig { depth: 1, channels: 4, ..Default::default() };
    let head = Head::new(&config, 4, 2, 3).expect("a head");
    let tensor = |(i, spec): (usize, retinanet_ops::network::ParameterSpec)| {
        let count = spec.shape.iter().product::<usize>();
        let values: Vec<f32> = (0..count).map(|j| (((i * 31 + j * 17) % 23) as f32 - 11.0) / 50.0).collect();
        Ok((spec.name, Tensor::from_vec(values, spec.shape, &Device::Cpu)?))
    };
    let tensors = head.layers().flat_map(ConvLayer::parameters).enumerate().map(tensor);
    let parameters = Parameters::new(tensors.collect::<candle_core::Result<Vec<_>>>()?)?;
    let level = Tensor::arange(0f32, 60.0, &Device::Cpu)?.reshape((1, 3, 5, 4))?;
    let pyramid = Pyramid::new(PyramidLevel::P3, vec![level.clone(), level.clone(), level]).expect("three levels");
    let output = head.forward(&mut InferenceEngine::new(&parameters), &pyramid)?;
    let values = |tensor: &Tensor| tensor.flatten_all()?.to_vec1::<f32>();
    for (_, logits) in output.class_logits.iter() {
        assert_eq!(logits.dims(), [1, 3, 5, 2 * 3]);
        assert_eq!(values(logits)?, values(&output.class_logits.values()[0])?);
    }
    assert_eq!(output.box_deltas.values()[2].dims(), [1, 3, 5, 2 * 4]);
    let tower = |name: &str| values(parameters.variable(name)?.as_tensor());
    assert_ne!(tower("head.classification_head.conv.0.0.weight")?, tower("head.regression_head.conv.0.0.weight")?);
    Ok(())
}

#[test]
fn what_describes_no_head_is_named() {
    let error = |config: HeadConfig, anchors, classes| {
        Head::new(&config, 256, anchors, classes).expect_err("no head").to_string()
    };
    assert_eq!(error(HeadConfig::default(), 9, 0), "num_classes: expected at least 1, found 0");
    assert!(error(HeadConfig::default(), 0, 80).starts_with("anchors: expected at least 1"));
    for prior in [0.0, 1.0, f64::NAN] {
        assert!(error(HeadConfig { prior_probability: prior, ..Default::default() }, 9, 80).contains("within (0, 1)"));
    }
    assert!(error(HeadConfig { group_norm: Some(3), ..Default::default() }, 9, 80).contains("divisor"));
}
