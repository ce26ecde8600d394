//! Closed batches. Retries do not change them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;
use std::time::Instant;

use event_model::{Hour, read_copy_row};
use ingest_protocol::position::RecordPosition;

use crate::dead_letter::DeadLetter;
use crate::ingest::batch::recent_ids::RecentIds;
use crate::ingest::batch::rows::Rows;
use crate::ingest::batch::sorted_rows::SortedRows;
use crate::observability::timing::RecordTimes;

/// Records of one Kafka partition in a batch: encoded rows and dead letters, in offset order.
#[derive(Debug)]
pub(crate) struct Part {
    /// Assignment under which the records were read.
    pub(crate) epoch: u64,
    /// Offset after this part.
    pub(crate) next_offset: i64,
    /// Position of the last record. `None` if the part has no records and only moves the offset, for example past a
    /// transaction marker.
    pub(crate) last: Option<RecordPosition>,
    /// Number of records: rows and dead letters.
    pub(crate) records: u64,
    pub(crate) rows: Rows,
    /// Indices of the rows whose `event_id` was seen recently, in ascending order.
    pub(crate) likely_duplicates: Vec<usize>,
    /// Rejected records.
    pub(crate) dead_letters: Vec<PendingDeadLetter>,
    /// Hours of the rows' events.
    pub(crate) hours: BTreeSet<Hour>,
    /// Times at which the records were sent and their events happened.
    pub(crate) times: RecordTimes,
}

impl Part {
    fn records_before(&self, offset: i64) -> u64 {
        let letters = self.dead_letters.partition_point(|refused| refused.letter.offset < offset);
        (self.rows.before(offset) + letters) as u64
    }

    /// Splits off the records up to and including `last`, which is before the end of the part.
    fn take_up_to(&mut self, last: RecordPosition) -> Self {
        let end = last.offset + 1;
        let records = self.records_before(end);
        let rows = self.rows.before(end);
        let likely_duplicates = self.likely_duplicates.partition_point(|index| *index < rows);
        let later = self.likely_duplicates.split_off(likely_duplicates).into_iter().map(|index| index - rows).collect();
        let letters = self.dead_letters.partition_point(|refused| refused.letter.offset < end);
        let later_letters = self.dead_letters.split_off(letters);
        self.records -= records;
        if self.records == 0 {
            self.last = None;
        }
        Self {
            epoch: self.epoch,
            next_offset: end,
            last: Some(last),
            records,
            rows: self.rows.take_first(rows),
            likely_duplicates: std::mem::replace(&mut self.likely_duplicates, later),
            dead_letters: std::mem::replace(&mut self.dead_letters, later_letters),
            // A superset is harmless: it only costs the refinement an hour.
            hours: self.hours.clone(),
            // The rest reports the times of all records.
            times: RecordTimes::default(),
        }
    }
}

/// A dead letter that its batch has not stored yet.
#[derive(Clone, Debug)]
pub(crate) struct PendingDeadLetter {
    pub(crate) letter: DeadLetter,
    /// Index of the record in its batch, counted from 0 over all partitions.
    pub(crate) index: u64,
}

/// A closed batch. A retry sends the same bytes.
#[derive(Debug)]
pub struct Batch {
    /// Parts by partition. Their offsets are locked in this order.
    pub(crate) parts: BTreeMap<i32, Part>,
    /// Time of the first record.
    pub(crate) opened: Instant,
    sorted_rows: OnceLock<SortedRows>,
}

impl Batch {
    pub(crate) fn new(parts: BTreeMap<i32, Part>, opened: Instant) -> Self {
        Self { parts, opened, sorted_rows: OnceLock::new() }
    }

    /// Returns the number of records in all partitions.
    #[must_use]
    pub(crate) fn records(&self) -> u64 {
        self.parts.values().map(|part| part.records).sum()
    }

