"""Writes colors.txt: what torchvision's functions of colour make of a small picture.

    python colors.py > colors.txt
"""

import torch
import torchvision
from torchvision.transforms.v2 import functional as F


def picture():
    pixels = []
    for i in range(64):
        rgb = [(i * 37 + 11) % 256, (i * 91 + 5) % 256, (i * 53 + 200) % 256]
        pixels.append([rgb[0]] * 3 if i % 9 == 0 else rgb)
    return torch.tensor(pixels, dtype=torch.uint8).reshape(8, 8, 3).permute(2, 0, 1)


CASES = [
    ("brightness", F.adjust_brightness, [0.0, 0.875, 1.125, 2.0]),
    ("contrast", F.adjust_contrast, [0.0, 0.5, 0.8, 1.5]),
    ("saturation", F.adjust_saturation, [0.0, 0.5, 0.8, 1.5, 2.0]),
    ("hue", F.adjust_hue, [-0.5, -0.3, -0.05, 0.02, 0.05, 0.5]),
    ("grayscale", lambda image, _: F.rgb_to_grayscale(image, num_output_channels=3), [1.0]),
]

print(f"# torchvision {torchvision.__version__}: function, factor, RGB of 8 x 8 pixels; see colors.py.")
for name, function, factors in CASES:
    for factor in factors:
        values = function(picture(), factor).permute(1, 2, 0).flatten().tolist()
        print(name, factor, *values)
