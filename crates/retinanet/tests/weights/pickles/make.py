"""Files as other toolkits write them, small: pickles of NumPy arrays as Detectron2 publishes weights, protocolN.pkl for every
protocol that is read, and a checkpoint as MMEngine saves it while it trains, mmengine.pth.

    python make.py        # needs numpy, torch
"""
import pickle
import sys
import types
from collections import OrderedDict
from pathlib import Path

import numpy as np
import torch

six = np.arange(1, 7, dtype=np.float32).reshape(2, 3)
model = {
    "plain": six,
    "columns": np.asfortranarray(six),
    "every_other": np.arange(12, dtype=np.float32)[::2],
    "half": np.array([0.1], dtype=np.float16),
    "double": np.array([0.1], dtype=np.float64),
    # Bytes above 127, which protocol 2 writes as a text of latin1.
    "negative": np.array([-1.5, 3e38], dtype=np.float32),
    "scalar": np.array(7.0, dtype=np.float32),
    "empty": np.zeros((0, 4), dtype=np.float32),
    "count": np.array(3, dtype=np.int64),
}
checkpoint = {"model": model, "__author__": "a test", "epoch": 3, "loss": np.float64(0.5)}
for protocol in (2, 3, 4, 5):
    Path(__file__).with_name(f"protocol{protocol}.pkl").write_bytes(pickle.dumps(checkpoint, protocol=protocol))


class HistoryBuffer:
    """What matters of MMEngine's class of this name: arrays, and its own methods by name."""

    def __init__(self):
        self._log_history = np.array([0.5, 0.25])
        self._count_history = np.array([1, 1])
        self._statistics_methods = OrderedDict(min=HistoryBuffer.min)

    def min(self):
        return self._log_history.min()


# The class has to be found where MMEngine has it.
module = types.ModuleType("mmengine.logging.history_buffer")
module.HistoryBuffer = HistoryBuffer
HistoryBuffer.__module__ = HistoryBuffer.min.__module__ = module.__name__
for name in ("mmengine", "mmengine.logging", module.__name__):
    sys.modules[name] = module if name == module.__name__ else types.ModuleType(name)

config = "model = dict(type='RetinaNet', backbone=dict(style='caffe'))\n"
weight = torch.nn.Parameter(torch.arange(1.0, 7.0).reshape(2, 3))
optimizer = torch.optim.SGD([weight], lr=0.01, momentum=0.9)
checkpoint = {
    "meta": {
        "epoch": 1,
        "iter": 100,
        "cfg": config,
        "seed": None,
        "experiment_name": "retinanet",
        "mmengine_version": "0.10.0",
        "dataset_meta": {"classes": ("cat", "dog"), "palette": [(220, 20, 60), (119, 11, 32)]},
    },
    "state_dict": OrderedDict({"bbox_head.retina_cls.weight": weight.detach(), "neck.count": torch.tensor(3)}),
    "message_hub": {"log_scalars": OrderedDict(loss=HistoryBuffer()), "runtime_info": OrderedDict(lr=np.float64(0.01)), "resumed_keys": OrderedDict()},
    "optimizer": optimizer.state_dict(),
    "param_schedulers": [{"last_step": 100, "_global_step": 100, "verbose": False, "base_values": [0.01]}],
}
torch.save(checkpoint, Path(__file__).with_name("mmengine.pth"))
