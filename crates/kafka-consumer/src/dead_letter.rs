//! Rejected records, stored as dead letters with everything that Kafka delivered.

use std::fmt::Write;

use event_model::{Rejection, Timestamp};
use rdkafka::message::{BorrowedMessage, Message};

/// A rejected record and the reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DeadLetter {
    /// Offset in its partition.
    pub(crate) offset: i64,
    /// Timestamp of the record, if it has one.
    pub(crate) record_time: Option<Timestamp>,
    /// Bytes of the key.
    pub(crate) key: Option<Vec<u8>>,
    /// Bytes of the value.
    pub(crate) payload: Option<Vec<u8>>,
    /// Headers in their order, with names as returned by [`header_name`]. A header without a value has `None`.
    pub(crate) headers: Vec<(String, Option<Vec<u8>>)>,
    /// Stage that rejected the record.
    pub(crate) stage: Stage,
    /// Code of the first reason.
    pub(crate) reason_code: &'static str,
    /// Description of all reasons.
    pub(crate) reason: String,
    /// SQLSTATE, if PostgreSQL rejected the row.
    pub(crate) sqlstate: Option<String>,
}

/// Stage that rejected a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Validation of the event.
    Validate,
    /// PostgreSQL: a constraint, a trigger or a column type of the table.
    Insert,
}

/// Reason code of a row that PostgreSQL rejected. `sqlstate` holds the cause.
pub(crate) const REFUSED_BY_POSTGRES: &str = "refused_by_postgres";

impl Stage {
    /// Returns the name that is stored in the table.
    #[must_use]
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Validate => "validate",
            Self::Insert => "insert",
        }
    }
}

impl DeadLetter {
    /// Returns the dead letter of a record that failed validation.
    #[must_use]
    pub(crate) fn refused(record: &BorrowedMessage<'_>, record_time: Option<Timestamp>, rejection: &Rejection) -> Self {
        let mut reason = storable(&rejection.to_string());
        if let Some(millis) = record.timestamp().to_millis().filter(|millis| *millis > MAX_MILLIS) {
            // Writing to a `String` cannot fail.
            let _ = write!(reason, "; record timestamp {millis} ms exceeds the maximum that can be stored");
        }
        Self::new(record, record_time, Stage::Validate, rejection.reason().code(), reason)
    }

    /// Returns the dead letter of a record whose row PostgreSQL rejected.
    #[must_use]
    pub(crate) fn refused_by_postgres(record: &BorrowedMessage<'_>, sqlstate: String, reason: &str) -> Self {
        let letter = Self::new(record, record_time(record), Stage::Insert, REFUSED_BY_POSTGRES, storable(reason));
        Self { sqlstate: Some(sqlstate), ..letter }
    }

    fn new(
        record: &BorrowedMessage<'_>,
        record_time: Option<Timestamp>,
        stage: Stage,
        reason_code: &'static str,
        reason: String,
    ) -> Self {
        let headers = rdkafka_ext::headers(record);
        let headers = headers.into_iter().map(|one| (header_name(one.name), one.value.map(<[u8]>::to_vec))).collect();
        Self {
            offset: record.offset(),
            record_time,
            key: record.key().map(<[u8]>::to_vec),
            payload: record.payload().map(<[u8]>::to_vec),
            headers,
            stage,
            reason_code,
            reason,
            sqlstate: None,
        }
    }

    /// Returns the approximate memory use in bytes.
    #[must_use]
    pub(crate) fn size(&self) -> usize {
        let headers: usize =
            self.headers.iter().map(|(name, value)| name.len() + value.as_ref().map_or(0, Vec::len)).sum();
        size_of::<Self>()
            + headers
            + self.reason.len()
            + [&self.key, &self.payload].into_iter().flatten().map(Vec::len).sum::<usize>()
    }
}

/// Latest record timestamp that is stored unchanged, in milliseconds since 1970.
const MAX_MILLIS: i64 = i64::MAX / 1_000;

/// Returns the timestamp of a record. `None` if it has none, which Kafka encodes as -1; other negative numbers count as
/// none too.
///
/// A timestamp beyond the range of [`Timestamp`], such as one in nanoseconds, becomes the latest one
/// (+294247-01-10T04:00:54.775Z), which PostgreSQL can store too.
pub(crate) fn record_time(record: &impl Message) -> Option<Timestamp> {
    let millis = record.timestamp().to_millis().filter(|millis| *millis >= 0);
    millis.map(|millis| Timestamp::from_micros(millis.min(MAX_MILLIS) * 1_000))
}

/// Returns the name of a header as text. Valid UTF-8 is kept. In any other name each invalid byte becomes `\xNN`, and
/// each backslash is doubled.
pub(crate) fn header_name(name: &[u8]) -> String {
    if let Ok(name) = str::from_utf8(name) {
        return storable(name);
    }
    let mut text = String::with_capacity(name.len() + 3);
    for chunk in name.utf8_chunks() {
        text.push_str(&chunk.valid().replace('\\', r"\\"));
        for byte in chunk.invalid() {
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    storable(&text)
}

/// Replaces each NUL, which PostgreSQL cannot store in text, with U+FFFD.
pub(crate) fn storable(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_names_are_escaped_only_if_they_are_not_utf8() {
        let cases: &[(&[u8], &str)] = &[
            (b"run", "run"),
            ("M\u{f6}bel\u{1b}".as_bytes(), "M\u{f6}bel\u{1b}"),
            (br"C:\xff", r"C:\xff"),
            (b"", ""),
            (b"\xff\xfe", r"\xff\xfe"),
            (b"a\\b\xc3", r"a\\b\xc3"),
            (b"\xed\xa0\x80.", r"\xed\xa0\x80."),
        ];
        for (name, expected) in cases {
            assert_eq!(header_name(name), *expected, "{name:?}");
        }
    }
}
