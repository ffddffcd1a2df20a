//! Kernels over slices: shapes in small structs, output and workspace given by the caller, nothing allocated below.
//!
//! Shapes live here; the code of a device lives in a module named after it (`cpu`).

pub mod cpu;
mod shape;

pub use shape::{Activation, ConvShape, ImageShape, PoolShape, ShapeError};
