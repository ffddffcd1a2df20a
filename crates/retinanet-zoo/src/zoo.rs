//! What a person types: a file that exists, or the name of a model.

use crate::agent::FetchOptions;
use crate::cache::Cache;
use crate::download::OnEvent;
use crate::error::ZooError;
use crate::manifest::Manifest;
use crate::model::Entry;
use std::path::{Path, PathBuf};

/// Models by name, and where they are kept.
#[derive(Clone, Debug)]
pub struct Zoo {
    /// The models.
    pub manifest: Manifest,
    /// Where they are kept.
    pub cache: Cache,
    /// How they are fetched.
    pub options: FetchOptions,
}

/// What an argument stands for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Located<'a> {
    /// A file of the person's own.
    File(&'a Path),
    /// A model of the manifest.
    Model(&'a Entry),
}

impl Zoo {
    /// What an argument stands for: a file that exists, whatever it is called, or else a name.
    ///
    /// # Errors
    /// It is a folder, or neither a file nor a known name.
    pub fn locate<'a>(&'a self, argument: &'a Path) -> Result<Located<'a>, ZooError> {
        let name = argument.to_str().unwrap_or_default();
        if argument.exists() && !argument.is_dir() {
            return Ok(Located::File(argument));
        }
        if let Some(entry) = self.manifest.find(name) {
            return Ok(Located::Model(entry));
        }
        if argument.is_dir() {
            return Err(ZooError::Folder { path: argument.to_owned() });
        }
        // No name has a point or a slash in it.
        if name.is_empty() || name.contains(['.', '/', '\\']) {
            return Err(ZooError::NotFound { path: argument.to_owned() });
        }
        self.manifest.get(name).map(Located::Model)
    }

    /// The file that an argument stands for, fetched if it is a name and not there yet.
    ///
    /// # Errors
    /// Those of [`Self::locate`] and [`Cache::fetch`].
    pub fn resolve(&self, argument: &Path, on_event: &mut OnEvent) -> Result<PathBuf, ZooError> {
        match self.locate(argument)? {
            Located::File(path) => Ok(path.to_owned()),
            Located::Model(entry) => self.cache.fetch(entry, &self.options, on_event),
        }
    }
}
