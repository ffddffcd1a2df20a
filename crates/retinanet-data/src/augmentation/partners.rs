//! Other samples of the data set, for what puts pictures together.

use rand::Rng;

use super::SampleKey;
use super::ranges::draw_up_to;
use crate::{Dataset, Sample, SampleError};

/// Draws other samples of the data set for one transform, each at most once.
pub(super) struct Partners<'a> {
    dataset: &'a dyn Dataset,
    /// Samples that could not be read.
    failures: &'a mut Vec<SampleError>,
    /// Indices that are drawn no more, ascending: the sample itself, those that it has by now, and those that failed.
    taken: Vec<usize>,
}

/// Samples that are asked for before it is done without one: where so many in turn fail, most of the set is gone.
const TRIALS: usize = 8;

impl<'a> Partners<'a> {
    /// Those of the sample `key.index`.
    pub(super) fn new(dataset: &'a dyn Dataset, key: SampleKey, failures: &'a mut Vec<SampleError>) -> Self {
        Self { dataset, failures, taken: vec![key.index] }
    }

    /// Another sample, any as likely; one that cannot be read is told of and passed over for the next that is drawn. None where
    /// there is no other.
    pub(super) fn draw(&mut self, rng: &mut impl Rng) -> Option<Sample> {
        for _ in 0..TRIALS {
            let last = self.dataset.len().checked_sub(self.taken.len() + 1)?;
            // The number among those that are not taken becomes an index.
            let mut index = draw_up_to(last, rng);
            let place = self.taken.iter().position(|&taken| {
                let is_below = index < taken;
                index += usize::from(!is_below);
                is_below
            });
            self.taken.insert(place.unwrap_or(self.taken.len()), index);
            match self.dataset.sample(index) {
                Ok(sample) if sample.image.is_whole() => return Some(sample),
                Ok(sample) => {
                    let (size, found) = (sample.image.size, sample.image.pixels.len());
                    let what =
                        format!("sample {index}: values of a picture of {size}: expected 3 a pixel, found {found}");
                    self.failures.push(SampleError { index, what });
                }
                Err(error) => self.failures.push(error),
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use retinanet_annotations::AnnotationSet;

    use super::*;
    use crate::random::Purpose;

    /// Samples that can all not be had.
    struct Broken(AnnotationSet);

    impl Dataset for Broken {
        fn len(&self) -> usize {
            7
        }

        fn sample(&self, index: usize) -> Result<Sample, SampleError> {
            Err(SampleError { index, what: "broken".to_owned() })
        }

        fn annotations(&self) -> &AnnotationSet {
            &self.0
        }
    }

    #[test]
    fn each_other_sample_is_asked_for_once() {
        for index in 0..7 {
            let mut failures = Vec::new();
            let key = SampleKey { seed: 1, epoch: 2, index };
            let dataset = Broken(AnnotationSet::default());
            let mut partners = Partners::new(&dataset, key, &mut failures);
            assert!(partners.draw(&mut key.stream(Purpose::Mosaic)).is_none());
            let mut asked: Vec<usize> = failures.iter().map(|failure| failure.index).collect();
            asked.sort_unstable();
            assert_eq!(asked, (0..7).filter(|&other| other != index).collect::<Vec<_>>());
        }
    }
}
