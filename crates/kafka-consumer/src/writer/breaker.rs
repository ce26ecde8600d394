//! A flood of dead letters is no fault of single records: it stops the consumer.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio_postgres::Transaction;

use super::transaction::Attempt;
use crate::batch::Refused;
use crate::offsets::Claim;

/// How many dead letters are borne.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tolerance {
    /// Dead letters at most …
    pub most: u64,
    /// … among so many records of the group, one after the other.
    pub window: u64,
    /// How many more this process lets pass.
    pub accepted: u64,
}

/// Counts the group's dead letters in PostgreSQL, so that a restart gives no new allowance.
#[derive(Clone, Debug)]
pub struct Breaker {
    tolerance: Tolerance,
    accepted: Arc<AtomicU64>,
}

/// More dead letters than are borne.
#[derive(Clone, Debug)]
pub struct Flood {
    tolerance: Tolerance,
    partition: i32,
    offset: i64,
    reason: String,
}

impl fmt::Display for Flood {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tolerance, partition, offset, reason } = self;
        write!(
            f,
            "more than {} of the last {} records are no valid events; the one that is too many is at offset {offset} of \
             partition {partition}: {reason}. Its batch was not written and the offsets are untouched. \
             `kafka-consumer dead-letters list` shows the others; mend the producer or the table, or let N more pass \
             with --accept-dead-letters N",
            tolerance.most, tolerance.window
        )
    }
}

/// The group's records so far, those of this transaction included.
const RECORDS: &str = "SELECT coalesce(sum(records), 0)::bigint FROM pipeline.consumer_offsets
    WHERE consumer_group = $1 AND topic = $2";

const EARLIER: &str = "SELECT group_record FROM pipeline.dead_letters
    WHERE consumer_group = $1 AND topic = $2 AND group_record >= $3 AND group_record < $4 ORDER BY group_record";

impl Breaker {
    /// A breaker that all writers share.
    #[must_use]
    pub fn new(tolerance: Tolerance) -> Self {
        Self { tolerance, accepted: Arc::new(AtomicU64::new(tolerance.accepted)) }
    }

    /// Returns the maximum number of dead letters that a run of records can have under the limit.
    pub(super) fn most(&self, records: u64) -> u64 {
        let windows = records.div_ceil(self.tolerance.window.max(1)).max(1);
        self.tolerance.most.saturating_mul(windows).saturating_add(self.accepted.load(Ordering::Relaxed))
    }

    /// Gives back what a batch took of the accepted dead letters: it is tried again, or was dropped.
    pub(super) fn give_back(&self, taken: &mut u64) {
        self.accepted.fetch_add(std::mem::take(taken), Ordering::Relaxed);
    }

    /// The record that is one too many.
    pub(super) fn flood(&self, partition: i32, offset: i64, reason: String) -> Flood {
        Flood { tolerance: self.tolerance, partition, offset, reason }
    }

    /// Places a batch's dead letters in the group's sequence of records and fails where they are too many. Returns
    /// each one's place; `taken` is what the batch has of the accepted ones, over all its attempts.
    pub(super) async fn weigh(
        &self,
        transaction: &Transaction<'_>,
        claim: &Claim,
        records: u64,
        letters: &[(i32, &Refused)],
        taken: &mut u64,
    ) -> Result<Vec<i64>, Attempt> {
        self.give_back(taken);
        if letters.is_empty() {
            return Ok(Vec::new());
        }
        let total: i64 = transaction.query_one(RECORDS, &[&claim.group, &claim.topic]).await?.get(0);
        let first = total.saturating_sub(number(records));
        let places: Vec<i64> = letters.iter().map(|(_, one)| first + number(one.place)).collect();
        let since = first.saturating_sub(number(self.tolerance.window));
        let earlier = transaction.query(EARLIER, &[&claim.group, &claim.topic, &since, &first]).await?;
        let earlier: Vec<i64> = earlier.iter().map(|row| row.get(0)).collect();

        let mut order: Vec<usize> = (0..letters.len()).collect();
        order.sort_by_key(|index| places[*index]);
        let sorted: Vec<i64> = order.iter().map(|index| places[*index]).collect();
        let excess = excess(&earlier, &sorted, self.tolerance);
        if let Some(last) = excess.last() {
            let count = excess.len() as u64;
            let passes = |left: u64| left.checked_sub(count);
            if self.accepted.fetch_update(Ordering::Relaxed, Ordering::Relaxed, passes).is_err() {
                let (partition, one) = letters[order[excess.first().copied().unwrap_or(*last)]];
                return Err(Attempt::Flood(self.flood(partition, one.letter.offset, one.letter.reason.clone())));
            }
            *taken = count;
        }
        Ok(places)
    }
}

/// Which of the new places, in order, are more than the tolerance allows within the window that ends with them.
fn excess(earlier: &[i64], new: &[i64], tolerance: Tolerance) -> Vec<usize> {
    let all: Vec<i64> = earlier.iter().chain(new).copied().collect();
    let window = number(tolerance.window);
    let mut start = 0;
    let mut found = Vec::new();
    for (end, place) in all.iter().enumerate() {
        while all[start] <= place - window {
            start += 1;
        }
        let within = (end - start + 1) as u64;
        if end >= earlier.len() && within > tolerance.most {
            found.push(end - earlier.len());
        }
    }
    found
}

fn number(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_longer_than_the_window_may_have_more() {
        let breaker = Breaker::new(Tolerance { most: 1_000, window: 10_000, accepted: 7 });
        let most = [0, 10_000, 10_001, 20_000].map(|records| breaker.most(records));
        assert_eq!(most, [1_007, 1_007, 2_007, 2_007]);
        assert_eq!(Breaker::new(Tolerance { most: u64::MAX, window: 1, accepted: 0 }).most(20_000), u64::MAX);
    }

    #[test]
    fn a_window_holds_so_many_and_no_more() {
        let tolerance = Tolerance { most: 2, window: 10, accepted: 0 };
        assert_eq!(excess(&[], &[0, 1], tolerance), Vec::<usize>::new());
        assert_eq!(excess(&[], &[0, 1, 9], tolerance), [2]);
        assert_eq!(excess(&[], &[0, 1, 10], tolerance), Vec::<usize>::new());
        assert_eq!(excess(&[0, 1], &[9, 11], tolerance), [0]);
        assert_eq!(excess(&[0, 1], &[11, 12, 13], tolerance), [2]);
    }
}
