//! Opening a GPU.

use super::DeviceArgs;
use retinanet::ComputeDevice;
use retinanet_cuda::{Error, Gpu, GpuOptions};
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;

/// Variables that toolkits and environments of Python say with where they are.
const VARIABLES: [&str; 4] = ["CUDA_PATH", "CUDA_HOME", "VIRTUAL_ENV", "CONDA_PREFIX"];

impl DeviceArgs {
    pub(super) fn open_gpu(&self, index: usize) -> anyhow::Result<ComputeDevice> {
        let folders = folders(self.cuda_path.clone(), |name| std::env::var_os(name));
        // Without a home folder, kernels are compiled in each run.
        let cache = crate::zoo::user_cache("--models-dir").ok().map(|folder| folder.join("kernels"));
        let options = GpuOptions { index, folders, cache, tf32: self.tf32, fastest: self.fastest };
        match Gpu::open(options) {
            Ok(gpu) => Ok(ComputeDevice::Cuda(Arc::new(gpu))),
            Err(error) => match hint(&error, Gpu::list) {
                Some(hint) => Err(anyhow::anyhow!("{error}; {hint}")),
                None => Err(error.into()),
            },
        }
    }
}

/// What the driver shows, or why that is nothing.
pub(super) fn lines(list: Result<Vec<String>, Error>) -> Vec<String> {
    match list {
        Ok(names) if names.is_empty() => vec!["no GPU: the driver shows none".to_owned()],
        Ok(names) => names.iter().enumerate().map(|(index, name)| format!("cuda:{index}: {name}")).collect(),
        Err(error) => vec![format!("no GPU: {error}")],
    }
}

/// Where libraries are looked for before the system is asked, the folder that was given first.
fn folders(given: Option<PathBuf>, variable: impl Fn(&str) -> Option<OsString>) -> Vec<PathBuf> {
    let named = VARIABLES.iter().filter_map(|name| variable(name).filter(|value| !value.is_empty())).map(PathBuf::from);
    let mut folders: Vec<PathBuf> = given.into_iter().chain(named).collect();
    let mut seen = std::collections::HashSet::new();
    folders.retain(|folder| seen.insert(folder.clone()));
    folders
}

/// What a person can do about it.
fn hint(error: &Error, list: impl Fn() -> Result<Vec<String>, Error>) -> Option<String> {
    match error {
        Error::Library { library, .. } if !library.starts_with("libcuda") => {
            Some("--cuda-path names the folder".to_owned())
        }
        Error::NoDevice { .. } => Some(format!("there is {}", lines(list()).join("; "))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_come_from_the_option_and_the_environment() {
        let found = folders(Some("/opt/mine".into()), |name| match name {
            "CUDA_HOME" => Some("/usr/local/cuda".into()),
            "CUDA_PATH" => Some("/opt/mine".into()),
            "CONDA_PREFIX" => Some("".into()),
            _ => None,
        });
        assert_eq!(found, ["/opt/mine", "/usr/local/cuda"].map(PathBuf::from));
        assert_eq!(folders(None, |_| None), Vec::<PathBuf>::new());
    }

    #[test]
    fn hints_name_the_option_and_what_there_is() {
        let two = || Ok(vec!["A".to_owned(), "B".to_owned()]);
        let library = |library: &str| Error::Library { library: library.into(), what: "w".into(), advice: "a".into() };
        assert_eq!(hint(&library("libcudnn.so.9"), two).as_deref(), Some("--cuda-path names the folder"));
        assert_eq!(hint(&library("libcuda.so.1"), two), None);
        let absent = Error::NoDevice { index: 5, found: 2 };
        assert_eq!(hint(&absent, two).as_deref(), Some("there is cuda:0: A; cuda:1: B"));
    }
}
