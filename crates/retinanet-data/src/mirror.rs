//! Rows of pixels from right to left, eight at a time.

/// Pixels that are turned round at once.
const BLOCK: usize = 8;

/// Mirrors every row of `width` pixels of three bytes.
pub(crate) fn mirror_rows(pixels: &mut [u8], width: usize) {
    if width == 0 {
        return;
    }
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has AVX2, as was asked a line before.
        return unsafe { mirror_rows_avx2(pixels, width) };
    }
    mirror_rows_anywhere(pixels, width);
}

/// The same with the byte shuffles of AVX2, which the compiler makes of the plain loop.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn mirror_rows_avx2(pixels: &mut [u8], width: usize) {
    mirror_rows_anywhere(pixels, width);
}

#[inline(always)]
fn mirror_rows_anywhere(pixels: &mut [u8], width: usize) {
    for row in pixels.chunks_exact_mut(3 * width) {
        let (left, right) = row.split_at_mut(3 * (width / 2));
        let num_blocks = width / 2 / BLOCK;
        let (from_left, from_right) =
            (left.as_chunks_mut::<{ 3 * BLOCK }>().0, right.as_rchunks_mut::<{ 3 * BLOCK }>().1);
        for (a, b) in from_left.iter_mut().zip(from_right.iter_mut().rev()).take(num_blocks) {
            (*a, *b) = (mirrored(b), mirrored(a));
        }
        // What lies between the blocks.
        let end = 3 * width - 3 * BLOCK * num_blocks;
        row[3 * BLOCK * num_blocks..end].as_chunks_mut::<3>().0.reverse();
    }
}

#[inline(always)]
fn mirrored(block: &[u8; 3 * BLOCK]) -> [u8; 3 * BLOCK] {
    let mut out = [0; 3 * BLOCK];
    for pixel in 0..BLOCK {
        let (to, from) = (3 * pixel, 3 * (BLOCK - 1 - pixel));
        (out[to], out[to + 1], out[to + 2]) = (block[from], block[from + 1], block[from + 2]);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_width_is_mirrored() {
        for width in 1..70 {
            let pixels: Vec<u8> = (0..3 * width * 2).map(|i| (i * 37 % 251) as u8).collect();
            let mut expected = pixels.clone();
            expected.as_chunks_mut::<3>().0.chunks_exact_mut(width).for_each(<[_]>::reverse);
            for mirror in [mirror_rows, mirror_rows_anywhere] {
                let mut found = pixels.clone();
                mirror(&mut found, width);
                assert_eq!(found, expected, "width {width}");
            }
        }
        mirror_rows(&mut [], 0);
    }
}
