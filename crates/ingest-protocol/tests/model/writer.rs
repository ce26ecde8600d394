//! Attempts of a writer against the model of PostgreSQL.

use std::collections::BTreeMap;

use ingest_protocol::attempts::{Attempts, Delay, InsertMode, Next, Outcome, Phase, Retry, SqlFault};
use ingest_protocol::settlement::{PartEnd, Settlement, StoredOffset, settle};

use super::World;
use super::consumer::{Consumer, Parts, SessionState, Writing};
use super::kafka::{self, Entry};
use super::postgres::{Fate, OffsetRow, RecordKey, Transaction, event};
use super::properties::Violation;

/// Failure of an attempt before its COMMIT.
enum Insert {
    /// Another transaction holds a lock.
    Blocked,
    Failed(Outcome),
    /// PostgreSQL refused this row.
    Refused(i32, i64),
    Rows(Vec<(RecordKey, Fate)>),
}

impl World {
    /// Begins an attempt and executes it up to its COMMIT. Returns false if it has to wait for a lock.
    pub(crate) fn begin_attempt(&mut self, c: usize) -> bool {
        let Some(mut writing) = self.consumers[c].writing.clone() else { return false };
        let consumer = &self.consumers[c];
        writing.parts.retain(|partition, part| consumer.writer.may_write(*partition, part.epoch));
        if writing.parts.is_empty() {
            self.finish_batch(c);
            return true;
        }
        if consumer.session == SessionState::Dead {
            let fault = Outcome::Failed { fault: SqlFault::Retry, phase: Phase::Statement, duplicate: false };
            self.consumers[c].writing = Some(writing);
            self.outcome(c, fault);
            return true;
        }
        let conflicts = self.conflicts(consumer, &writing.parts);
        // A row whose committed version does not meet the condition is not waited for.
        let moves = writing.parts.keys().copied().filter(|partition| !conflicts.contains(partition));
        if self.postgres.is_locked(moves) {
            return false;
        }
        if !conflicts.is_empty() {
            self.consumers[c].session = SessionState::Open;
            self.settle(c, writing, &conflicts);
            return true;
        }
        match self.insert(&writing) {
            Insert::Blocked => return false,
            Insert::Failed(outcome) => {
                self.consumers[c].session = SessionState::Open;
                self.consumers[c].writing = Some(writing);
                self.outcome(c, outcome);
            }
            Insert::Refused(partition, offset) => {
                writing.refused.insert((partition, offset));
                self.consumers[c].session = SessionState::Open;
                self.consumers[c].writing = Some(writing);
                self.outcome(c, Outcome::Refused);
            }
            Insert::Rows(fates) => self.open_transaction(c, writing, fates),
        }
        true
    }

    fn conflicts(&self, consumer: &Consumer, parts: &Parts) -> Vec<i32> {
        let fails = |partition: &&i32| {
            let (row, owned) = (self.postgres.tables.offsets.get(partition), consumer.writer.get(**partition));
            !row.zip(owned).is_some_and(|(row, owned)| row.stored.may_move_from(&owned.position))
        };
        parts.keys().filter(fails).copied().collect()
    }

    fn settle(&mut self, c: usize, mut writing: Writing, conflicts: &[i32]) {
        let consumer = &self.consumers[c];
        let ends: BTreeMap<i32, PartEnd> = (writing.parts.iter())
            .map(|(partition, part)| {
                let incarnation = consumer.writer.get(*partition).map_or(0, |owned| owned.position.incarnation);
                (*partition, PartEnd { next_offset: part.next_offset, incarnation, last: part.last })
            })
            .collect();
        // The transaction shows its own updates of the other partitions.
        let shown = |(partition, row): (&i32, &OffsetRow)| {
            let updated = ends.get(partition).filter(|_| !conflicts.contains(partition));
            let stored = updated.map_or(row.stored, |end| StoredOffset {
                next_offset: end.next_offset,
                last: end.last.or(row.stored.last),
                ..row.stored
            });
            (*partition, stored)
        };
        let stored: BTreeMap<i32, StoredOffset> = self.postgres.tables.offsets.iter().map(shown).collect();
        let settlements = settle(writing.attempts.in_doubt(), &ends, conflicts, &stored);
        for (partition, settlement) in settlements {
            let Some(part) = writing.parts.remove(&partition) else { continue };
            self.check_settlement(c, partition, &part, settlement);
            let consumer = &mut self.consumers[c];
            match settlement {
                Settlement::Committed => consumer.writer.settled(partition, part.next_offset),
                Settlement::Moved => {
                    if let Some(epoch) = consumer.writer.moved(partition) {
                        consumer.moved.push_back((partition, epoch));
                    }
                }
            }
        }
        self.consumers[c].writing = Some(writing);
        self.outcome(c, Outcome::Conflict);
    }

