"""Our exports of torchvision's networks beside torch's own: onnx_export.py FOLDER

FOLDER is what the example `onnx_parity` writes. One line of JSON a network: nodes, bytes, and the milliseconds of a run in
ONNX Runtime on two threads, the best of several in turn. Both files take images of any number and size and end in logits
and deltas; ours works out the anchors, too.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from torchvision.models.detection import retinanet_resnet50_fpn, retinanet_resnet50_fpn_v2

from network import Core

NETWORKS = {"torchvision_r50_v1": retinanet_resnet50_fpn, "torchvision_r50_v2": retinanet_resnet50_fpn_v2}
HEIGHT, WIDTH, ROUNDS = 416, 608, 5


def export(build, path):
    torch.manual_seed(0)
    core = Core(build(weights=None, weights_backbone=None)).eval()
    outputs = ["class_logits", "box_deltas"]
    axes = {"images": {0: "batch", 2: "height", 3: "width"}} | {name: {0: "batch", 1: "anchors"} for name in outputs}
    torch.onnx.export(
        core, (torch.rand(1, 3, HEIGHT, WIDTH),), str(path), dynamo=False, opset_version=17,
        input_names=["images"], output_names=outputs, dynamic_axes=axes,
    )


def milliseconds(paths):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    providers = ["CPUExecutionProvider"]
    sessions = [onnxruntime.InferenceSession(str(path), options, providers=providers) for path in paths]
    images = np.random.default_rng(0).random((1, 3, HEIGHT, WIDTH), dtype=np.float32)
    best = [float("inf")] * len(paths)
    for _ in range(ROUNDS + 1):
        for place, session in enumerate(sessions):
            start = time.perf_counter()
            session.run(None, {"images": images})
            best[place] = min(best[place], (time.perf_counter() - start) * 1e3)
    return best


def main(folder):
    for name, build in NETWORKS.items():
        theirs = folder / name / "torch_export.onnx"
        export(build, theirs)
        paths = [folder / name / "raw.onnx", theirs]
        times = milliseconds(paths)
        sides = {
            side: {"nodes": len(onnx.load(path).graph.node), "bytes": path.stat().st_size, "ms": round(ms, 1)}
            for side, path, ms in zip(["ours", "torch"], paths, times)
        }
        print(json.dumps({"network": name, "size": [HEIGHT, WIDTH], **sides}), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
