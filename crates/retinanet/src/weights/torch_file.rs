//! What `torch.save` writes since torch 1.6: a zip archive of `NAME/data.pkl` and one file a storage, `NAME/data/KEY`.

use super::element;
use super::error::{Fault, shown};
use super::{Contents, check_growth, pickle, state_dict, texts};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read};
use zip::result::ZipError;
use zip::{CompressionMethod, ZipArchive};

/// The end of the pickle's name in the archive.
const PICKLE_SUFFIX: &str = "data.pkl";

/// Reads the archive's state dict.
pub(super) fn read(file: &File, file_len: u64) -> Result<Contents, Fault> {
    let mut archive = Archive::open(file, file_len)?;
    let root = archive.root()?;
    let pickle_name = format!("{root}{PICKLE_SUFFIX}");
    let bytes = archive.entry(&pickle_name, None, pickle::MAX_LEN)?;
    archive.check_byte_order(&root)?;
    let values = pickle::interpret(&bytes, &pickle_name)?;
    let storages = state_dict::storages(&values, &pickle_name)?;

    let lens = storages.iter().flat_map(|storage| &storage.views).map(|(_, view)| view.len as u64 * 4);
    check_growth(lens.fold(0, u64::saturating_add), file_len)?;

    let mut tensors = BTreeMap::new();
    for storage in storages {
        let Some(element_size) = storage.element.float_size() else { continue };
        let expected = storage.len.checked_mul(element_size).map_or(u64::MAX, |len| len as u64);
        let bytes = archive.entry(&format!("{root}data/{}", storage.name), Some(expected), file_len)?;
        let values = storage.element.to_f32(&bytes);
        drop(bytes);
        if let [(name, view)] = &storage.views[..]
            && view.is_whole(storage.len)
        {
            tensors.insert((*name).to_owned(), element::tensor(name, values, &view.shape)?);
            continue;
        }
        for (name, view) in &storage.views {
            tensors.insert((*name).to_owned(), element::tensor(name, view.gather(&values), &view.shape)?);
        }
    }
    Ok(Contents { tensors, integers: BTreeMap::new(), metadata: texts::of(&values) })
}

struct Archive<'f> {
    zip: ZipArchive<BufReader<&'f File>>,
    file_len: u64,
}

impl<'f> Archive<'f> {
    fn open(file: &'f File, file_len: u64) -> Result<Self, Fault> {
        let zip = ZipArchive::new(BufReader::new(file)).map_err(|error| match error {
            ZipError::Io(error) if error.kind() != std::io::ErrorKind::UnexpectedEof => Fault::Io(error),
            error => Fault::malformed(
                "zip archive",
                "a whole archive with its directory at the end",
                format!("{file_len} bytes: {error}"),
            ),
        })?;
        Ok(Self { zip, file_len })
    }

    /// What stands before `data.pkl`: the archive's name and a slash.
    fn root(&self) -> Result<String, Fault> {
        let names = self.zip.file_names().filter_map(Result::ok);
        let mut roots: Vec<_> = names
            .filter_map(|name| {
                let root = name.strip_suffix(PICKLE_SUFFIX)?;
                (root.is_empty() || root.ends_with('/')).then(|| root.to_owned())
            })
            .collect();
        match (roots.pop(), roots.is_empty()) {
            (Some(root), true) if self.zip.index_for_name(&format!("{root}constants.pkl")).is_some() => {
                let found = "TorchScript; save the module's state_dict() with torch.save";
                Err(Fault::malformed("zip archive", "a state dict as torch.save writes it", found))
            }
            (Some(root), true) => Ok(root),
            (found, _) => {
                let count = roots.len() + usize::from(found.is_some());
                Err(Fault::malformed(
                    "zip archive",
                    "one data.pkl as torch.save writes it",
                    format!("{count} among {} files", self.zip.len()),
                ))
            }
        }
    }

    /// torch writes down the byte order since 2.1; a file without it is from a machine like ours.
    fn check_byte_order(&mut self, root: &str) -> Result<(), Fault> {
        let name = format!("{root}byteorder");
        if self.zip.index_for_name(&name).is_none() {
            return Ok(());
        }
        let order = self.entry(&name, None, 16)?;
        if order.trim_ascii() == b"little" {
            return Ok(());
        }
        Err(Fault::malformed(name, "little", format!("\"{}\"", order.escape_ascii())))
    }

    /// The contents of one file of the archive: `expected` bytes if that is known, and at most `limit`.
    fn entry(&mut self, name: &str, expected: Option<u64>, limit: u64) -> Result<Vec<u8>, Fault> {
        let at = || format!("zip entry {}", shown(name));
        let in_zip = |error: ZipError| match error {
            ZipError::FileNotFound => Fault::malformed(at(), "to be in the archive", "no such file"),
            ZipError::Io(error) if error.kind() != std::io::ErrorKind::UnexpectedEof => Fault::Io(error),
            error => Fault::malformed(at(), "a whole file", error.to_string()),
        };
        let index = self.zip.index_for_name(name).ok_or(ZipError::FileNotFound).map_err(in_zip)?;
        let (compression, size, compressed_size) = {
            let entry = self.zip.by_index_raw(index).map_err(in_zip)?;
            (entry.compression(), entry.size(), entry.compressed_size())
        };
        // torch stores its files as they are, so that no entry can be larger than the archive.
        if compression != CompressionMethod::Stored {
            let found = format!(
                "{compressed_size} compressed bytes that claim to be {size}; load and save the file again with torch"
            );
            return Err(Fault::malformed(at(), "bytes stored as they are, which torch.save does", found));
        }
        if size != compressed_size {
            return Err(Fault::malformed(at(), format!("{compressed_size} bytes as are stored"), format!("{size}")));
        }
        if expected.is_some_and(|expected| expected != size) {
            return Err(Fault::malformed(
                at(),
                format!("{} bytes as its tensors say", expected.unwrap_or(0)),
                format!("{size}"),
            ));
        }
        let limit = limit.min(self.file_len);
        if size > limit {
            return Err(Fault::malformed(at(), format!("at most {limit} bytes"), format!("{size}")));
        }
        let entry = self.zip.by_index(index).map_err(in_zip)?;
        let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
        // The checksum is compared where the entry ends, so the end is read too; one that does not hold comes as an
        // error.
        match entry.take(size + 1).read_to_end(&mut bytes) {
            Ok(_) if bytes.len() as u64 == size => Ok(bytes),
            Ok(count) => Err(Fault::malformed(at(), format!("{size} bytes"), format!("{count}"))),
            Err(error) => {
                Err(Fault::malformed(at(), format!("{size} bytes that agree with their checksum"), error.to_string()))
            }
        }
    }
}
