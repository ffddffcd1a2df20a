//! Smooth random grain, the same for the same place.

use rand::Rng;

/// Values on a coarse lattice, joined smoothly.
pub(super) struct Grain {
    columns: usize,
    values: Vec<f64>,
    cell: f64,
}

impl Grain {
    /// Grain for a picture of `width` x `height` with lumps of about `cell` pixels.
    pub(super) fn new(width: usize, height: usize, cell: f64, rng: &mut impl Rng) -> Self {
        let count = |side: usize| (side as f64 / cell) as usize + 3;
        let (columns, rows) = (count(width), count(height));
        let value = |_| f64::from(rng.next_u32()) / f64::from(u32::MAX) * 2.0 - 1.0;
        Self { columns, values: (0..columns * rows).map(value).collect(), cell }
    }

    /// In -1..=1; `x` and `y` lie in the picture.
    pub(super) fn at(&self, x: f64, y: f64) -> f64 {
        let (x, y) = (x / self.cell, y / self.cell);
        let (column, row) = (x as usize, y as usize);
        let smooth = |t: f64| t * t * (3.0 - 2.0 * t);
        let (u, v) = (smooth(x - column as f64), smooth(y - row as f64));
        let start = row * self.columns + column;
        let line = |start: usize| {
            let (a, b) = (self.values[start], self.values[start + 1]);
            a + (b - a) * u
        };
        let (top, bottom) = (line(start), line(start + self.columns));
        top + (bottom - top) * v
    }
}
