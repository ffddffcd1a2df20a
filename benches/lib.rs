//! Criterion suites by layer.
//!
//! Ids are `{device}/{layer}/{op}/{shape}/{dtype}`. A kernel of ours stands in one group with the plain composition of candle
//! operations that it replaces, under the names `kernel` and `composition`, so that both are timed in one run.
//! `cargo xtask bench` runs all of them and writes `benches/results/<date>-<machine>/`.

/// The README's examples, compiled and run with the tests: a crate that is not published can read a file above it.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
