//! The bits of a scan: stuffed zeros left out, markers seen.

/// Reads bits from the most significant on.
pub(super) struct Bits<'a> {
    data: &'a [u8],
    position: usize,
    /// The next bits, left-aligned; below `count` of them there may be some of the byte at `position`.
    buffer: u64,
    count: u32,
    /// How many of `count` are not of the data, which have ended.
    invented: u32,
}

impl<'a> Bits<'a> {
    pub(super) fn new(data: &'a [u8]) -> Self {
        Self { data, position: 0, buffer: 0, count: 0, invented: 0 }
    }

    /// Has at least 32 bits ready; zeros after a marker or the end.
    #[inline]
    pub(super) fn fill(&mut self) {
        if self.count < 32 {
            self.refill();
        }
    }

    #[inline]
    fn refill(&mut self) {
        if let Some(bytes) = self.data.get(self.position..).and_then(<[u8]>::first_chunk::<8>) {
            let word = u64::from_be_bytes(*bytes);
            // A byte of the word is FF where the complement's is 0.
            let zeros = !word;
            if zeros.wrapping_sub(0x0101_0101_0101_0101) & !zeros & 0x8080_8080_8080_8080 == 0 {
                self.buffer |= word >> self.count;
                let whole_bytes = (63 - self.count) / 8;
                self.position += whole_bytes as usize;
                self.count += 8 * whole_bytes;
                return;
            }
        }
        // The last partial byte is taken again.
        self.buffer &= !(u64::MAX >> self.count);
        while self.count <= 56 {
            let byte = match self.data.get(self.position..) {
                Some([0xFF, 0, ..]) => {
                    self.position += 2;
                    0xFF
                }
                Some([0xFF, ..] | []) | None => {
                    self.invented += 8;
                    0
                }
                Some([byte, ..]) => {
                    self.position += 1;
                    *byte
                }
            };
            self.buffer |= u64::from(byte) << (56 - self.count);
            self.count += 8;
        }
    }

    /// The next `count` bits, 1..=32 of those that are ready.
    #[inline]
    pub(super) fn peek(&self, count: u32) -> usize {
        (self.buffer >> (64 - count)) as usize
    }

    /// Passes over bits that were ready.
    #[inline]
    pub(super) fn skip(&mut self, count: u32) {
        self.buffer <<= count;
        self.count -= count;
    }

    /// A number of `size` bits, of which those that begin with 0 are the negative ones.
    #[inline]
    pub(super) fn signed(&mut self, size: u32) -> i32 {
        if size == 0 {
            return 0;
        }
        let value = self.peek(size) as i32;
        self.skip(size);
        if value >> (size - 1) == 0 { value - (1 << size) + 1 } else { value }
    }

    /// Whether bits were used that are not there.
    pub(super) fn is_past_the_end(&self) -> bool {
        self.invented > self.count
    }

    /// Goes on behind the restart marker, which must be next: at most the rest of a byte lies before it.
    pub(super) fn restart(&mut self) -> Option<()> {
        if self.is_past_the_end() || self.count - self.invented >= 8 {
            return None;
        }
        let [0xFF, 0xD0..=0xD7, ..] = self.data.get(self.position..)? else { return None };
        *self = Self { position: self.position + 2, ..Self::new(self.data) };
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stuffing_markers_and_the_end() {
        let data = [0xA5, 0xFF, 0, 0x3C, 0xFF, 0xD0, 0x80];
        let mut bits = Bits::new(&data);
        bits.fill();
        assert_eq!(
            [4, 8, 8].map(|count| {
                let value = bits.peek(count);
                bits.skip(count);
                value
            }),
            [0xA, 0x5F, 0xF3]
        );
        assert!(!bits.is_past_the_end());
        bits.restart().expect("four bits lie before the marker");
        bits.fill();
        assert_eq!(bits.peek(8), 0x80);
        bits.skip(9);
        assert!(bits.is_past_the_end());
        assert!(bits.restart().is_none());
    }

    #[test]
    fn words_and_bytes_give_the_same() {
        let data: Vec<u8> = (0..200u32).map(|i| (i * 97 % 255) as u8).collect();
        let mut bits = Bits::new(&data);
        let mut position = 0;
        for count in (1..=13).cycle().take(200) {
            bits.fill();
            let expected = (position..position + count)
                .fold(0, |sum, at| (sum << 1) | usize::from(data[at / 8] >> (7 - at % 8) & 1));
            assert_eq!(bits.peek(count as u32), expected, "at {position}");
            bits.skip(count as u32);
            position += count;
        }
    }

    #[test]
    fn signed_by_hand() {
        // 0 | 1 | 00 | 11 | 011
        let data = [0b0100_1101, 0b1000_0000];
        let mut bits = Bits::new(&data);
        bits.fill();
        assert_eq!([1, 1, 2, 2, 3, 0].map(|size| bits.signed(size)), [-1, 1, -3, 3, -4, 0]);
    }
}
