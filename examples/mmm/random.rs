//! The search's own random numbers: their sequence must not change with the version of a dependency.

/// The generator SplitMix64 (Steele, Lea and Flood, 2014).
pub(crate) struct Random(u64);

impl Random {
    /// The same seed gives the same sequence, everywhere and for ever.
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Even over `low..high`.
    pub(crate) fn between(&mut self, low: f64, high: f64) -> f64 {
        // An f64 holds 53 bits of a fraction.
        let fraction = (self.next() >> 11) as f64 / (1_u64 << 53) as f64;
        low + (high - low) * fraction
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sequence_is_that_of_the_published_generator() {
        let mut random = Random::new(1_234_567);
        let published = [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423];
        assert_eq!([random.next(), random.next(), random.next()], published);
    }

    #[test]
    fn numbers_fill_their_range_and_stay_in_it() {
        let mut random = Random::new(3);
        let drawn: Vec<f64> = (0..10_000).map(|_| random.between(2.0, 4.0)).collect();
        assert!(drawn.iter().all(|number| (2.0..4.0).contains(number)));
        assert!((drawn.iter().sum::<f64>() / 10_000.0 - 3.0).abs() < 0.02);
    }
}
