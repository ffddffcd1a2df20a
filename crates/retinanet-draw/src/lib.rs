//! Boxes on pictures and plots: annotated detections with legible text, curves.
