//! Files that torchvision released, known by their hash: what they need cannot be seen in their tensors.

/// Whether this is torchvision's `retinanet_resnet50_fpn_coco-eeacb38b.pth`, whose batch norms want an epsilon of 0.
///
/// `sha256` is that of [`sha256`](super::sha256()). torchvision puts the first eight digits into the
/// file's name.
///
/// Source: torchvision, `models/detection/retinanet.py`, `overwrite_eps(model, 0.0)`.
pub fn is_torchvision_coco_v1(sha256: &str) -> bool {
    sha256.starts_with("eeacb38b")
}

/// Whether this is torchvision's `retinanet_resnet50_fpn_v2_coco-5905b1c5.pth`. Its epsilon is the usual 1e-5.
pub fn is_torchvision_v2_coco_v1(sha256: &str) -> bool {
    sha256.starts_with("5905b1c5")
}
