//! Boxes, pyramid levels, anchors, box coding, matching and suppression for dense detectors; no tensors, no files.
