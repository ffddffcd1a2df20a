//! Images that two splits have in common.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hasher};
use std::io::{self, Read};
use std::path::Path;

use rayon::prelude::*;
use retinanet_annotations::AnnotationSet;

/// Images of the second set that the first has too, with those of the first: the same file, or the same bytes.
///
/// Of files only those are read whose length the other set has too, a piece at a time. What cannot be read is no image of
/// both. A picture that was stored anew is another file: [`check`](super::check) finds it by its pixels.
#[must_use]
pub fn shared_images<'a>(first: &'a AnnotationSet, second: &'a AnnotationSet) -> Vec<(&'a Path, &'a Path)> {
    let (first, second) = (files(first), files(second));
    let lengths = |files: &[(&Path, u64)]| files.iter().map(|(_, length)| *length).collect::<HashSet<u64>>();
    let (first_lengths, second_lengths) = (lengths(&first), lengths(&second));
    let keyed = |files: &[(&'a Path, u64)], others: &HashSet<u64>| -> Vec<(&'a Path, (u64, u64))> {
        let candidates = files.par_iter().filter(|(_, length)| others.contains(length));
        candidates.filter_map(|&(path, length)| Some((path, (length, digest(path).ok()?)))).collect()
    };
    let mut by_content = HashMap::new();
    for (path, key) in keyed(&first, &second_lengths) {
        by_content.entry(key).or_insert(path);
    }
    let second = keyed(&second, &first_lengths).into_iter();
    second.filter_map(|(path, key)| Some((*by_content.get(&key)?, path))).collect()
}

/// The files of a set that are there, each with its length.
fn files(set: &AnnotationSet) -> Vec<(&Path, u64)> {
    let file = |path: &'_ Path| fs::metadata(path).ok().filter(fs::Metadata::is_file).map(|metadata| metadata.len());
    set.images.par_iter().filter_map(|image| Some((image.path.as_path(), file(&image.path)?))).collect()
}

/// Of 64 bits: together with the length, files that differ are taken for the same but once in 10^19 pairs.
fn digest(path: &Path) -> io::Result<u64> {
    let (mut file, mut hasher) = (File::open(path)?, DefaultHasher::new());
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hasher.finish()),
            count => hasher.write(&buffer[..count]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use retinanet_annotations::AnnotatedImage;

    #[test]
    fn the_same_file_and_the_same_bytes_are_shared() -> io::Result<()> {
        let folder = tempfile::tempdir()?;
        for (name, bytes) in [("a", "one"), ("b", "two"), ("c", "one"), ("d", "six"), ("e", "seven"), ("f", "two")] {
            fs::write(folder.path().join(name), bytes)?;
        }
        let set = |names: &[&str]| {
            let image = |name: &&str| AnnotatedImage { path: folder.path().join(name), ..AnnotatedImage::default() };
            AnnotationSet { images: names.iter().map(image).collect(), ..AnnotationSet::default() }
        };
        let check = |first: &[&str], second: &[&str], expected: &[(&str, &str)]| {
            let (first, second) = (set(first), set(second));
            let expected: Vec<_> =
                expected.iter().map(|(a, b)| (folder.path().join(a), folder.path().join(b))).collect();
            let found = shared_images(&first, &second);
            assert_eq!(found, expected.iter().map(|(a, b)| (a.as_path(), b.as_path())).collect::<Vec<_>>());
        };
        check(&["a", "b"], &["d", "e"], &[]);
        check(&["a", "b"], &["b", "e"], &[("b", "b")]);
        check(&["b", "a", "f"], &["d", "c", "b"], &[("a", "c"), ("b", "b")]);
        check(&["a", "nowhere"], &["nowhere"], &[]);
        check(&[], &["a"], &[]);
        Ok(())
    }
}
