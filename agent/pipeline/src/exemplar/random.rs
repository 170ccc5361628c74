//! Chance without the operating system: a seed in, the same numbers out.

/// A splitmix64 generator: one addition and two multiplications a number, good enough to choose among requests.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn seeded(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below a bound; 0 if that is 0.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        // The upper half of a product is uniform but for one part in 2^64 / bound.
        let wide = u128::from(self.next()) * u128::from(bound);
        u64::try_from(wide >> 64).unwrap_or(0)
    }

    /// True with this probability.
    pub(crate) fn chance(&mut self, probability: f64) -> bool {
        #[expect(clippy::cast_precision_loss, reason = "53 bits are exact")]
        let unit = (self.next() >> 11) as f64 / (1u64 << 53) as f64;
        unit < probability
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
    fn numbers_are_spread_and_repeatable() {
        let mut random = Random::seeded(1);
        let mut counts = [0u32; 10];
        for _ in 0..10_000 {
            counts[usize::try_from(random.below(10)).unwrap()] += 1;
        }
        assert!(
            counts.iter().all(|count| (800..1200).contains(count)),
            "{counts:?}"
        );
        let hits = (0..10_000).filter(|_| random.chance(0.25)).count();
        assert!((2200..2800).contains(&hits), "{hits}");
        assert!(!random.chance(0.0) && random.chance(1.0));
        assert_eq!(random.below(0), 0);
        let (mut one, mut other) = (Random::seeded(7), Random::seeded(7));
        assert!((0..100).all(|_| one.below(1000) == other.below(1000)));
    }
}
