//! Random numbers as a function of a key and a counter.
//!
//! The algorithm is `SplitMix64` (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014)
//! with Stafford's finaliser "variant 13": a counter with a fixed step whose values are mixed. Each event has its own
//! counter, which starts at a mix of key and index, so the numbers of event i do not depend on event i - 1. Not
//! suitable for secrets.

/// Step of `SplitMix64`: 2^64 divided by the golden ratio, rounded to an odd number.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// Random number generator of one event.
#[derive(Clone, Debug)]
pub(crate) struct KeyedRng {
    counter: u64,
}

impl KeyedRng {
    pub(crate) fn new(key: u64, index: u64) -> Self {
        // Two rounds of mixing, so that the counters of adjacent indices start far apart and not one step from each
        // other.
        let counter = mix(key ^ mix(index.wrapping_mul(STEP).wrapping_add(STEP)));
        Self { counter }
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.counter = self.counter.wrapping_add(STEP);
        mix(self.counter)
    }

    /// Returns the result of the n-th next call of [`KeyedRng::next`], counted from 0.
    pub(crate) const fn nth(&self, n: u64) -> u64 {
        mix(self.counter.wrapping_add(STEP.wrapping_mul(n + 1)))
    }

    /// Returns a uniform number from `0..bound`, by multiplication. The bias is below `bound / 2^64`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        scale(self.next(), bound)
    }

    /// Returns a uniform index of a slice, or 0 if `len` is 0.
    pub(crate) fn place(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).unwrap_or(0)
    }
}

/// Derives the key of one purpose, so that the numbers of two purposes are independent.
pub(crate) const fn key_for(seed: u64, purpose: u64) -> u64 {
    mix(seed ^ mix(purpose.wrapping_mul(STEP)))
}

pub(crate) const fn scale(random: u64, bound: u64) -> u64 {
    ((random as u128 * bound as u128) >> 64) as u64
}

const fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sequence_is_splitmix64() {
        // The first values of the authors' reference implementation for the seed 1234567.
        let mut numbers = KeyedRng { counter: 1_234_567 };
        assert_eq!(numbers.nth(2), 9_817_491_932_198_370_423);
        assert_eq!(numbers.next(), 6_457_827_717_110_365_317);
        assert_eq!(numbers.next(), 3_203_168_211_198_807_973);
        assert_eq!(numbers.next(), 9_817_491_932_198_370_423);
    }

    #[test]
    fn neighbours_share_nothing() {
        let ones: u32 = (0..1_000)
            .map(|index| (KeyedRng::new(7, index).next() ^ KeyedRng::new(7, index + 1).next()).count_ones())
            .sum();
        assert!((31_000..33_000).contains(&ones), "{ones} of 64,000 bits differ");
    }
}
