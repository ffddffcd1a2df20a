"""Trains a RetinaNet of torchvision's on the blood cells, from scratch, and writes what it finds on the test split.

torch_blood_cells.py BCCD_FOLDER OUTPUT_FOLDER SEED [--network resnet18|small_r18] [--epochs N] [--threads N]

Training is on train + val, 320 x 240 pixels, batches of 4, both flips, SGD with a rate of .01, momentum .9 and decay 1e-4,
a warm-up of 100 steps, a tenth of the rate from 75 % and a hundredth from 90 % on, gradients cut at a norm of 10.
resnet18 is torchvision's RetinaNet on a ResNet-18 with its default anchors; small_r18 the network and anchors of our preset.
Images are decoded and resized once, before the clock starts. OUTPUT_FOLDER gets `ground_truth.json` and
`detections.json` for `retinanet score`; each epoch is a line of JSON on standard output.
"""

import argparse
import json
import math
import random
import time
from pathlib import Path

import torch
from torchvision.models.detection import retinanet
from torchvision.models.detection.backbone_utils import _resnet_fpn_extractor
from torchvision.models.resnet import resnet18
from torchvision.ops.feature_pyramid_network import LastLevelP6P7
from torchvision.transforms.functional import resize

import blood_cells
import small_r18

IDS = {"Platelets": 1, "RBC": 2, "WBC": 3}
WIDTH, HEIGHT, BATCH, RATE = 320, 240, 4, 0.01

parser = argparse.ArgumentParser()
parser.add_argument("data", type=Path)
parser.add_argument("output", type=Path)
parser.add_argument("seed", type=int)
parser.add_argument("--network", choices=["resnet18", "small_r18"], default="resnet18")
parser.add_argument("--epochs", type=int, default=30)
parser.add_argument("--threads", type=int, default=2)
options = parser.parse_args()
torch.set_num_threads(options.threads)
torch.manual_seed(options.seed)
random.seed(options.seed)


def network():
    if options.network == "small_r18":
        return small_r18.build(len(IDS))
    backbone = _resnet_fpn_extractor(
        resnet18(weights=None), 5, returned_layers=[2, 3, 4], extra_blocks=LastLevelP6P7(256, 256),
    )
    return retinanet.RetinaNet(backbone, len(IDS), min_size=HEIGHT, max_size=WIDTH)


def sample(name):
    """The resized picture, boxes in its pixels, labels."""
    picture = blood_cells.image(options.data, name)
    height, width = picture.shape[-2:]
    _, found = blood_cells.objects(options.data, name)
    boxes = torch.tensor([[x, y, x + w, y + h] for _, (x, y, w, h) in found]).reshape(-1, 4)
    labels = torch.tensor([IDS[label] - 1 for label, _ in found], dtype=torch.long)
    return resize(picture, [HEIGHT, WIDTH], antialias=False), boxes * (WIDTH / width), labels


def flipped(picture, boxes, labels):
    boxes = boxes.clone()
    if random.random() < 0.5:
        picture, boxes[:, [0, 2]] = picture.flip(2), WIDTH - boxes[:, [2, 0]]
    if random.random() < 0.5:
        picture, boxes[:, [1, 3]] = picture.flip(1), HEIGHT - boxes[:, [3, 1]]
    return picture, {"boxes": boxes, "labels": labels}


model = network().train()
optimizer = torch.optim.SGD(model.parameters(), lr=RATE, momentum=0.9, weight_decay=1e-4)
samples = [sample(name) for split in ("train", "val") for name in blood_cells.split(options.data, split)]
total, step, start = math.ceil(len(samples) / BATCH) * options.epochs, 0, time.time()
for epoch in range(options.epochs):
    random.shuffle(samples)
    for first in range(0, len(samples), BATCH):
        factor = min(1.0, (step + 1) / 100) * (0.1 if step >= 0.75 * total else 1.0) * (0.1 if step >= 0.9 * total else 1.0)
        for group in optimizer.param_groups:
            group["lr"] = RATE * factor
        images, targets = zip(*[flipped(*one) for one in samples[first : first + BATCH]])
        loss = sum(model(list(images), list(targets)).values())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        optimizer.step()
        step += 1
    print(json.dumps({"epoch": epoch + 1, "loss": loss.item(), "seconds": time.time() - start}), flush=True)

model.eval()
detections, test = [], blood_cells.split(options.data, "test")
with torch.inference_mode():
    for position, name in enumerate(test, 1):
        picture = blood_cells.image(options.data, name)
        result = model([picture])[0]
        detections += blood_cells.records(position, result["boxes"], result["labels"], result["scores"], [1, 2, 3])
options.output.mkdir(parents=True, exist_ok=True)
(options.output / "ground_truth.json").write_text(json.dumps(blood_cells.ground_truth(options.data, test, IDS)))
(options.output / "detections.json").write_text(json.dumps(detections))
