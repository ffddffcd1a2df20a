//! One file a command.

pub(crate) mod bench;
pub(crate) mod compare;
pub(crate) mod completions;
pub(crate) mod convert;
pub(crate) mod data;
pub(crate) mod demo;
pub(crate) mod detect;
pub(crate) mod eval;
pub(crate) mod export;
pub(crate) mod info;
pub(crate) mod losses;
pub(crate) mod models;
pub(crate) mod quantize;
pub(crate) mod score;
pub(crate) mod train;
