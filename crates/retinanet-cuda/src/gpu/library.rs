//! The libraries that are opened at run time: where they are looked for, and what to install where they are not.

use crate::error::Error;
use cudarc::{cudnn, driver, nvrtc};
use std::fs;
use std::path::{Path, PathBuf};

/// A library of NVIDIA's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Library {
    /// Comes with the driver.
    Driver,
    /// Compiles kernels.
    Nvrtc,
    /// Convolves.
    Cudnn,
}

/// Where toolkits and Windows' Linux put them, beside the places that the system's loader knows.
const WELL_KNOWN: &[&str] = &["/usr/local/cuda", "/opt/cuda", "/usr/lib/wsl"];

/// Folders of libraries below the folder of a toolkit, of Python's packages of NVIDIA's, or of a virtual environment; `*` stands
/// for any folder.
const BELOW: &[&str] = &[
    "",
    "lib",
    "lib64",
    "targets/x86_64-linux/lib",
    "targets/sbsa-linux/lib",
    "*/lib",
    "lib/*/site-packages/nvidia/*/lib",
];

impl Library {
    /// Its file names, the best first, that a driver for this version of CUDA can work with.
    fn names(self, cuda: u32) -> &'static [&'static str] {
        match self {
            Self::Driver => &["libcuda.so.1"],
            // What a newer compiler makes, an older driver does not load.
            Self::Nvrtc if cuda >= 13 => &["libnvrtc.so.13", "libnvrtc.so.12"],
            Self::Nvrtc => &["libnvrtc.so.12"],
            Self::Cudnn => &["libcudnn.so.9"],
        }
    }

    fn advice(self, cuda: u32) -> String {
        match self {
            Self::Driver => "install NVIDIA's driver, version 525 or newer: it brings this library".to_owned(),
            Self::Nvrtc => format!(
                "install the CUDA toolkit {cuda}, or Python's package {}, and say in which folder it is",
                if cuda >= 13 { "nvidia-cuda-nvrtc" } else { "nvidia-cuda-nvrtc-cu12" }
            ),
            Self::Cudnn => {
                format!("install cuDNN 9, or Python's package nvidia-cudnn-cu{cuda}, and say in which folder it is")
            }
        }
    }

    /// Whether cudarc finds it, which asks the system's loader for its name; what is in the process already has one.
    fn is_present(self) -> bool {
        // SAFETY: opening NVIDIA's libraries runs their initialisers alone, which have no preconditions.
        unsafe {
            match self {
                Self::Driver => driver::sys::is_culib_present(),
                Self::Nvrtc => nvrtc::sys::is_culib_present(),
                Self::Cudnn => cudnn::sys::is_culib_present(),
            }
        }
    }

    /// Opens it for the rest of the process, from one of these folders if it is there, else from where the system has it. `cuda`
    /// is the driver's version of CUDA.
    ///
    /// # Errors
    /// It is nowhere, or what is there cannot be loaded.
    pub(super) fn open(self, folders: &[PathBuf], cuda: u32) -> Result<(), Error> {
        let mut failures = Vec::new();
        load_first(&files(self.names(cuda), folders), &mut failures);
        if self.is_present() {
            return Ok(());
        }
        let well_known: Vec<PathBuf> = WELL_KNOWN.iter().map(PathBuf::from).collect();
        load_first(&files(self.names(cuda), &well_known), &mut failures);
        if self.is_present() { Ok(()) } else { Err(self.missing(folders, cuda, &failures)) }
    }

    fn missing(self, folders: &[PathBuf], cuda: u32, failures: &[String]) -> Error {
        let names = self.names(cuda);
        let mut places = vec!["by the system's loader".to_owned()];
        places.extend(folders.iter().map(|folder| format!("below {}", folder.display())));
        places.extend(WELL_KNOWN.iter().map(|folder| format!("below {folder}")));
        let mut what = format!("expected it to be found {}, found nothing", places.join(", "));
        if !failures.is_empty() {
            what = format!("{what} that loads ({})", failures.join("; "));
        }
        Error::Library { library: names.join(" or "), what, advice: self.advice(cuda) }
    }
}

/// The files that are there, in the order of the names and then of the folders.
fn files(names: &[&str], folders: &[PathBuf]) -> Vec<PathBuf> {
    let folders: Vec<PathBuf> =
        folders.iter().flat_map(|folder| BELOW.iter().flat_map(|below| matching(folder, below))).collect();
    names
        .iter()
        .flat_map(|name| folders.iter().map(move |folder| folder.join(name)))
        .filter(|path| path.is_file())
        .collect()
}

/// The folders that a pattern names, in the order of their names.
fn matching(folder: &Path, pattern: &str) -> Vec<PathBuf> {
    let mut found = vec![folder.to_owned()];
    for part in pattern.split('/').filter(|part| !part.is_empty()) {
        found = found
            .iter()
            .flat_map(|folder| if part == "*" { folders_in(folder) } else { vec![folder.join(part)] })
            .collect();
    }
    found.retain(|folder| folder.is_dir());
    found
}

fn folders_in(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
    found.sort();
    found
}

/// Loads the first file that can be, and keeps it in the process.
fn load_first(files: &[PathBuf], failures: &mut Vec<String>) {
    for file in files {
        // NVRTC asks the loader for its other half by name, and does not say in which folder: what is loaded already is found.
        for companion in companions(file) {
            _ = load(&companion);
        }
        match load(file) {
            Ok(()) => return,
            Err(failure) => failures.push(failure),
        }
    }
}

