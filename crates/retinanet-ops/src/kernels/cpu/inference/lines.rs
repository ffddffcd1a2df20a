//! Packed weights in memory that begins with a line of the cache.

/// A line of the cache: a vector of the widest instruction set is read in one piece.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
struct Line([u8; 64]);

/// Numbers from the beginning of a line on.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lines {
    lines: Vec<Line>,
    bytes: usize,
}

/// A number that any bits make.
pub(crate) trait Plain: Copy + 'static {}

impl Plain for f32 {}
impl Plain for half::bf16 {}
impl Plain for i8 {}
impl Plain for u8 {}
impl Plain for u32 {}

impl Lines {
    /// `len` zeros.
    pub(crate) fn zeros<N: Plain>(len: usize) -> Self {
        let num_lines = (len * size_of::<N>()).div_ceil(size_of::<Line>());
        Self { lines: vec![Line([0; 64]); num_lines], bytes: len * size_of::<N>() }
    }

    /// The first `len` numbers, contents unspecified; grows if there are fewer.
    pub(crate) fn first<N: Plain>(&mut self, len: usize) -> &mut [N] {
        if self.bytes < len * size_of::<N>() {
            // The old memory goes first, so that the two never take memory together.
            *self = Self::default();
            *self = Self::zeros::<N>(len);
        }
        &mut self.numbers_mut()[..len]
    }

    pub(crate) fn numbers<N: Plain>(&self) -> &[N] {
        let len = self.bytes / size_of::<N>();
        // SAFETY: the lines hold as many numbers, aligned, and any bits are a number.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), len) }
    }

    pub(crate) fn numbers_mut<N: Plain>(&mut self) -> &mut [N] {
        let len = self.bytes / size_of::<N>();
        // SAFETY: as above.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), len) }
    }
}
