//! The class and box subnets of RetinaNet: P3..P7 to class logits and box deltas.
