//! Monitors the ends of the partitions: the lag, and the records that an open transaction holds back.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use event_model::Timestamp;
use pipeline_runtime::kafka::watermarks;
use rdkafka::consumer::{BaseConsumer, ConsumerContext};
use rdkafka::message::Message;
use tokio_util::sync::CancellationToken;

use crate::kafka::client::KafkaClient;
use crate::kafka::record_lookup::RecordLookup;
use crate::kafka::topic_identity::{self, TopicIdentity};
use crate::observability::counters::{Counters, Totals};
use crate::observability::timing;

const BETWEEN: Duration = Duration::from_secs(1);
/// Minimum time between two requests for each partition: librdkafka's work grows with the square of their number.
const BETWEEN_PER_PARTITION: Duration = Duration::from_millis(2);
const TIMEOUT: Duration = Duration::from_secs(2);
/// Number of rounds between two comparisons of the topic ID.
const ROUNDS_PER_ID: u32 = 2;
/// Minimum age of an open transaction before its first record is read for the timestamp.
const WORTH_A_LOOK: Duration = Duration::from_secs(5);
/// Timeout of that read.
const LOOK: Duration = Duration::from_secs(3);

/// Ends of this consumer's partitions, as Kafka last reported them.
#[derive(Debug, Default)]
pub(crate) struct PartitionEnds(Mutex<BTreeMap<i32, PartitionEnd>>);

/// End of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PartitionEnd {
    /// High watermark: offset of the next record.
    pub(crate) high: i64,
    /// Open transaction that holds records back, if any.
    pub(crate) held_back: Option<HeldBack>,
}

/// Records that a consumer cannot read because of an open transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HeldBack {
    /// Last stable offset: the offset of the transaction's first record. It and all later records are held back.
    pub(crate) stable: i64,
    /// High watermark.
    pub(crate) high: i64,
    /// Timestamp of the transaction's first record. Until that is known, the time at which the transaction was noticed.
    pub(crate) since: Timestamp,
    /// Time at which this process noticed the transaction.
    pub(crate) noticed: Instant,
    /// True once the read of the first record was attempted.
    dated: bool,
}

impl HeldBack {
    /// Returns a transaction that was noticed now.
    pub(crate) fn noticed(stable: i64, high: i64, now: Instant, time: Timestamp) -> Self {
        Self { stable, high, since: time, noticed: now, dated: false }
    }

    /// Returns the number of offsets that are held back.
    #[must_use]
    pub(crate) fn offsets(&self) -> i64 {
        self.high - self.stable
    }
}

impl PartitionEnds {
    /// Returns the high watermark of a partition; `None` while Kafka does not answer.
    #[must_use]
    pub(crate) fn of(&self, partition: i32) -> Option<i64> {
        self.lock().get(&partition).map(|end| end.high)
    }

    /// Returns the records of a partition that an open transaction holds back.
    #[must_use]
    pub(crate) fn held_back(&self, partition: i32) -> Option<HeldBack> {
        self.lock().get(&partition)?.held_back
    }

    /// Returns the lag of each partition of this consumer, in offsets. Transaction markers count, since they have
    /// offsets too.
    #[must_use]
    pub(crate) fn lags(&self, totals: &Totals) -> BTreeMap<i32, u64> {
        let lag = |(partition, one): (&i32, &crate::observability::counters::Partition)| {
            let lag = self.of(*partition)?.saturating_sub(one.next_offset?);
            Some((*partition, u64::try_from(lag).unwrap_or(0)))
        };
        totals.partitions.iter().filter_map(lag).collect()
    }

    /// Returns the number of offsets of each partition of this consumer that an open transaction holds back.
    #[must_use]
    pub(crate) fn held_back_offsets(&self, totals: &Totals) -> BTreeMap<i32, u64> {
        let ends = self.lock();
        let held = |(partition, one): (&i32, &crate::observability::counters::Partition)| {
            one.next_offset?;
            let held = ends.get(partition)?.held_back.map_or(0, |held| held.offsets());
            Some((*partition, u64::try_from(held).unwrap_or(0)))
        };
        totals.partitions.iter().filter_map(held).collect()
    }

