//! Steps of the consumers, the group and the servers.

use std::collections::BTreeMap;

use ingest_protocol::assignment::Input;
use ingest_protocol::attempts::{Outcome, Phase, SqlFault};
use ingest_protocol::continuity::{Continuity, LastRecord, is_another_topic};
use ingest_protocol::position::Position;
use ingest_protocol::settlement::StoredOffset;

use super::consumer::{Command, Consumer, SessionState, Wait};
use super::postgres::OffsetRow;
use super::{Bounds, Fault, World, kafka};

/// End of a transaction whose consumer still waits for the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Committed,
    /// The connection fails after the commit.
    CommittedUnanswered,
    /// The connection fails, and the transaction is rolled back.
    RolledBackUnanswered,
    /// The consumer stops waiting while the server still executes the COMMIT.
    Abandoned,
    /// The session is terminated before the COMMIT.
    Killed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Grant(usize, i32),
    Revoke(usize, i32),
    Lose(usize, i32),
    /// PostgreSQL and Kafka report positions.
    Locate(usize),
    /// The positions arrive. The seek that follows fails if the flag is set.
    Arrive(usize, bool),
    /// The answer of the writers arrives, or the deadline passes.
    Released(usize),
    Read(usize, i32),
    Close(usize),
    /// A writer attempts to write its batch.
    Attempt(usize),
    /// PostgreSQL accepts no session.
    Unavailable(usize),
    End(usize, End),
    /// An abandoned transaction ends, by a commit if the flag is set.
    EndAbandoned(usize, bool),
    Report(usize),
    /// A consumer finds that the topic is another one.
    Notice(usize),
    Restart(usize),
    Uncertain(usize),
    Replace(usize),
    Crash(usize),
    Replicate,
    Promote,
    Recreate,
    Truncate,
}

impl Bounds {
    /// Adds the actions that are possible. An attempt that waits for a lock is sorted out when it is applied.
    pub(crate) fn enabled(&self, world: &World, actions: &mut Vec<Action>) {
        let fault = |kind| world.faults > 0 && self.kinds.contains(&kind);
        for (c, consumer) in world.consumers.iter().enumerate() {
            if consumer.stopped {
                actions.push(Action::Restart(c));
                continue;
            }
            self.changes(world, c, consumer, actions);
            match &consumer.wait {
                Wait::Positions(_) => actions.push(Action::Locate(c)),
                Wait::Loaded(_) => {
                    actions.push(Action::Arrive(c, false));
                    if fault(Fault::Seek) {
                        actions.push(Action::Arrive(c, true));
                    }
                }
                Wait::Writers if consumer.has_released() || fault(Fault::ReleaseTimeout) => {
                    actions.push(Action::Released(c));
                }
                Wait::Writers | Wait::Nothing => {}
            }
            // One batch may wait for the writer; the source stops reading then.
            let waiting = consumer.queue.iter().any(|command| matches!(command, Command::Write(_)));
            if !waiting {
                let readable = |partition: &&i32| self.can_read(world, consumer, **partition);
                actions.extend(consumer.readers.keys().filter(readable).map(|one| Action::Read(c, *one)));
                if !consumer.open.is_empty() {
                    actions.push(Action::Close(c));
                }
            }
            if consumer.writing.is_some() {
                if world.transaction_of(c).is_some() {
                    actions.push(Action::End(c, End::Committed));
                    if fault(Fault::NoAnswer) {
                        let ends = [End::CommittedUnanswered, End::RolledBackUnanswered, End::Abandoned];
                        actions.extend(ends.map(|end| Action::End(c, end)));
                    }
                    if fault(Fault::Kill) {
                        actions.push(Action::End(c, End::Killed));
                    }
                } else {
                    actions.push(Action::Attempt(c));
                    actions.extend(fault(Fault::Unavailable).then_some(Action::Unavailable(c)));
                }
            }
            if !consumer.moved.is_empty() {
                actions.push(Action::Report(c));
            }
            if consumer.assignment.is_settled()
                && consumer.fetches.values().any(|fetch| fetch.version != world.topic.version)
            {
                actions.push(Action::Notice(c));
            }
            let faults = [
                (Fault::Crash, Action::Crash(c)),
                (Fault::Uncertain, Action::Uncertain(c)),
                (Fault::Replace, Action::Replace(c)),
            ];
            actions.extend(faults.into_iter().filter(|(kind, _)| fault(*kind)).map(|(_, action)| action));
        }
        let abandoned = world.postgres.open.iter().enumerate().filter(|(_, one)| one.owner.is_none());
        for (index, _) in abandoned {
            actions.extend([Action::EndAbandoned(index, true), Action::EndAbandoned(index, false)]);
        }
        if fault(Fault::Promote) {
            if world.postgres.standby.as_deref() != Some(&world.postgres.tables) {
                actions.push(Action::Replicate);
            }
            actions.extend(world.postgres.standby.is_some().then_some(Action::Promote));
        }
        // One other version is enough.
        if world.topic.version == 0 {
            actions.extend(fault(Fault::Recreate).then_some(Action::Recreate));
            actions.extend(fault(Fault::Truncate).then_some(Action::Truncate));
        }
    }

