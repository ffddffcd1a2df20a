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
# more: its boxes move by the error of a delta times that side. Of IoUs from the threshold of NMS.
RELATIVE, SCORE, PIXELS, SIDES, EDGE = 1e-4, 1e-4, 1e-3, 2e-6, 1e-4


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


def detections(found, expected, threshold):
    """The largest differences of detections; equal scores may have changed places.

    Where the IoU of two boxes equals the threshold of NMS to within rounding, one side may keep the lower one and the other
    not, and what that one suppresses instead: such detections are counted apart, and any other that has no partner fails.
    """
    anchors = expected["anchors"]
    limit = max(PIXELS, SIDES * float((anchors[:, 2:] - anchors[:, :2]).max()))
    count, pixels, score, on_the_edge = 0, 0.0, 0.0, 0
    for image, number in enumerate(found["num_detections"]):
        ours = expected["detections"][expected["detections"][:, 0] == image][:, 1:]
        assert (found["labels"][image, number:] == -1).all() and (found["scores"][image, number:] == 0).all()
        columns = found["labels"][image], found["scores"][image], *found["boxes"][image].T
        theirs = np.stack(columns, 1)[:number]
        assert (theirs[:-1, 1] >= theirs[1:, 1]).all(), "scores fall"
        partners = [partner(row, ours, limit) for row in theirs]
        pixels = max([pixels] + [pair[0] for pair in partners if pair])
        score = max([score] + [pair[1] for pair in partners if pair])
        count += sum(pair is not None for pair in partners)
        their_own = theirs[[pair is None for pair in partners]]
        our_own = ours[[partner(row, theirs, limit) is None for row in ours]]
        their_edge, our_edge = edge(their_own, ours, threshold), edge(our_own, theirs, threshold)
        for own, is_edge, releasing in (
            (their_own, their_edge, our_own[our_edge]), (our_own, our_edge, their_own[their_edge]),
        ):
            for row in own[~is_edge]:
                if not (iou(row[2:], above(row, releasing)[:, 2:]) > threshold).any():
                    return {"image": image, "no partner for": row.tolist()}, False
        on_the_edge += len(their_own) + len(our_own)
    return {"detections": count, "pixels": pixels, "score": score, "on the edge": on_the_edge}, count > 0


def partner(row, others, limit):
    """The differences in pixels and score from the nearest box of the class with the same score, if it is near."""
    same = others[(others[:, 0] == row[0]) & (np.abs(others[:, 1] - row[1]) < SCORE)]
    distance = np.abs(same[:, 2:] - row[2:]).max(axis=1, initial=0)
    if not len(same) or distance.min() >= limit:
        return None
    return float(distance.min()), float(np.abs(same[distance.argmin(), 1] - row[1]))


def edge(rows, others, threshold):
    """Which of some detections overlap one of the other side's, of no lower score, by the threshold to within rounding."""
    near = lambda row: np.abs(iou(row[2:], above(row, others)[:, 2:]) - threshold) < EDGE
    return np.array([near(row).any() for row in rows], bool)


def above(row, others):
    """Those of the class with no lower score."""
    return others[(others[:, 0] == row[0]) & (others[:, 1] >= row[1] - SCORE)]


def iou(box, boxes):
    sides = np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2])
    intersection = np.prod(np.clip(sides, 0, None), axis=1)
    return intersection / (np.prod(box[2:] - box[:2]) + np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) - intersection)


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
            metadata = {entry.key: entry.value for entry in model.metadata_props}
            preprocessing = json.loads(metadata["preprocessing"])
            threshold = json.loads(metadata["post_processing"])["nms_iou_threshold"]
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
                        outputs = run({"images": data["images"], "image_sizes": sizes})
                        errors, passed = detections(outputs, data, threshold)
                    say(passed, case=case.name, graph=path.stem, runtime=runtime, batch=batch, **errors)
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
