//! The arguments that say where decoded images are kept.

use bytesize::ByteSize;
use clap::{Args, ValueEnum};
use std::path::PathBuf;

/// Where decoded images are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum CachePlace {
    /// In memory, for the epochs of this run
    Memory,
    /// In a folder, for other runs too
    Disk,
    /// Nowhere: every epoch decodes every image
    None,
}

/// What every command that reads images again and again takes.
#[derive(Clone, Debug, Args)]
pub(crate) struct CacheArgs {
    /// Where decoded images are kept for the next epoch; in memory if not given
    #[arg(long, value_name = "PLACE", value_enum)]
    pub(crate) cache: Option<CachePlace>,
    /// Most bytes of decoded images to keep, as 500MB or 2GiB; 1GiB in memory, for each split, and 16GiB on disk if not given
    #[arg(long, value_name = "SIZE", value_parser = parse_limit)]
    pub(crate) cache_limit: Option<ByteSize>,
    /// Folder of --cache disk, which runs and processes can share; one among the user's caches if not given
    #[arg(long, value_name = "DIR")]
    pub(crate) cache_dir: Option<PathBuf>,
}

/// `2GiB`, `500MB` or a plain number of bytes.
fn parse_limit(text: &str) -> Result<ByteSize, String> {
    text.parse().map_err(|_| format!("expected a size as 500MB or 2GiB, found {text:?}"))
}

impl CacheArgs {
    /// Where images are kept.
    pub(crate) fn place(&self) -> CachePlace {
        self.cache.unwrap_or(CachePlace::Memory)
    }

    /// Whether nothing was said.
    pub(crate) fn is_open(&self) -> bool {
        self.cache.is_none() && self.cache_limit.is_none() && self.cache_dir.is_none()
    }

    /// The limit in bytes.
    pub(crate) fn limit(&self) -> u64 {
        let usual = match self.place() {
            CachePlace::Memory => ByteSize::gib(1),
            CachePlace::Disk => ByteSize::gib(16),
            CachePlace::None => ByteSize::b(0),
        };
        self.cache_limit.unwrap_or(usual).as_u64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_with_units() {
        let check =
            |text: &str, bytes: u64| assert_eq!(parse_limit(text).map(|size| size.as_u64()), Ok(bytes), "{text}");
        check("2GiB", 2 << 30);
        check("500MB", 500_000_000);
        check("1.5 KiB", 1536);
        check("7", 7);
        for text in ["", "GiB", "2 apples", "-1"] {
            let error = parse_limit(text).expect_err(text);
            assert_eq!(error, format!("expected a size as 500MB or 2GiB, found {text:?}"));
        }
    }
}
