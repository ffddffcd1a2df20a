"""A training step of torchvision's RetinaNet-R50: torch_step.py eager|channels_last|bf16|bf16_channels_last SIZE BATCH

80 classes, square images of noise, 10 boxes an image, every parameter trained, batch norms with the statistics of the batch:
forward, losses, backward and SGD, as `retinanet bench --mode train` does it.
"""

import sys

import torch
from torchvision.models.detection import retinanet_resnet50_fpn

import network
from worker import serve

CLASSES, BOXES = 80, 10

mode, size, batch = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
torch.set_num_threads(2)
torch.manual_seed(0)
model = retinanet_resnet50_fpn(
    weights=None, weights_backbone=None, num_classes=CLASSES, min_size=size, max_size=size, trainable_backbone_layers=5,
).train()
if mode.endswith("channels_last"):
    model = model.to(memory_format=torch.channels_last)
optimizer = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9, weight_decay=1e-4)
images = [torch.rand(3, size, size) for _ in range(batch)]


def boxes():
    corners = torch.rand(BOXES, 2) * size * 0.6
    return torch.cat([corners, corners + torch.rand(BOXES, 2) * size * 0.35 + 8], 1)


targets = [{"boxes": boxes(), "labels": torch.randint(CLASSES, (BOXES,))} for _ in images]


def step():
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=mode.startswith("bf16")):
        loss = sum(model(images, targets).values())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


serve(f"torchvision {mode}", step, **network.versions())
