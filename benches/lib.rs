//! Criterion suites by layer.
//!
//! Ids are `{device}/{layer}/{op}/{shape}/{dtype}`. A kernel of ours stands in one group with the plain composition of candle
//! operations that it replaces, under the names `kernel` and `composition`, so that both are timed in one run.
//! `cargo xtask bench` runs all of them and writes `benches/results/<date>-<machine>/`.
