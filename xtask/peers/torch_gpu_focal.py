"""torchvision's focal loss with its gradient on a GPU: torch_gpu_focal.py MODE [--images N --anchors R --classes K ...]

eager is f32; channels_last, which a loss has nothing of, is bf16 logits; compile is bf16 logits and torch.compile. With each
answer comes the bandwidth of a copy of as many bytes, read and written, in `copy_gb_per_s`.
"""

import time

import torch
from torchvision.ops import sigmoid_focal_loss

from accelerator import Accelerator, arguments
from worker import serve

options = arguments(__doc__, images=16, anchors=201_600, classes=80)
accelerator = Accelerator(options.mode, options.device)
dtype = torch.float32 if options.mode == "eager" else torch.bfloat16
shape = options.images, options.anchors, options.classes
logits = (torch.randn(shape, device=accelerator.device) - 4.6).to(dtype).requires_grad_()
targets = torch.zeros(shape, device=accelerator.device, dtype=dtype)
targets[:, ::1000, 3] = 1.0


@accelerator.compiled
def loss(logits, targets):
    return sigmoid_focal_loss(logits, targets, reduction="sum")


def run():
    logits.grad = None
    loss(logits, targets).backward()
    accelerator.synchronize()


def copy_gb_per_s():
    copy, best = torch.empty_like(targets), float("inf")
    for _ in range(10):
        accelerator.synchronize()
        start = time.perf_counter()
        copy.copy_(targets)
        accelerator.synchronize()
        best = min(best, time.perf_counter() - start)
    return 2 * targets.numel() * targets.element_size() / best / 1e9


serve(f"torchvision {options.mode}", run, warm_up=3, copy_gb_per_s=copy_gb_per_s(), **accelerator.description())
