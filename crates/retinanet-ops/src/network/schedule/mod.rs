//! What runs when, and where it lies: the schedule of a recorded network for whatever executes it.
//!
//! A [`Graph`] is the steps of a network and, to train it, those of its reverse pass: gradients flow between slots, take over
//! the places of what they are the gradients of sums of, and are joined where several steps read one value. The uses of one
//! layer on several levels are lanes of one step. A [`Layout`] gives every slot its place in one block of memory, for images of
//! one size: slots share a place where one is read for the last time before the other is written.
//!
//! Nothing here computes. The processor's [`TrainingSession`](super::training::TrainingSession) is one executor of it.
//!
//! ```
//! use retinanet_ops::kernels::cpu::inference::Storage;
//! use retinanet_ops::network::plan::Recorder;
//! use retinanet_ops::network::schedule::{Graph, Layout, Storages};
//! use retinanet_ops::network::{ConvLayer, Engine};
//!
//! let (mut recorder, image) = Recorder::new(4);
//! let mut x = image;
//! for name in ["a", "b", "c"] {
//!     x = recorder.conv(&ConvLayer::new(name, 4, 4, 3, 1), &x, None)?;
//! }
//! let storages = Storages::Uniform(Storage::F32);
//! let map = 8 * 8 * 4 * size_of::<f32>();
//! // Forward, a map is gone when the next has been made of it.
//! let inference = Graph::inference(&recorder, &[x], storages);
//! assert_eq!(Layout::new(&inference, (1, 8, 8), 64)?.len(), 2 * map);
//! // For the gradients of the weights the inputs stay, and the gradient of a map takes a place that is free by then.
//! let training = Graph::training(&recorder, &[x], storages, &[])?;
//! assert_eq!(Layout::new(&training, (1, 8, 8), 64)?.len(), 5 * map);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod graph;
mod layout;
mod lifetimes;
mod recompute;

pub use graph::{Flow, Graph, Lane, Pass, ResidualFlow, SlotIdx, Storages, Work};
pub use layout::Layout;
