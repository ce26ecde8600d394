//! Filter of recently seen ids, which keeps likely duplicates out of the first COPY.

use uuid::Uuid;

/// Number of ids per bucket. A new id replaces the oldest one in its bucket.
const WAYS: usize = 7;

/// Lossy set of recent ids, of fixed size. Both kinds of error are harmless. A forgotten id is a false negative: the
/// unique index then finds the duplicate. A false positive (about one in 500 million new ids) takes the slower path
/// through a lookup and is still inserted.
///
/// A hash of the id selects a bucket. The bucket stores 32 other bits of the hash.
#[derive(Debug)]
pub(crate) struct RecentIds {
    buckets: Vec<Bucket>,
}

/// Half a CPU cache line, so that a lookup costs about one memory access.
#[derive(Clone, Debug, Default)]
struct Bucket {
    ids: [u32; WAYS],
    next: u32,
}

impl RecentIds {
    /// Returns a filter of `bytes`, rounded down to a power of two of 32-byte buckets, at least one. It remembers 998
    /// in 1,000 of the ids in the newest quarter of its capacity.
    #[must_use]
    pub(crate) fn with_size(bytes: usize) -> Self {
        let buckets = (bytes / size_of::<Bucket>()).max(1);
        Self { buckets: vec![Bucket::default(); 1 << buckets.ilog2()] }
    }

    /// Inserts an id. Returns true if it was there already.
    pub(crate) fn insert(&mut self, id: Uuid) -> bool {
        let hash = mix(id.as_u128());
        let bucket = usize::try_from(hash >> 32).unwrap_or_default() & (self.buckets.len() - 1);
        // Zero marks a free slot.
        let mark = u32::try_from(hash & 0xffff_ffff).unwrap_or_default().max(1);
        let Bucket { ids, next } = &mut self.buckets[bucket];
        if ids.contains(&mark) {
            return true;
        }
        ids[*next as usize % WAYS] = mark;
        *next = next.wrapping_add(1);
        false
    }
}

/// Hashes 128 bits to 64: multiplies both halves and folds the product. Ids that collide on purpose only take the
/// slower path.
fn mix(id: u128) -> u64 {
    let [low, high] = [id, id >> 64].map(|half| u64::try_from(half & u128::from(u64::MAX)).unwrap_or_default());
    let product = u128::from(low ^ 0x9e37_79b9_7f4a_7c15) * u128::from(high ^ 0xd1b5_4a32_d192_ed03);
    let [low, high] =
        [product, product >> 64].map(|half| u64::try_from(half & u128::from(u64::MAX)).unwrap_or_default());
    low ^ high
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u128) -> Uuid {
        // Laid out like a generated id: time, then the tag of the run, then the index.
        Uuid::from_u128((0x0198_0000_0000 + number / 100) << 80 | 0x7abc << 64 | 0x8123_4567_0000_0000 | number)
    }

    #[test]
    fn what_came_of_late_is_known_and_strangers_are_not() {
        let mut seen = RecentIds::with_size(4 << 16);
        let strangers = (0..200_000).filter(|number| seen.insert(id(*number))).count();
        assert_eq!(strangers, 0);
        let known = (186_000..200_000).filter(|number| seen.insert(id(*number))).count();
        assert!(known > 13_972, "{known}");
    }

    #[test]
    fn an_id_is_new_once() {
        let mut seen = RecentIds::with_size(1);
        assert!(!seen.insert(Uuid::nil()));
        assert!(seen.insert(Uuid::nil()));
    }
}
