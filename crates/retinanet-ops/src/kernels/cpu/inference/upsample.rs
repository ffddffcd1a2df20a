//! The FPN's top-down step on stored feature maps.

use super::super::Isa;
use super::super::isa::vectorized;
use super::super::tasks::{SharedMut, for_each};
use super::super::upsample::source;
use super::codec::{Codec, with_codec};
use super::{Map, MapMut, Numbers, NumbersMut};

/// `y = upsample(coarse) + fine`, nearest neighbour to the size of `fine`; sizes are rows and columns.
///
/// # Panics
/// A slice does not fit its size.
pub fn upsample_add(
    isa: Isa,
    channels: usize,
    (coarse_size, coarse): ((usize, usize), Map<'_>),
    (size, fine): ((usize, usize), Map<'_>),
    y: MapMut<'_>,
) {
    let pitches = [coarse.storage, fine.storage, y.storage].map(|storage| storage.pixel_len(channels));
    let job = Job { channels, coarse_size, size, pitches };
    with_codec!(Numbers, coarse, |coarse_codec, coarse| with_codec!(Numbers, fine, |fine_codec, fine| {
        with_codec!(NumbersMut, y, |y_codec, y| {
            job.run(isa, (coarse_codec, coarse), (fine_codec, fine), (y_codec, y))
        })
    }));
}

struct Job {
    channels: usize,
    coarse_size: (usize, usize),
    size: (usize, usize),
    /// Numbers a pixel of coarse, fine and output.
    pitches: [usize; 3],
}

impl Job {
    fn run<C: Codec, F: Codec, Y: Codec>(
        &self,
        isa: Isa,
        (coarse_codec, coarse): (C, &[C::Stored]),
        (fine_codec, fine): (F, &[F::Stored]),
        (y_codec, y): (Y, &mut [Y::Stored]),
    ) {
        let Self { channels, coarse_size, size, pitches: [coarse_pitch, fine_pitch, y_pitch] } = *self;
        assert_eq!(coarse.len(), coarse_size.0 * coarse_size.1 * coarse_pitch, "upsample and add: coarse");
        assert_eq!(fine.len(), size.0 * size.1 * fine_pitch, "upsample and add: fine");
        assert_eq!(y.len(), size.0 * size.1 * y_pitch, "upsample and add: output");
        let row_len = size.1 * y_pitch;
        let shared = SharedMut::new(y);
        for_each(size.0, |row| {
            // SAFETY: each task has its own row of output.
            let y = unsafe { shared.slice(row * row_len, row_len) };
            let coarse_row = source(row, coarse_size.0, size.0) * coarse_size.1;
            let fine = &fine[row * size.1 * fine_pitch..];
            let coarse = &coarse[coarse_row * coarse_pitch..][..coarse_size.1 * coarse_pitch];
            let columns = (coarse_size.1, size.1);
            add_row(isa, channels, columns, self.pitches, coarse_codec, coarse, fine_codec, fine, y_codec, y);
        });
    }
}

vectorized! {
    /// One row of the output; `columns` are those of the coarse map and of the output.
    fn add_row[C: Codec, F: Codec, Y: Codec](
        channels: usize,
        columns: (usize, usize),
        pitches: [usize; 3],
        coarse_codec: C,
        coarse: &[C::Stored],
        fine_codec: F,
        fine: &[F::Stored],
        y_codec: Y,
        y: &mut [Y::Stored],
    ) {
        let [coarse_pitch, fine_pitch, y_pitch] = pitches;
        for (column, y) in y.chunks_exact_mut(y_pitch).enumerate() {
            let coarse = &coarse[source(column, columns.0, columns.1) * coarse_pitch..][..channels];
            let fine = &fine[column * fine_pitch..][..channels];
            let (y, padding) = y.split_at_mut(channels);
            for ((y, &coarse), &fine) in y.iter_mut().zip(coarse).zip(fine) {
                *y = y_codec.encode(coarse_codec.decode(coarse) + fine_codec.decode(fine));
            }
            padding.fill(y_codec.encode(0.0));
        }
    }
}
