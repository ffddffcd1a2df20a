//! Published models by name: where they lie, how they are checked, and fetching them into a cache; no tensors.
//!
//! A [`Manifest`] lists models with address, digest, size, licence and what they were measured to do; the one of this
//! workspace is built in. A [`Cache`] is a folder that holds a folder for each model: the file, `FILE.sha256` once the file
//! was checked (in the form that `sha256sum -c` reads), and, while it is on its way, `FILE.part`. [`Zoo`] puts both together
//! and takes what a person types: a file that exists, or a name.
//!
//! A file is under its name only when it is whole and has the digest of the manifest. Everything that depends on a machine
//! (the folder, proxies, certificates) is given by the caller; no environment variable is read here.
//!
//! ```no_run
//! use std::ops::ControlFlow;
//! use retinanet_zoo::{Cache, Event, FetchOptions, Manifest, Zoo};
//!
//! let zoo = Zoo {
//!     manifest: Manifest::embedded(),
//!     cache: Cache::new("cache/retinanet"),
//!     options: FetchOptions::default(),
//! };
//! let path = zoo.resolve("torchvision_r50_v1".as_ref(), &mut |event| {
//!     if let Event::Progress { done, .. } = event {
//!         println!("{done} bytes");
//!     }
//!     ControlFlow::Continue(())
//! })?;
//! println!("{}", path.display());
//! # Ok::<(), retinanet_zoo::ZooError>(())
//! ```

mod agent;
mod cache;
mod digest;
mod download;
mod error;
mod lock;
mod manifest;
mod model;
mod part;
mod zoo;

pub use agent::{FetchOptions, Proxies};
pub use cache::{Cache, Checked, State, Verified};
pub use digest::{Algorithm, Digest};
pub use download::{Event, Restart};
pub use error::{Fault, FetchError, ZooError};
pub use manifest::Manifest;
pub use model::{Backbone, Channels, ClassList, Entry, Format, Metric, MetricKind, Preprocessing, Size, Source, Task};
pub use zoo::{Located, Zoo};
