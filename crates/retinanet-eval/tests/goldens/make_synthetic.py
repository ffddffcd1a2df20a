"""Makes synthetic.json: small random ground truth and detections with pycocotools' numbers.

    pip install pycocotools==2.0.11
    python make_synthetic.py [number of cases] [first seed]

Boxes lie on a coarse grid, so that overlaps meet thresholds exactly and ties are many; scores have one digit. Cases have
crowds, areas other than width times height, areas at the limits of the ranges, boxes without extent, empty categories,
categories the ground truth lacks, and one has more than 100 detections in an image.
"""

import contextlib
import copy
import io
import json
import pathlib
import random
import sys

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

NAMES = ["AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl"]


def make_case(seed):
    rng = random.Random(seed)
    crowded = seed % 4 == 3
    num_images = 2 if crowded else rng.randint(1, 8)
    image_ids = rng.sample(range(50), num_images)
    category_ids = rng.sample(range(0, 90), rng.randint(1, 4))
    scale = rng.choice([4, 8, 20])

    def box():
        sides = [rng.choice([2, 4, 5, 8, 10, 12]) * scale for _ in range(2)]
        corner = [rng.randint(0, 6) * scale / 2 for _ in range(2)]
        return corner + sides

    def moved(xywh):
        x, y, w, h = xywh
        kind = rng.randint(0, 4)
        if kind == 0:
            return [x, y, w, h]
        if kind == 1:
            return [x, y, w * rng.choice([0.5, 0.75, 0.8, 0.9]), h]
        if kind == 2:
            return [x + scale / 2, y, w, h]
        if kind == 3:
            return [x, y + h * 0.25, w, h * 0.75]
        return [x + rng.random(), y + rng.random(), w + rng.random(), h]

    annotations = []
    detections = []
    for image_id in image_ids:
        for _ in range(rng.randint(0, 3 if crowded else 6)):
            xywh = box()
            if rng.random() < 0.04:
                xywh[2] = 0
            area = xywh[2] * xywh[3]
            if rng.random() < 0.3:
                area = rng.choice([area * 0.6, 1024, 9216, 1024.5, 0, 2e10])
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": rng.choice(category_ids[: max(1, len(category_ids) - 1)]),
                    "bbox": xywh,
                    "area": area,
                    "iscrowd": int(rng.random() < 0.15),
                }
            )
    for image_id in image_ids:
        here = [a for a in annotations if a["image_id"] == image_id]
        for _ in range(rng.randint(101, 130) if crowded and image_id == image_ids[0] else rng.randint(0, 12)):
            source = rng.choice(here) if here and rng.random() < 0.8 else None
            same = source is not None and rng.random() < (1 if crowded else 0.9)
            detections.append(
                {
                    "image_id": image_id,
                    "category_id": source["category_id"] if same else rng.choice(category_ids + [99]),
                    "bbox": moved(source["bbox"]) if source else box(),
                    "score": rng.randint(0, 10) / 10,
                }
            )
    rng.shuffle(annotations)
    rng.shuffle(detections)
    ground_truth = {
        "images": [{"id": i, "file_name": f"{i}.jpg", "width": 400, "height": 400} for i in image_ids],
        "categories": [{"id": i, "name": f"c{i}"} for i in category_ids],
        "annotations": annotations,
    }
    return ground_truth, detections


def score(ground_truth, detections):
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = copy.deepcopy(ground_truth)
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(copy.deepcopy(detections)), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    precision, recall = evaluation.eval["precision"], evaluation.eval["recall"]
    mean = lambda values: float(np.mean(values[values > -1])) if (values > -1).any() else -1.0
    per_class = [
        {
            "category_id": category_id,
            "AP": mean(precision[:, :, k, 0, 2]),
            "AP50": mean(precision[0, :, k, 0, 2]),
            "AR100": mean(recall[:, k, 0, 2]),
            "num_ground_truth": sum(
                a["category_id"] == category_id and not a["iscrowd"] and 0 <= a["area"] <= 1e10
                for a in ground_truth["annotations"]
            ),
        }
        for k, category_id in enumerate(map(int, evaluation.params.catIds))
    ]
    return dict(zip(NAMES, map(float, evaluation.stats))), per_class


def main():
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 12
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    cases = []
    while len(cases) < count:
        ground_truth, detections = make_case(seed)
        # pycocotools fails on an empty list.
        if detections:
            stats, per_class = score(ground_truth, detections)
            cases.append(
                {
                    "seed": seed,
                    "ground_truth": ground_truth,
                    "detections": detections,
                    "stats": stats,
                    "per_class": per_class,
                }
            )
        seed += 1
    path = pathlib.Path(__file__).with_name("synthetic.json")
    lines = ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases)
    path.write_text(f"[\n{lines}\n]\n")


main()
