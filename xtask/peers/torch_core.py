"""torchvision's RetinaNet-R50, backbone to heads: torch_core.py eager|channels_last|bf16 HEIGHT WIDTH"""

import sys

import torch

import network
from worker import serve

mode, height, width = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
torch.set_num_threads(2)
model = network.r50()
images = torch.rand(1, 3, height, width)
if mode != "eager":
    model = model.to(memory_format=torch.channels_last)
    images = images.to(memory_format=torch.channels_last)
core = network.Core(model)
with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=mode == "bf16"):
    serve(f"torchvision {mode}", lambda: core(images), **network.versions())
