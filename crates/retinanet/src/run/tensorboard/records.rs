//! The framing of TensorBoard's files: TFRecord.
//!
//! length: u64, masked CRC of the length: u32, data, masked CRC of the data: u32, all little-endian
//!
//! Source: TensorFlow, `core/lib/io/record_writer.h`.

use std::io::{self, Read};

/// A longer record is none of ours.
const MAX_RECORD_BYTES: u64 = 1 << 28;

/// The data with its frame.
pub(super) fn frame(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    let mut record = Vec::with_capacity(data.len() + 16);
    record.extend(length);
    record.extend(masked_crc(&length).to_le_bytes());
    record.extend(data);
    record.extend(masked_crc(data).to_le_bytes());
    record
}

/// The next record's data; none at the end, or where the last record is cut short.
///
/// # Errors
/// The file cannot be read, or a check sum differs.
pub(super) fn read(reader: &mut impl Read) -> io::Result<Option<Vec<u8>>> {
    let Some(length) = read_array::<8>(reader)? else { return Ok(None) };
    let Some(length_crc) = read_array::<4>(reader)? else { return Ok(None) };
    check("length", &length, length_crc)?;
    let length = u64::from_le_bytes(length);
    if length > MAX_RECORD_BYTES {
        let what = format!("record: bytes: expected at most {MAX_RECORD_BYTES}, found {length}");
        return Err(io::Error::new(io::ErrorKind::InvalidData, what));
    }
    let mut data = Vec::new();
    // As much as there is, so that a length alone takes no memory.
    if (reader.by_ref().take(length).read_to_end(&mut data)? as u64) < length {
        return Ok(None);
    }
    let Some(crc) = read_array::<4>(reader)? else { return Ok(None) };
    check("data", &data, crc)?;
    Ok(Some(data))
}

/// So many bytes; none where there are fewer.
fn read_array<const N: usize>(reader: &mut impl Read) -> io::Result<Option<[u8; N]>> {
    let mut bytes = [0; N];
    match reader.read_exact(&mut bytes) {
        Ok(()) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

fn check(what: &str, data: &[u8], stored: [u8; 4]) -> io::Result<()> {
    let (expected, found) = (masked_crc(data), u32::from_le_bytes(stored));
    if expected == found {
        return Ok(());
    }
    let what = format!("record: check sum of the {what}: expected {expected:#010x}, found {found:#010x}");
    Err(io::Error::new(io::ErrorKind::InvalidData, what))
}

/// CRC-32C, rotated and shifted so that the check sum of data that holds check sums is no special case.
fn masked_crc(data: &[u8]) -> u32 {
    crc32c::crc32c(data).rotate_right(15).wrapping_add(0xa282_ead8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_record_worked_by_the_specification() {
        // CRC-32C of "123456789" is 0xe3069283 (RFC 3720); rotated by 15, 0x2507c60d; plus the constant, 0xc78ab0e5.
        assert_eq!(crc32c::crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(masked_crc(b"123456789"), 0xe306_9283_u32.rotate_right(15).wrapping_add(0xa282_ead8));
        let record = frame(b"123456789");
        assert_eq!(record.len(), 8 + 4 + 9 + 4);
        assert_eq!(record[..8], [9, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(record[21..], masked_crc(b"123456789").to_le_bytes());
    }

    proptest! {
        #[test]
        fn records_come_back_whole_or_not_at_all(
            pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 1..5),
            cut in 0usize..20,
            flip in any::<prop::sample::Index>(),
        ) {
            let file: Vec<u8> = pieces.iter().flat_map(|piece| frame(piece)).collect();
            let read_all = |bytes: &[u8]| {
                let mut reader = bytes;
                let mut found = Vec::new();
                while let Some(data) = read(&mut reader)? {
                    found.push(data);
                }
                Ok::<_, io::Error>(found)
            };
            prop_assert_eq!(&read_all(&file)?, &pieces);
            let last = pieces.last().map_or(0, Vec::len) + 16;
            let whole = if cut == 0 { pieces.len() } else { pieces.len() - 1 };
            let torn = &file[..file.len() - cut.min(last)];
            prop_assert_eq!(&read_all(torn)?, &pieces[..whole]);
            let mut flipped = file.clone();
            flipped[flip.index(file.len())] ^= 0x10;
            prop_assert!(read_all(&flipped).is_err());
        }
    }
}
