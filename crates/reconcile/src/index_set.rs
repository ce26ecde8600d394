//! A concurrent bit set of indices.

use std::sync::atomic::{AtomicU64, Ordering};

/// A set of indices below a length, one bit each. Any number of threads may insert.
#[derive(Debug)]
pub(crate) struct IndexSet {
    words: Vec<AtomicU64>,
    length: u64,
}

impl IndexSet {
    /// Creates an empty set of indices below `length`.
    pub(crate) fn new(length: u64) -> Self {
        let words = usize::try_from(length.div_ceil(64)).unwrap_or(usize::MAX);
        Self { words: (0..words).map(|_| AtomicU64::new(0)).collect(), length }
    }

    /// Inserts an index. Returns true if it is new.
    pub(crate) fn insert(&self, index: u64) -> bool {
        let (word, bit) = position(index);
        self.words.get(word).is_some_and(|word| word.fetch_or(bit, Ordering::Relaxed) & bit == 0)
    }

    pub(crate) fn contains(&self, index: u64) -> bool {
        let (word, bit) = position(index);
        self.words.get(word).is_some_and(|word| word.load(Ordering::Relaxed) & bit != 0)
    }

    pub(crate) fn count(&self) -> u64 {
        self.words.iter().map(|word| u64::from(word.load(Ordering::Relaxed).count_ones())).sum()
    }

    /// Returns the indices in this set and in none of the others, in ascending order. The others must have the same
    /// length.
    pub(crate) fn without<'a>(&'a self, others: &'a [&'a Self]) -> impl Iterator<Item = u64> + 'a {
        let of_word = move |word: usize| {
            let mut bits = self.words[word].load(Ordering::Relaxed);
            for other in others {
                bits &= !other.words[word].load(Ordering::Relaxed);
            }
            let first = word as u64 * 64;
            (0..64).filter(move |bit| bits >> bit & 1 == 1).map(move |bit| first + bit)
        };
        debug_assert!(others.iter().all(|other| other.length == self.length));
        (0..self.words.len()).flat_map(of_word)
    }
}

fn position(index: u64) -> (usize, u64) {
    (usize::try_from(index / 64).unwrap_or(usize::MAX), 1 << (index % 64))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn as_sets(one in prop::collection::btree_set(0_u64..300, 0..80), other in prop::collection::btree_set(0_u64..300, 0..80)) {
            let indices = |set: &BTreeSet<u64>| {
                let indices = IndexSet::new(300);
                for index in set {
                    assert!(indices.insert(*index) && !indices.insert(*index));
                }
                indices
            };
            let (left, right) = (indices(&one), indices(&other));
            prop_assert_eq!(left.count(), one.len() as u64);
            prop_assert!(left.without(&[&right]).eq(one.difference(&other).copied()));
            prop_assert!((0..300).all(|index| left.contains(index) == one.contains(&index)));
            prop_assert!(!left.insert(300) || 300_u64.div_ceil(64) * 64 > 300);
        }
    }
}
