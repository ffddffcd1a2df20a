//! An image that needs no library.

/// An uncompressed BMP of 64 x 64 pixels, a bright window on gray: a file header, an info header, rows of BGR from the top.
pub(crate) fn bmp_with_window() -> Vec<u8> {
    let mut pixels = vec![90u8; 64 * 64 * 3];
    for row in 10..40 {
        pixels[(row * 64 + 12) * 3..(row * 64 + 44) * 3].fill(250);
    }
    let header = |n: u32| n.to_le_bytes();
    let mut bmp = b"BM".to_vec();
    bmp.extend([54 + 64 * 64 * 3, 0, 54, 40, 64].map(header).concat());
    bmp.extend((-64i32).to_le_bytes());
    bmp.extend([1, 0, 24, 0]);
    bmp.extend([0; 24]);
    bmp.extend(&pixels);
    bmp
}
