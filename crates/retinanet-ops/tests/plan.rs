//! A planned network against the same network run plainly.

mod plan {
    mod network;
    mod parity;
}
