//! The names of the equations, as [`Check::name`](crate::Check) has them.

/// I1: the sums within the manifest.
pub const MANIFEST: &str = "sums that add up in the manifest";
/// I1: every index is valid, invalid or corrupt, and shows as nothing else.
pub const ONE_KIND: &str = "indices of exactly one kind in the stores";
/// I1: ids and indices of the run that are not in its manifest.
pub const STRAYS: &str = "of the run, but not in its manifest";
/// I1: Kafka, distinct.
pub const KAFKA_EVENTS: &str = "valid events in Kafka";
/// I1: Kafka, records.
pub const KAFKA_RECORDS: &str = "their records, with duplicates";
/// I1: Kafka, distinct.
pub const KAFKA_CORRUPT: &str = "corrupt events in Kafka";
/// I1: Kafka, records.
pub const KAFKA_ACKNOWLEDGED: &str = "records of the run in Kafka, as acknowledged";
/// I1: raw lake, distinct.
pub const LAKE_EVENTS: &str = "valid events in the raw lake";
/// I1: raw lake.
pub const LAKE_FILES: &str = "files in the raw lake";
/// I1: quarantine, distinct.
pub const QUARANTINE_EVENTS: &str = "invalid events in quarantine";
/// I1: quarantine.
pub const QUARANTINE_FILES: &str = "files in quarantine";
/// I1: raw lake and quarantine.
pub const UNREADABLE_FILES: &str = "files of the run that cannot be read";
/// I1: raw lake and quarantine.
pub const MISPLACED: &str = "rows in a file of another hour";
/// I1: raw lake, by hour and by event type, against the manifest.
pub const LAKE_COUNTS: &str = "hours and types with another count in the raw lake";
/// I1: quarantine, by hour, against the manifest.
pub const QUARANTINE_COUNTS: &str = "hours with another count in quarantine";
/// I1: table, distinct.
pub const TABLE_EVENTS: &str = "valid events in the table";
/// I1: table, by hour and by event type, against the manifest.
pub const TABLE_COUNTS: &str = "hours and types with another count in the table";
/// I1: dead letters, distinct.
pub const DEAD_LETTERS: &str = "corrupt events in the dead letters";
/// I2
pub const ONLY_KAFKA: &str = "in Kafka, not in the raw lake";
/// I2
pub const ONLY_LAKE: &str = "in the raw lake, not in Kafka";
/// I3
pub const UNACCOUNTED: &str = "records neither row, dead letter nor repeat";
/// I3
pub const LETTERS_WITHOUT_RECORD: &str = "dead letters without a record";
/// I3
pub const LETTERED_ROWS: &str = "rows whose only records are dead letters";
/// I3
pub const ROWS_WITHOUT_RECORD: &str = "rows without a record";
/// I3, the group's counts: all records of the topic.
pub const COUNTED_RECORDS: &str = "records, as the group counted";
/// I3, the group's counts: their sum.
pub const COUNTED_SUM: &str = "rows + duplicates + dead letters + expired + suppressed, as counted";
/// I3, the group's counts.
pub const COUNTED_ROWS: &str = "rows, as counted";
/// I3, the group's counts: repeats of an id.
pub const COUNTED_DUPLICATES: &str = "duplicates, as counted";
/// I3, the group's counts, where it is known which rows triggers suppress.
pub const COUNTED_SUPPRESSED: &str = "suppressed, as counted";
/// I3, where rows also came from elsewhere: the sums of both.
pub const COUNTED_ROWS_AND_DUPLICATES: &str = "rows + duplicates, as counted";
/// I3, the group's counts.
pub const COUNTED_LETTERS: &str = "dead letters, as counted";
/// I4
pub const TABLE_ONCE: &str = "events more than once in the table";
/// I4
pub const LAKE_ONCE: &str = "events more than once in the lake";
/// I4
pub const LETTER_ONCE: &str = "records with more than one dead letter";
/// I5: records of one id.
pub const KAFKA_CONTENT: &str = "records whose repeat has another content";
/// I5: raw lake against Kafka.
pub const LAKE_CONTENT: &str = "events of another content in the raw lake";
/// I5: table against Kafka.
pub const TABLE_CONTENT: &str = "events of another content in the table";
/// I5: dead letter against its record: key, value and headers.
pub const LETTER_CONTENT: &str = "dead letters with other bytes than their record";
/// I5: a record's key is its `user_id`.
pub const KEYS: &str = "records with another key than their user_id";
/// I6
pub const AT_THE_END: &str = "partitions whose next_offset is their end";
/// I5: Kafka's distinct events against the manifest.
pub const KAFKA_HASHES: &str = "hours with another sum of hashes in Kafka";
/// I5: what was sent broken, distinct, against the manifest.
pub const CORRUPT_HASH: &str = "other sums of hashes of corrupt events in Kafka";
/// I5: raw lake, every row, against the manifest.
pub const LAKE_HASHES: &str = "hours with another sum of hashes in the raw lake";
/// I5: quarantine, every row, against the manifest.
pub const QUARANTINE_HASHES: &str = "hours with another sum of hashes in quarantine";
/// I5: table, every row, against the manifest.
pub const TABLE_HASHES: &str = "hours with another sum of hashes in the table";
