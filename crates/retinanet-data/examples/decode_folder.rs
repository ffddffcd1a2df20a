//! Decodes every file below a folder and prints what came of it: `cargo run --release -p retinanet-data --example
//! decode_folder -- FOLDER`.

use std::path::{Path, PathBuf};

use retinanet_data::{DecodeLimits, decode_file};

fn main() -> std::io::Result<()> {
    let Some(folder) = std::env::args_os().nth(1) else {
        eprintln!("usage: decode_folder FOLDER");
        std::process::exit(2);
    };
    let mut files = Vec::new();
    collect(Path::new(&folder), &mut files)?;
    files.sort();
    let (mut images, mut errors) = (0, 0);
    for path in &files {
        match decode_file(path, &DecodeLimits::default()) {
            Ok(image) => {
                images += 1;
                println!("{}: {}", path.display(), image.size);
            }
            Err(error) => {
                errors += 1;
                println!("error: {error}");
            }
        }
    }
    println!("{} files: {images} images, {errors} errors", files.len());
    Ok(())
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            collect(&entry.path(), files)?;
        } else {
            files.push(entry.path());
        }
    }
    Ok(())
}
