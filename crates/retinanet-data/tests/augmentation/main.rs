//! Boxes and pictures change together, as the draws say.

mod color;
mod combining;
mod draws;
mod geometry;
mod pictures;
mod rendering;
