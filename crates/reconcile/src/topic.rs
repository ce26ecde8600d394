//! Reads the topic from its beginning to its end at the start of the scan.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use event_model::{Window, parse};
use pipeline_runtime::kafka::{ClientErrors, Watermarks, set_default, watermarks};
use rdkafka::config::{ClientConfig, FromClientConfigAndContext};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::{Offset, TopicPartitionList};

use crate::dead_letters::DeadLetters;
use crate::findings::Findings;
use crate::hourly_sums::HourlySums;
use crate::index_set::IndexSet;
use crate::run_under_test::{Ownership, RunUnderTest};
use crate::store::StoreContents;

/// Maximum time without a record while any partition is not read to its end.
const TIMEOUT: Duration = Duration::from_mins(1);
const ANSWER: Duration = Duration::from_secs(10);

/// Contents of the topic.
pub(crate) struct Topic {
    pub(crate) store: StoreContents,
    /// Watermarks of the partitions at the start of the scan.
    pub(crate) spans: BTreeMap<i32, Watermarks>,
    /// Corrupt values.
    pub(crate) corrupt: IndexSet,
    /// Their counts and hashes, without duplicates.
    pub(crate) corrupt_sum: HourlySums,
    /// Number of their records, duplicates included.
    pub(crate) corrupt_records: u64,
    pub(crate) corrupt_unlettered: Findings,
    /// Invalid records with the run's tag and an index in their headers that are not corrupt values of the run.
    pub(crate) corrupt_extra: Findings,
    /// Valid events with a record in the dead letters that was not replayed.
    pub(crate) lettered: IndexSet,
    /// Hour and hash of each of these events, by its offset in the run, from its first record with such a dead letter.
    pub(crate) lettered_events: BTreeMap<u64, HourlySums>,
    /// Valid events with a record that has no dead letter or whose dead letter was replayed.
    pub(crate) unlettered: IndexSet,
    /// Corrupt values with a record that has a dead letter.
    pub(crate) corrupt_lettered: IndexSet,
    /// Records whose payload differs from that of their dead letter.
    pub(crate) other_bytes: Findings,
    /// Records of valid events whose key is not the user ID.
    pub(crate) other_key: Findings,
}

/// Reads the topic. Blocks the calling thread.
pub(crate) fn scan(
    config: &ClientConfig,
    topic: &str,
    run: &RunUnderTest,
    letters: Option<&DeadLetters>,
) -> anyhow::Result<Topic> {
    let consumer = reader(config)?;
    let spans = spans(&consumer, topic)?;
    let mut list = TopicPartitionList::new();
    for (partition, span) in spans.iter().filter(|(_, span)| span.high > span.low) {
        list.add_partition_offset(topic, *partition, Offset::Offset(span.low))?;
    }
    let mut left = list.count();
    let [corrupt, lettered, unlettered, corrupt_lettered] = [(); 4].map(|()| IndexSet::new(run.length()));
    let mut seen = Topic {
        store: StoreContents::of(run),
        spans,
        corrupt,
        corrupt_sum: HourlySums::default(),
        corrupt_records: 0,
        corrupt_unlettered: Findings::default(),
        lettered,
        lettered_events: BTreeMap::new(),
        unlettered,
        corrupt_lettered,
        corrupt_extra: Findings::default(),
        other_bytes: Findings::default(),
        other_key: Findings::default(),
    };
    if left > 0 {
        consumer.assign(&list).context("cannot assign the partitions")?;
    }
    let mut last_word = Instant::now();
    while left > 0 {
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(record)) => {
                last_word = Instant::now();
                // Later records are left out: the consumer may not have processed them yet.
                if seen.spans.get(&record.partition()).is_some_and(|span| record.offset() < span.high) {
                    seen.add(&record, run, letters);
                } else {
                    let mut done = TopicPartitionList::new();
                    done.add_partition(topic, record.partition());
                    consumer.incremental_unassign(&done)?;
                    left -= 1;
                }
            }
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                let mut done = TopicPartitionList::new();
                done.add_partition(topic, partition);
                consumer.incremental_unassign(&done)?;
                left -= 1;
            }
            Some(Err(error)) => tracing::warn!(%error, topic, "kafka error"),
            None if last_word.elapsed() > TIMEOUT => {
                bail!(
                    "cannot read {topic} to its end: no record from Kafka for a minute, {left} partitions unread; check the brokers"
                )
            }
            None => {}
        }
    }
    Ok(seen)
}

fn reader(config: &ClientConfig) -> anyhow::Result<BaseConsumer<ClientErrors>> {
    let mut config = config.clone();
    for (property, value) in [("queued.min.messages", "100000"), ("fetch.message.max.bytes", "1048576")] {
        set_default(&mut config, property, value);
    }
    config.set("queued.max.messages.kbytes", "65536");
    BaseConsumer::from_config_and_context(&config, ClientErrors::default()).context("cannot create the Kafka client")
}

fn spans(consumer: &BaseConsumer<ClientErrors>, topic: &str) -> anyhow::Result<BTreeMap<i32, Watermarks>> {
    let partitions =
        watermarks::partitions(consumer, topic, ANSWER).context("cannot read the partitions from Kafka")?;
    if partitions.is_empty() {
        bail!("cannot read {topic}: the topic does not exist; correct --topic or --bootstrap-servers");
    }
    let spans = watermarks::watermarks(consumer, topic, &partitions, ANSWER);
    spans.context("cannot read the partition offsets from Kafka")
}

impl Topic {
    fn add(&mut self, record: &BorrowedMessage<'_>, run: &RunUnderTest, letters: Option<&DeadLetters>) {
        let position = (record.partition(), record.offset());
        let at = || format!("partition {}, offset {}", position.0, position.1);
        let letter = letters.and_then(|letters| letters.find(position));
        if let Some(letter) = &letter
            && !letter.is_of(record.payload())
        {
            self.other_bytes.add(at);
        }
        if let Ok(event) = parse(record.payload(), None, Window::default()) {
            let Some((offset, _)) = self.store.observe(run, &event, at) else { return };
            if record.key() != Some(event.user_id.to_string().as_bytes()) {
                self.other_key.add(|| format!("{} at {}", run.describe(offset), at()));
            }
            let refused = letter.is_some_and(|letter| !letter.replayed);
            if !refused {
                self.unlettered.insert(offset);
            } else if self.lettered.insert(offset) {
                self.lettered_events.entry(offset).or_default().add_event(&event);
            }
            return;
        }
        match marked(record, &run.tag()).map(|index| (index, run.at(index))) {
            Some((index, Ownership::Ours(offset))) if run.may_be_broken(offset) => {
                self.corrupt_records += 1;
                if self.corrupt.insert(offset) {
                    let key = record.key().and_then(|key| std::str::from_utf8(key).ok()?.parse().ok());
                    self.corrupt_sum.add_corrupt(index, key.unwrap_or_default(), record.payload().unwrap_or_default());
                }
                if letter.is_some() {
                    self.corrupt_lettered.insert(offset);
                } else {
                    self.corrupt_unlettered.add(|| format!("{} at {}", run.describe(offset), at()));
                }
            }
            Some(_) => self.corrupt_extra.add(at),
            None => {}
        }
    }
}

/// Returns the index in the headers of a corrupt record of this run.
fn marked(record: &BorrowedMessage<'_>, tag: &str) -> Option<u64> {
    let headers = rdkafka_ext::headers(record);
    let value = |key: &str| headers.iter().find(|header| header.name == key.as_bytes())?.value;
    (value("run")? == tag.as_bytes()).then(|| std::str::from_utf8(value("index")?).ok()?.parse().ok())?
}
