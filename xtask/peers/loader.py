"""Loading of a VOC set's training split as small_r18 does it: loader.py torchvision|pillow|opencv VOC_FOLDER BATCH WORKERS

torchvision and pillow decode with decode_image and PIL, flip with v2 (boxes too), then make batches with torchvision's
own GeneralizedRCNNTransform (normalise, resize, pad). opencv decodes, flips, resizes and normalises with OpenCV. All
three run in the processes of a DataLoader that stay from epoch to epoch; a run is an epoch.

Or, one thread, milliseconds an image of decoding alone: loader.py decode LIST_OF_FILES ROUNDS
"""

import json
import sys
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import cv2
import numpy as np
import torch
import torchvision
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision import tv_tensors
from torchvision.io import ImageReadMode, decode_image
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.transforms import v2

from worker import serve

MIN_SIZE, MAX_SIZE, MULTIPLE = 240, 320, 32
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


class Voc(Dataset):
    """Images and boxes of the training split, flipped both ways by chance."""

    def __init__(self, folder, library):
        names = (folder / "ImageSets/Main/train.txt").read_text().split()
        self.items = [(str(folder / f"JPEGImages/{name}.jpg"), boxes(folder / f"Annotations/{name}.xml")) for name in names]
        self.library = library
        self.flips = v2.Compose([v2.RandomHorizontalFlip(0.5), v2.RandomVerticalFlip(0.5)])

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        path, corners = self.items[index]
        if self.library == "opencv":
            return opencv_sample(path, corners)
        if self.library == "torchvision":
            picture = decode_image(path, ImageReadMode.RGB, apply_exif_orientation=True)
        else:
            picture = v2.functional.pil_to_tensor(Image.open(path).convert("RGB"))
        height, width = picture.shape[-2:]
        found = tv_tensors.BoundingBoxes(corners, format="XYXY", canvas_size=(height, width))
        picture, found = self.flips(tv_tensors.Image(picture), found)
        return v2.functional.to_dtype(picture, torch.float32, scale=True), found


def boxes(path):
    corners = [
        [float(found.find(f"bndbox/{side}").text) for side in ("xmin", "ymin", "xmax", "ymax")]
        for found in ElementTree.parse(path).getroot().iter("object")
    ]
    return torch.tensor(corners, dtype=torch.float32).reshape(-1, 4)


def opencv_sample(path, corners):
    picture = cv2.cvtColor(cv2.imread(path, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    height, width = picture.shape[:2]
    corners = corners.numpy().copy()
    if torch.rand(()) < 0.5:
        picture = cv2.flip(picture, 1)
        corners[:, [0, 2]] = width - corners[:, [2, 0]]
    if torch.rand(()) < 0.5:
        picture = cv2.flip(picture, 0)
        corners[:, [1, 3]] = height - corners[:, [3, 1]]
    scale = min(MIN_SIZE / min(height, width), MAX_SIZE / max(height, width))
    # Bytes are resized, which is OpenCV's fast way, and then normalised.
    picture = cv2.resize(picture, (int(width * scale), int(height * scale)), interpolation=cv2.INTER_LINEAR)
    picture = (picture.astype(np.float32) - np.float32(MEAN) * 255) * (1 / (np.float32(STD) * 255))
    return picture, corners * np.float32(scale)


class TorchvisionBatch:
    """The model's own first step, made by the workers."""

    def __init__(self):
        self.transform = GeneralizedRCNNTransform(MIN_SIZE, MAX_SIZE, MEAN, STD, size_divisible=MULTIPLE).eval()

    def __call__(self, samples):
        images, targets = zip(*[(image, {"boxes": found}) for image, found in samples])
        batch, targets = self.transform(list(images), list(targets))
        return batch.tensors, [target["boxes"] for target in targets]


def opencv_batch(samples):
    up = lambda side: -(-side // MULTIPLE) * MULTIPLE
    height, width = (up(max(image.shape[axis] for image, _ in samples)) for axis in (0, 1))
    batch = np.zeros((len(samples), height, width, 3), np.float32)
    for out, (image, _) in zip(batch, samples):
        out[: image.shape[0], : image.shape[1]] = image
    return torch.from_numpy(batch), [torch.from_numpy(found) for _, found in samples]


def one_thread(_=None):
    torch.set_num_threads(1)
    cv2.setNumThreads(1)


def decode(paths, rounds):
    """The best of all rounds of each image, the mean over the images, in milliseconds."""
    one_thread()
    ways = {
        "Pillow": lambda path: np.asarray(Image.open(path).convert("RGB")),
        "torchvision": lambda path: decode_image(path, ImageReadMode.RGB),
        "OpenCV": lambda path: cv2.imread(path, cv2.IMREAD_COLOR),
    }
    best = {name: [float("inf")] * len(paths) for name in ways}
    for _ in range(rounds):
        for idx, path in enumerate(paths):
            for name, read in ways.items():
                start = time.perf_counter()
                read(path)
                best[name][idx] = min(best[name][idx], (time.perf_counter() - start) * 1e3)
    print(json.dumps({name: sum(times) / len(times) for name, times in best.items()}))


def main():
    if sys.argv[1] == "decode":
        return decode(Path(sys.argv[2]).read_text().splitlines(), int(sys.argv[3]))
    library, folder, batch, workers = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    one_thread()
    collate = opencv_batch if library == "opencv" else TorchvisionBatch()
    loader = DataLoader(
        Voc(folder, library), batch_size=batch, shuffle=True, num_workers=workers, collate_fn=collate,
        worker_init_fn=one_thread, persistent_workers=True,
    )

    def epoch():
        images = sum(len(images) for images, _ in loader)
        assert images == len(loader.dataset), images

    versions = {"torchvision": torchvision.__version__, "opencv": cv2.__version__, "pillow": Image.__version__}
    serve(f"{library}, {workers} workers", epoch, **versions)


if __name__ == "__main__":
    main()
