//! How far Kafka is ahead: the partitions' ends, asked for beside the reading.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use rdkafka::consumer::Consumer;
use rdkafka::{Offset, TopicPartitionList};
use tokio::task;
use tokio_util::sync::CancellationToken;

use crate::counters::{Counters, Totals};
use crate::kafka_client::KafkaClient;
use crate::offsets::Kafka;

const BETWEEN: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(2);

/// The ends of this consumer's partitions, as Kafka told them last.
#[derive(Debug, Default)]
pub struct Ends(Mutex<BTreeMap<i32, i64>>);

impl Ends {
    /// The end of a partition; none while Kafka does not tell.
    #[must_use]
    pub fn of(&self, partition: i32) -> Option<i64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&partition).copied()
    }

    /// How many offsets of each partition of this consumer are still to come. Marks of transactions count as records.
    #[must_use]
    pub fn lags(&self, totals: &Totals) -> BTreeMap<i32, u64> {
        let lag = |(partition, one): (&i32, &crate::counters::Partition)| {
            let lag = self.of(*partition)?.saturating_sub(one.next_offset?);
            Some((*partition, u64::try_from(lag).unwrap_or(0)))
        };
        totals.partitions.iter().filter_map(lag).collect()
    }

    fn set(&self, ends: BTreeMap<i32, i64>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = ends;
    }
}

/// Keeps the ends up to date until the end. Forgets them while Kafka is away: an old number would look like no lag.
pub async fn watch(
    kafka: KafkaClient,
    topic: String,
    counters: Arc<Counters>,
    ends: Arc<Ends>,
    end: CancellationToken,
) {
    while !end.is_cancelled() {
        let owned = counters.totals().partitions.into_iter().filter(|(_, one)| one.next_offset.is_some());
        let partitions: Vec<i32> = owned.map(|(partition, _)| partition).collect();
        ends.set(ask(&kafka.current(), &topic, partitions, PATIENCE).await.unwrap_or_else(|error| {
            tracing::debug!(error = format!("{error:#}"), "ends of partitions unknown");
            BTreeMap::new()
        }));
        tokio::select! {
            () = tokio::time::sleep(BETWEEN) => {}
            () = end.cancelled() => {}
        }
    }
}

/// The end of each partition: the offset that the next committed record will have. One request to each broker.
pub async fn ask(
    kafka: &Kafka,
    topic: &str,
    partitions: Vec<i32>,
    patience: Duration,
) -> anyhow::Result<BTreeMap<i32, i64>> {
    if partitions.is_empty() {
        return Ok(BTreeMap::new());
    }
    let mut list = TopicPartitionList::new();
    for partition in partitions {
        list.add_partition_offset(topic, partition, Offset::End)?;
    }
    let kafka = Arc::clone(kafka);
    let asked = task::spawn_blocking(move || kafka.offsets_for_times(list, patience)).await;
    let found = asked?.context("Kafka did not tell where the partitions end")?;
    let end = |element: &rdkafka::topic_partition_list::TopicPartitionListElem<'_>| {
        let offset = element.offset().to_raw().filter(|offset| *offset >= 0)?;
        element.error().is_ok().then_some((element.partition(), offset))
    };
    Ok(found.elements().iter().filter_map(end).collect())
}
