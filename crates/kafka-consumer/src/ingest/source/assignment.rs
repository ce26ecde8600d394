//! Executes the changes of the assignment: readers, writers and the Kafka client follow what
//! [`ingest_protocol::assignment`] decides.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use ingest_protocol::assignment::{Assignment as Protocol, Effect, Input, SeekOutcome};
use rdkafka::consumer::{BaseConsumer, Consumer, RebalanceProtocol};
use rdkafka::error::KafkaError;
use rdkafka::{Offset, TopicPartitionList};
use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;

use crate::ingest::memory_budget::PartitionQueues;
use crate::ingest::offsets::resume::{ResumeError, Resumption};
use crate::ingest::source::caught_up::CaughtUp;
use crate::ingest::source::config::SourceConfig;
use crate::ingest::source::partition_list::PartitionList;
use crate::ingest::source::partition_reader::PartitionReader;
use crate::ingest::source::turns::{Changes, Turns, Unread};
use crate::ingest::source::writer_queues::WriterQueues;
use crate::kafka::context::{AssignmentChange, Context, release};

/// Deadline for committing the in-flight records of a revoked partition. After it, the compare-and-set of the offset
/// decides about later commits.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(5);
const KAFKA_TIMEOUT: Duration = Duration::from_secs(10);

type Answer = Result<Resumption, ResumeError>;

/// Partitions of this consumer, with their readers and their progress.
#[derive(Default)]
pub(crate) struct Assignment {
    protocol: Protocol,
    readers: BTreeMap<i32, PartitionReader>,
    caught_up: CaughtUp,
    awaited: Option<Awaited>,
    paused: bool,
    turns: Turns,
    /// Ends of the partitions that are being assigned.
    ends: BTreeMap<i32, i64>,
}

/// Answer that a change of the assignment waits for while polling continues.
enum Awaited {
    Positions(oneshot::Receiver<Answer>),
    Released { answers: Vec<oneshot::Receiver<()>>, since: Instant },
}

/// Parts of the source that a change of the assignment concerns.
pub(crate) struct Surroundings<'a> {
    pub(crate) kafka: &'a Arc<BaseConsumer<Context>>,
    pub(crate) setting: &'a SourceConfig,
    pub(crate) writers: &'a mut WriterQueues,
}

impl Assignment {
    /// Advances the next offset of a partition. Returns its assignment if the offset changed.
    pub(crate) fn read_up_to(&mut self, partition: i32, next_offset: i64) -> Option<u64> {
        let reading = self.readers.get_mut(&partition).filter(|reading| reading.next_offset < next_offset)?;
        reading.next_offset = next_offset;
        Some(reading.epoch)
    }

    /// Accepts a record of the main queue. Returns the assignment of its partition, or `None` if the partition is not
    /// read or the record precedes its next offset.
    pub(crate) fn accept(&mut self, partition: i32, offset: i64) -> Option<u64> {
        self.turns.read_up_to(partition, offset + 1);
        self.read_up_to(partition, offset + 1)
    }

    /// Notes that a partition was read to its end.
    pub(crate) fn at_end(&mut self, partition: i32) {
        self.caught_up.at_end(partition);
        self.turns.at_end(partition);
    }

    /// Notes that no record is available.
    pub(crate) fn starve(&mut self, now: Instant) {
        self.turns.starve(now);
    }

    /// Begins turns if many partitions have a backlog up to their ends, as far as these are known.
    pub(crate) fn begin_turns(&mut self, queues: PartitionQueues, end: impl Fn(i32) -> Option<i64>) {
        let now = Instant::now();
        if queues == PartitionQueues::Shared && !self.paused && self.turns.may_begin(now) {
            let unread = |(partition, reading): (&i32, &PartitionReader)| {
                Some((*partition, Unread { next_offset: reading.next_offset, end: end(*partition)? }))
            };
            self.turns.begin(&self.readers.iter().filter_map(unread).collect(), now);
        }
    }

    /// Pauses and resumes partitions whose turns have ended or begun.
    pub(crate) fn change_turns(&mut self, around: &Surroundings<'_>) -> anyhow::Result<()> {
        if self.paused {
            return Ok(());
        }
        self.turns.end_due(Instant::now());
        let Changes { pause, resume } = self.turns.changes();
        if !pause.is_empty() {
            around.kafka.pause(&without_offsets(around.setting, &pause)?)?;
        }
        if !resume.is_empty() {
            around.kafka.resume(&without_offsets(around.setting, &resume)?)?;
        }
        Ok(())
    }