    fn changes(&self, world: &World, c: usize, consumer: &Consumer, actions: &mut Vec<Action>) {
        if world.changes == 0 {
            return;
        }
        for partition in 0..self.partitions {
            // Also if it is assigned already, to this consumer or to another one.
            actions.push(Action::Grant(c, partition));
            if consumer.granted.contains(&partition) {
                actions.extend([Action::Revoke(c, partition), Action::Lose(c, partition)]);
            }
        }
    }

    /// Returns true if Kafka has a next record for the client. A client does not read another topic's records under the
    /// assignment of the former one.
    pub(crate) fn can_read(&self, world: &World, consumer: &Consumer, partition: i32) -> bool {
        let is_readable =
            |fetch: &super::consumer::Fetch| fetch.next_offset < self.offsets && fetch.version == world.topic.version;
        consumer.readers.contains_key(&partition) && consumer.fetches.get(&partition).is_some_and(is_readable)
    }

    /// Executes an action. Returns false if it is not possible yet.
    pub(crate) fn apply(&self, world: &mut World, action: Action) -> bool {
        match action {
            Action::Grant(c, partition) => {
                world.changes -= 1;
                world.grant(c, &[partition]);
            }
            Action::Revoke(c, partition) => world.take(c, partition, Input::Revoked),
            Action::Lose(c, partition) => world.take(c, partition, Input::Lost),
            Action::Locate(c) => return self.locate(world, c),
            Action::Arrive(c, seek_fails) => {
                world.faults -= u8::from(seek_fails);
                let consumer = &mut world.consumers[c];
                if let Wait::Loaded(positions) = std::mem::replace(&mut consumer.wait, Wait::Nothing) {
                    consumer.step(Input::Loaded(positions), seek_fails);
                }
            }
            Action::Released(c) => {
                world.faults -= u8::from(!world.consumers[c].has_released());
                world.consumers[c].wait = Wait::Nothing;
                world.consumers[c].step(Input::Released, false);
            }
            Action::Read(c, partition) => world.consumers[c].read(partition),
            Action::Close(c) => {
                world.consumers[c].close();
                world.consumers[c].run_commands();
            }
            Action::Attempt(c) => return world.begin_attempt(c),
            Action::Unavailable(c) => {
                world.faults -= 1;
                world.consumers[c].session = SessionState::Closed;
                world.outcome(c, Outcome::NotOpened);
            }
            Action::End(c, end) => {
                world.faults -= u8::from(end != End::Committed);
                world.end(c, end);
            }
            Action::EndAbandoned(index, true) => world.commit(index),
            Action::EndAbandoned(index, false) => drop(world.postgres.open.remove(index)),
            Action::Report(c) => {
                if let Some((partition, epoch)) = world.consumers[c].moved.pop_front() {
                    world.consumers[c].step(Input::Moved { partition, epoch }, false);
                }
            }
            // A recreated topic has another ID. After a truncation, Kafka reports that the offset is out of range.
            Action::Notice(c) if world.topic.id > 0 => world.stop(c),
            Action::Notice(c) => world.consumers[c].step(Input::Uncertain, false),
            Action::Restart(c) => world.consumers[c] = Consumer::new(world.consumers[c].life + 1, true),
            Action::Uncertain(c) => {
                world.faults -= 1;
                world.consumers[c].step(Input::Uncertain, false);
            }
            Action::Replace(c) => {
                world.faults -= 1;
                let consumer = &mut world.consumers[c];
                (consumer.wait, consumer.fetches) = (Wait::Nothing, BTreeMap::new());
                consumer.granted.clear();
                consumer.step(Input::ClientReplaced, false);
            }
            Action::Crash(c) => {
                world.faults -= 1;
                world.abandon(c);
                let Consumer { life, allows_new_topic, .. } = world.consumers[c];
                world.consumers[c] = Consumer::new(life + 1, allows_new_topic);
            }
            Action::Replicate => world.postgres.standby = Some(Box::new(world.postgres.tables.clone())),
            Action::Promote => world.promote(),
            Action::Recreate | Action::Truncate => {
                world.faults -= 1;
                world.topic.version += 1;
                world.topic.id += u8::from(action == Action::Recreate);
            }
        }
        true
    }

