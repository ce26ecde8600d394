//! Checks the dead-letter limit before a batch commits.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio_postgres::Transaction;

use crate::ingest::batch::closed::PendingDeadLetter;
use crate::ingest::writer::attempt::AttemptError;
use crate::ingest::writer::dead_letter_limit::{DeadLetterLimit, DeadLetterLimitExceeded};
use crate::kafka::group_topic::GroupTopic;
use crate::postgres::bigint;

/// Checks the limit against the dead letters in PostgreSQL, so that a restart does not reset the count. All writers
/// share one allowance.
#[derive(Clone, Debug)]
pub(crate) struct DeadLetterLimiter {
    limit: DeadLetterLimit,
    allowance: Arc<AtomicU64>,
}

/// Returns the number of the group's records, including those of this transaction.
const RECORDS: &str = "SELECT coalesce(sum(records), 0)::bigint FROM pipeline.consumer_offsets
    WHERE consumer_group = $1 AND topic = $2";

const EARLIER: &str = "SELECT group_record FROM pipeline.dead_letters
    WHERE consumer_group = $1 AND topic = $2 AND group_record >= $3 AND group_record < $4 ORDER BY group_record";

impl DeadLetterLimiter {
    /// Returns a limiter. Its clones share the allowance.
    #[must_use]
    pub(crate) fn new(limit: DeadLetterLimit) -> Self {
        Self { limit, allowance: Arc::new(AtomicU64::new(limit.allowance)) }
    }

    /// Returns the maximum number of dead letters among `records` consecutive records, including the allowance.
    pub(crate) fn maximum(&self, records: u64) -> u64 {
        let windows = records.div_ceil(self.limit.window.max(1)).max(1);
        self.limit.maximum.saturating_mul(windows).saturating_add(self.allowance.load(Ordering::Relaxed))
    }

    /// Gives back a batch's share of the allowance, because the batch is retried or was dropped.
    pub(crate) fn release(&self, taken: &mut u64) {
        self.allowance.fetch_add(std::mem::take(taken), Ordering::Relaxed);
    }

    /// Returns the error for a record that exceeds the limit.
    pub(crate) fn exceeded(&self, partition: i32, offset: i64, reason: String) -> DeadLetterLimitExceeded {
        DeadLetterLimitExceeded { limit: self.limit, partition, offset, reason }
    }

    /// Returns the position of each dead letter in the group's sequence of records. Fails if the dead letters exceed
    /// the limit and the allowance. `taken` is the batch's share of the allowance over all its attempts.
    pub(crate) async fn check(
        &self,
        transaction: &Transaction<'_>,
        group_topic: &GroupTopic,
        records: u64,
        letters: &[(i32, &PendingDeadLetter)],
        taken: &mut u64,
    ) -> Result<Vec<i64>, AttemptError> {
        self.release(taken);
        if letters.is_empty() {
            return Ok(Vec::new());
        }
        let total: i64 = transaction.query_one(RECORDS, &[&group_topic.group, &group_topic.topic]).await?.get(0);
        let first = total.saturating_sub(bigint(records));
        let positions: Vec<i64> = letters.iter().map(|(_, one)| first + bigint(one.index)).collect();
        let since = first.saturating_sub(bigint(self.limit.window));
        let earlier = transaction.query(EARLIER, &[&group_topic.group, &group_topic.topic, &since, &first]).await?;
        let earlier: Vec<i64> = earlier.iter().map(|row| row.get(0)).collect();

        let mut order: Vec<usize> = (0..letters.len()).collect();
        order.sort_by_key(|index| positions[*index]);
        let sorted: Vec<i64> = order.iter().map(|index| positions[*index]).collect();
        let excess = self.limit.excess(&earlier, &sorted);
        if let Some(last) = excess.last() {
            let count = excess.len() as u64;
            let passes = |left: u64| left.checked_sub(count);
            if self.allowance.fetch_update(Ordering::Relaxed, Ordering::Relaxed, passes).is_err() {
                let (partition, one) = letters[order[excess.first().copied().unwrap_or(*last)]];
                return Err(AttemptError::DeadLetterLimitExceeded(self.exceeded(
                    partition,
                    one.letter.offset,
                    one.letter.reason.clone(),
                )));
            }
            *taken = count;
        }
        Ok(positions)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_longer_than_the_window_may_have_more() {
        let limiter = DeadLetterLimiter::new(DeadLetterLimit { maximum: 1_000, window: 10_000, allowance: 7 });
        let maximum = [0, 10_000, 10_001, 20_000].map(|records| limiter.maximum(records));
        assert_eq!(maximum, [1_007, 1_007, 2_007, 2_007]);
        assert_eq!(
            DeadLetterLimiter::new(DeadLetterLimit { maximum: u64::MAX, window: 1, allowance: 0 }).maximum(20_000),
            u64::MAX
        );
    }
}
