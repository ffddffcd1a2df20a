//! The command line of RetinaNet.
fn main() {}
