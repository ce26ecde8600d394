//! A partition that is read, from a queue of its own.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use event_model::Timestamp;
use rdkafka::consumer::BaseConsumer;
use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Message};

use crate::kafka::context::Context;

/// A partition under one assignment.
pub(crate) struct PartitionReader {
    pub(crate) epoch: u64,
    pub(crate) next_offset: i64,
    /// The time of its last event; none before the first one.
    time: Option<Timestamp>,
    /// Whether it had no record when it was looked at last.
    dry: bool,
    queue: PartitionQueue<Context>,
}

/// What a partition's queue had.
pub(crate) enum PollOutcome {
    /// So many records.
    Records,
    /// Nothing.
    Nothing,
    /// Something that is no record, possibly after some.
    Event(KafkaError),
}

impl PartitionReader {
    /// To be called by the thread that reads, which is woken when records come. Before the partition is assigned: what is
    /// fetched until its queue is its own would come out of another one, and out of order.
    pub(crate) fn open(
        kafka: &Arc<BaseConsumer<Context>>,
        topic: &str,
        number: i32,
        epoch: u64,
        next_offset: i64,
    ) -> anyhow::Result<Self> {
        let queue = kafka.split_partition_queue(topic, number);
        let mut queue = queue.with_context(|| format!("partition {number} of {topic} has no queue"))?;
        let reader = thread::current();
        queue.set_nonempty_callback(move || reader.unpark());
        Ok(Self { epoch, next_offset, time: None, dry: false, queue })
    }

    /// Takes records that are there, so many at most, as long as they are wanted. The function inspects a record and gives the
    /// event's time, where it has one, and whether more are wanted.
    pub(crate) fn take(
        &mut self,
        most: u32,
        mut inspect: impl FnMut(u64, &BorrowedMessage<'_>) -> (Option<Timestamp>, bool),
    ) -> PollOutcome {
        for _ in 0..most {
            let record = match self.queue.poll(Duration::ZERO) {
                None => {
                    self.dry = true;
                    return PollOutcome::Nothing;
                }
                Some(Err(event)) => return PollOutcome::Event(event),
                Some(Ok(record)) => record,
            };
            if record.offset() < self.next_offset {
                continue;
            }
            self.next_offset = record.offset() + 1;
            let (time, more) = inspect(self.epoch, &record);
            self.time = time.or(self.time);
            if !more {
                break;
            }
        }
        PollOutcome::Records
    }

    /// Whether a record may be there.
    pub(crate) fn may_have_records(&self) -> bool {
        !self.dry
    }

    pub(crate) fn recheck_idle(&mut self) {
        self.dry = false;
    }

    /// How far its events have come. Partitions are read in step by it: rows then come to PostgreSQL about in the order of
    /// their time, as the table and its index have them.
    pub(crate) fn time(&self) -> Option<Timestamp> {
        self.time
    }
}
