//! Numbers for inputs whose values do not matter: equal for equal seeds, with no state.

use retinanet_anchors::ImageSize;
use retinanet_data::Image;

/// Uniform in [0, 1), of a position and a seed (SplitMix64; Steele, Lea, Flood 2014).
pub(super) fn uniform(seed: u64, position: u64) -> f32 {
    let mut z = (seed ^ position.wrapping_add(1)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((z ^ (z >> 31)) >> 40) as f32 / (1 << 24) as f32
}

/// A picture of any bytes.
pub(super) fn picture(size: ImageSize, seed: u64) -> Image {
    let count = (size.width * size.height * 3) as u64;
    Image { size, pixels: (0..count).map(|position| (uniform(seed + 2, position) * 256.0) as u8).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_spread_over_the_range() {
        let values: Vec<f32> = (0..10_000).map(|i| uniform(3, i)).collect();
        assert!(values.iter().all(|value| (0.0..1.0).contains(value)));
        let mean = values.iter().sum::<f32>() / 10_000.0;
        assert!((mean - 0.5).abs() < 0.02, "{mean}");
        assert_ne!(uniform(3, 0), uniform(4, 0));
    }
}
