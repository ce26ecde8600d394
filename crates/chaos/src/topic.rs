//! The topic: creation, deletion, end offsets, odd records, and a transaction that is left open.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, ensure};
use jiff::{Span, Timestamp};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::metadata::MetadataTopic;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use crate::environment::{Environment, PartitionEnd, TOPIC};
use crate::foreign::{Event, Outcome};
use local_stack::raw_producer::RawRecord;

const ANSWER: Duration = Duration::from_secs(20);
/// `transaction.timeout.ms` of the open transaction; the coordinator checks for expired ones every 10 s.
const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(10);

impl Environment {
    /// Creates the topic. It accepts all timestamps and keeps records of any age.
    pub(crate) fn create_topic(&self, partitions: i32) -> anyhow::Result<()> {
        let most = i64::MAX.to_string();
        let topic = NewTopic::new(TOPIC, partitions, TopicReplication::Fixed(1))
            .set("message.timestamp.before.max.ms", &most)
            .set("message.timestamp.after.max.ms", &most)
            .set("retention.ms", "-1");
        let made = self.runtime.block_on(self.admin()?.create_topics([&topic], &AdminOptions::new()))?;
        for one in made {
            one.map_err(|(name, code)| anyhow::anyhow!("cannot create topic {name}: {code}"))?;
        }
        Ok(())
    }

    /// Deletes the topic and waits until it is gone from the cluster's metadata.
    pub(crate) fn delete_topic(&self) -> anyhow::Result<()> {
        let gone = self.runtime.block_on(self.admin()?.delete_topics(&[TOPIC], &AdminOptions::new()))?;
        for one in gone {
            one.map_err(|(name, code)| anyhow::anyhow!("cannot delete topic {name}: {code}"))?;
        }
        for _ in 0..200 {
            if self.partitions()?.is_empty() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        anyhow::bail!("cannot delete topic {TOPIC}: it is still in the metadata")
    }

    fn admin(&self) -> anyhow::Result<AdminClient<DefaultClientContext>> {
        Ok(self.kafka().create()?)
    }

    fn kafka(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.stack.bootstrap_servers());
        config
    }

    /// Returns the topic's partitions, or an empty list while there is no topic.
    pub(crate) fn partitions(&self) -> anyhow::Result<Vec<i32>> {
        let client: BaseConsumer = self.kafka().create()?;
        partitions_of(&client)
    }

    /// Returns the end offsets of the partitions.
    pub(crate) fn ends(&self) -> anyhow::Result<BTreeMap<i32, PartitionEnd>> {
        let [stable, all]: [BaseConsumer; 2] = [
            self.kafka().set("isolation.level", "read_committed").create()?,
            self.kafka().set("isolation.level", "read_uncommitted").create()?,
        ];
        let end = |partition| {
            let [stable, high] = [&stable, &all].map(|client| client.fetch_watermarks(TOPIC, partition, ANSWER));
            Ok((partition, PartitionEnd { stable: stable?.1, high: high?.1 }))
        };
        partitions_of(&all)?.into_iter().map(end).collect()
    }

    /// Writes an event to each given partition in a transaction and leaves it open by dropping the producer.
    pub(crate) fn hang_transaction(&self, partitions: &[i32]) -> anyhow::Result<Vec<Event>> {
        let name = Event::plain().id.to_string();
        let mut config = self.kafka();
        config.set("transactional.id", &name);
        config.set("transaction.timeout.ms", TRANSACTION_TIMEOUT.as_millis().to_string());
        let producer: BaseProducer = config.create()?;
        producer.init_transactions(ANSWER).context("cannot prepare a transaction")?;
        producer.begin_transaction()?;
        let events: Vec<Event> = partitions.iter().map(|_| Event::plain()).collect();
        for (partition, event) in partitions.iter().zip(&events) {
            let (key, value) = (event.id.to_string(), event.json());
            let record = BaseRecord::to(TOPIC).partition(*partition).key(&key).payload(&value);
            producer.send(record).map_err(|(error, _)| error)?;
        }
        producer.flush(ANSWER).context("cannot write within a transaction")?;
        ensure!(producer.in_flight_count() == 0, "records of a transaction were not acknowledged");
        Ok(events)
    }
}

fn partitions_of(client: &BaseConsumer) -> anyhow::Result<Vec<i32>> {
    let metadata = client.fetch_metadata(Some(TOPIC), ANSWER)?;
    let topics = metadata.topics().iter().filter(|topic| topic.error().is_none());
    Ok(topics.flat_map(MetadataTopic::partitions).map(rdkafka::metadata::MetadataPartition::id).collect())
}

/// Returns records with timestamps in other units or none, and with header names that are not UTF-8.
pub(crate) fn odd_records(partition: i32) -> Vec<(Event, RawRecord, Outcome)> {
    let now = Timestamp::now().as_millisecond();
    let [micros, nanos] = [1_000, 1_000_000].map(|factor| now.saturating_mul(factor));
    // .NET counts units of 100 ns since the year 1.
    let ticks = now.saturating_mul(10_000).saturating_add(621_355_968_000_000_000);
    let stamped = |timestamp, outcome| {
        let event = Event::plain();
        let record = RawRecord { timestamp, ..event.record(partition) };
        (event, record, outcome)
    };
    let mut records: Vec<_> =
        [micros, nanos, ticks, i64::MAX, i64::MAX - 1, 0, 1].map(|odd| stamped(odd, Outcome::Invalid)).into();
    // Without a timestamp, the current time is used.
    records.push(stamped(-1, Outcome::Row));
    let old = Event {
        at: Timestamp::now().saturating_sub(Span::new().hours(24 * 500)).unwrap_or_default(),
        ..Event::plain()
    };
    let record = RawRecord { timestamp: -1, ..old.record(partition) };
    records.push((old, record, Outcome::Invalid));
    let names: [&[u8]; 4] = [b"\xff\xfe", b"caf\xe9", b"a\\\xc3\x28", "å".as_bytes()];
    let headers: Vec<(Vec<u8>, Vec<u8>)> = names.iter().map(|name| (name.to_vec(), b"\0\xff".to_vec())).collect();
    for (value, outcome) in [(None, Outcome::Row), (Some(b"{}".to_vec()), Outcome::Invalid)] {
        let event = Event::plain();
        let record = event.record(partition);
        let record = RawRecord { headers: headers.clone(), value: value.unwrap_or(record.value.clone()), ..record };
        records.push((event, record, outcome));
    }
    records
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_records_have_odd_timestamps_and_names() {
        let records = odd_records(2);
        let timestamps: Vec<i64> = records.iter().map(|(_, record, _)| record.timestamp).collect();
        assert!(timestamps.contains(&i64::MAX) && timestamps.contains(&-1), "{timestamps:?}");
        let is_odd = |(name, _): &(Vec<u8>, Vec<u8>)| std::str::from_utf8(name).is_err();
        assert!(records.iter().any(|(_, record, _)| record.headers.iter().any(is_odd)));
        assert!(records.iter().all(|(_, record, _)| record.partition == 2));
    }
}
