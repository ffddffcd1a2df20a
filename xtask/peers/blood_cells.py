"""The blood cells (BCCD, Pascal VOC's form) as torchvision and COCO want them."""

import xml.etree.ElementTree as ElementTree

from PIL import Image
from torchvision.transforms.functional import pil_to_tensor


def split(data, name):
    return (data / "BCCD/ImageSets/Main" / f"{name}.txt").read_text().split()


def image(data, name):
    return pil_to_tensor(Image.open(data / "BCCD/JPEGImages" / f"{name}.jpg").convert("RGB")).float() / 255


def objects(data, name):
    """Width and height of the picture, and a class name with left, top, width, height a box that has an area."""
    tree = ElementTree.parse(data / "BCCD/Annotations" / f"{name}.xml")
    size = tuple(int(tree.find(f"size/{side}").text) for side in ("width", "height"))
    found = []
    for entry in tree.findall("object"):
        x0, y0, x1, y1 = (float(entry.find(f"bndbox/{key}").text) for key in ("xmin", "ymin", "xmax", "ymax"))
        if x1 > x0 and y1 > y0:
            # Corners count from 1 and are inclusive.
            found.append((entry.find("name").text, (x0 - 1, y0 - 1, x1 - x0 + 1, y1 - y0 + 1)))
    return size, found


def ground_truth(data, names, ids):
    """COCO's document; `ids` are the category ids of the class names, images count from 1."""
    images, annotations = [], []
    for position, name in enumerate(names, 1):
        (width, height), found = objects(data, name)
        images.append({"id": position, "file_name": f"{name}.jpg", "width": width, "height": height})
        for label, bbox in found:
            annotations.append({
                "id": len(annotations) + 1, "image_id": position, "category_id": ids[label],
                "bbox": list(bbox), "area": bbox[2] * bbox[3], "iscrowd": 0,
            })
    categories = [{"id": category, "name": name} for name, category in ids.items()]
    return {"images": images, "annotations": annotations, "categories": categories}


def records(position, boxes, labels, scores, ids):
    """COCO's results of an image; `ids` are the category ids of the labels."""
    rows = zip(boxes.tolist(), labels.tolist(), scores.tolist())
    return [
        {"image_id": position, "category_id": ids[label], "bbox": [x0, y0, x1 - x0, y1 - y0], "score": score}
        for (x0, y0, x1, y1), label, score in rows
    ]
