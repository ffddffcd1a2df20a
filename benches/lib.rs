//! Criterion suites by layer.
