//! What a person can do about a model that cannot be had.

use retinanet_zoo::{Fault, ZooError};
use std::io::ErrorKind;

/// The error with what to do about it behind it.
pub(crate) fn with_hint(error: ZooError) -> anyhow::Error {
    match hint(&error, &crate::program()) {
        Some(hint) => anyhow::anyhow!("{error}; {hint}"),
        None => error.into(),
    }
}

fn hint(error: &ZooError, program: &str) -> Option<String> {
    match error {
        ZooError::UnknownModel { .. } => Some(format!("`{program} models` lists them")),
        ZooError::Folder { path } => Some(format!("did you mean {}?", path.join("last.safetensors").display())),
        ZooError::Fetch(fetch) if matches!(fetch.fault, Fault::Tls(_)) => {
            Some("SSL_CERT_FILE names a file of certificates to trust, as behind a proxy that opens TLS".to_owned())
        }
        ZooError::Fetch(fetch) => Some(format!("`{program} models verify {}` then checks it", fetch.name)),
        ZooError::Digest { removed: false, .. } | ZooError::Size { .. } => {
            Some("a file in the cache that is not the model must be removed before it is fetched anew".to_owned())
        }
        ZooError::Io { source, .. } if is_of_the_folder(source.kind()) => {
            Some("--models-dir takes another folder".to_owned())
        }
        _ => None,
    }
}

fn is_of_the_folder(kind: ErrorKind) -> bool {
    use ErrorKind::{FileTooLarge, PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    matches!(kind, FileTooLarge | PermissionDenied | QuotaExceeded | ReadOnlyFilesystem | StorageFull)
}

#[cfg(test)]
mod tests {
    use super::*;
    use retinanet_zoo::{Digest, FetchError};

    #[track_caller]
    fn check(error: ZooError, expected: Option<&str>) {
        let found = hint(&error, "retinanet");
        match expected {
            Some(part) => assert!(found.as_deref().is_some_and(|hint| hint.contains(part)), "{error}: {found:?}"),
            None => assert_eq!(found, None, "{error}"),
        }
    }

    #[test]
    fn what_to_do_fits_what_happened() {
        let fetch = |fault| {
            ZooError::Fetch(Box::new(FetchError {
                name: "tiny".to_owned(),
                url: "https://example.org/tiny.pth".to_owned(),
                fault,
                place: "cache/tiny/tiny.pth".into(),
                digest: Digest::Unknown,
            }))
        };
        check(fetch(Fault::Status(404)), Some("`retinanet models verify tiny` then checks it"));
        check(fetch(Fault::Tls("unknown issuer".to_owned())), Some("SSL_CERT_FILE"));
        check(ZooError::UnknownModel { name: "tinny".to_owned(), nearest: vec![] }, Some("`retinanet models` lists"));
        let io = |kind: ErrorKind| ZooError::Io { path: "cache".into(), doing: "cannot write", source: kind.into() };
        check(io(ErrorKind::StorageFull), Some("--models-dir"));
        check(io(ErrorKind::ReadOnlyFilesystem), Some("--models-dir"));
        check(io(ErrorKind::BrokenPipe), None);
        check(ZooError::NotFound { path: "a.pth".into() }, None);
        check(ZooError::Folder { path: "run".into() }, Some("last.safetensors"));
    }
}
