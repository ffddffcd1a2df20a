//! What can go wrong between a name and a file.

use crate::digest::{Algorithm, Digest};
use std::io;
use std::path::PathBuf;

/// A model that cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ZooError {
    /// A manifest cannot be used.
    #[error("{origin}: line {line}: {message}")]
    Manifest {
        /// The file, or where else the text comes from.
        origin: String,
        /// From 1.
        line: usize,
        /// What is wrong there.
        message: String,
    },
    /// No model has this name, and no file either.
    #[error("model {name:?}: expected a file or the name of a model, found neither{}", did_you_mean(nearest))]
    UnknownModel {
        /// What was asked for.
        name: String,
        /// The names that are most like it, the nearest first.
        nearest: Vec<String>,
    },
    /// Nothing lies at this path.
    #[error("{}: expected a model file, found nothing there", path.display())]
    NotFound {
        /// What was asked for.
        path: PathBuf,
    },
    /// A folder was given.
    #[error("{}: expected a model file, found a folder", path.display())]
    Folder {
        /// What was asked for.
        path: PathBuf,
    },
    /// A model that ships with the program is not where it should be.
    #[error(
        "{name}: expected {file} below {}, found none; it ships with the program's sources",
        folders.iter().map(|folder| folder.display().to_string()).collect::<Vec<_>>().join(" or ")
    )]
    NotShipped {
        /// The model.
        name: String,
        /// Its file, below one of the folders.
        file: String,
        /// Where it was looked for.
        folders: Vec<PathBuf>,
    },
    /// The system refused.
    #[error("{}: {doing}: {source}", path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// What was tried, as `cannot write`.
        doing: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// The server cannot be had to give the file.
    #[error(transparent)]
    Fetch(Box<FetchError>),
    /// A file has another digest than the manifest says.
    #[error(
        "{what}: {algorithm}: expected {expected}, found {found}{}",
        if *removed { "; the file was removed" } else { "" }
    )]
    Digest {
        /// The file, or the address that it came from.
        what: String,
        /// Which digest.
        algorithm: Algorithm,
        /// What the manifest says: the first digits, or all.
        expected: String,
        /// What the file has.
        found: String,
        /// Whether the file was removed, as what was fetched is.
        removed: bool,
    },
    /// A file, or what a server announces, is not as large as the manifest says.
    #[error("{what}: size: expected {expected}, found {found} bytes")]
    Size {
        /// The file, or the address that it comes from.
        what: String,
        /// What the manifest says.
        expected: String,
        /// What there is.
        found: u64,
    },
    /// A proxy's address, or a file of certificates, cannot be used.
    #[error("{what}: expected {expected}, found {found:?}")]
    Option {
        /// Which option.
        what: &'static str,
        /// What it should hold.
        expected: &'static str,
        /// What it holds.
        found: String,
    },
    /// The caller asked to stop; what has come so far is kept, and the next call goes on from there.
    #[error("{name}: stopped after {kept} bytes, which are kept")]
    Stopped {
        /// The model.
        name: String,
        /// Bytes that are there.
        kept: u64,
    },
}

impl ZooError {
    /// For `map_err` on what the system does to a path.
    pub(crate) fn io(path: impl Into<PathBuf>, doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, doing, source }
    }
}

/// A file that its server cannot be had to give.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name}: {url}: {fault}; to put the file there by hand, save it as {} ({digest})", place.display())]
pub struct FetchError {
    /// The model.
    pub name: String,
    /// Its address.
    pub url: String,
    /// What happened.
    pub fault: Fault,
    /// Where the file belongs.
    pub place: PathBuf,
    /// What it hashes to, for a person who fetches it by other means.
    pub digest: Digest,
}

/// Why a server cannot be had to give a file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// No connection comes about.
    #[error("cannot connect: {0}")]
    Unreachable(String),
    /// The server's certificate is not trusted, or TLS fails otherwise.
    #[error("no secure connection: {0}")]
    Tls(String),
    /// The server answers with this status.
    #[error("status: expected 200, found {0}")]
    Status(u16),
    /// One redirect leads to the next.
    #[error("redirects: expected at most {0}, found more")]
    Redirects(u32),
    /// A redirect leads from https to http.
    #[error("redirect: expected https, found {0}")]
    Insecure(String),
    /// Nothing came for too long.
    #[error("expected an answer in time, found none ({0})")]
    Timeout(String),
    /// The answer ended too early.
    #[error("body: expected {expected} bytes, found {found}")]
    Cut {
        /// What was announced.
        expected: u64,
        /// What came.
        found: u64,
    },
    /// What else can happen to a connection.
    #[error("connection: {0}")]
    Connection(String),
}

fn did_you_mean(nearest: &[String]) -> String {
    match nearest {
        [] => String::new(),
        _ => format!("; did you mean {}?", nearest.join(" or ")),
    }
}
