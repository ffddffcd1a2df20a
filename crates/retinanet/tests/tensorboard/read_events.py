"""Prints what TensorBoard's own reader finds in a run folder, as one JSON document: scalars and pictures by their tags."""

import json
import sys

from tensorboard.backend.event_processing.event_accumulator import IMAGES, SCALARS, TENSORS, EventAccumulator

# 0 keeps all; by default the reader keeps a sample.
events = EventAccumulator(sys.argv[1], size_guidance={SCALARS: 0, IMAGES: 0, TENSORS: 0})
events.Reload()
tags = events.Tags()
document = {
    "scalars": {tag: [[event.step, event.value] for event in events.Scalars(tag)] for tag in tags["scalars"]},
    "images": {
        tag: [[event.step, event.width, event.height, event.encoded_image_string[1:4].decode("latin-1")] for event in events.Images(tag)]
        for tag in tags["images"]
    },
    "first_wall_time": events.FirstEventTimestamp(),
}
json.dump(document, sys.stdout)
