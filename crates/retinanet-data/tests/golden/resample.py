"""Pictures resized by Pillow and OpenCV, as checksums: writes resample.txt beside this file.

A line is: library, width and height before, width and height after, FNV-1a 64 of the resized RGB bytes, and the first six of
them. The picture of a size is (i * 37 + i * i % 251 + 11) % 256 for the i-th byte.

    python resample.py        # needs numpy, Pillow, opencv-python
"""
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

# Larger, smaller, one side kept, halves, single pixels, single rows; nothing changed.
SIZES = [
    (13, 9, 30, 21), (100, 70, 37, 26), (64, 48, 32, 24), (64, 48, 32, 48), (64, 48, 64, 31), (33, 47, 33, 90),
    (50, 31, 49, 30), (7, 1, 19, 3), (1, 7, 3, 2), (320, 240, 203, 152), (211, 140, 426, 283), (5, 4, 1, 1), (3, 3, 3, 3),
    (1, 1, 5, 4), (97, 61, 11, 90),
]


def fnv1a(data):
    h = 0xCBF29CE484222325
    for b in data:
        h = ((h ^ b) * 0x100000001B3) & ((1 << 64) - 1)
    return h


lines = []
for width, height, new_width, new_height in SIZES:
    i = np.arange(width * height * 3, dtype=np.int64)
    picture = ((i * 37 + i * i % 251 + 11) % 256).astype(np.uint8).reshape(height, width, 3)
    size = (new_width, new_height)
    results = {
        "pillow": np.asarray(Image.fromarray(picture).resize(size, Image.BILINEAR)),
        "opencv": cv2.resize(picture, size, interpolation=cv2.INTER_LINEAR),
    }
    for library, resized in results.items():
        data = resized.tobytes()
        first = " ".join(str(b) for b in (data + bytes(6))[:6])
        lines.append(f"{library} {width} {height} {new_width} {new_height} {fnv1a(data):016x} {first}")
Path(__file__).with_suffix(".txt").write_text("\n".join(lines) + "\n")
