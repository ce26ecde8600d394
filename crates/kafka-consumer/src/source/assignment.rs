//! Which partitions are read, from which offset, and under which assignment.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rdkafka::consumer::{BaseConsumer, Consumer, RebalanceProtocol};
use rdkafka::{Offset, TopicPartitionList};
use tokio::sync::oneshot;

use super::Setting;
use super::context::{Change, Context, release};
use super::hand_over::HandOver;
use crate::offsets::Position;

/// How long the writers may take to bring in what a revoked partition has in hand. Whatever comes later is settled by
/// the compare-and-set.
const RELEASE_PATIENCE: Duration = Duration::from_secs(5);
const KAFKA_PATIENCE: Duration = Duration::from_secs(10);

type Positions = anyhow::Result<BTreeMap<i32, Position>>;

/// The partitions of this consumer.
#[derive(Default)]
pub(super) struct Assignment {
    read: BTreeMap<i32, Reading>,
    under_way: Option<UnderWay>,
    to_seek: VecDeque<i32>,
    last_epoch: u64,
    ever_assigned: bool,
}

struct Reading {
    epoch: u64,
    next_offset: i64,
    at_end: bool,
}

/// A change that waits for somebody's answer while the polling goes on.
enum UnderWay {
    Assigning { partitions: Vec<i32>, answer: oneshot::Receiver<Positions> },
    Seeking { partition: i32, answer: oneshot::Receiver<Positions> },
    Revoking { partitions: Vec<i32>, released: Vec<oneshot::Receiver<()>>, since: Instant },
}

impl Assignment {
    /// The assignment under which a partition's records are taken now; none where they are not.
    pub(super) fn epoch(&self, partition: i32) -> Option<u64> {
        self.read.get(&partition).map(|reading| reading.epoch)
    }

    /// Notes that a partition is read up to an offset. Returns the assignment, if that is news.
    pub(super) fn read_up_to(&mut self, partition: i32, next_offset: i64) -> Option<u64> {
        let reading = self.read.get_mut(&partition).filter(|reading| reading.next_offset < next_offset)?;
        reading.next_offset = next_offset;
        Some(reading.epoch)
    }

    /// Whether the partition is read.
    pub(super) fn has(&self, partition: i32) -> bool {
        self.read.contains_key(&partition)
    }

    /// Notes that all there is of a partition was read.
    pub(super) fn at_end(&mut self, partition: i32) {
        if let Some(reading) = self.read.get_mut(&partition) {
            reading.at_end = true;
        }
    }

    /// Whether the end of every partition was reached at least once since it was assigned.
    pub(super) fn is_caught_up(&self) -> bool {
        self.ever_assigned
            && self.under_way.is_none()
            && self.to_seek.is_empty()
            && self.read.values().all(|reading| reading.at_end)
    }

    /// Another consumer has moved the partition's offset: its records are dropped, and it is read again from where
    /// PostgreSQL has it, if it is still ours.
    pub(super) fn moved(&mut self, partition: i32, epoch: u64, writers: &mut HandOver) {
        if self.epoch(partition) == Some(epoch) {
            self.read.remove(&partition);
            writers.drop_partition(partition);
            self.to_seek.push_back(partition);
        }
    }

    /// Carries on with what the group has decided, as far as it goes without waiting.
    pub(super) fn advance(
        &mut self,
        kafka: &Arc<BaseConsumer<Context>>,
        setting: &Setting,
        writers: &mut HandOver,
    ) -> anyhow::Result<()> {
        loop {
            self.under_way = match self.under_way.take() {
                None => match kafka.context().next_change() {
                    Some(change) => self.begin(change, kafka, setting, writers)?,
                    None => match self.to_seek.pop_front() {
                        Some(partition) => {
                            let answer = ask(setting, &[partition]);
                            Some(UnderWay::Seeking { partition, answer })
                        }
                        None => return Ok(()),
                    },
                },
                Some(under_way) => match self.carry_on(under_way, kafka, setting, writers)? {
                    Some(waiting) => {
                        self.under_way = Some(waiting);
                        return Ok(());
                    }
                    None => None,
                },
            };
        }
    }

    fn begin(
        &mut self,
        change: Change,
        kafka: &Arc<BaseConsumer<Context>>,
        setting: &Setting,
        writers: &mut HandOver,
    ) -> anyhow::Result<Option<UnderWay>> {
        match change {
            Change::Assign(partitions) => {
                let answer = ask(setting, &partitions);
                Ok(Some(UnderWay::Assigning { partitions, answer }))
            }
            Change::Revoke(partitions) => {
                self.forget(&partitions);
                writers.close_all();
                let released = writers.release(&partitions);
                Ok(Some(UnderWay::Revoking { partitions, released, since: Instant::now() }))
            }
            Change::Lose(partitions) => {
                self.forget(&partitions);
                for partition in &partitions {
                    writers.drop_partition(*partition);
                }
                drop(writers.release(&partitions));
                tracing::warn!(?partitions, "partitions lost to the group; what was in hand of them is read again");
                release(kafka, &list(setting, &partitions, None)?)?;
                Ok(None)
            }
        }
    }

