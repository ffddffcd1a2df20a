//! Drawing without replacement, the same on every machine for a seed.

/// A splitmix64 generator: sixty-four bits of state are plenty for one sample, and the sequence is ours to keep.
pub(super) struct Generator {
    state: u64,
}

impl Generator {
    /// The generator of one image, independent of how many images are in the batch.
    pub(super) fn new(seed: u64, image_idx: usize) -> Self {
        let mut outer = Self { state: seed };
        let image_seed = outer.next() ^ (image_idx as u64).wrapping_mul(0xd134_2543_de82_ef95);
        Self { state: image_seed }
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.state;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// Below `bound`, which is above 0: the high half of a product, whose bias is less than bound / 2^64.
    fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.next()) * bound as u128) >> 64) as usize
    }

    /// Leaves `count` of the items, each subset of that size equally likely; all of them if there are no more.
    pub(super) fn keep_some<T>(&mut self, items: &mut Vec<T>, count: usize) {
        if count >= items.len() {
            return;
        }
        for slot in 0..count {
            let chosen = slot + self.below(items.len() - slot);
            items.swap(slot, chosen);
        }
        items.truncate(count);
    }
}

#[cfg(test)]
mod tests {
    use super::Generator;

    #[test]
    fn every_item_is_drawn_about_equally_often() {
        let mut counts = [0usize; 10];
        for seed in 0..5_000 {
            let mut items: Vec<usize> = (0..10).collect();
            Generator::new(seed, 3).keep_some(&mut items, 3);
            assert_eq!(items.len(), 3);
            for item in items {
                counts[item] += 1;
            }
        }
        // 1500 expected each, with a standard deviation of 32.
        assert!(counts.iter().all(|&count| count.abs_diff(1_500) < 160), "{counts:?}");
    }

    #[test]
    fn a_short_list_is_kept_whole() {
        let mut items = vec![5, 6];
        Generator::new(0, 0).keep_some(&mut items, 2);
        assert_eq!(items, [5, 6]);
    }
}
