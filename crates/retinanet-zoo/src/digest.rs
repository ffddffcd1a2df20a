//! Digests: whole ones, the leading digits that a publisher put into a file's name, and none.

use serde::{Deserialize, Deserializer, de::Error as _};
use sha2::Digest as _;
use std::fmt::Write as _;
use std::io::{self, Read};

/// What a file's bytes hash to, as far as it is known.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Digest {
    /// The first digits of the SHA-256, or all 64.
    #[serde(deserialize_with = "sha256_digits")]
    Sha256(String),
    /// The first digits of the MD5, or all 32. This finds a damaged file, not one that was made to deceive.
    #[serde(deserialize_with = "md5_digits")]
    Md5(String),
    /// Nobody published one.
    Unknown,
}

/// A hash function that publishers use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// 64 digits.
    Sha256,
    /// 32 digits.
    Md5,
}

impl Algorithm {
    /// Hexadecimal digits of a whole digest.
    pub fn num_digits(self) -> usize {
        match self {
            Self::Sha256 => 64,
            Self::Md5 => 32,
        }
    }
}

impl std::fmt::Display for Algorithm {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str(match self {
            Self::Sha256 => "sha256",
            Self::Md5 => "md5",
        })
    }
}

impl Digest {
    /// The function and the digits, where there are any.
    pub fn known(&self) -> Option<(Algorithm, &str)> {
        match self {
            Self::Sha256(digits) => Some((Algorithm::Sha256, digits)),
            Self::Md5(digits) => Some((Algorithm::Md5, digits)),
            Self::Unknown => None,
        }
    }
}

impl std::fmt::Display for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        match self.known() {
            None => f.write_str("no published digest"),
            Some((algorithm, digits)) if digits.len() < algorithm.num_digits() => {
                write!(f, "{algorithm} that begins with {digits}")
            }
            Some((algorithm, digits)) => write!(f, "{algorithm} {digits}"),
        }
    }
}

/// Fewer digits than Detectron2 publishes would be met by chance.
const MIN_DIGITS: usize = 6;

fn digits<'de, D: Deserializer<'de>>(deserializer: D, algorithm: Algorithm) -> Result<String, D::Error> {
    let digits = String::deserialize(deserializer)?;
    let is_hex = digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if is_hex && (MIN_DIGITS..=algorithm.num_digits()).contains(&digits.len()) {
        return Ok(digits);
    }
    let most = algorithm.num_digits();
    Err(D::Error::custom(format!(
        "{algorithm}: expected {MIN_DIGITS} to {most} lower-case hexadecimal digits, found {digits:?}"
    )))
}

fn sha256_digits<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    digits(deserializer, Algorithm::Sha256)
}

fn md5_digits<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    digits(deserializer, Algorithm::Md5)
}

/// Both digests of a file on its way.
#[derive(Clone, Default)]
pub(crate) struct Hasher {
    sha256: sha2::Sha256,
    md5: md5::Md5,
}

/// The digests of some bytes, in lower-case hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Digests {
    pub(crate) sha256: String,
    pub(crate) md5: String,
}

impl Hasher {
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.sha256.update(bytes);
        self.md5.update(bytes);
    }

    /// Takes all that is left in the reader, in small pieces, and says how many bytes that were.
    pub(crate) fn update_from(&mut self, mut reader: impl Read) -> io::Result<u64> {
        let mut buffer = vec![0; 1 << 17];
        let mut count = 0;
        loop {
            match reader.read(&mut buffer) {
                Ok(0) => return Ok(count),
                Ok(read) => {
                    self.update(&buffer[..read]);
                    count += read as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    pub(crate) fn finish(self) -> Digests {
        Digests { sha256: hexadecimal(&self.sha256.finalize()), md5: hexadecimal(&self.md5.finalize()) }
    }
}

impl Digests {
    /// The digest of this function.
    pub(crate) fn of(&self, algorithm: Algorithm) -> &str {
        match algorithm {
            Algorithm::Sha256 => &self.sha256,
            Algorithm::Md5 => &self.md5,
        }
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a string does not fail");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_of_nothing_and_of_abc_are_the_published_ones() {
        let digests = |bytes: &[u8]| {
            let mut hasher = Hasher::default();
            assert_eq!(hasher.update_from(bytes).expect("a slice"), bytes.len() as u64);
            hasher.finish()
        };
        // FIPS 180-2, appendix B.1; RFC 1321, appendix A.5.
        let abc = digests(b"abc");
        assert_eq!(abc.of(Algorithm::Sha256), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(abc.of(Algorithm::Md5), "900150983cd24fb0d6963f7d28e17f72");
        assert_eq!(digests(b"").md5, "d41d8cd98f00b204e9800998ecf8427e");
    }
}
