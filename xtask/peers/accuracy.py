"""The blood cell model under OpenVINO, in f32 and in int8 (NNCF, calibrated on the training images).

accuracy.py MODEL BCCD_FOLDER DUMP OUTPUT_FOLDER

DUMP is what `retinanet bench --dump` wrote of the same model: torchvision's network must give the same numbers. Written
are `ground_truth.json` and, for each precision, `openvino_f32.json` and `openvino_int8.json`, for `retinanet score`.
"""

import json
import sys
from pathlib import Path

import nncf
import numpy
import openvino
import torch
from safetensors.torch import load_file

import network
import small_r18
from blood_cells import ground_truth, image, records, split

model_path, data, dump_path, output = (Path(argument) for argument in sys.argv[1:5])
torch.set_num_threads(2)
model, classes = small_r18.load(model_path)
core = network.Core(model)


def difference():
    """The greatest difference from the numbers of the dump, relative to the greatest of them."""
    dump = load_file(dump_path)
    with torch.inference_mode():
        logits, deltas = core(dump["images"].permute(0, 3, 1, 2))
    worst = 0.0
    for name, found in (("class_logits", logits), ("box_deltas", deltas)):
        expected = torch.cat([dump[key] for key in sorted(dump) if key.startswith(name)], 1)
        worst = max(worst, ((found - expected).abs().max() / expected.abs().max()).item())
    return worst


def prepared(name):
    """The network's input, and torchvision's list of one image."""
    images, _ = model.transform([image(data, name)])
    return images


def detections(names, run):
    found, ids = [], [entry["category_id"] for entry in classes]
    for position, name in enumerate(names, 1):
        original = image(data, name)
        images = prepared(name)
        height, width = images.tensors.shape[-2:]
        grids = [(-(-height // stride), -(-width // stride)) for stride in small_r18.STRIDES]
        maps = [torch.empty(1, 1, *grid) for grid in grids]
        logits, deltas = (torch.from_numpy(array) for array in run(images.tensors.numpy()))
        counts = [9 * rows * columns for rows, columns in grids]
        head = {"cls_logits": list(logits.split(counts, 1)), "bbox_regression": list(deltas.split(counts, 1))}
        anchors = [list(model.anchor_generator(images, maps)[0].split(counts))]
        results = model.postprocess_detections(head, anchors, images.image_sizes)
        (result,) = model.transform.postprocess(results, images.image_sizes, [tuple(original.shape[-2:])])
        found += records(position, result["boxes"], result["labels"], result["scores"], ids)
    return found


def runner(network_model, settings):
    request = openvino.Core().compile_model(network_model, "CPU", settings).create_infer_request()
    return lambda images: [array.copy() for array in list(request.infer({0: images}).values())[:2]]


output.mkdir(parents=True, exist_ok=True)
worst = difference()
if worst > 1e-4:
    raise SystemExit(f"{dump_path}: numbers: expected torchvision's within 1e-4 relative, found {worst:.2e} apart")
test = split(data, "test")
ids = {entry["name"]: entry["category_id"] for entry in classes}
(output / "ground_truth.json").write_text(json.dumps(ground_truth(data, test, ids)))
height, width = prepared(test[0]).tensors.shape[-2:]
onnx_path = output / "network.onnx"
network.export(core, onnx_path, height, width)
exported = openvino.Core().read_model(onnx_path)
plain = {"INFERENCE_NUM_THREADS": 2, "INFERENCE_PRECISION_HINT": "f32"}
(output / "openvino_f32.json").write_text(json.dumps(detections(test, runner(exported, plain))))
train = split(data, "train")
calibration = nncf.Dataset([prepared(name).tensors.numpy() for name in train])
quantized = nncf.quantize(exported, calibration, subset_size=len(train))
(output / "openvino_int8.json").write_text(json.dumps(detections(test, runner(quantized, {"INFERENCE_NUM_THREADS": 2}))))
print(json.dumps({
    "difference": worst, "calibration_images": len(train), "openvino": openvino.__version__, "nncf": nncf.__version__,
    **network.versions(),
}))