    /// None when the change is done.
    fn carry_on(
        &mut self,
        under_way: UnderWay,
        kafka: &Arc<BaseConsumer<Context>>,
        setting: &Setting,
        writers: &mut HandOver,
    ) -> anyhow::Result<Option<UnderWay>> {
        match under_way {
            UnderWay::Assigning { partitions, mut answer } => match answer.try_recv() {
                Err(oneshot::error::TryRecvError::Empty) => Ok(Some(UnderWay::Assigning { partitions, answer })),
                answered => {
                    let positions = answered.context("the offsets were not read")??;
                    self.assign(kafka, setting, writers, &positions)?;
                    Ok(None)
                }
            },
            UnderWay::Seeking { partition, mut answer } => match answer.try_recv() {
                Err(oneshot::error::TryRecvError::Empty) => Ok(Some(UnderWay::Seeking { partition, answer })),
                answered => {
                    let positions = answered.context("the offset was not read")??;
                    self.seek(kafka, setting, writers, &positions);
                    Ok(None)
                }
            },
            UnderWay::Revoking { partitions, mut released, since } => {
                writers.try_hand_over();
                released.retain_mut(|answer| matches!(answer.try_recv(), Err(oneshot::error::TryRecvError::Empty)));
                if !released.is_empty() && since.elapsed() < RELEASE_PATIENCE {
                    return Ok(Some(UnderWay::Revoking { partitions, released, since }));
                }
                release(kafka, &list(setting, &partitions, None)?)?;
                tracing::info!(?partitions, "partitions revoked");
                Ok(None)
            }
        }
    }

    fn assign(
        &mut self,
        kafka: &BaseConsumer<Context>,
        setting: &Setting,
        writers: &mut HandOver,
        positions: &BTreeMap<i32, Position>,
    ) -> anyhow::Result<()> {
        let partitions: Vec<i32> = positions.keys().copied().collect();
        let offsets = list(setting, &partitions, Some(positions))?;
        for (partition, position) in positions {
            self.own(*partition, *position, writers);
        }
        self.ever_assigned = true;
        setting.health.assigned();
        match kafka.rebalance_protocol() {
            RebalanceProtocol::Cooperative => kafka.incremental_assign(&offsets)?,
            _ => kafka.assign(&offsets)?,
        }
        tracing::info!(?partitions, "partitions assigned");
        Ok(())
    }

    fn seek(
        &mut self,
        kafka: &BaseConsumer<Context>,
        setting: &Setting,
        writers: &mut HandOver,
        positions: &BTreeMap<i32, Position>,
    ) {
        for (partition, position) in positions {
            let to = Offset::Offset(position.next_offset);
            match kafka.seek(&setting.resume.claim.topic, *partition, to, KAFKA_PATIENCE) {
                Ok(()) => self.own(*partition, *position, writers),
                // Not assigned any more: the group's change that says so is on its way.
                Err(error) => tracing::info!(%error, partition, "partition let go"),
            }
        }
    }

    fn own(&mut self, partition: i32, position: Position, writers: &mut HandOver) {
        self.last_epoch += 1;
        self.read
            .insert(partition, Reading { epoch: self.last_epoch, next_offset: position.next_offset, at_end: false });
        writers.own(partition, self.last_epoch, position);
    }

    fn forget(&mut self, partitions: &[i32]) {
        self.read.retain(|partition, _| !partitions.contains(partition));
        self.to_seek.retain(|partition| !partitions.contains(partition));
    }
}

/// Asks PostgreSQL and Kafka where the partitions go on, waiting out an outage of either.
fn ask(setting: &Setting, partitions: &[i32]) -> oneshot::Receiver<Positions> {
    let (sender, answer) = oneshot::channel();
    let (resume, partitions) = (setting.resume.clone(), partitions.to_vec());
    setting.runtime.spawn(async move {
        let positions = resume.positions(&partitions).await;
        // Nobody waits for the answer when the program ends.
        let _ = sender.send(positions);
    });
    answer
}

fn list(
    setting: &Setting,
    partitions: &[i32],
    positions: Option<&BTreeMap<i32, Position>>,
) -> anyhow::Result<TopicPartitionList> {
    let mut list = TopicPartitionList::new();
    for partition in partitions {
        let offset =
            positions.and_then(|all| all.get(partition)).map_or(Offset::Invalid, |one| Offset::Offset(one.next_offset));
        list.add_partition_offset(&setting.resume.claim.topic, *partition, offset)?;
    }
    Ok(list)
}
