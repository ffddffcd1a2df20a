"""The networks that the peers run, built by torchvision."""

import torch
import torchvision
from torch import nn
from torchvision.models.detection import retinanet_resnet50_fpn


class Core(nn.Module):
    """Backbone, pyramid and heads: `[N, 3, H, W]` to class logits `[N, R, K]` and box deltas `[N, R, 4]`."""

    def __init__(self, model):
        super().__init__()
        self.backbone, self.head = model.backbone, model.head

    def forward(self, images):
        output = self.head(list(self.backbone(images).values()))
        return output["cls_logits"], output["bbox_regression"]


def r50():
    """RetinaNet-R50 with 91 classes and random weights."""
    torch.manual_seed(0)
    return retinanet_resnet50_fpn(weights=None, weights_backbone=None).eval()


def export(core, path, height, width):
    """Writes the core as ONNX for one image of this size."""
    example = torch.rand(1, 3, height, width)
    torch.onnx.export(
        core.eval(), (example,), str(path), dynamo=False, opset_version=17,
        input_names=["images"], output_names=["class_logits", "box_deltas"],
    )


def versions():
    return {"torch": torch.__version__, "torchvision": torchvision.__version__}