    fn insert(&self, writing: &Writing) -> Insert {
        let staged = writing.attempts.mode() != InsertMode::Copy || !writing.refused.is_empty();
        let failed =
            |duplicate| Insert::Failed(Outcome::Failed { fault: SqlFault::Row, phase: Phase::Rows, duplicate });
        let keys: Vec<RecordKey> = (writing.parts.iter())
            .flat_map(|(partition, part)| part.entries.iter().map(|offset| (part.version, *partition, *offset)))
            .collect();
        let is_refused =
            |key: &RecordKey| matches!(kafka::entry(key.0, key.1, key.2), Entry::Record { refused: true, .. });
        // A COPY collects rows and checks their constraints before it inserts them into the unique index.
        if !staged && keys.iter().any(is_refused) {
            return failed(false);
        }
        let mut fates: Vec<(RecordKey, Fate)> = Vec::new();
        for key in keys {
            let Some(event_id) = event(&key) else { continue };
            if self.postgres.inserts(event_id) {
                return Insert::Blocked;
            }
            let is_row = |(key, fate): &(RecordKey, Fate)| *fate == Fate::Row && event(key) == Some(event_id);
            let exists = self.postgres.has_event(event_id) || fates.iter().any(is_row);
            let known = writing.refused.contains(&(key.1, key.2));
            let fate = match (exists, is_refused(&key)) {
                _ if known => Fate::DeadLetter,
                (true, _) if staged => Fate::Duplicate,
                (true, _) => return failed(true),
                (false, true) => return Insert::Refused(key.1, key.2),
                (false, false) => Fate::Row,
            };
            fates.push((key, fate));
        }
        Insert::Rows(fates)
    }

    fn open_transaction(&mut self, c: usize, writing: Writing, fates: Vec<(RecordKey, Fate)>) {
        let mut offsets = BTreeMap::new();
        for (partition, part) in &writing.parts {
            self.check_part(c, *partition, part);
            let Some(before) = self.postgres.tables.offsets.get(partition) else { continue };
            let mut row: OffsetRow = before.clone();
            row.stored.next_offset = part.next_offset;
            row.stored.last = part.last.or(row.stored.last);
            row.version = part.version;
            let command = self.consumers[c].told.get(partition).map_or(0, |(_, command)| *command);
            row.mover = Some((c, self.consumers[c].life, command));
            for (_, fate) in fates.iter().filter(|(key, _)| key.1 == *partition) {
                row.counts[*fate as usize] += 1;
                row.records += 1;
            }
            offsets.insert(*partition, row);
        }
        self.postgres.open.push(Transaction { owner: Some(c), offsets, fates });
        self.consumers[c].session = SessionState::Open;
        self.consumers[c].writing = Some(writing);
    }

    /// Commits the transaction of a consumer at the server.
    pub(crate) fn commit(&mut self, index: usize) {
        if !self.postgres.commit(index) {
            self.violate(Violation::SettledTwice);
        }
    }

    /// Passes the outcome of an attempt to the batch's state machine and executes the next step.
    pub(crate) fn outcome(&mut self, c: usize, outcome: Outcome) {
        let consumer = &mut self.consumers[c];
        let Some(writing) = &mut consumer.writing else { return };
        match writing.attempts.step(outcome) {
            Next::Done => {
                for (partition, part) in &writing.parts {
                    consumer.writer.committed(*partition, part.next_offset);
                }
                self.finish_batch(c);
            }
            Next::AddDeadLetters => writing.attempts = Attempts::default(),
            Next::Retry(Retry { new_session, delay: Delay::None | Delay::Restart | Delay::Backoff }) => {
                if new_session {
                    consumer.session = SessionState::Closed;
                }
            }
            Next::Stop => self.violate(Violation::StoppedWithoutCause),
        }
    }

    fn finish_batch(&mut self, c: usize) {
        self.consumers[c].writing = None;
        self.consumers[c].run_commands();
    }
}
