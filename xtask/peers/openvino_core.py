"""The exported network under OpenVINO: openvino_core.py MODEL.onnx f32|bf16|int8

int8 is NNCF's post-training quantisation, calibrated on random images; the quantised network is kept beside the model.
"""

import sys
from collections import Counter
from pathlib import Path

import numpy
import openvino

from worker import serve

path, precision = Path(sys.argv[1]), sys.argv[2]
core = openvino.Core()
random = numpy.random.default_rng(0)


def shape_of(model):
    return [side.get_length() for side in model.input(0).partial_shape]


def quantized():
    """The network with int8 products, made once."""
    import nncf

    target = path.with_name(f"{path.stem}_nncf{nncf.__version__}.xml")
    if not target.exists():
        model = core.read_model(path)
        images = [random.random(shape_of(model), dtype=numpy.float32) for _ in range(2)]
        partial = target.with_name(f"{target.stem}_partial.xml")
        openvino.save_model(nncf.quantize(model, nncf.Dataset(images), subset_size=len(images)), partial, False)
        partial.with_suffix(".bin").rename(target.with_suffix(".bin"))
        partial.rename(target)
    return core.read_model(target)


def precisions(compiled):
    """The layers that multiply, counted by the precision that they run in, and the names of those not in int8."""
    counts, others = Counter(), []
    for operation in compiled.get_runtime_model().get_ordered_ops():
        info = operation.get_rt_info()
        kind = str(info["layerType"].value if hasattr(info["layerType"], "value") else info["layerType"])
        if kind in ("Convolution", "GroupConvolution", "FullyConnected", "MatMul", "Deconvolution"):
            found = str(info["runtimePrecision"].value if hasattr(info["runtimePrecision"], "value") else info["runtimePrecision"])
            counts[found] += 1
            if found not in ("i8", "u8"):
                others.append(operation.get_friendly_name())
    return {"layers": dict(counts), **({"not_int8": others} if "i8" in counts or "u8" in counts else {})}


model = quantized() if precision == "int8" else core.read_model(path)
settings = {"INFERENCE_NUM_THREADS": 2, "PERFORMANCE_HINT": "LATENCY"}
if precision != "int8":
    settings["INFERENCE_PRECISION_HINT"] = precision
compiled = core.compile_model(model, "CPU", settings)
request = compiled.create_infer_request()
images = random.random(shape_of(model), dtype=numpy.float32)
layers = precisions(compiled)
serve(f"OpenVINO {precision}", lambda: request.infer({0: images}), openvino=openvino.__version__, **layers)