fn load(file: &Path) -> Result<(), String> {
    // SAFETY: as in `is_present`.
    let library = unsafe { libloading::Library::new(file) }.map_err(|error| {
        let why = std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
        // The loader's message begins with the file.
        if why.contains(&*file.to_string_lossy()) { why } else { format!("{}: {why}", file.display()) }
    })?;
    // It stays loaded, so that nothing of it dangles.
    std::mem::forget(library);
    Ok(())
}

/// Files beside a library that it cannot do without and does not find by itself.
fn companions(file: &Path) -> Vec<PathBuf> {
    let is_nvrtc = file.file_name().is_some_and(|name| name.to_string_lossy().starts_with("libnvrtc.so"));
    let entries = file.parent().filter(|_| is_nvrtc).and_then(|folder| fs::read_dir(folder).ok());
    let mut found: Vec<PathBuf> = entries.into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    found.retain(|path| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("libnvrtc-builtins.so."))
    });
    found.sort();
    found
}

/// Where tests look for libraries, beside where the system has them: `CUDA_PATH` may name folders.
#[cfg(test)]
pub(super) fn folders_of_tests() -> Vec<PathBuf> {
    std::env::var_os("CUDA_PATH").map(|paths| std::env::split_paths(&paths).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder with empty files in it, as toolkits, packages and virtual environments lay them.
    fn folder(test: &str, files: &[&str]) -> PathBuf {
        let root = std::env::temp_dir().join(format!("retinanet-cuda-{test}-{}", std::process::id()));
        _ = fs::remove_dir_all(&root);
        for file in files {
            let path = root.join(file);
            fs::create_dir_all(path.parent().expect("below the root")).expect("a temporary folder");
            fs::write(path, "").expect("a temporary file");
        }
        root
    }

    #[test]
    fn libraries_are_found_where_toolkits_and_packages_have_them() {
        #[track_caller]
        fn check(root: &Path, library: Library, cuda: u32, expected: &[&str]) {
            let found = files(library.names(cuda), &[root.to_owned()]);
            assert_eq!(found, expected.iter().map(|file| root.join(file)).collect::<Vec<_>>());
        }
        let toolkit = folder("toolkit", &["lib64/libnvrtc.so.12", "targets/x86_64-linux/lib/libcudnn.so.9"]);
        check(&toolkit, Library::Nvrtc, 12, &["lib64/libnvrtc.so.12"]);
        check(&toolkit, Library::Cudnn, 12, &["targets/x86_64-linux/lib/libcudnn.so.9"]);
        let venv = "lib/python3.11/site-packages/nvidia";
        let both = [format!("{venv}/cuda_nvrtc/lib/libnvrtc.so.12"), format!("{venv}/cu13/lib/libnvrtc.so.13")];
        let both: Vec<&str> = both.iter().map(String::as_str).collect();
        let environment = folder("environment", &both);
        check(&environment, Library::Nvrtc, 12, &both[..1]);
        check(&environment, Library::Nvrtc, 13, &[both[1], both[0]]);
        check(&environment.join(venv), Library::Nvrtc, 12, &["cuda_nvrtc/lib/libnvrtc.so.12"]);
        check(&environment, Library::Cudnn, 13, &[]);
        for root in [toolkit, environment] {
            fs::remove_dir_all(root).expect("a temporary folder");
        }
    }

    #[test]
    fn nvrtc_is_loaded_with_its_other_half() {
        let root = folder(
            "halves",
            &["lib/libnvrtc.so.12", "lib/libnvrtc-builtins.so.12.8", "lib/libnvrtc-builtins.alt.so.12.8"],
        );
        assert_eq!(companions(&root.join("lib/libnvrtc.so.12")), [root.join("lib/libnvrtc-builtins.so.12.8")]);
        assert_eq!(companions(&root.join("lib/libcudnn.so.9")), Vec::<PathBuf>::new());
        fs::remove_dir_all(root).expect("a temporary folder");
    }

    #[test]
    fn a_missing_library_says_where_it_was_looked_for_and_what_to_install() {
        let folders = [PathBuf::from("/nowhere/cuda")];
        let message = Library::Cudnn.missing(&folders, 12, &[]).to_string();
        let expected = "libcudnn.so.9: expected it to be found by the system's loader, below /nowhere/cuda, below /usr/local/cuda, \
            below /opt/cuda, below /usr/lib/wsl, found nothing; install cuDNN 9, or Python's package nvidia-cudnn-cu12, and say in \
            which folder it is";
        assert_eq!(message, expected);
        let message = Library::Nvrtc.missing(&[], 13, &["a.so: not an ELF file".to_owned()]).to_string();
        assert!(message.starts_with("libnvrtc.so.13 or libnvrtc.so.12: "), "{message}");
        assert!(
            message.contains("found nothing that loads (a.so: not an ELF file); install the CUDA toolkit 13"),
            "{message}"
        );
    }

    #[test]
    fn a_file_that_is_no_library_is_named() {
        let root = folder("broken", &["lib/libcuda.so.1"]);
        let mut failures = Vec::new();
        load_first(&files(Library::Driver.names(0), std::slice::from_ref(&root)), &mut failures);
        assert!(failures.len() == 1 && failures[0].contains("libcuda.so.1"), "{failures:?}");
        fs::remove_dir_all(root).expect("a temporary folder");
    }
}
