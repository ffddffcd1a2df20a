"""Runs exported detectors in ONNX Runtime and OpenVINO beside our own output, for `cargo xtask onnx`.

    onnx_parity.py FOLDER

FOLDER is what the example `onnx_parity` writes. One line of JSON a graph, runtime and batch, with the largest differences;
the exit code is 1 where one is too large.
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import openvino
from safetensors.numpy import load_file

# Of logits and deltas, relative to the largest; of scores; of boxes, in pixels or in sides of the largest anchor, whichever is
# more: its boxes move by the error of a delta times that side.
RELATIVE, SCORE, PIXELS, SIDES = 1e-4, 1e-4, 1e-3, 2e-6


def with_onnxruntime(path):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda inputs: dict(zip(names, session.run(None, inputs)))


def with_openvino(path):
    # f32 everywhere: by default processors with bfloat16 compute in it.
    model = openvino.Core().compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda inputs: {key.get_any_name(): value for key, value in model(inputs).items()}


RUNTIMES = {"onnxruntime": with_onnxruntime, "openvino": with_openvino}


def relative(found, expected):
    assert found.shape == expected.shape, f"shape: expected {expected.shape}, found {found.shape}"
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def raw(found, expected):
    """The largest relative differences."""
    errors = {name: relative(found[name], expected[name]) for name in ["class_logits", "box_deltas", "anchors"]}
    return errors, max(errors.values()) < RELATIVE


def detections(found, expected):
    """The largest differences of detections in order of score; equal scores may have changed places."""
    count, pixels, score = 0, 0.0, 0.0
    for image, number in enumerate(found["num_detections"]):
        ours = expected["detections"][expected["detections"][:, 0] == image]
        if number != len(ours):
            return {"image": image, "expected": len(ours), "found": int(number)}, False
        assert (found["labels"][image, number:] == -1).all() and (found["scores"][image, number:] == 0).all()
        order = found["scores"][image, :number]
        assert (order[:-1] >= order[1:]).all(), "scores fall"
        for row in range(number):
            # The nearest box of the class with a score that is the same.
            label, value = found["labels"][image, row], order[row]
            same = ours[(ours[:, 1] == label) & (np.abs(ours[:, 2] - value) < SCORE)]
            if not len(same):
                return {"image": image, "row": row, "no match for": [int(label), float(value)]}, False
            distance = np.abs(same[:, 3:] - found["boxes"][image, row]).max(axis=1)
            pixels = max(pixels, float(distance.min()))
            score = max(score, float(np.abs(same[distance.argmin(), 2] - value)))
            count += 1
    anchors = expected["anchors"]
    limit = max(PIXELS, SIDES * float((anchors[:, 2:] - anchors[:, :2]).max()))
    return {"detections": count, "pixels": pixels, "score": score}, count > 0 and pixels < limit


def bytes_of(data):
    """Random bytes of the sizes of a batch, beyond its images too."""
    batch, _, height, width = data["images"].shape
    return np.random.default_rng(0).integers(0, 256, (batch, height, width, 3), dtype=np.uint8)


def normalised(pixels, sizes, preprocessing):
    x = (pixels.astype(np.float32) / 255 - np.float32(preprocessing["mean"])) / np.float32(preprocessing["std"])
    for image, (height, width) in enumerate(sizes):
        x[image, height:] = 0
        x[image, :, width:] = 0
    return np.ascontiguousarray(x.transpose(0, 3, 1, 2))


def main(folder):
    failed = False

    def say(passed, **entries):
        nonlocal failed
        failed |= not passed
        print(json.dumps({"passed": bool(passed), **entries}), flush=True)

    for case in sorted(path for path in Path(folder).iterdir() if path.is_dir()):
        batches = {path.stem: load_file(path) for path in sorted(case.glob("*.safetensors"))}
        for path in sorted(case.glob("*.onnx")):
            model = onnx.load(path)
            onnx.checker.check_model(model, full_check=True)
            onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
            say(True, case=case.name, graph=path.stem, nodes=len(model.graph.node), check="onnx.checker, full")
            preprocessing = json.loads({entry.key: entry.value for entry in model.metadata_props}["preprocessing"])
            for runtime, load in RUNTIMES.items():
                run = load(path)
                reference = RUNTIMES["onnxruntime"](case / "raw.onnx") if path.stem == "raw_u8" else None
                # What differs little from the first two is run on the smallest batch of several images alone.
                several = (batch for batch, data in batches.items() if len(data["images"]) > 1)
                smallest = min(several, key=lambda batch: batches[batch]["images"].size)
                for batch in batches if path.stem in ("raw", "nms") else [smallest]:
                    data = batches[batch]
                    sizes = data["image_sizes"].astype(np.int64)
                    if path.stem == "raw_u8":
                        pixels = bytes_of(data)
                        found = run({"images": pixels, "image_sizes": sizes})
                        expected = reference({"images": normalised(pixels, sizes, preprocessing)})
                        errors, passed = raw(found, expected)
                    elif path.stem.startswith("raw"):
                        errors, passed = raw(run({"images": data["images"]}), data)
                    else:
                        errors, passed = detections(run({"images": data["images"], "image_sizes": sizes}), data)
                    say(passed, case=case.name, graph=path.stem, runtime=runtime, batch=batch, **errors)
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
