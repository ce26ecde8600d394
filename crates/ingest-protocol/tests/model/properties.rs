//! Properties that hold in every reachable state. Most are checked at the step that could violate them.

use ingest_protocol::settlement::Settlement;

use super::World;
use super::consumer::Part;
use super::kafka::{self, Entry};
use super::postgres::{Fate, event};

/// Violated property.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Violation {
    /// An offset moved over records that its transaction does not settle.
    MovedOverUnsettled,
    /// A record below an offset has no fate, or one above it has one.
    Unsettled,
    /// A record was settled by two transactions.
    SettledTwice,
    /// An event is in the table twice.
    DuplicateRow,
    /// The counts of an offset differ from the tables.
    WrongCounts,
    /// A part was written under another assignment than the one that it was read under.
    WrongEpoch,
    /// A partition of a transaction in doubt was settled wrongly.
    WrongSettlement,
    /// A consumer without pending changes reads other partitions than the group assigned.
    WrongPartitions,
    /// A consumer stopped although no error was permanent.
    StoppedWithoutCause,
    /// Records stay unread although no fault happens any more.
    Stuck,
}

impl Violation {
    pub(crate) const ALL: [(Self, &'static str); 10] = [
        (Self::MovedOverUnsettled, "an offset moves only over records that its transaction settles"),
        (Self::Unsettled, "every record below the offset is settled, and no other one"),
        (Self::SettledTwice, "a record is settled once"),
        (Self::DuplicateRow, "an event is in the table once"),
        (Self::WrongCounts, "the counts of an offset equal the tables"),
        (Self::WrongEpoch, "a part is written under the epoch in which it was read"),
        (Self::WrongSettlement, "each partition of a transaction in doubt is settled by what PostgreSQL has"),
        (Self::WrongPartitions, "a settled consumer reads what the group assigned"),
        (Self::StoppedWithoutCause, "a consumer stops only because of a permanent error"),
        (Self::Stuck, "all records are settled once faults stop"),
    ];
}

impl World {
    /// Notes the first violation.
    pub(crate) fn violate(&mut self, violation: Violation) {
        self.violation.get_or_insert(violation);
    }

    /// Checks the part of a transaction before it is written.
    pub(crate) fn check_part(&mut self, c: usize, partition: i32, part: &Part) {
        if self.consumers[c].told.get(&partition).is_none_or(|(epoch, _)| *epoch != part.epoch) {
            self.violate(Violation::WrongEpoch);
        }
        let Some(row) = self.postgres.tables.offsets.get(&partition) else { return };
        let passed: Vec<i64> = (row.stored.next_offset..part.next_offset).collect();
        // A log that was truncated to entries that are no records has lost nothing.
        let nothing_before = (0..row.stored.next_offset).all(|one| kafka::entry(0, partition, one) == Entry::Control);
        let owned = self.consumers[c].writer.get(partition);
        let same_topic = owned.is_some_and(|owned| owned.position.incarnation == row.stored.incarnation);
        let same_records = row.version == part.version || same_topic && nothing_before;
        if !same_records || passed != part.entries {
            self.violate(Violation::MovedOverUnsettled);
        }
    }

    /// Checks the settlement of a partition whose compare-and-set failed.
    pub(crate) fn check_settlement(&mut self, c: usize, partition: i32, part: &Part, settlement: Settlement) {
        let Some(row) = self.postgres.tables.offsets.get(&partition) else { return };
        let is_right = match settlement {
            Settlement::Committed => {
                let same_topic = self.consumers[c]
                    .writer
                    .get(partition)
                    .is_some_and(|owned| owned.position.incarnation == row.stored.incarnation);
                let same_records =
                    part.last.map_or(same_topic, |last| row.version == part.version && row.stored.last == Some(last));
                row.stored.next_offset == part.next_offset && same_records
            }
            Settlement::Moved => {
                let command = self.consumers[c].told.get(&partition).map_or(0, |(_, command)| *command);
                let own = row.mover == Some((c, self.consumers[c].life, command));
                let unchanged = self.consumers[c].writer.get(partition).is_some_and(|owned| {
                    let (at, of) = (row.stored, owned.position);
                    (at.next_offset, at.incarnation) == (of.next_offset, of.incarnation)
                });
                !own && !unchanged
            }
        };
        if !is_right {
            self.violate(Violation::WrongSettlement);
        }
    }

    /// Checks the committed tables and the assignments.
    pub(crate) fn check_state(&mut self) {
        if let Some(violation) = self.tables_violation() {
            self.violate(violation);
        }
        let reads_others = self.consumers.iter().any(|consumer| {
            !consumer.stopped
                && consumer.assignment.is_settled()
                && !consumer.assignment.partitions().eq(consumer.granted.iter().copied())
        });
        if reads_others {
            self.violate(Violation::WrongPartitions);
        }
    }

    fn tables_violation(&self) -> Option<Violation> {
        let tables = &self.postgres.tables;
        for (partition, row) in &tables.offsets {
            let mut records = 0;
            for offset in 0..self.bounds_offsets {
                let is_record = kafka::entry(row.version, *partition, offset) != Entry::Control;
                let fate = tables.fates.contains_key(&(row.version, *partition, offset));
                if fate != (is_record && offset < row.stored.next_offset) {
                    return Some(Violation::Unsettled);
                }
            }
            let mut counts = [0; 3];
            for fate in tables.fates.iter().filter(|(key, _)| key.1 == *partition).map(|(_, fate)| *fate) {
                counts[fate as usize] += 1;
                records += 1;
            }
            if counts != row.counts || records != row.records {
                return Some(Violation::WrongCounts);
            }
        }
        let mut events: Vec<Option<u8>> =
            tables.fates.iter().filter(|(_, fate)| **fate == Fate::Row).map(|(key, _)| event(key)).collect();
        let rows = events.len();
        events.sort_unstable();
        events.dedup();
        (events.len() < rows).then_some(Violation::DuplicateRow)
    }
}
