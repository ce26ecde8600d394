//! Which ids were seen of late: a filter that keeps repeats out of the COPY.

use uuid::Uuid;

/// Ids that share one bucket; within it the oldest makes room for the newest.
const WAYS: usize = 7;

/// A lossy memory of recent ids, of fixed size. It may have forgotten an id that it saw (the unique index then finds
/// the repeat) and takes one in 500 million strangers for an acquaintance (who then goes the slow way in, and arrives).
///
/// A hash of the id chooses one of the buckets, and 32 other bits of it are kept there.
#[derive(Debug)]
pub(crate) struct RecentIds {
    buckets: Vec<Bucket>,
}

/// Half a line of the processor's cache, so that an id costs one look into memory.
#[derive(Clone, Debug, Default)]
struct Bucket {
    ids: [u32; WAYS],
    next: u32,
}

impl RecentIds {
    /// Of so many bytes, rounded down to the next power of two; seven ids in 32. Of the newest quarter of that many ids, 998 in
    /// 1,000 are remembered.
    #[must_use]
    pub(crate) fn with_size(bytes: usize) -> Self {
        let buckets = (bytes / size_of::<Bucket>()).max(1);
        Self { buckets: vec![Bucket::default(); 1 << buckets.ilog2()] }
    }

    /// Notes an id. Whether it was there already.
    pub(crate) fn insert(&mut self, id: Uuid) -> bool {
        let hash = mix(id.as_u128());
        let bucket = usize::try_from(hash >> 32).unwrap_or_default() & (self.buckets.len() - 1);
        // Zero stands for "free".
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

/// 128 bits into 64, by the product of two halves whose own halves are folded. Ids that collide on purpose only go the
/// slow way in.
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
        // Like ours: the time in front, then a run's tag, then the index.
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
