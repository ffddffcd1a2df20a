//! The tests of the crate, as one program.

mod bbox;
mod coder;
mod generator;
mod golden;
mod matcher;
mod nms;
mod properties;
mod pyramid;
