"""torchvision's matching of anchors with boxes, and its focal loss with gradient: around.py"""

import json
import time

import torch
import torchvision
from torchvision.models.detection._utils import Matcher
from torchvision.ops import box_iou, sigmoid_focal_loss

ANCHORS, BOXES, CLASSES = 201_600, 100, 80

torch.set_num_threads(2)
torch.manual_seed(0)


def fastest(run, runs):
    run()
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        run()
        times.append((time.perf_counter() - start) * 1e3)
    return min(times)


def boxes(count, side, limit):
    corners = torch.rand(count, 2) * torch.tensor([1344.0, 800.0])
    return torch.cat([corners, corners + side + torch.rand(count, 2) * limit], 1)


anchors, ground_truth = boxes(ANCHORS, 32, 300), boxes(BOXES, 10, 140)
matcher = Matcher(0.5, 0.4, allow_low_quality_matches=True)
matching = fastest(lambda: matcher(box_iou(ground_truth, anchors)), 5)

logits = (torch.randn(2, ANCHORS, CLASSES) - 4.6).requires_grad_()
targets = torch.zeros(2, ANCHORS, CLASSES)
targets[:, ::1000, 3] = 1.0


def focal_loss():
    logits.grad = None
    sigmoid_focal_loss(logits, targets, reduction="sum").backward()


focal = fastest(focal_loss, 3)
print(json.dumps({"matching_ms": matching, "focal_loss_ms": focal, "torchvision": torchvision.__version__}))