    /// Marks the rows whose id was seen recently, and adds all ids to the filter.
    pub(crate) fn mark_likely_duplicates(&mut self, recent: &mut RecentIds) {
        for part in self.parts.values_mut() {
            let seen = part.rows.iter().enumerate().filter(|(_, row)| recent.insert(row.id));
            // An unreadable row is never marked: it stays in the first COPY, and PostgreSQL reports its error.
            part.likely_duplicates =
                seen.filter(|(_, row)| read_copy_row(row.bytes).is_some()).map(|(index, _)| index).collect();
        }
    }

    /// Returns the rows in the order of the unique index, without the likely duplicates. They are sorted once, unless
    /// parts are removed later.
    pub fn sorted_rows(&self) -> &SortedRows {
        self.sorted_rows.get_or_init(|| {
            SortedRows::of(self.parts.values().map(|part| (&part.rows, part.likely_duplicates.as_slice())))
        })
    }

    /// Removes the parts that do not match.
    pub(crate) fn retain(&mut self, wanted: impl Fn(i32, &Part) -> bool) {
        let before = self.parts.len();
        self.parts.retain(|partition, part| wanted(*partition, part));
        if self.parts.len() < before {
            self.sorted_rows = OnceLock::new();
        }
    }

    /// Splits off the parts of some partitions.
    #[must_use]
    pub(crate) fn take_parts(&mut self, wanted: impl Fn(i32) -> bool) -> Self {
        let parts = std::mem::take(&mut self.parts).into_iter();
        let (taken, left) = parts.partition(|(partition, _)| wanted(*partition));
        (self.parts, self.sorted_rows) = (left, OnceLock::new());
        Self::new(taken, self.opened)
    }

    /// Returns the index of a record in the batch, counted from 0 over all partitions in ascending order.
    #[must_use]
    pub(crate) fn index(&self, partition: i32, offset: i64) -> u64 {
        let earlier: u64 = self.parts.range(..partition).map(|(_, part)| part.records).sum();
        earlier + self.parts.get(&partition).map_or(0, |part| part.records_before(offset))
    }

    /// Splits off the records of a partition up to and including `last`, with all records of the partitions before it.
    /// Both batches can be written one after the other.
    #[must_use]
    pub(crate) fn take_up_to(&mut self, partition: i32, last: RecordPosition) -> Self {
        let later = self.parts.split_off(&partition);
        let mut first = std::mem::replace(&mut self.parts, later);
        if let Some(part) = self.parts.get_mut(&partition) {
            if last.offset + 1 < part.next_offset {
                first.insert(partition, part.take_up_to(last));
            } else {
                first.extend(self.parts.remove_entry(&partition));
            }
        }
        let mut first = Self::new(first, self.opened);
        self.sorted_rows = OnceLock::new();
        first.number_dead_letters();
        self.number_dead_letters();
        first
    }

    fn number_dead_letters(&mut self) {
        let mut earlier = 0;
        for part in self.parts.values_mut() {
            let rows = &part.rows;
            for (nth, refused) in (0..).zip(&mut part.dead_letters) {
                refused.index = earlier + nth + rows.before(refused.letter.offset) as u64;
            }
            earlier += part.records;
        }
    }

