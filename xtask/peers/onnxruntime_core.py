"""The exported network under ONNX Runtime: onnxruntime_core.py MODEL.onnx"""

import sys

import numpy
import onnxruntime

from worker import serve

options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 2
# Threads that wait by spinning between runs would take the cores from the peers that are measured in turn with this one.
options.add_session_config_entry("session.force_spinning_stop", "1")
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
images = numpy.random.default_rng(0).random(session.get_inputs()[0].shape, dtype=numpy.float32)
serve("ONNX Runtime f32", lambda: session.run(None, {"images": images}), onnxruntime=onnxruntime.__version__)
