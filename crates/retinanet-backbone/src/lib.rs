//! ResNet, ResNeXt and the feature pyramid network: images to P3..P7.
