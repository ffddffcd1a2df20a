//! The tests of the crate, as one program.

mod atss;
mod bbox;
mod coder;
mod generator;
mod golden;
mod matcher;
mod matching;
mod nms;
mod properties;
mod pyramid;
