//! Continuity of a partition: Kafka still has the topic that was read, and its next record.

use crate::mutants::{Mutant, mutated};
use crate::position::RecordPosition;

/// Result of comparing a partition in Kafka with its position in PostgreSQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Continuity {
    /// Kafka has the next record, or the position is at the end.
    Continues,
    /// Retention deleted records before they were read.
    Lost,
    /// The topic was recreated or truncated: the partition ends before the position, or its last record differs.
    Renewed,
}

/// The last record that was read, compared with the record that Kafka has at its offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LastRecord {
    /// Both fingerprints are equal.
    Same,
    /// Kafka has another record at the offset.
    Different,
    /// No record was read yet, or Kafka no longer has it. Compaction or retention may have removed it, so this is no
    /// proof of another topic.
    Unknown,
}

impl LastRecord {
    /// Compares the last record that was read with the first one that Kafka has at its offset or later.
    #[must_use]
    pub fn compare(read: RecordPosition, found: Option<RecordPosition>) -> Self {
        match found {
            Some(found) if found == read => Self::Same,
            Some(found) if found.offset == read.offset && !mutated(Mutant::LastRecordUnchecked) => Self::Different,
            _ => Self::Unknown,
        }
    }
}

impl Continuity {
    /// Compares the next offset of a group with the first offset (`low`) and the end (`high`) of the partition in Kafka.
    #[must_use]
    pub fn of(next_offset: i64, low: i64, high: i64, last: LastRecord) -> Self {
        if next_offset > high || last == LastRecord::Different {
            Self::Renewed
        } else if next_offset < low {
            Self::Lost
        } else {
            Self::Continues
        }
    }
}

/// Returns true if an offset belongs to another topic than the one that the cluster has. Unknown IDs prove nothing:
/// older brokers report none, and older versions of the consumer stored none.
#[must_use]
pub fn is_another_topic<Id: PartialEq>(stored: Option<Id>, current: Option<Id>) -> bool {
    stored.zip(current).is_some_and(|(stored, current)| stored != current && !mutated(Mutant::TopicIdUnchecked))
}

#[cfg(test)]
mod tests {
    use super::Continuity::{Continues, Lost, Renewed};
    use super::*;

    #[test]
    fn a_partition_continues_if_kafka_has_the_next_record() {
        for (next, last, expected) in [
            (3, LastRecord::Same, Continues),
            (9, LastRecord::Same, Continues),
            (9, LastRecord::Unknown, Continues),
            (2, LastRecord::Unknown, Lost),
            (2, LastRecord::Different, Renewed),
            (5, LastRecord::Different, Renewed),
            (10, LastRecord::Unknown, Renewed),
            (10, LastRecord::Same, Renewed),
        ] {
            assert_eq!(Continuity::of(next, 3, 9, last), expected, "{next} {last:?}");
        }
        assert_eq!(Continuity::of(0, 0, 0, LastRecord::Unknown), Continues, "a new partition");
    }

    #[test]
    fn the_last_record_is_compared_at_its_offset() {
        let read = RecordPosition { offset: 4, fingerprint: 40 };
        for (found, expected) in [
            (Some(read), LastRecord::Same),
            (Some(RecordPosition { fingerprint: 41, ..read }), LastRecord::Different),
            (Some(RecordPosition { offset: 5, fingerprint: 40 }), LastRecord::Unknown),
            (None, LastRecord::Unknown),
        ] {
            assert_eq!(LastRecord::compare(read, found), expected, "{found:?}");
        }
    }

    #[test]
    fn only_two_known_ids_differ() {
        assert!(is_another_topic(Some(1), Some(2)));
        assert!(!is_another_topic(Some(1), Some(1)));
        assert!(!is_another_topic(None, Some(2)));
        assert!(!is_another_topic(Some(1), None));
    }
}
