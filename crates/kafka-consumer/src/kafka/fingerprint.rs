//! Fingerprint of a record, which distinguishes a recreated topic from the one that was read.

use rdkafka::message::Message;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// Returns the 64-bit XXH3 hash of a record's offset, timestamp, key and value. An absent key or value differs from an
/// empty one.
///
/// Fingerprints are stored in PostgreSQL, so the algorithm must not change: every topic would look recreated.
pub(crate) fn of(record: &impl Message) -> i64 {
    let mut head = [0_u8; 17];
    head[..8].copy_from_slice(&record.offset().to_le_bytes());
    head[8..16].copy_from_slice(&record.timestamp().to_millis().unwrap_or(-1).to_le_bytes());
    head[16] = u8::from(record.key().is_some()) | u8::from(record.payload().is_some()) << 1;
    let seed = xxh3_64_with_seed(record.key().unwrap_or_default(), xxh3_64(&head));
    xxh3_64_with_seed(record.payload().unwrap_or_default(), seed).cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rdkafka::Timestamp;
    use rdkafka::message::OwnedMessage;

    fn record(value: Option<&[u8]>, key: Option<&[u8]>, time: i64, offset: i64) -> OwnedMessage {
        let [value, key] = [value, key].map(|bytes| bytes.map(<[u8]>::to_vec));
        OwnedMessage::new(value, key, "t".to_owned(), Timestamp::CreateTime(time), 0, offset, None)
    }

    #[test]
    fn every_part_counts_and_the_value_never_changes() {
        let records = [
            record(Some(b"v"), Some(b"k"), 1, 2),
            record(Some(b"w"), Some(b"k"), 1, 2),
            record(Some(b"v"), Some(b"l"), 1, 2),
            record(Some(b"v"), Some(b"k"), 2, 2),
            record(Some(b"v"), Some(b"k"), 1, 3),
            record(Some(b""), Some(b""), 1, 2),
            record(None, Some(b""), 1, 2),
            record(Some(b""), None, 1, 2),
        ];
        let mut fingerprints: Vec<i64> = records.iter().map(of).collect();
        assert_eq!(fingerprints[0], FIRST);
        fingerprints.sort_unstable();
        fingerprints.dedup();
        assert_eq!(fingerprints.len(), records.len());
    }

    const FIRST: i64 = 4_064_776_809_441_395_288;
}
