//! The partitions that are read, their assignment epochs, and changes of the assignment.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rdkafka::consumer::{BaseConsumer, Consumer, RebalanceProtocol};
use rdkafka::error::KafkaError;
use rdkafka::{Offset, TopicPartitionList};
use tokio::sync::oneshot;

use crate::ingest::memory_budget::PartitionQueues;
use crate::ingest::offsets::position::Position;
use crate::ingest::offsets::resume::ResumeError;
use crate::ingest::source::caught_up::CaughtUp;
use crate::ingest::source::config::SourceConfig;
use crate::ingest::source::partition_reader::PartitionReader;
use crate::ingest::source::writer_queues::WriterQueues;
use crate::kafka::context::{AssignmentChange, Context, release};

/// Deadline for committing the in-flight records of a revoked partition. After it, the compare-and-set of the offset
/// decides about later commits.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(5);
const KAFKA_TIMEOUT: Duration = Duration::from_secs(10);

type Positions = Result<BTreeMap<i32, Position>, ResumeError>;

/// Partitions of this consumer, and the changes of its assignment that are not complete yet.
#[derive(Default)]
pub(crate) struct Assignment {
    read: BTreeMap<i32, PartitionReader>,
    caught_up: CaughtUp,
    pending: Option<PendingChange>,
    to_seek: Vec<i32>,
    last_epoch: u64,
    paused: bool,
    uncertain: bool,
}

/// Change of the assignment that waits for PostgreSQL, Kafka or the writers while polling continues.
enum PendingChange {
    Assigning { partitions: Vec<i32>, answer: oneshot::Receiver<Positions> },
    Seeking { answer: oneshot::Receiver<Positions> },
    Releasing { partitions: Vec<i32>, released: Vec<oneshot::Receiver<()>>, since: Instant, then: AfterRelease },
}

/// Next step after the writers have released partitions.
#[derive(Clone, Copy, PartialEq, Eq)]
enum AfterRelease {
    Unassign,
    Seek,
}

impl Assignment {
    /// Returns the assignment under which a partition is read, or `None` if it is not read.
    pub(crate) fn epoch(&self, partition: i32) -> Option<u64> {
        self.read.get(&partition).map(|reading| reading.epoch)
    }

    /// Advances the next offset of a partition. Returns its assignment if the offset changed.
    pub(crate) fn read_up_to(&mut self, partition: i32, next_offset: i64) -> Option<u64> {
        let reading = self.read.get_mut(&partition).filter(|reading| reading.next_offset < next_offset)?;
        reading.next_offset = next_offset;
        Some(reading.epoch)
    }

    /// Accepts a record of the main queue. Returns the assignment of its partition, or `None` if the partition is not
    /// read or the record precedes its next offset.
    pub(crate) fn accept(&mut self, partition: i32, offset: i64) -> Option<u64> {
        self.read_up_to(partition, offset + 1)
    }

    /// Returns the partition whose events are furthest behind, among those that may have records.
    pub(crate) fn furthest_behind(&mut self) -> Option<&mut PartitionReader> {
        self.read.values_mut().filter(|one| one.may_have_records()).min_by_key(|one| one.time())
    }

    /// Makes all partitions eligible for polling again.
    pub(crate) fn recheck_idle(&mut self) {
        self.read.values_mut().for_each(PartitionReader::recheck_idle);
    }

    pub(crate) fn has(&self, partition: i32) -> bool {
        self.read.contains_key(&partition)
    }

    /// Returns the progress of the partitions that are read.
    pub(crate) fn caught_up(&mut self) -> &mut CaughtUp {
        &mut self.caught_up
    }

    /// Ends reading. Returns the progress of the partitions.
    pub(crate) fn into_caught_up(self) -> CaughtUp {
        self.caught_up
    }

    /// Pauses all partitions, including those that are assigned later.
    pub(crate) fn pause(&mut self, kafka: &BaseConsumer<Context>) -> Result<(), KafkaError> {
        self.paused = true;
        kafka.pause(&kafka.assignment()?)
    }

    /// Resumes all partitions. Returns true if they were paused.
    pub(crate) fn resume(&mut self, kafka: &BaseConsumer<Context>) -> Result<bool, KafkaError> {
        if self.paused {
            kafka.resume(&kafka.assignment()?)?;
        }
        Ok(std::mem::take(&mut self.paused))
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.paused
    }

    /// Returns true if no change of the assignment is pending and no partition has to be read again.
    pub(crate) fn is_settled(&self) -> bool {
        !self.uncertain && self.pending.is_none() && self.to_seek.is_empty()
    }

    /// Returns true if partitions are read and no change of the assignment is pending.
    pub(crate) fn is_at_rest(&self) -> bool {
        !self.read.is_empty() && self.is_settled()
    }