    fn set(&self, ends: BTreeMap<i32, PartitionEnd>) {
        *self.lock() = ends;
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<i32, PartitionEnd>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps the ends up to date, and watches for a recreated topic.
pub(crate) struct LagMonitor {
    /// Asks Kafka for the ends.
    pub(crate) kafka: KafkaClient,
    pub(crate) topic: String,
    /// Reads the first record of an open transaction.
    pub(crate) uncommitted: RecordLookup,
    /// Contains the partitions of this consumer.
    pub(crate) counters: Arc<Counters>,
    /// Receives the ends.
    pub(crate) ends: Arc<PartitionEnds>,
    /// Receives the topic ID.
    pub(crate) identity: Arc<TopicIdentity>,
}

impl LagMonitor {
    /// Runs until cancelled. Clears the ends while Kafka is unavailable: an outdated end would look like no lag.
    pub(crate) async fn run(self, end: CancellationToken) {
        for round in 0_u32.. {
            let known = self.ends.lock().clone();
            let asked = self.ask(&known).await;
            if asked.as_ref().is_ok_and(|ends| !ends.is_empty()) {
                self.kafka.connection().succeeded();
            }
            let ends = asked.unwrap_or_else(|error| {
                tracing::debug!(error = format!("{error:#}"), "partition ends unknown");
                BTreeMap::new()
            });
            let pause = pause(ends.len());
            self.ends.set(ends);
            let beside = async {
                self.date_transactions().await;
                if round.is_multiple_of(ROUNDS_PER_ID) || pause >= BETWEEN * ROUNDS_PER_ID {
                    self.compare_id().await;
                }
                tokio::time::sleep(pause).await;
            };
            tokio::select! {
                () = beside => {}
                () = end.cancelled() => return,
            }
        }
    }

    async fn ask(&self, known: &BTreeMap<i32, PartitionEnd>) -> anyhow::Result<BTreeMap<i32, PartitionEnd>> {
        let owned = self.counters.totals().partitions.into_iter();
        let owned: BTreeMap<i32, i64> = owned.filter_map(|(number, one)| Some((number, one.next_offset?))).collect();
        if owned.is_empty() {
            return Ok(BTreeMap::new());
        }
        // High watermark first: a last stable offset requested later is below it only if a transaction is open.
        let high = latest(&self.kafka.observer()?, &self.topic, owned.keys().copied().collect(), TIMEOUT).await?;
        let is_behind = |one: &(&i32, &i64)| owned.get(one.0).is_some_and(|next| next < one.1);
        let (behind, caught_up): (Vec<_>, Vec<_>) = high.iter().partition(is_behind);
        let behind = behind.into_iter().map(|(partition, _)| *partition).collect();
        let mut stable = latest(&self.kafka.current(), &self.topic, behind, TIMEOUT).await?;
        // A partition is committed up to its end only if no transaction is open.
        stable.extend(caught_up);
        Ok(ends(&high, &stable, known, Instant::now(), timing::now()))
    }

    /// Replaces the time at which each transaction was noticed with the timestamp of its first record.
    async fn date_transactions(&self) {
        let now = Instant::now();
        let old = |(partition, end): (&i32, &PartitionEnd)| {
            let held = end.held_back.filter(|held| !held.dated && now - held.noticed >= WORTH_A_LOOK)?;
            Some((*partition, held.stable))
        };
        let places: Vec<(i32, i64)> = self.ends.lock().iter().filter_map(old).collect();
        if places.is_empty() {
            return;
        }
        let found = first_timestamps(&self.uncommitted, places.clone(), LOOK).await;
        let mut ends = self.ends.lock();
        for (partition, stable) in places {
            let held = ends.get_mut(&partition).and_then(|end| end.held_back.as_mut());
            if let Some(held) = held.filter(|held| held.stable == stable) {
                held.dated = true;
                // The producer sets the timestamp and may set any value, so it may only make the transaction older.
                held.since = found.get(&partition).map_or(held.since, |began| held.since.min(*began));
            }
        }
    }

    /// Compares the topic's ID. The answer also tells that Kafka is available, with or without partitions.
    async fn compare_id(&self) {
        let Ok(observer) = self.kafka.observer() else { return };
        let id = topic_identity::ask(&observer, &self.topic).await;
        self.kafka.connection().answered(&id);
        match id {
            Ok(Some(id)) => self.identity.observe(id),
            Ok(None) => {}
            Err(error) => tracing::debug!(%error, topic = self.topic, "topic ID unknown"),
        }
    }
}

/// Returns the time between two requests for the ends of this number of partitions.
fn pause(partitions: usize) -> Duration {
    BETWEEN.max(BETWEEN_PER_PARTITION * u32::try_from(partitions).unwrap_or(u32::MAX))
}

/// Combines Kafka's answers with the known open transactions.
fn ends(
    high: &BTreeMap<i32, i64>,
    stable: &BTreeMap<i32, i64>,
    known: &BTreeMap<i32, PartitionEnd>,
    now: Instant,
    time: Timestamp,
) -> BTreeMap<i32, PartitionEnd> {
    let end = |(partition, high): (&i32, &i64)| {
        let (partition, high, stable) = (*partition, *high, *stable.get(partition)?);
        let held_back = (stable < high).then(|| {
            let before = known.get(&partition).and_then(|end| end.held_back).filter(|held| held.stable == stable);
            before.map_or_else(|| HeldBack::noticed(stable, high, now, time), |held| HeldBack { high, ..held })
        });
        Some((partition, PartitionEnd { high, held_back }))
    };
    high.iter().filter_map(end).collect()
}

/// Asks for the ends once, and for the timestamps of the first records of open transactions.
pub(crate) async fn ask_once(
    kafka: &KafkaClient,
    topic: &str,
    uncommitted: &RecordLookup,
    partitions: Vec<i32>,
    timeout: Duration,
) -> anyhow::Result<BTreeMap<i32, PartitionEnd>> {
    let high = latest(&kafka.observer()?, topic, partitions.clone(), timeout).await?;
    let stable = latest(&kafka.current(), topic, partitions, timeout).await?;
    let mut ends = ends(&high, &stable, &BTreeMap::new(), Instant::now(), timing::now());
    let places = ends.iter().filter_map(|(partition, end)| Some((*partition, end.held_back?.stable))).collect();
    let found = first_timestamps(uncommitted, places, timeout).await;
    for (partition, began) in found {
        if let Some(held) = ends.get_mut(&partition).and_then(|end| end.held_back.as_mut()) {
            held.since = held.since.min(began);
        }
    }
    Ok(ends)
}

/// Returns the timestamps of the first records at or after these offsets. Omits records that are not found in time.
async fn first_timestamps(
    uncommitted: &RecordLookup,
    places: Vec<(i32, i64)>,
    within: Duration,
) -> BTreeMap<i32, Timestamp> {
    let millis = uncommitted.first_at(places, |record| record.timestamp().to_millis());
    let found = match tokio::time::timeout(within, millis).await {
        Ok(Ok(found)) => found,
        Ok(Err(error)) => {
            tracing::debug!(%error, "first records of open transactions not read");
            Vec::new()
        }
        Err(_) => Vec::new(),
    };
    let time = |millis: i64| (millis > 0).then(|| millis.checked_mul(1_000)).flatten().map(Timestamp::from_micros);
    found.into_iter().filter_map(|one| Some((one.partition, time(one.record?.1?)?))).collect()
}

/// Returns the end of each partition: the high watermark if the client reads uncommitted records, else the last stable
/// offset.
pub(crate) async fn latest<C: ConsumerContext + 'static>(
    kafka: &Arc<BaseConsumer<C>>,
    topic: &str,
    partitions: Vec<i32>,
    timeout: Duration,
) -> anyhow::Result<BTreeMap<i32, i64>> {
    let topic = topic.to_owned();
    let found = watermarks::ask(kafka, move |kafka| watermarks::ends(kafka, &topic, &partitions, timeout)).await;
    found.context("cannot read the partition ends from Kafka")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn many_partitions_are_requested_less_often() {
        let seconds = [0, 6, 500, 2_000].map(|partitions| pause(partitions).as_secs());
        assert_eq!(seconds, [1, 1, 1, 4]);
    }

    #[test]
    fn a_transaction_is_noticed_once_and_gone_when_the_stable_offset_moves() {
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let time = |seconds: i64| Timestamp::from_micros(seconds * 1_000_000);
        let of = |high: i64, stable: i64, known: &BTreeMap<i32, PartitionEnd>, seconds: u8| {
            ends(&[(0, high)].into(), &[(0, stable)].into(), known, at(seconds.into()), time(seconds.into()))
        };
        let none = of(10, 10, &BTreeMap::new(), 0);
        assert_eq!(none[&0], PartitionEnd { high: 10, held_back: None });
        assert_eq!(of(10, 12, &none, 0)[&0].held_back, None, "written between the two questions");
        let first = of(20, 10, &none, 1);
        let held = first[&0].held_back.unwrap();
        assert_eq!((held.stable, held.high, held.since, held.noticed, held.offsets()), (10, 20, time(1), at(1), 10));
        let held = of(30, 10, &first, 2)[&0].held_back.unwrap();
        assert_eq!((held.high, held.since, held.noticed), (30, time(1), at(1)), "the same transaction");
        let held = of(30, 25, &first, 3)[&0].held_back.unwrap();
        assert_eq!((held.since, held.noticed), (time(3), at(3)), "another transaction");
        assert_eq!(of(31, 31, &first, 4)[&0].held_back, None);
        let (known, nothing) = (BTreeMap::new(), BTreeMap::new());
        assert!(ends(&[(0, 1)].into(), &nothing, &known, start, time(0)).is_empty(), "half of it is not known");
    }
}
