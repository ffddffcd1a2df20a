//! A training in a file: everything that it goes on with.

use super::data_digest::DataDigest;
use super::named_state::NamedState;
use super::{CheckpointError, TrainingState};
use crate::config::Config;
use crate::detector::{CLASSES, CONFIG, FORMAT};
use crate::error::{Error, Result};
use crate::weights::{self, hexadecimal, little_endian};
use candle_core::Tensor;
use retinanet_annotations::Class;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Entries of the file's metadata beside those of a detector.
const STATE: &str = "state";
const NUMBERS: &str = "numbers";
const DATA: &str = "data";
const DIGEST: &str = "sha256";

/// What `format` says of such a file, and its version.
pub(crate) const TRAINING_FORMAT: &str = "retinanet training 2";

/// A training between two steps, as its folder keeps it: `state.safetensors`.
///
/// The file holds the weights as they are trained, what optimiser and loss keep, the numbers of [`TrainingState`], the
/// configuration, the classes, and what tells the data from other data. It is one file and is replaced as a whole, so that all
/// of it is of one step whatever happens while it is written. A digest tells what a disk has given back otherwise than it was
/// written.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    /// Where it was read from, or will be written to.
    pub(super) path: PathBuf,
    /// The configuration that the training began with.
    pub config: Config,
    /// The classes that it learns.
    pub classes: Vec<Class>,
    /// Where it stands.
    pub state: TrainingState,
    pub(super) data: DataDigest,
    pub(super) parts: NamedState,
}

impl Checkpoint {
    /// Reads a checkpoint.
    ///
    /// # Errors
    /// There is no such file, it is damaged, or it is of another kind or version.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        if !path.exists() {
            return Err(CheckpointError::Missing { path: path.to_owned() }.into());
        }
        let unusable =
            |source: Error| CheckpointError::Unusable { path: path.to_owned(), source: Box::new(source) }.into();
        Self::read_parts(path).map_err(unusable)
    }

    fn read_parts(path: &Path) -> Result<Self> {
        let mut file = weights::read(path)?;
        let written = file.metadata.remove(DIGEST);
        let found = digest(&file.tensors, &file.metadata)?;
        let mut entry = |key: &str| {
            let missing = || content(key, "an entry of the metadata", "none");
            file.metadata.remove(key).ok_or_else(missing)
        };
        let format = entry(FORMAT)?;
        if format != TRAINING_FORMAT {
            return Err(content(FORMAT, TRAINING_FORMAT, &format).into());
        }
        if let Some(written) = written.filter(|written| *written != found) {
            return Err(content(DIGEST, &format!("{written}, as it was written"), &found).into());
        }
        let config = Config::parse(&entry(CONFIG)?, &[])?;
        let classes = parse(CLASSES, &entry(CLASSES)?)?;
        let state = parse(STATE, &entry(STATE)?)?;
        let data = parse(DATA, &entry(DATA)?)?;
        let numbers = parse(NUMBERS, &entry(NUMBERS)?)?;
        let parts = NamedState { tensors: file.tensors, numbers };
        Ok(Self { path: path.to_owned(), config, classes, state, data, parts })
    }

    /// Writes it, whole or not at all.
    pub(super) fn write(&self) -> Result<()> {
        let mut metadata = BTreeMap::from([
            (FORMAT.to_owned(), TRAINING_FORMAT.to_owned()),
            (CONFIG.to_owned(), self.config.to_toml()?),
            (CLASSES.to_owned(), json(&self.classes)),
            (STATE.to_owned(), json(&self.state)),
            (DATA.to_owned(), json(&self.data)),
            (NUMBERS.to_owned(), json(&self.parts.numbers)),
        ]);
        metadata.insert(DIGEST.to_owned(), digest(&self.parts.tensors, &metadata)?);
        Ok(weights::write(&self.path, &self.parts.tensors, &metadata)?)
    }
}

/// SHA-256 of everything else that the file holds, each part with its length before it.
fn digest(tensors: &BTreeMap<String, Tensor>, metadata: &BTreeMap<String, String>) -> candle_core::Result<String> {
    let mut hasher = Sha256::new();
    let mut add = |part: &[u8]| {
        hasher.update((part.len() as u64).to_le_bytes());
        hasher.update(part);
    };
    for (key, text) in metadata {
        add(key.as_bytes());
        add(text.as_bytes());
    }
    for (name, tensor) in tensors {
        add(name.as_bytes());
        add(format!("{:?}", tensor.dims()).as_bytes());
        add(&little_endian(tensor)?);
    }
    Ok(hexadecimal(hasher))
}

fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("numbers and strings have a form in JSON")
}

fn parse<T: serde::de::DeserializeOwned>(key: &str, text: &str) -> Result<T, CheckpointError> {
    serde_json::from_str(text).map_err(|error| content(key, "what was written", &error.to_string()))
}

fn content(key: &str, expected: &str, found: &str) -> CheckpointError {
    CheckpointError::Content { what: format!("metadata {key}"), expected: expected.to_owned(), found: found.to_owned() }
}
