"""Writes RetinaNet-R50 as ONNX unless it is there: export_core.py FOLDER HEIGHT WIDTH"""

import sys
from pathlib import Path

folder, height, width = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
path = folder / f"r50_{height}x{width}.onnx"
if not path.exists():
    import network

    folder.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    network.export(network.Core(network.r50()), partial, height, width)
    partial.rename(path)
print(path)
