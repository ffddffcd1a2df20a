"""The preset small_r18 built from torchvision's modules, with the weights of one of our checkpoints."""

import json
from functools import partial

import torch
from safetensors import safe_open
from torch import nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.retinanet import RetinaNet, RetinaNetHead
from torchvision.models.resnet import BasicBlock, ResNet
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

WIDTH, CHANNELS, DEPTH = 32, 96, 2
ANCHOR_SIZES, RATIOS = (16.0, 32.0, 64.0, 128.0, 256.0), (0.5, 1.0, 2.0)
STRIDES = (8, 16, 32, 64, 128)
MIN_SIZE, MAX_SIZE = 240, 320


class Anchors(AnchorGenerator):
    """torchvision's anchors, but their corners are not rounded and the strides are the levels' own."""

    def __init__(self):
        scales = [2 ** (octave / 3) for octave in range(3)]
        super().__init__(tuple(tuple(size * scale for scale in scales) for size in ANCHOR_SIZES), (RATIOS,) * 5)
        self.cell_anchors = [self.cell(sizes) for sizes in self.sizes]

    @staticmethod
    def cell(sizes):
        root = torch.tensor(RATIOS, dtype=torch.float64).sqrt()
        sizes = torch.tensor(sizes, dtype=torch.float64)
        width, height = ((1 / root)[:, None] * sizes).flatten(), (root[:, None] * sizes).flatten()
        return (torch.stack([-width, -height, width, height], 1) / 2).float()

    def forward(self, image_list, feature_maps):
        strides = [[torch.tensor(stride)] * 2 for stride in STRIDES]
        anchors = self.grid_anchors([list(maps.shape[-2:]) for maps in feature_maps], strides)
        return [torch.cat(anchors) for _ in image_list.image_sizes]


def backbone():
    body = ResNet(BasicBlock, [2, 2, 2, 2])
    body.inplanes = WIDTH
    body.conv1, body.bn1 = nn.Conv2d(3, WIDTH, 7, 2, 3, bias=False), nn.BatchNorm2d(WIDTH)
    for stage in range(4):
        layer = body._make_layer(BasicBlock, WIDTH << stage, 2, stride=1 if stage == 0 else 2)
        setattr(body, f"layer{stage + 1}", layer)
    for module in body.modules():
        # torchvision starts its own layers so before these take their place.
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    inputs = [WIDTH << stage for stage in (1, 2, 3)]
    layers = {"layer2": "0", "layer3": "1", "layer4": "2"}
    # P6 comes from C5, as the channels of the two differ.
    return BackboneWithFPN(body, layers, inputs, CHANNELS, LastLevelP6P7(inputs[-1], CHANNELS))


def build(num_classes, min_size=MIN_SIZE, max_size=MAX_SIZE, is_v2=False):
    """The detector with random weights; `is_v2` with group norms in its subnets and GIoU, as torchvision's second RetinaNet."""
    head = RetinaNetHead(CHANNELS, 9, num_classes, norm_layer=partial(nn.GroupNorm, 32) if is_v2 else None)
    head.regression_head._loss_type = "giou" if is_v2 else "l1"
    for tower in (head.classification_head, head.regression_head):
        tower.conv = tower.conv[:DEPTH]
    return RetinaNet(
        backbone(), num_classes, min_size, max_size, anchor_generator=Anchors(), head=head,
        score_thresh=0.05, topk_candidates=1000, nms_thresh=0.5, detections_per_img=100,
    )


def load(path):
    """The detector, and the category id and name of each output."""
    with safe_open(path, "pt") as file:
        classes = json.loads(file.metadata()["classes"])
        tensors = {name: file.get_tensor(name).float() for name in file.keys()}
    model = build(len(classes))
    missing, unexpected = model.load_state_dict(tensors, strict=False)
    missing = [name for name in missing if not name.endswith("num_batches_tracked")]
    if missing or unexpected:
        raise SystemExit(f"{path}: weights: expected those of small_r18, missing {missing}, unexpected {unexpected}")
    return model.eval(), classes
