//! PostgreSQL: tables, transactions that hold locks, and a standby that lags.

use std::collections::{BTreeMap, BTreeSet};

use ingest_protocol::settlement::StoredOffset;

use super::kafka::{self, Entry};

/// Settlement of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Fate {
    Row,
    Duplicate,
    DeadLetter,
}

/// Row of `pipeline.consumer_offsets`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct OffsetRow {
    pub(crate) stored: StoredOffset,
    pub(crate) topic_id: u8,
    /// Version of the topic that the row belongs to. Only the properties use it.
    pub(crate) version: u8,
    /// Consumer, its life and the command to own the partition, under which the offset was moved last. Only the
    /// properties use it.
    pub(crate) mover: Option<(usize, u8, u8)>,
    /// Counts of rows, duplicates and dead letters, and of all records.
    pub(crate) counts: [u8; 3],
    pub(crate) records: u8,
}

/// Version, partition and offset of a record.
pub(crate) type RecordKey = (u8, i32, i64);

/// Committed tables.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Tables {
    pub(crate) offsets: BTreeMap<i32, OffsetRow>,
    pub(crate) fates: BTreeMap<RecordKey, Fate>,
}

/// Event of a record.
pub(crate) fn event(key: &RecordKey) -> Option<u8> {
    match kafka::entry(key.0, key.1, key.2) {
        Entry::Control => None,
        Entry::Record { event, .. } => Some(event),
    }
}

/// Transaction that is open at the server. It holds the locks of its partitions.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Transaction {
    /// The consumer that still waits for the answer. `None` once it has given up.
    pub(crate) owner: Option<usize>,
    pub(crate) offsets: BTreeMap<i32, OffsetRow>,
    pub(crate) fates: Vec<(RecordKey, Fate)>,
}

/// The primary and its standby.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Postgres {
    pub(crate) tables: Tables,
    pub(crate) standby: Option<Box<Tables>>,
    pub(crate) open: Vec<Transaction>,
    /// A standby was promoted.
    pub(crate) promoted: bool,
}

impl Postgres {
    pub(crate) fn is_locked(&self, partitions: impl Iterator<Item = i32>) -> bool {
        let partitions: BTreeSet<i32> = partitions.collect();
        self.open.iter().any(|one| one.offsets.keys().any(|partition| partitions.contains(partition)))
    }

    pub(crate) fn has_event(&self, event_id: u8) -> bool {
        self.tables.fates.iter().any(|(key, fate)| *fate == Fate::Row && event(key) == Some(event_id))
    }

    /// Returns true if an open transaction has inserted the event: another one waits for it at the unique index.
    pub(crate) fn inserts(&self, event_id: u8) -> bool {
        let is_it = |(key, fate): &(RecordKey, Fate)| *fate == Fate::Row && event(key) == Some(event_id);
        self.open.iter().any(|one| one.fates.iter().any(is_it))
    }

    /// Commits an open transaction. Returns false if it settles a record that is settled already.
    pub(crate) fn commit(&mut self, index: usize) -> bool {
        let Transaction { offsets, fates, .. } = self.open.remove(index);
        self.tables.offsets.extend(offsets);
        let before = self.tables.fates.len() + fates.len();
        self.tables.fates.extend(fates);
        self.tables.fates.len() == before
    }

    /// Promotes the standby, which ends all transactions.
    pub(crate) fn promote(&mut self) {
        self.open.clear();
        self.promoted = true;
        self.tables = self.standby.as_deref().cloned().unwrap_or_default();
        self.tables.offsets.values_mut().for_each(|row| row.mover = None);
    }
}
