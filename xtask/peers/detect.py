"""One image with torchvision, from the start of the process to JSON: detect.py MODEL IMAGE"""

import json
import sys

import torch
from PIL import Image
from torchvision.transforms.functional import pil_to_tensor

import small_r18

torch.set_num_threads(2)
model, classes = small_r18.load(sys.argv[1])
image = pil_to_tensor(Image.open(sys.argv[2]).convert("RGB")).float() / 255
with torch.inference_mode():
    (found,) = model([image])
rows = zip(found["boxes"].tolist(), found["labels"].tolist(), found["scores"].tolist())
detections = [{"box": box, **classes[label], "score": score} for box, label, score in rows]
print(json.dumps({"images": [{"path": sys.argv[2], "detections": detections}]}))