    /// Returns the partition whose events are furthest behind, among those that may have records.
    pub(crate) fn furthest_behind(&mut self) -> Option<&mut PartitionReader> {
        self.readers.values_mut().filter(|one| one.may_have_records()).min_by_key(|one| one.time())
    }

    /// Makes all partitions eligible for polling again.
    pub(crate) fn recheck_idle(&mut self) {
        self.readers.values_mut().for_each(PartitionReader::recheck_idle);
    }

    pub(crate) fn has(&self, partition: i32) -> bool {
        self.readers.contains_key(&partition)
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

    /// Resumes all partitions, except those that are not in turn. Returns true if they were paused.
    pub(crate) fn resume(&mut self, kafka: &BaseConsumer<Context>) -> Result<bool, KafkaError> {
        if self.paused {
            let mut resumed = TopicPartitionList::new();
            for one in kafka.assignment()?.elements().iter().filter(|one| !self.turns.holds(one.partition())) {
                resumed.add_partition(one.topic(), one.partition());
            }
            kafka.resume(&resumed)?;
            // The others are paused already.
            self.turns.changes();
        }
        Ok(std::mem::take(&mut self.paused))
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.paused
    }

    /// Returns true if no change of the assignment is pending and no partition has to be read again.
    pub(crate) fn is_settled(&self) -> bool {
        self.protocol.is_settled()
    }

    /// Returns true if partitions are read and no change of the assignment is pending.
    pub(crate) fn is_at_rest(&self) -> bool {
        !self.readers.is_empty() && self.is_settled()
    }

    /// Processes the group's changes and the answers to earlier ones, as far as possible without waiting.
    pub(crate) fn advance(&mut self, around: &mut Surroundings<'_>) -> anyhow::Result<()> {
        while let Some(change) = around.kafka.context().next_change() {
            let input = match change {
                AssignmentChange::Assign(partitions) => Input::Assigned(partitions),
                AssignmentChange::Revoke(partitions) => Input::Revoked(partitions),
                AssignmentChange::Lose(partitions) => Input::Lost(partitions),
            };
            self.step(input, around)?;
        }
        while let Some(answer) = self.answer(around.writers)? {
            self.step(answer, around)?;
        }
        Ok(())
    }

    /// Returns the answer that the pending change waits for, if it has arrived.
    fn answer(&mut self, writers: &mut WriterQueues) -> anyhow::Result<Option<Input>> {
        let answer = match &mut self.awaited {
            None => return Ok(None),
            Some(Awaited::Positions(positions)) => match positions.try_recv() {
                Err(TryRecvError::Empty) => return Ok(None),
                answered => {
                    let Resumption { positions, ends } = answered.context("cannot read the offsets")??;
                    self.ends = ends;
                    Input::Loaded(positions)
                }
            },
            Some(Awaited::Released { answers, since }) => {
                writers.try_hand_over();
                answers.retain_mut(|answer| matches!(answer.try_recv(), Err(TryRecvError::Empty)));
                if !answers.is_empty() && since.elapsed() < RELEASE_TIMEOUT {
                    return Ok(None);
                }
                Input::Released
            }
        };
        self.awaited = None;
        Ok(Some(answer))
    }

    /// Passes an input to the state machine and executes its effects.
    pub(crate) fn step(&mut self, input: Input, around: &mut Surroundings<'_>) -> anyhow::Result<()> {
        if input == Input::ClientReplaced {
            self.awaited = None;
            self.turns = Turns::default();
        }
        let mut effects = Vec::new();
        self.protocol.step(input, &mut effects);
        let mut effects = VecDeque::from(effects);
        while let Some(effect) = effects.pop_front() {
            if let Some(outcome) = self.execute(effect, around)? {
                let mut later = Vec::new();
                self.protocol.step(Input::Sought(outcome), &mut later);
                effects.extend(later);
            }
        }
        Ok(())
    }

    /// Executes an effect. Returns the outcome of a seek.
    fn execute(&mut self, effect: Effect, around: &mut Surroundings<'_>) -> anyhow::Result<Option<SeekOutcome>> {
        let Surroundings { kafka, setting, writers } = around;
        match effect {
            Effect::Load(partitions) => self.awaited = Some(Awaited::Positions(ask(setting, partitions))),
            Effect::StopReading(partition) => {
                self.readers.remove(&partition);
                self.caught_up.forget(partition);
            }
            Effect::DropRecords(partition) => writers.drop_partition(partition),
            Effect::CloseBatches => writers.close_all(),
            Effect::Release { partitions, awaited } => {
                let answers = writers.release(&partitions);
                if awaited {
                    self.awaited = Some(Awaited::Released { answers, since: Instant::now() });
                }
            }
            Effect::Own { partition, epoch, position } => {
                let (topic, next) = (&setting.resume.group_topic.topic, position.next_offset);
                let reader = match setting.queues {
                    PartitionQueues::Separate => PartitionReader::open(kafka, topic, partition, epoch, next)?,
                    PartitionQueues::Shared => PartitionReader::of_main_queue(epoch, next),
                };
                self.readers.insert(partition, reader);
                self.caught_up.begin(partition, position.next_offset);
                writers.own(partition, epoch, position);
            }
            Effect::Assign(offsets) => {
                self.assign(kafka, setting, &offsets)?;
                let ends = std::mem::take(&mut self.ends);
                self.begin_turns(setting.queues, |partition| ends.get(&partition).copied());
            }
            Effect::Seek { partition, next_offset } => return seek(kafka, setting, partition, next_offset).map(Some),
            Effect::Unassign { partitions, lost } => {
                self.turns.forget(&partitions);
                unassign(kafka, setting, &partitions, lost)?;
            }
        }
        Ok(None)
    }

    fn assign(
        &self,
        kafka: &Arc<BaseConsumer<Context>>,
        setting: &SourceConfig,
        offsets: &[(i32, i64)],
    ) -> anyhow::Result<()> {
        let partitions: Vec<i32> = offsets.iter().map(|(partition, _)| *partition).collect();
        let offsets = list(setting, offsets.iter().map(|(partition, next)| (*partition, Offset::Offset(*next))))?;
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
        tracing::info!(partitions = %PartitionList::of(&partitions), "partitions assigned");
        Ok(())
    }
}

fn seek(
    kafka: &BaseConsumer<Context>,
    setting: &SourceConfig,
    partition: i32,
    next_offset: i64,
) -> anyhow::Result<SeekOutcome> {
    let topic = &setting.resume.group_topic.topic;
    match kafka.seek(topic, partition, Offset::Offset(next_offset), KAFKA_TIMEOUT) {
        Ok(()) => Ok(SeekOutcome::Done),
        Err(error) if kafka.assignment()?.find_partition(topic, partition).is_some() => {
            tracing::warn!(%error, partition, "kafka seek retry");
            Ok(SeekOutcome::Failed)
        }
        Err(error) => {
            tracing::info!(%error, partition, "partition released");
            Ok(SeekOutcome::Unassigned)
        }
    }
}

fn unassign(
    kafka: &BaseConsumer<Context>,
    setting: &SourceConfig,
    partitions: &[i32],
    lost: bool,
) -> anyhow::Result<()> {
    let shown = PartitionList::of(partitions);
    if lost {
        setting.health.lost();
        tracing::warn!(partitions = %shown, "partitions lost, their in-flight records are read again");
    }
    release(kafka, &without_offsets(setting, partitions)?)?;
    if !lost {
        tracing::info!(partitions = %shown, "partitions revoked");
    }
    Ok(())
}

/// Loads the positions of partitions from PostgreSQL and checks them against Kafka, in a separate task. Retries during
/// an outage of either.
fn ask(setting: &SourceConfig, partitions: Vec<i32>) -> oneshot::Receiver<Answer> {
    let (sender, answer) = oneshot::channel();
    let (resume, health) = (setting.resume.clone(), Arc::clone(&setting.health));
    setting.runtime.spawn(async move {
        let positions = resume.positions(&partitions, &health).await;
        // The receiver is gone if the program ends or the client was replaced.
        let _ = sender.send(positions);
    });
    answer
}

fn without_offsets(setting: &SourceConfig, partitions: &[i32]) -> anyhow::Result<TopicPartitionList> {
    list(setting, partitions.iter().map(|partition| (*partition, Offset::Invalid)))
}

fn list(setting: &SourceConfig, offsets: impl Iterator<Item = (i32, Offset)>) -> anyhow::Result<TopicPartitionList> {
    let mut list = TopicPartitionList::new();
    for (partition, offset) in offsets {
        // `add_partition_offset` would search the list for each partition.
        list.add_partition(&setting.resume.group_topic.topic, partition).set_offset(offset)?;
    }
    Ok(list)
}
