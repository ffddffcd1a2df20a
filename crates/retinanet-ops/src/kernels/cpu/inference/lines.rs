//! Packed weights in memory that begins with a line of the cache.

/// A line of the cache: a vector of the widest instruction set is read in one piece.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
struct Line([u8; 64]);

/// Numbers from the beginning of a line on.
#[derive(Clone, Debug)]
pub(super) struct Lines {
    lines: Vec<Line>,
    len: usize,
}

/// A number that any bits make.
pub(super) trait Plain: Copy + 'static {}

impl Plain for f32 {}
impl Plain for half::bf16 {}
impl Plain for i8 {}

impl Lines {
    /// `len` zeros.
    pub(super) fn zeros<N: Plain>(len: usize) -> Self {
        let lines = (len * size_of::<N>()).div_ceil(size_of::<Line>());
        Self { lines: vec![Line([0; 64]); lines], len }
    }

    pub(super) fn numbers<N: Plain>(&self) -> &[N] {
        let len = self.len.min(self.lines.len() * size_of::<Line>() / size_of::<N>());
        // SAFETY: the lines hold as many numbers, aligned, and any bits are a number.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), len) }
    }

    pub(super) fn numbers_mut<N: Plain>(&mut self) -> &mut [N] {
        let len = self.len.min(self.lines.len() * size_of::<Line>() / size_of::<N>());
        // SAFETY: as above.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), len) }
    }
}
