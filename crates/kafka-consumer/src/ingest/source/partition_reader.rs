//! Reader of a single partition.

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

/// Partition that is read under one assignment.
pub(crate) struct PartitionReader {
    pub(crate) epoch: u64,
    pub(crate) next_offset: i64,
    /// Timestamp of the last event.
    time: Option<Timestamp>,
    /// The last poll found no record.
    dry: bool,
    /// The partition's own queue. `None` if its records arrive in the main queue.
    queue: Option<PartitionQueue<Context>>,
}

/// Outcome of polling a partition's queue.
pub(crate) enum PollOutcome {
    /// Records were taken, and more may be available.
    Records,
    /// The queue was empty, possibly after some records.
    Nothing,
    /// An event or an error, possibly after some records.
    Event(KafkaError),
}

impl PartitionReader {
    /// Returns the reader of a partition whose records arrive in the main queue.
    pub(crate) fn of_main_queue(epoch: u64, next_offset: i64) -> Self {
        Self { epoch, next_offset, time: None, dry: false, queue: None }
    }

    /// Opens the queue of a partition. Must be called on the reading thread, which the queue wakes up when records
    /// arrive. Must also be called before the partition is assigned: records fetched before the queue is split off
    /// arrive in the main queue, out of order.
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
        Ok(Self { queue: Some(queue), ..Self::of_main_queue(epoch, next_offset) })
    }

    /// Passes up to `most` available records to `inspect`, which returns the event's timestamp, if any, and true to
    /// receive more records. Skips records before the next offset.
    pub(crate) fn take(
        &mut self,
        most: u32,
        mut inspect: impl FnMut(u64, &BorrowedMessage<'_>) -> (Option<Timestamp>, bool),
    ) -> PollOutcome {
        for _ in 0..most {
            let record = match self.queue.as_ref().and_then(|queue| queue.poll(Duration::ZERO)) {
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

    /// Returns true if the partition's own queue may have records.
    pub(crate) fn may_have_records(&self) -> bool {
        !self.dry && self.queue.is_some()
    }

    pub(crate) fn recheck_idle(&mut self) {
        self.dry = false;
    }

    /// Returns the timestamp of the last event. Partitions are read in step with each other by it: rows then reach
    /// PostgreSQL approximately in time order, like the table and its index.
    pub(crate) fn time(&self) -> Option<Timestamp> {
        self.time
    }
}
