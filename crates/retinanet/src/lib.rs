//! RetinaNet: configuration, model, targets, losses, post-processing, weights and training.
