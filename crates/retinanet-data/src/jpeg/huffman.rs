//! Huffman codes of coefficients.

use super::bits::Bits;

/// Codes of up to so many bits are looked up at once; nearly all are.
const SHORT: u32 = 10;

/// A code's symbols by its bits.
pub(super) struct Table {
    /// By the next bits: the code's length times 256, plus its symbol; 0 where the code is longer.
    short: Box<[u16; 1 << SHORT]>,
    /// By the next bits, where a code and the number behind it both fit into them: (number, zeros before it, length of both);
    /// length 0 elsewhere.
    whole: Box<[(i8, u8, u8); 1 << SHORT]>,
    /// By length less 1: the first code that is longer, left-aligned in 16 bits, and what to add to a code for the place
    /// of its symbol.
    long: [(u32, i32); 16],
    symbols: Vec<u8>,
}

impl Table {
    /// A table of so many codes of each length, with their symbols in order; none where the codes do not fit.
    pub(super) fn new(counts: &[u8; 16], symbols: &[u8]) -> Option<Self> {
        let mut short = Box::new([0; 1 << SHORT]);
        let mut long = [(0, 0); 16];
        let (mut code, mut place) = (0u32, 0usize);
        for (length, &count) in (1u32..).zip(counts) {
            long[length as usize - 1].1 = place as i32 - code as i32;
            for _ in 0..count {
                let symbol = *symbols.get(place)?;
                if code >= 1 << length {
                    return None;
                }
                if length <= SHORT {
                    let first = (code << (SHORT - length)) as usize;
                    short[first..first + (1 << (SHORT - length))].fill(((length as u16) << 8) | u16::from(symbol));
                }
                code += 1;
                place += 1;
            }
            long[length as usize - 1].0 = code << (16 - length);
            code <<= 1;
        }
        let whole = Box::new(std::array::from_fn(|next| {
            let (length, symbol) = (u32::from(short[next] >> 8), short[next] & 255);
            let (zeros, size) = ((symbol >> 4) as u8, u32::from(symbol & 15));
            if length == 0 || size == 0 || length + size > SHORT {
                return (0, 0, 0);
            }
            let bits = (next >> (SHORT - length - size)) as i32 & ((1 << size) - 1);
            let value = if bits >> (size - 1) == 0 { bits - (1 << size) + 1 } else { bits };
            i8::try_from(value).map_or((0, 0, 0), |value| (value, zeros, (length + size) as u8))
        }));
        Some(Self { short, whole, long, symbols: symbols.to_vec() })
    }

    /// The next symbol, with 32 bits ready before and at least 16 after.
    #[inline]
    fn symbol(&self, bits: &mut Bits<'_>) -> Option<u8> {
        let entry = self.short[bits.peek(SHORT)];
        if entry != 0 {
            bits.skip(u32::from(entry >> 8));
            return Some(entry as u8);
        }
        let next = bits.peek(16) as u32;
        let length = (SHORT + 1..=16).find(|&length| next < self.long[length as usize - 1].0)?;
        let place = (next >> (16 - length)) as i32 + self.long[length as usize - 1].1;
        bits.skip(length);
        self.symbols.get(usize::try_from(place).ok()?).copied()
    }

    /// The difference of a DC coefficient from the one before.
    #[inline]
    pub(super) fn difference(&self, bits: &mut Bits<'_>) -> Option<i32> {
        bits.fill();
        let size = u32::from(self.symbol(bits)?);
        (size <= 15).then(|| bits.signed(size))
    }

    /// Calls `each` with the place in the zigzag and the value of every coefficient behind the first; whether there was one.
    #[inline]
    pub(super) fn coefficients(&self, bits: &mut Bits<'_>, mut each: impl FnMut(usize, i32)) -> Option<bool> {
        let mut k = 1;
        let mut is_any = false;
        while k < 64 {
            bits.fill();
            let (value, zeros, length) = self.whole[bits.peek(SHORT)];
            let value = if length > 0 {
                bits.skip(u32::from(length));
                k += usize::from(zeros);
                i32::from(value)
            } else {
                let symbol = self.symbol(bits)?;
                let (zeros, size) = (usize::from(symbol >> 4), u32::from(symbol & 15));
                if size == 0 {
                    if zeros < 15 {
                        break;
                    }
                    k += 16;
                    continue;
                }
                k += zeros;
                bits.signed(size)
            };
            if k > 63 {
                return None;
            }
            each(k, value);
            is_any = true;
            k += 1;
        }
        Some(is_any)
    }

    /// Passes over the coefficients behind the first.
    #[inline]
    pub(super) fn skip_coefficients(&self, bits: &mut Bits<'_>) -> Option<()> {
        let mut k = 1;
        while k < 64 {
            bits.fill();
            let (_, zeros, length) = self.whole[bits.peek(SHORT)];
            if length > 0 {
                bits.skip(u32::from(length));
                k += usize::from(zeros) + 1;
                continue;
            }
            let symbol = self.symbol(bits)?;
            let (zeros, size) = (usize::from(symbol >> 4), u32::from(symbol & 15));
            if size == 0 && zeros < 15 {
                break;
            }
            bits.skip(size);
            k += zeros + 1;
        }
        (k <= 64).then_some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Codes 00 and 01 of two bits, 1111_1111_1110 of twelve.
    fn table() -> Table {
        let mut counts = [0; 16];
        (counts[1], counts[11]) = (2, 1);
        // No zeros and 1 bit; the end; two zeros and 3 bits.
        Table::new(&counts, &[0x01, 0x00, 0x23]).expect("it fits")
    }

    #[test]
    fn codes_by_hand() {
        // 00 1: 1, then the third code, which follows 10 of two bits: 1000_0000_0000, 101: 5 behind two zeros, then 01.
        let data = [0b0011_0000, 0b0000_0001, 0b0101_0000];
        let mut found = Vec::new();
        let mut bits = Bits::new(&data);
        assert_eq!(table().coefficients(&mut bits, |k, value| found.push((k, value))), Some(true));
        assert_eq!(found, [(1, 1), (4, 5)]);
        let mut skipped = Bits::new(&data);
        assert_eq!(table().skip_coefficients(&mut skipped), Some(()));
        assert_eq!(skipped.peek(8), bits.peek(8));
    }

    #[test]
    fn codes_that_do_not_fit_are_none() {
        let mut counts = [0; 16];
        counts[0] = 3;
        assert!(Table::new(&counts, &[1, 2, 3]).is_none());
        counts[0] = 2;
        assert!(Table::new(&counts, &[1]).is_none());
    }

    #[test]
    fn bits_of_no_code_are_none() {
        let ones = [0xFE, 0xFE, 0xFE, 0xFE];
        assert_eq!(table().coefficients(&mut Bits::new(&ones), |_, _| {}), None);
        assert_eq!(table().skip_coefficients(&mut Bits::new(&ones)), None);
    }
}
