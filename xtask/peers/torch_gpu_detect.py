"""Detection by torchvision's RetinaNet-R50, 91 classes, on a GPU: torch_gpu_detect.py MODE [--height H --width W --batch N ...]

A run goes from bytes of pictures in pinned memory to boxes on the host. The weights are random; the class bias is moved so that
about --candidates locations an image pass the score threshold, as `retinanet bench --candidates` does it.
"""

import math

import torch

import network
from accelerator import Accelerator, arguments
from worker import serve

options = arguments(__doc__, height=800, width=1344, batch=1, candidates=300)
accelerator = Accelerator(options.mode, options.device)
model = network.r50()
# The pictures have the size of the network's input: nothing is resized.
model.transform.min_size, model.transform.max_size = (min(options.height, options.width),), max(options.height, options.width)
model = accelerator.place(model)
pictures = [
    accelerator.pinned(torch.randint(256, (3, options.height, options.width), dtype=torch.uint8))
    for _ in range(options.batch)
]


def images():
    return [accelerator.upload(picture).float() / 255 for picture in pictures]


@torch.inference_mode()
def move_bias():
    with accelerator.autocast():
        batch, _ = model.transform(images())
        logits, _ = network.Core(model)(batch.tensors)
    # The sigmoid of the largest logit of a location is what is held against the threshold.
    best = logits.float().amax(-1).flatten()
    wanted = min(options.candidates * options.batch, len(best))
    last = best.topk(wanted).values[-1].item()
    model.head.classification_head.cls_logits.bias += math.log(model.score_thresh / (1 - model.score_thresh)) - last


@torch.inference_mode()
def run():
    with accelerator.autocast():
        found = model(images())
    return [{name: values.cpu() for name, values in one.items()} for one in found]


move_bias()
model.backbone, model.head = accelerator.compiled(model.backbone), accelerator.compiled(model.head)
found = sum(len(one["boxes"]) for one in run()) / options.batch
serve(f"torchvision {options.mode}", run, warm_up=3, detections_per_image=found, **accelerator.description())
