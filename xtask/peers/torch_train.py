"""Trains a RetinaNet of torchvision's from scratch, and writes what it finds on a split that it has not seen.

torch_train.py DATA OUTPUT SEED [--train train+val] [--test test] [--network resnet18|small_r18] [--size MIN MAX]
               [--recipe v1|v2] [--upright] [--epochs N] [--threads N]

DATA is a folder in COCO's form, as `retinanet data convert ... --to coco` writes it. Batches are of 4, both flips (--upright:
only sideways), a warm-up of 100 steps, gradients cut at a norm of 10. The recipe v1 is SGD with a rate of .01, momentum .9
and decay 1e-4, a tenth of the rate from 75 % and a hundredth from 90 % on, with L1; v2 is, as torchvision's second RetinaNet,
AdamW with decay .05 on all but norms and biases, GIoU, and group norms in the subnets, but with a rate of .0005, a cosine down
to a hundredth, and averaged weights, as in our presets. resnet18 is torchvision's RetinaNet on a ResNet-18 with its default
anchors, for v1 alone; small_r18 the network and anchors of our preset. Images are decoded and resized once, before the clock
starts. OUTPUT gets `detections.json` for `retinanet score`; each epoch is a line of JSON on standard output.
"""

import argparse
import json
import math
import random
import time
from pathlib import Path

import torch
from PIL import Image
from torch.optim.swa_utils import AveragedModel
from torchvision.models.detection import retinanet
from torchvision.models.detection.backbone_utils import _resnet_fpn_extractor
from torchvision.models.resnet import resnet18
from torchvision.ops.feature_pyramid_network import LastLevelP6P7
from torchvision.transforms.functional import pil_to_tensor, resize

import blood_cells
import small_r18

BATCH = 4
RATES = {"v1": 0.01, "v2": 0.0005}

parser = argparse.ArgumentParser()
parser.add_argument("data", type=Path)
parser.add_argument("output", type=Path)
parser.add_argument("seed", type=int)
parser.add_argument("--train", default="train+val")
parser.add_argument("--test", default="test")
parser.add_argument("--network", choices=["resnet18", "small_r18"], default="small_r18")
parser.add_argument("--size", type=int, nargs=2, default=[240, 320], metavar=("MIN", "MAX"))
parser.add_argument("--recipe", choices=list(RATES), default="v1")
parser.add_argument("--upright", action="store_true")
parser.add_argument("--epochs", type=int, default=30)
parser.add_argument("--threads", type=int, default=2)
options = parser.parse_args()
is_v2 = options.recipe == "v2"
if is_v2 and options.network != "small_r18":
    parser.error("--recipe v2: expected --network small_r18")
torch.set_num_threads(options.threads)
torch.manual_seed(options.seed)
random.seed(options.seed)


class Split:
    """The images of a split, and the boxes of each."""

    def __init__(self, name):
        document = json.loads((options.data / f"annotations/instances_{name}.json").read_text())
        self.folder, self.images = options.data / "images" / name, document["images"]
        self.categories = [category["id"] for category in document["categories"]]
        self.objects = {image["id"]: [] for image in self.images}
        for annotation in document["annotations"]:
            self.objects[annotation["image_id"]].append(annotation)

    def picture(self, image):
        return pil_to_tensor(Image.open(self.folder / image["file_name"]).convert("RGB")).float() / 255

    def samples(self):
        """Resized pictures, each with boxes in its own pixels and their labels."""
        for image in self.images:
            picture, objects = self.picture(image), self.objects[image["id"]]
            height, width = picture.shape[-2:]
            scale = min(options.size[0] / min(height, width), options.size[1] / max(height, width))
            corners = [[x, y, x + w, y + h] for x, y, w, h in (one["bbox"] for one in objects)]
            labels = [self.categories.index(one["category_id"]) for one in objects]
            small = resize(picture, [int(height * scale), int(width * scale)], antialias=False)
            yield small, torch.tensor(corners).reshape(-1, 4) * scale, torch.tensor(labels, dtype=torch.long)


def network(num_classes):
    if options.network == "small_r18":
        return small_r18.build(num_classes, *options.size, is_v2=is_v2)
    backbone = _resnet_fpn_extractor(
        resnet18(weights=None), 5, returned_layers=[2, 3, 4], extra_blocks=LastLevelP6P7(256, 256),
    )
    return retinanet.RetinaNet(backbone, num_classes, *options.size)


def flipped(picture, boxes, labels):
    (height, width), boxes = picture.shape[-2:], boxes.clone()
    if random.random() < 0.5:
        picture, boxes[:, [0, 2]] = picture.flip(2), width - boxes[:, [2, 0]]
    if not options.upright and random.random() < 0.5:
        picture, boxes[:, [1, 3]] = picture.flip(1), height - boxes[:, [3, 1]]
    return picture, {"boxes": boxes, "labels": labels}


def optimizer_of(model, rate):
    if not is_v2:
        return torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9, weight_decay=1e-4)
    weights = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    others = [parameter for parameter in model.parameters() if parameter.ndim <= 1]
    return torch.optim.AdamW([{"params": weights, "weight_decay": 0.05}, {"params": others, "weight_decay": 0.0}], lr=rate)


def factor(step, total):
    rise, progress = min(1.0, (step + 1) / 100), step / total
    if not is_v2:
        return rise * (0.1 if progress >= 0.75 else 1.0) * (0.1 if progress >= 0.9 else 1.0)
    return rise * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress)))


def averaged(average, latest, updates):
    decay = min(0.999, float(updates) / (float(updates) + 10))
    return average * decay + latest * (1 - decay)


splits = [Split(name) for name in options.train.split("+")]
model = network(len(splits[0].categories)).train()
rate = RATES[options.recipe]
optimizer = optimizer_of(model, rate)
average = AveragedModel(model, avg_fn=averaged, use_buffers=True) if is_v2 else None
samples = [sample for split in splits for sample in split.samples()]
total, step, start = math.ceil(len(samples) / BATCH) * options.epochs, 0, time.time()
for epoch in range(options.epochs):
    random.shuffle(samples)
    for first in range(0, len(samples), BATCH):
        for group in optimizer.param_groups:
            group["lr"] = rate * factor(step, total)
        images, targets = zip(*[flipped(*one) for one in samples[first : first + BATCH]])
        loss = sum(model(list(images), list(targets)).values())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        optimizer.step()
        if average:
            average.update_parameters(model)
        step += 1
    seconds, processor = time.time() - start, time.process_time()
    print(json.dumps({"epoch": epoch + 1, "loss": loss.item(), "seconds": seconds, "processor": processor}), flush=True)

model = (average.module if average else model).eval()
detections, test = [], Split(options.test)
with torch.inference_mode():
    for image in test.images:
        result = model([test.picture(image)])[0]
        found = (result["boxes"], result["labels"], result["scores"])
        detections += blood_cells.records(image["id"], *found, test.categories)
options.output.mkdir(parents=True, exist_ok=True)
(options.output / "detections.json").write_text(json.dumps(detections))