    /// Handles an offset that another consumer moved. Drops the partition's records and seeks to its offset in
    /// PostgreSQL. A report of an earlier assignment is ignored.
    pub(crate) fn moved(&mut self, partition: i32, epoch: u64, writers: &mut WriterQueues) {
        if self.epoch(partition) == Some(epoch) {
            self.read.remove(&partition);
            self.caught_up.dropped(partition);
            writers.drop_partition(partition);
            self.to_seek.push(partition);
        }
    }

    /// Requests a check of all positions, because Kafka may lack the next record of a partition or a record may have
    /// been missed. The check follows once the writers have released the in-flight records, and detects lost records.
    pub(crate) fn mark_uncertain(&mut self) {
        self.uncertain = true;
    }

    /// Drops all partitions together with the client that read them. Their uncommitted records are read again.
    pub(crate) fn lose_all(&mut self, writers: &mut WriterQueues) {
        let partitions: Vec<i32> = self.read.keys().chain(&self.to_seek).copied().collect();
        self.lose(&partitions, writers);
        *self = Self { last_epoch: self.last_epoch, paused: self.paused, ..Self::default() };
    }

    /// Processes the group's changes as far as possible without waiting.
    pub(crate) fn advance(
        &mut self,
        kafka: &Arc<BaseConsumer<Context>>,
        setting: &SourceConfig,
        writers: &mut WriterQueues,
    ) -> anyhow::Result<()> {
        loop {
            self.pending = match self.pending.take() {
                None => match kafka.context().next_change() {
                    Some(change) => self.begin(change, kafka, setting, writers)?,
                    None if std::mem::take(&mut self.uncertain) => {
                        let partitions = self.read.keys().copied().collect();
                        Some(self.release(partitions, AfterRelease::Seek, writers))
                    }
                    None if self.to_seek.is_empty() => return Ok(()),
                    None => {
                        let answer = ask(setting, &std::mem::take(&mut self.to_seek));
                        Some(PendingChange::Seeking { answer })
                    }
                },
                Some(pending) => match self.carry_on(pending, kafka, setting, writers)? {
                    Some(waiting) => {
                        self.pending = Some(waiting);
                        return Ok(());
                    }
                    None => None,
                },
            };
        }
    }

    fn begin(
        &mut self,
        change: AssignmentChange,
        kafka: &Arc<BaseConsumer<Context>>,
        setting: &SourceConfig,
        writers: &mut WriterQueues,
    ) -> anyhow::Result<Option<PendingChange>> {
        match change {
            AssignmentChange::Assign(partitions) => {
                let answer = ask(setting, &partitions);
                Ok(Some(PendingChange::Assigning { partitions, answer }))
            }
            AssignmentChange::Revoke(partitions) => Ok(Some(self.release(partitions, AfterRelease::Unassign, writers))),
            AssignmentChange::Lose(partitions) => {
                self.lose(&partitions, writers);
                setting.health.lost();
                tracing::warn!(?partitions, "partitions lost, their in-flight records are read again");
                release(kafka, &list(setting, &partitions, None)?)?;
                Ok(None)
            }
        }
    }

    /// Drops partitions that other members already own, without waiting for in-flight records: the compare-and-set of
    /// the offsets decides about batches that are already closed.
    fn lose(&mut self, partitions: &[i32], writers: &mut WriterQueues) {
        self.forget(partitions);
        for partition in partitions {
            writers.drop_partition(*partition);
        }
        drop(writers.release(partitions));
    }

    fn release(&mut self, partitions: Vec<i32>, then: AfterRelease, writers: &mut WriterQueues) -> PendingChange {
        self.forget(&partitions);
        writers.close_all();
        let released = writers.release(&partitions);
        PendingChange::Releasing { partitions, released, since: Instant::now(), then }
    }

    /// Returns `None` once the change is complete, otherwise the change in its new state.
    fn carry_on(
        &mut self,
        pending: PendingChange,
        kafka: &Arc<BaseConsumer<Context>>,
        setting: &SourceConfig,
        writers: &mut WriterQueues,
    ) -> anyhow::Result<Option<PendingChange>> {
        match pending {
            PendingChange::Assigning { partitions, mut answer } => match answer.try_recv() {
                Err(oneshot::error::TryRecvError::Empty) => Ok(Some(PendingChange::Assigning { partitions, answer })),
                answered => {
                    let positions = answered.context("cannot read the offsets")??;
                    self.assign(kafka, setting, writers, &positions)?;
                    Ok(None)
                }
            },
            PendingChange::Seeking { mut answer } => match answer.try_recv() {
                Err(oneshot::error::TryRecvError::Empty) => Ok(Some(PendingChange::Seeking { answer })),
                answered => {
                    let positions = answered.context("cannot read the offsets")??;
                    self.seek(kafka, setting, writers, &positions)?;
                    Ok(None)
                }
            },
            PendingChange::Releasing { partitions, mut released, since, then } => {
                writers.try_hand_over();
                released.retain_mut(|answer| matches!(answer.try_recv(), Err(oneshot::error::TryRecvError::Empty)));
                if !released.is_empty() && since.elapsed() < RELEASE_TIMEOUT {
                    return Ok(Some(PendingChange::Releasing { partitions, released, since, then }));
                }
                if then == AfterRelease::Seek {
                    self.to_seek.extend(partitions);
                    return Ok(None);
                }
                release(kafka, &list(setting, &partitions, None)?)?;
                tracing::info!(?partitions, "partitions revoked");
                Ok(None)
            }
        }
    }

