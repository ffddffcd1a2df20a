//! A planned network against the same network run plainly, and against itself: in every storage, in part, on any threads.

mod plan {
    mod network;
    mod parity;
    mod repeatable;
    mod sparse;
    mod storages;
}