    /// Returns the hours of all rows.
    #[must_use]
    pub(crate) fn hours(&self) -> BTreeSet<Hour> {
        self.parts.values().flat_map(|part| part.hours.iter().copied()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dead_letter::{DeadLetter, REFUSED_BY_POSTGRES, Stage};
    use crate::ingest::batch::open::OpenBatch;
    use event_model::{EventType, ProductEvent, RequiredFields, Timestamp};
    use uuid::Uuid;

    fn event(number: u128) -> ProductEvent<'static> {
        ProductEvent::new(RequiredFields {
            event_id: Uuid::from_u128(number),
            event_timestamp: Timestamp::from_micros(1_800_000_000_000_000),
            event_type: EventType::RfqSent,
            user_id: 1,
            account_id: 2,
            product_id: 3,
            category: "tools".into(),
            experiment_id: "exp_1".into(),
        })
    }

    fn letter(offset: i64) -> DeadLetter {
        DeadLetter {
            offset,
            record_time: None,
            key: None,
            payload: None,
            headers: Vec::new(),
            stage: Stage::Insert,
            reason_code: REFUSED_BY_POSTGRES,
            reason: String::new(),
            sqlstate: None,
        }
    }

    fn mark(offset: i64) -> RecordPosition {
        RecordPosition { offset, fingerprint: -offset }
    }

    /// Returns a batch of partitions 1 and 2, offsets 10 to 19: dead letters at 13 and 17, otherwise rows.
    fn batch() -> Batch {
        let mut open = OpenBatch::new(Instant::now());
        for partition in [1, 2] {
            for offset in 10..20 {
                if [13, 17].contains(&offset) {
                    open.add_dead_letter(partition, 7, mark(offset), letter(offset));
                } else {
                    open.add_row(partition, 7, mark(offset), None, &event(offset.unsigned_abs().into()));
                }
            }
            open.pass(partition, 7, 22);
        }
        let mut batch = open.close();
        let seen = |part: &mut Part| part.likely_duplicates = vec![0, 4, 7];
        batch.parts.values_mut().for_each(seen);
        batch
    }

    #[test]
    fn a_prefix_and_the_rest_are_all_of_a_batch() {
        let mut rest = batch();
        let first = rest.take_up_to(2, mark(15));
        assert_eq!((first.records(), rest.records()), (16, 4));
        let of = |batch: &Batch, partition: i32| {
            let part = &batch.parts[&partition];
            let rows: Vec<i64> = part.rows.iter().map(|row| row.offset).collect();
            let letters: Vec<(i64, u64)> = part.dead_letters.iter().map(|one| (one.letter.offset, one.index)).collect();
            (part.next_offset, part.last, rows, letters, part.likely_duplicates.clone())
        };
        assert_eq!(
            of(&first, 1),
            (22, Some(mark(19)), vec![10, 11, 12, 14, 15, 16, 18, 19], vec![(13, 3), (17, 7)], vec![0, 4, 7])
        );
        assert_eq!(of(&first, 2), (16, Some(mark(15)), vec![10, 11, 12, 14, 15], vec![(13, 13)], vec![0, 4]));
        assert_eq!(of(&rest, 2), (22, Some(mark(19)), vec![16, 18, 19], vec![(17, 1)], vec![2]));
        assert!(!rest.parts.contains_key(&1));
        let ids: Vec<u128> = rest.parts[&2].rows.iter().map(|row| row.id.as_u128()).collect();
        assert_eq!(ids, [16, 18, 19]);
        let whole = |row: crate::ingest::batch::rows::Row<'_>| {
            read_copy_row(row.bytes).is_some_and(|event| event.event_id == row.id)
        };
        assert!(first.parts[&2].rows.iter().chain(rest.parts[&2].rows.iter()).all(whole));
        assert_eq!((rest.index(2, 16), rest.index(2, 19), first.index(2, 15)), (0, 3, 15));
    }

    #[test]
    fn parts_that_are_settled_leave_the_batch_and_its_sorted_rows() {
        let mut rest = batch();
        let rows = rest.sorted_rows().count();
        let settled = rest.take_parts(|partition| partition == 1);
        assert_eq!(settled.parts.keys().collect::<Vec<_>>(), [&1]);
        assert_eq!(rest.parts.keys().collect::<Vec<_>>(), [&2]);
        assert_eq!((settled.records(), rest.records()), (10, 10));
        assert_eq!(rest.sorted_rows().count(), rows / 2);
    }

    #[test]
    fn what_follows_the_last_record_goes_with_the_rest() {
        let mut rest = batch();
        let first = rest.take_up_to(2, mark(19));
        assert_eq!((first.records(), first.parts[&2].next_offset), (20, 20));
        let left = &rest.parts[&2];
        assert_eq!((left.records, left.last, left.next_offset), (0, None, 22));
        let mut all = batch();
        let first = all.take_up_to(1, RecordPosition { offset: 21, fingerprint: 0 });
        assert_eq!((first.records(), first.parts.len(), all.parts.len()), (10, 1, 1));
    }
}