    fn assign(
        &mut self,
        kafka: &Arc<BaseConsumer<Context>>,
        setting: &SourceConfig,
        writers: &mut WriterQueues,
        positions: &BTreeMap<i32, Position>,
    ) -> anyhow::Result<()> {
        let partitions: Vec<i32> = positions.keys().copied().collect();
        let offsets = list(setting, &partitions, Some(positions))?;
        for (partition, position) in positions {
            // Before the assignment: the partition needs its own queue before records are fetched.
            self.own(kafka, setting, *partition, *position, writers)?;
        }
        setting.health.assigned();
        match kafka.rebalance_protocol() {
            RebalanceProtocol::Cooperative => kafka.incremental_assign(&offsets)?,
            _ => kafka.assign(&offsets)?,
        }
        // librdkafka keeps a partition paused after it was released, so the state is always set.
        if self.paused {
            kafka.pause(&offsets)?;
        } else {
            kafka.resume(&offsets)?;
        }
        tracing::info!(?partitions, "partitions assigned");
        Ok(())
    }

    fn seek(
        &mut self,
        kafka: &Arc<BaseConsumer<Context>>,
        setting: &SourceConfig,
        writers: &mut WriterQueues,
        positions: &BTreeMap<i32, Position>,
    ) -> anyhow::Result<()> {
        let topic = &setting.resume.group_topic.topic;
        let assigned = kafka.assignment()?;
        for (partition, position) in positions {
            let to = Offset::Offset(position.next_offset);
            match kafka.seek(topic, *partition, to, KAFKA_TIMEOUT) {
                Ok(()) => self.own(kafka, setting, *partition, *position, writers)?,
                Err(error) if assigned.find_partition(topic, *partition).is_some() => {
                    tracing::warn!(%error, partition, "kafka seek retry");
                    self.to_seek.push(*partition);
                }
                // The partition is no longer assigned, and the group's change will follow.
                Err(error) => {
                    self.caught_up.forget(*partition);
                    tracing::info!(%error, partition, "partition released");
                }
            }
        }
        Ok(())
    }

    fn own(
        &mut self,
        kafka: &Arc<BaseConsumer<Context>>,
        setting: &SourceConfig,
        partition: i32,
        position: Position,
        writers: &mut WriterQueues,
    ) -> anyhow::Result<()> {
        self.last_epoch += 1;
        let topic = &setting.resume.group_topic.topic;
        let next = position.next_offset;
        let reader = match setting.queues {
            PartitionQueues::Separate => PartitionReader::open(kafka, topic, partition, self.last_epoch, next)?,
            PartitionQueues::Shared => PartitionReader::of_main_queue(self.last_epoch, next),
        };
        self.read.insert(partition, reader);
        self.caught_up.begin(partition, position.next_offset);
        writers.own(partition, self.last_epoch, position);
        Ok(())
    }

    fn forget(&mut self, partitions: &[i32]) {
        self.read.retain(|partition, _| !partitions.contains(partition));
        for partition in partitions {
            self.caught_up.forget(*partition);
        }
        self.to_seek.retain(|partition| !partitions.contains(partition));
    }
}

/// Loads the positions of partitions from PostgreSQL and checks them against Kafka, in a separate task. Retries during
/// an outage of either.
fn ask(setting: &SourceConfig, partitions: &[i32]) -> oneshot::Receiver<Positions> {
    let (sender, answer) = oneshot::channel();
    let (resume, partitions, health) = (setting.resume.clone(), partitions.to_vec(), Arc::clone(&setting.health));
    setting.runtime.spawn(async move {
        let positions = resume.positions(&partitions, &health).await;
        // The receiver is gone if the program ends or the client was replaced.
        let _ = sender.send(positions);
    });
    answer
}

fn list(
    setting: &SourceConfig,
    partitions: &[i32],
    positions: Option<&BTreeMap<i32, Position>>,
) -> anyhow::Result<TopicPartitionList> {
    let mut list = TopicPartitionList::new();
    for partition in partitions {
        let offset =
            positions.and_then(|all| all.get(partition)).map_or(Offset::Invalid, |one| Offset::Offset(one.next_offset));
        // `add_partition_offset` would search the list for each partition.
        list.add_partition(&setting.resume.group_topic.topic, *partition).set_offset(offset)?;
    }
    Ok(list)
}
