//! Names of the equations, the values of [`Check::name`](crate::Check).

/// I1: sums within the manifest that agree.
pub const MANIFEST: &str = "consistent sums in the manifest";
/// I1: indices that the stores show as exactly one of valid, invalid and corrupt.
pub const ONE_KIND: &str = "indices of exactly one kind";
/// I1: records, rows and dead letters with the run's tag or in its files that are not in its manifest.
pub const STRAYS: &str = "records and rows not in the manifest";
/// I1: distinct valid events in Kafka.
pub const KAFKA_EVENTS: &str = "valid events in Kafka";
/// I1: records of valid events in Kafka, duplicates included.
pub const KAFKA_RECORDS: &str = "records of valid events in Kafka";
/// I1: distinct corrupt events in Kafka.
pub const KAFKA_CORRUPT: &str = "corrupt events in Kafka";
/// I1: records of the run in Kafka, against the acknowledged records in the manifest.
pub const KAFKA_ACKNOWLEDGED: &str = "acknowledged records in Kafka";
/// I1: distinct valid events in the raw lake.
pub const LAKE_EVENTS: &str = "valid events in raw files";
/// I1: files in the raw lake.
pub const LAKE_FILES: &str = "raw files";
/// I1: distinct invalid events in quarantine.
pub const QUARANTINE_EVENTS: &str = "invalid events in quarantine files";
/// I1: files in quarantine.
pub const QUARANTINE_FILES: &str = "quarantine files";
/// I1: unreadable files of the raw lake and the quarantine.
pub const UNREADABLE_FILES: &str = "unreadable files";
/// I1: rows whose hour differs from that of their file, in the raw lake and in quarantine.
pub const MISPLACED: &str = "rows in a file of the wrong hour";
/// I1: hours and event types whose count of distinct events in the raw lake differs from the manifest's.
pub const LAKE_COUNTS: &str = "raw: wrong counts by hour and type";
/// I1: hours whose count of distinct events in quarantine differs from the manifest's.
pub const QUARANTINE_COUNTS: &str = "quarantine: wrong counts by hour";
/// I1: distinct valid events in the table.
pub const TABLE_EVENTS: &str = "valid events in the table";
/// I1: hours and event types whose count of distinct events in the table differs from the manifest's.
pub const TABLE_COUNTS: &str = "table: wrong counts by hour and type";
/// I1: distinct corrupt events in the dead letters.
pub const DEAD_LETTERS: &str = "corrupt events in dead letters";
/// I2: valid events in Kafka that the raw lake lacks.
pub const ONLY_KAFKA: &str = "events in Kafka but not in raw files";
/// I2: valid events in the raw lake that Kafka lacks.
pub const ONLY_LAKE: &str = "events in raw files but not in Kafka";
/// I3: records without a row and without a dead letter.
pub const UNACCOUNTED: &str = "records unaccounted for";
/// I3: dead letters without a record, at offsets that retention has not removed.
pub const LETTERS_WITHOUT_RECORD: &str = "dead letters without a record";
/// I3: rows of events whose records all have dead letters, some of them not replayed.
pub const LETTERED_ROWS: &str = "rows whose records are dead letters";
/// I3: rows of the run's events without a record.
pub const ROWS_WITHOUT_RECORD: &str = "rows without a record";
/// I3: the group's count of records, against all records of the topic.
pub const COUNTED_RECORDS: &str = "records counted by the group";
/// I3: the sum of the group's counts by result, against its count of records.
pub const COUNTED_SUM: &str = "sum of the outcomes counted";
/// I3: the group's count of inserted rows.
pub const COUNTED_ROWS: &str = "rows counted by the group";
/// I3: the group's count of duplicates, against the repeated records of an ID.
pub const COUNTED_DUPLICATES: &str = "duplicates counted by the group";
/// I3: the group's count of suppressed rows, if the terms list the suppressed events.
pub const COUNTED_SUPPRESSED: &str = "suppressed rows counted by the group";
/// I3: the group's counts of rows and duplicates together, if a rebuild inserted rows too.
pub const COUNTED_ROWS_AND_DUPLICATES: &str = "rows and duplicates counted";
/// I3: the group's count of dead letters.
pub const COUNTED_LETTERS: &str = "dead letters counted by the group";
/// I4: events with more than one row in the table.
pub const TABLE_ONCE: &str = "events repeated in the table";
/// I4: events with more than one row in the raw lake or in quarantine.
pub const LAKE_ONCE: &str = "events repeated in the lake";
/// I4: records with more than one dead letter.
pub const LETTER_ONCE: &str = "records with several dead letters";
/// I5: events whose records have different contents.
pub const KAFKA_CONTENT: &str = "repeated records that differ";
/// I5: events whose content in the raw lake differs from Kafka.
pub const LAKE_CONTENT: &str = "events that differ in raw files";
/// I5: events whose content in the table differs from Kafka or, if Kafka lacks them, from the raw lake.
pub const TABLE_CONTENT: &str = "events that differ in the table";
/// I5: dead letters whose key, value or headers differ from those of their record.
pub const LETTER_CONTENT: &str = "dead letters that differ from records";
/// I5: records whose key is not their `user_id`.
pub const KEYS: &str = "records whose key is not user_id";
/// I6: partitions whose stored offset is their end offset.
pub const AT_THE_END: &str = "partitions committed to their end";
/// I5: hours whose sum of hashes of the distinct events in Kafka differs from the manifest's.
pub const KAFKA_HASHES: &str = "Kafka: hours with wrong hashes";
/// I5: 1 if the sum of hashes of the distinct corrupt events in Kafka differs from the manifest's, else 0.
pub const CORRUPT_HASH: &str = "Kafka: wrong hash of corrupt events";
/// I5: hours whose sum of hashes of all rows in the raw lake differs from the manifest's.
pub const LAKE_HASHES: &str = "raw: hours with wrong hashes";
/// I5: hours whose sum of hashes of all rows in quarantine differs from the manifest's.
pub const QUARANTINE_HASHES: &str = "quarantine: hours with wrong hashes";
/// I5: hours whose sum of hashes of the run's rows in the table differs from the manifest's.
pub const TABLE_HASHES: &str = "table: hours with wrong hashes";
