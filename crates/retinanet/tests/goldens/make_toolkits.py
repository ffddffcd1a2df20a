"""Golden outputs of RetinaNets with the conventions of Detectron2 and MMDetection, in float64, from bytes to boxes.

The networks are written down here from the published definitions, small, with the toolkits' own parameter names. Resizing is
Pillow's and OpenCV's own. Every parameter is a function of its name, as in the goldens of torchvision:
    seed  = FNV-1a 64 of the name
    z     = splitmix64 output for state seed + (i + 1) * 0x9E3779B97F4A7C15  (mod 2^64)
    u     = (z >> 40) / 2^24
    value = float32(offset + scale * (2 u - 1)),  odd input channels of a mirrored weight being minus the even ones
Names, shapes, offsets and scales are in the metadata of each file. The byte of a picture k at (x, y, c) is
(x (c + 1) + y (3 - c)) % 192 + z >> 58, of name "picture<k>" and index (y * width + x) * 3 + c, red first.

Logits, deltas and anchors are stored with the anchors of a location by aspect ratio, then octave scale.

    python make_toolkits.py        # needs torch, torchvision (for its nms), numpy, Pillow, opencv-python, safetensors
"""
import json
import math
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
import torchvision
from PIL import Image
from safetensors.torch import save_file

M = (1 << 64) - 1
BLOCKS = [3, 4, 6, 3]
SIZES = [(160, 120), (217, 300)]          # width, height: the first grows, the second shrinks
MIN_SIZE, MAX_SIZE = 160, 224
LEVELS = [3, 4, 5, 6, 7]
SCALES, RATIOS = [2 ** (i / 3) for i in range(3)], [0.5, 1.0, 2.0]
IMAGENET = ([123.675, 116.28, 103.53], [58.395, 57.12, 57.375])   # red, green, blue


