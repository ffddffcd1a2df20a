"""A training step of torchvision's RetinaNet-R50 on a GPU: torch_gpu_step.py MODE [--height H --width W --batch N ...]

80 classes, images of noise in pinned memory, 10 boxes an image, every parameter trained, batch norms with the statistics of the
batch: upload, forward, losses, backward and SGD, as `retinanet bench --mode train` does it.
"""

import torch
from torchvision.models.detection import retinanet_resnet50_fpn

from accelerator import Accelerator, arguments
from worker import serve

CLASSES, BOXES = 80, 10

options = arguments(__doc__, height=800, width=1344, batch=16)
accelerator = Accelerator(options.mode, options.device)
sides = options.height, options.width
model = retinanet_resnet50_fpn(
    weights=None, weights_backbone=None, num_classes=CLASSES, min_size=min(sides), max_size=max(sides),
    trainable_backbone_layers=5,
).train()
model = accelerator.place(model)
model.backbone, model.head.classification_head.conv, model.head.regression_head.conv = map(
    accelerator.compiled, (model.backbone, model.head.classification_head.conv, model.head.regression_head.conv)
)
optimizer = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9, weight_decay=1e-4, fused=accelerator.is_cuda or None)
pictures = [accelerator.pinned(torch.rand(3, *sides)) for _ in range(options.batch)]


def boxes():
    size = torch.tensor([sides[1], sides[0]])
    corners = torch.rand(BOXES, 2) * size * 0.6
    return torch.cat([corners, corners + torch.rand(BOXES, 2) * size * 0.35 + 8], 1)


targets = [
    {"boxes": accelerator.upload(boxes()), "labels": accelerator.upload(torch.randint(CLASSES, (BOXES,)))} for _ in pictures
]


def step():
    with accelerator.autocast():
        loss = sum(model([accelerator.upload(picture) for picture in pictures], targets).values())
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    accelerator.synchronize()


serve(f"torchvision {options.mode}", step, warm_up=3, **accelerator.description())