    /// Loads positions: the work of `Resume`. Returns false if it has to wait for a lock.
    fn locate(&self, world: &mut World, c: usize) -> bool {
        let Wait::Positions(partitions) = world.consumers[c].wait.clone() else { return false };
        for partition in &partitions {
            let topic = &world.topic;
            world.postgres.tables.offsets.entry(*partition).or_insert_with(|| OffsetRow {
                stored: StoredOffset { next_offset: 0, incarnation: 0, last: None },
                topic_id: topic.id,
                version: topic.version,
                mover: None,
                counts: [0; 3],
                records: 0,
            });
        }
        let renewed: Vec<i32> = world
            .postgres
            .tables
            .offsets
            .iter()
            .filter(|(partition, row)| {
                is_another_topic(Some(row.topic_id), Some(world.topic.id))
                    || partitions.contains(partition)
                        && self.continuity(world, **partition, row) != Continuity::Continues
            })
            .map(|(partition, _)| *partition)
            .collect();
        if !renewed.is_empty() && !world.consumers[c].allows_new_topic {
            world.stop(c);
            return true;
        }
        if world.postgres.is_locked(renewed.iter().copied()) {
            return false;
        }
        for partition in renewed {
            world.renew(partition);
        }
        let position = |partition: &i32| {
            let stored = world.postgres.tables.offsets.get(partition)?.stored;
            let StoredOffset { next_offset, incarnation, last } = stored;
            Some((*partition, Position { next_offset, incarnation, last, lettered_up_to: 0 }))
        };
        let positions = partitions.iter().filter_map(position).collect();
        world.consumers[c].wait = Wait::Loaded(positions);
        world.consumers[c].located = world.topic.version;
        true
    }

    fn continuity(&self, world: &World, partition: i32, row: &OffsetRow) -> Continuity {
        let last = row.stored.last.map_or(LastRecord::Unknown, |read| {
            // A recreated topic may lack the record at that offset.
            let found = kafka::position(world.topic.version, partition, read.offset);
            LastRecord::compare(read, found.filter(|_| world.topic.id == 0))
        });
        Continuity::of(row.stored.next_offset, 0, self.offsets, last)
    }
}

impl World {
    pub(crate) fn grant(&mut self, c: usize, partitions: &[i32]) {
        self.consumers[c].granted.extend(partitions);
        self.consumers[c].step(Input::Assigned(partitions.to_vec()), false);
    }

    pub(crate) fn take(&mut self, c: usize, partition: i32, input: fn(Vec<i32>) -> Input) {
        self.changes = self.changes.saturating_sub(1);
        self.consumers[c].granted.remove(&partition);
        self.consumers[c].step(input(vec![partition]), false);
    }

    /// Returns the open transaction whose answer a consumer waits for.
    pub(crate) fn transaction_of(&self, c: usize) -> Option<usize> {
        self.postgres.open.iter().position(|one| one.owner == Some(c))
    }

    /// Leaves the transaction of a consumer to the server.
    fn abandon(&mut self, c: usize) {
        if let Some(index) = self.transaction_of(c) {
            self.postgres.open[index].owner = None;
        }
    }

    fn stop(&mut self, c: usize) {
        self.abandon(c);
        self.consumers[c] = Consumer { stopped: true, ..Consumer::new(self.consumers[c].life, false) };
    }

    fn promote(&mut self) {
        self.faults -= 1;
        for c in 0..self.consumers.len() {
            if self.transaction_of(c).is_some() {
                self.end(c, End::Killed);
            } else if self.consumers[c].session == SessionState::Open {
                self.consumers[c].session = SessionState::Dead;
            }
        }
        self.postgres.promote();
    }

    fn renew(&mut self, partition: i32) {
        let Self { topic, postgres, .. } = self;
        if let Some(row) = postgres.tables.offsets.get_mut(&partition) {
            row.stored = StoredOffset { next_offset: 0, incarnation: row.stored.incarnation + 1, last: None };
            (row.topic_id, row.version, row.mover) = (topic.id, topic.version, None);
        }
    }

    pub(crate) fn end(&mut self, c: usize, end: End) {
        let Some(index) = self.transaction_of(c) else { return };
        let failed = |phase| Outcome::Failed { fault: SqlFault::Retry, phase, duplicate: false };
        let outcome = match end {
            End::Committed => {
                self.commit(index);
                self.outcome(c, Outcome::Committed);
                return;
            }
            End::CommittedUnanswered => {
                self.commit(index);
                failed(Phase::Commit)
            }
            End::RolledBackUnanswered => {
                self.postgres.open.remove(index);
                failed(Phase::Commit)
            }
            End::Abandoned => {
                self.abandon(c);
                Outcome::NoAnswer
            }
            End::Killed => {
                self.postgres.open.remove(index);
                failed(Phase::Statement)
            }
        };
        self.consumers[c].session = SessionState::Dead;
        self.outcome(c, outcome);
    }
}