def splitmix(name, n):
    h = 0xCBF29CE484222325
    for b in name.encode():
        h = ((h ^ b) * 0x100000001B3) & M
    with np.errstate(over="ignore"):
        z = np.uint64(h) + np.arange(1, n + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def value(name, shape, offset, scale, mirrored):
    u = (splitmix(name, math.prod(shape)) >> np.uint64(40)).astype(np.float64) / (1 << 24)
    v = (offset + scale * (2 * u - 1)).astype(np.float32).reshape(shape)
    if mirrored:
        v[:, 1::2] = -v[:, 0::2]
    return torch.from_numpy(v.astype(np.float64))


def picture(k, width, height):
    noise = (splitmix(f"picture{k}", width * height * 3) >> np.uint64(58)).astype(np.int64).reshape(height, width, 3)
    y, x, c = np.meshgrid(np.arange(height), np.arange(width), np.arange(3), indexing="ij")
    return ((x * (c + 1) + y * (3 - c)) % 192 + noise).astype(np.uint8)


class Net:
    """A toolkit's RetinaNet: its parameters by its names, and its forward pass."""

    def __init__(self, toolkit, *, is_folded, groups=1, width=8, group_width=8, channels=24, num_classes=80, bgr, mean, std,
                 stride_in_1x1, relu_before_p7, class_gain):
        self.__dict__.update(locals())
        self.parameters, self.tensors = [], {}

    def get(self, name, shape, offset, scale, mirrored=False):
        if name not in self.tensors:
            self.parameters.append([name, list(shape), offset, scale, mirrored])
            self.tensors[name] = value(name, shape, offset, scale, mirrored)
        return self.tensors[name]

    def weight(self, name, out, inp, kernel, gain=1.0, mirrored=False):
        return self.get(name, (out, inp, kernel, kernel), 0.0, gain * math.sqrt(6 / (inp * kernel * kernel)), mirrored)

    def conv_norm(self, x, conv, norm, out, kernel, stride=1, groups=1, gain=(1.0, 0.2)):
        x = F.conv2d(x, self.weight(f"{conv}.weight", out, x.shape[1] // groups, kernel), None, stride, kernel // 2, 1, groups)
        scale, shift = self.get(f"{norm}.weight", (out,), *gain), self.get(f"{norm}.bias", (out,), 0.0, 0.1)
        mean = self.get(f"{norm}.running_mean", (out,), 0.0, 0.0 if self.is_folded else 0.1)
        variance = self.get(f"{norm}.running_var", (out,), *((1 - 1e-5, 0.0) if self.is_folded else (1.0, 0.5)))
        return F.batch_norm(x, mean, variance, scale, shift, False, 0.0, 1e-5)

    def conv(self, x, name, out, kernel, stride=1, gain=1.0, mirrored=False, bias=(0.0, 0.1)):
        w = self.weight(f"{name}.weight", out, x.shape[1], kernel, gain, mirrored)
        return F.conv2d(x, w, self.get(f"{name}.bias", (out,), *bias), stride, kernel // 2)

    def names(self):
        """Names of the stem, of a block's layers and of the shortcut: (convolution, norm)."""
        if self.toolkit == "detectron2":
            body = "backbone.bottom_up"
            layer = lambda stage, block, i: (f"{body}.res{stage + 2}.{block}.conv{i}", f"{body}.res{stage + 2}.{block}.conv{i}.norm")
            shortcut = lambda stage, block: (f"{body}.res{stage + 2}.{block}.shortcut", f"{body}.res{stage + 2}.{block}.shortcut.norm")
            return (f"{body}.stem.conv1", f"{body}.stem.conv1.norm"), layer, shortcut
        layer = lambda stage, block, i: (f"backbone.layer{stage + 1}.{block}.conv{i}", f"backbone.layer{stage + 1}.{block}.bn{i}")
        shortcut = lambda stage, block: (f"backbone.layer{stage + 1}.{block}.downsample.0", f"backbone.layer{stage + 1}.{block}.downsample.1")
        return ("backbone.conv1", "backbone.bn1"), layer, shortcut

    def backbone(self, x):
        stem, layer, shortcut = self.names()
        # The stem of a network on plain grey levels has weights for them: here its norm takes the size away.
        is_plain = all(s == 1 for s in self.std)
        x = F.relu(self.conv_norm(x, *stem, self.width, 7, 2, gain=(0.02, 0.004) if is_plain else (1.0, 0.2)))
        x = F.max_pool2d(x, 3, 2, 1)
        stages = []
        for stage, blocks in enumerate(BLOCKS):
            inner, out = self.groups * self.group_width << stage, (self.width * 4) << stage
            for block in range(blocks):
                stride = 2 if stage > 0 and block == 0 else 1
                first, second = (stride, 1) if self.stride_in_1x1 else (1, stride)
                y = F.relu(self.conv_norm(x, *layer(stage, block, 1), inner, 1, first))
                y = F.relu(self.conv_norm(y, *layer(stage, block, 2), inner, 3, second, self.groups))
                y = self.conv_norm(y, *layer(stage, block, 3), out, 1, gain=(0.3, 0.1))
                x = F.relu(y + (self.conv_norm(x, *shortcut(stage, block), out, 1, stride) if block == 0 else x))
            stages.append(x)
        return stages[1:]

    def pyramid(self, stages):
        d2 = self.toolkit == "detectron2"
        lateral = lambda i: f"backbone.fpn_lateral{i + 3}" if d2 else f"neck.lateral_convs.{i}.conv"
        output = lambda i: f"backbone.fpn_output{i + 3}" if d2 else f"neck.fpn_convs.{i}.conv"
        extra = lambda i: f"backbone.top_block.p{i}" if d2 else f"neck.fpn_convs.{i - 3}.conv"
        merged = [self.conv(c, lateral(i), self.channels, 1, gain=0.2) for i, c in enumerate(stages)]
        for i in (1, 0):
            merged[i] = merged[i] + F.interpolate(merged[i + 1], size=merged[i].shape[2:], mode="nearest")
        levels = [self.conv(m, output(i), self.channels, 3, gain=0.4) for i, m in enumerate(merged)]
        levels.append(self.conv(stages[-1], extra(6), self.channels, 3, 2, gain=0.3))
        levels.append(self.conv(F.relu(levels[-1]) if self.relu_before_p7 else levels[-1], extra(7), self.channels, 3, 2, gain=0.5))
        return levels

    def head(self, level):
        d2 = self.toolkit == "detectron2"
        outputs = []
        for subnet, last, per_anchor in (("cls", "cls_score", self.num_classes), ("bbox", "bbox_pred", 4)):
            x = level
            for i in range(4):
                mm = {"cls": "cls_convs", "bbox": "reg_convs"}[subnet]
                x = F.relu(self.conv(x, f"head.{subnet}_subnet.{2 * i}" if d2 else f"bbox_head.{mm}.{i}.conv", self.channels, 3))
            name = f"head.{last}" if d2 else f"bbox_head.retina_{'cls' if subnet == 'cls' else 'reg'}"
            is_class = subnet == "cls"
            x = self.conv(x, name, 9 * per_anchor, 3, gain=self.class_gain if is_class else 0.1, mirrored=is_class,
                          bias=(-4.6, 0.1) if is_class else (0.0, 0.1))
            # The outputs of an anchor side by side; anchors as their own generator has them.
            n, _, h, w = x.shape
            outputs.append(x.view(n, 9, per_anchor, h, w).permute(0, 3, 4, 1, 2).reshape(h * w, 9, per_anchor))
        return outputs

    def cell_anchors(self, level):
        """By scale, then ratio, in Detectron2; by ratio, then scale, in MMDetection."""
        size = 4 * 2 ** level
        shapes = [(s, r) for s in SCALES for r in RATIOS] if self.toolkit == "detectron2" else [(s, r) for r in RATIOS for s in SCALES]
        boxes = [[size * s / math.sqrt(r), size * s * math.sqrt(r)] for s, r in shapes]
        return torch.tensor([[-w / 2, -h / 2, w / 2, h / 2] for w, h in boxes], dtype=torch.float64)

    def prepare(self, rgb):
        h, w = rgb.shape[:2]
        if self.toolkit == "detectron2":
            scale = MIN_SIZE / min(h, w)
            new_h, new_w = (MIN_SIZE, scale * w) if h < w else (scale * h, MIN_SIZE)
            if max(new_h, new_w) > MAX_SIZE:
                scale = MAX_SIZE / max(new_h, new_w)
                new_h, new_w = new_h * scale, new_w * scale
            new_h, new_w = int(new_h + 0.5), int(new_w + 0.5)
            resized = np.asarray(Image.fromarray(rgb).resize((new_w, new_h), Image.BILINEAR))
        else:
            scale = min(MAX_SIZE / max(h, w), MIN_SIZE / min(h, w))
            new_h, new_w = int(h * scale + 0.5), int(w * scale + 0.5)
            resized = cv2.resize(rgb, (new_w, new_h), interpolation=cv2.INTER_LINEAR)
        x = torch.from_numpy(resized.astype(np.float64)).permute(2, 0, 1)
        if self.bgr:
            x = x.flip(0)
        channels = lambda v: torch.tensor(v, dtype=torch.float64).view(3, 1, 1)
        x = (x - channels(self.mean)) / channels(self.std)
        return F.pad(x, (0, -new_w % 32, 0, -new_h % 32))[None], (new_h, new_w)

    def detect(self, logits, deltas, anchors, resized, original):
        """Scores over .05, a thousand a level, suppression at .5 within a class, a hundred."""
        boxes, scores, labels = [], [], []
        for level_logits, level_deltas, level_anchors in zip(logits, deltas, anchors):
            p = level_logits.reshape(-1).sigmoid()
            keep = (p > 0.05).nonzero()[:, 0]
            keep = keep[p[keep].argsort(descending=True, stable=True)[:1000]]
            anchor = keep // self.num_classes
            a, d = level_anchors[anchor], level_deltas.reshape(-1, 4)[anchor]
            wh, center = a[:, 2:] - a[:, :2], (a[:, :2] + a[:, 2:]) / 2
            limit = math.log(1000 / 16)
            size = d[:, 2:].clamp(max=limit) if self.toolkit == "detectron2" else d[:, 2:].clamp(-limit, limit)
            size, center = size.exp() * wh, d[:, :2] * wh + center
            boxes.append(torch.cat([center - size / 2, center + size / 2], 1))
            scores.append(p[keep])
            labels.append(keep % self.num_classes)
        boxes, scores, labels = torch.cat(boxes), torch.cat(scores), torch.cat(labels)
        limits = lambda size: torch.tensor([size[1], size[0], size[1], size[0]], dtype=torch.float64)
        factors = limits(original) / limits(resized)
        clip = lambda b, size: torch.minimum(b.clamp(min=0), limits(size))
        solid = lambda b: ((b[:, 2] > b[:, 0]) & (b[:, 3] > b[:, 1])).nonzero()[:, 0]
        if self.toolkit == "mmdetection":
            boxes = clip(boxes, resized)
            keep = solid(boxes)
            boxes, scores, labels = boxes[keep], scores[keep], labels[keep]
        keep = [torchvision.ops.nms(boxes[of], scores[of], 0.5) for of in [(labels == c).nonzero()[:, 0] for c in range(self.num_classes)]]
        keep = torch.cat([(labels == c).nonzero()[:, 0][k] for c, k in enumerate(keep)])
        keep = keep[scores[keep].argsort(descending=True, stable=True)[:100]]
        boxes, scores, labels = boxes[keep] * factors, scores[keep], labels[keep]
        if self.toolkit == "detectron2":
            boxes = clip(boxes, original)
            keep = solid(boxes)
            boxes, scores, labels = boxes[keep], scores[keep], labels[keep]
        return boxes, scores, labels


def samples(t, n):
    f = t.detach().reshape(-1)
    return f[::max(1, f.numel() // n)].contiguous()


def case(name, net):
    # Where an anchor of our order is in theirs.
    order = [s * 3 + r for r in range(3) for s in range(3)] if net.toolkit == "detectron2" else list(range(9))
    out, report = {}, []
    for k, (width, height) in enumerate(SIZES):
        rgb = picture(k, width, height)
        x, resized = net.prepare(rgb)
        levels = net.pyramid(net.backbone(x))
        heads = [net.head(level) for level in levels]
        anchors = []
        for number, level in zip(LEVELS, levels):
            h, w = level.shape[2:]
            y, x0 = torch.meshgrid(torch.arange(h) * 2.0 ** number, torch.arange(w) * 2.0 ** number, indexing="ij")
            shift = torch.stack([x0, y, x0, y], -1).double().reshape(-1, 1, 4)
            anchors.append(shift + net.cell_anchors(number))
        for number, level in zip(LEVELS, levels):
            out[f"{k}.p{number}"] = samples(level, 256)
        ours = lambda parts: torch.cat([part[:, order].reshape(-1, part.shape[-1]) for part in parts])
        out[f"{k}.class_logits"] = samples(ours([h[0] for h in heads]), 1024)
        out[f"{k}.box_deltas"] = samples(ours([h[1] for h in heads]), 512)
        out[f"{k}.anchors"] = samples(ours(anchors), 512)
        boxes, scores, labels = net.detect([h[0] for h in heads], [h[1] for h in heads], [a.reshape(-1, 4) for a in anchors], resized, (height, width))
        out[f"{k}.boxes"], out[f"{k}.scores"], out[f"{k}.labels"] = boxes, scores, labels
        report.append((len(boxes), len(set(labels.tolist())), f"{scores.max():.3f}" if len(scores) else "-", (scores - 0.05).abs().min().item()))
        report.append([f"{level.std():.2f}" for level in levels])
    meta = {"parameters": net.parameters, "sizes": SIZES, "min_size": MIN_SIZE, "max_size": MAX_SIZE, "num_classes": net.num_classes,
            "torch": torch.__version__, "dtype": "computed in float64, stored as float32"}
    tensors = {key: (t.float() if t.is_floating_point() else t).contiguous() for key, t in out.items()}
    save_file(tensors, Path(__file__).with_name(f"{name}.safetensors"), {"meta": json.dumps(meta)})
    print(name, report)


torch.set_grad_enabled(False)
mean, std = IMAGENET
bgr_mean, bgr_std = mean[::-1], std[::-1]
caffe = dict(is_folded=True, bgr=True, mean=bgr_mean, std=[1.0] * 3, stride_in_1x1=True)
pytorch = dict(is_folded=False, bgr=False, mean=mean, std=std, stride_in_1x1=False)
grouped = dict(groups=4, width=16, group_width=4, channels=24)
case("detectron2_r50", Net("detectron2", **caffe, relu_before_p7=True, class_gain=0.8))
case("detectron2_x50", Net("detectron2", is_folded=True, bgr=True, mean=bgr_mean, std=bgr_std, stride_in_1x1=False, relu_before_p7=True, class_gain=0.34, **grouped))
case("mmdetection_r50", Net("mmdetection", **pytorch, relu_before_p7=False, class_gain=0.22))
case("mmdetection_r50_caffe", Net("mmdetection", **caffe, relu_before_p7=False, class_gain=0.28))
case("mmdetection_x50", Net("mmdetection", **pytorch, relu_before_p7=False, class_gain=0.52, num_classes=3, **grouped))
