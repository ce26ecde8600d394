//! Records that will not become rows, kept with everything that came.

use event_model::{Rejection, Timestamp};
use rdkafka::message::{Headers, Message};

/// A record that was refused, as it came and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// Where it stands in its partition.
    pub offset: i64,
    /// The record's own timestamp, where it has one.
    pub record_time: Option<Timestamp>,
    /// The key's bytes.
    pub key: Option<Vec<u8>>,
    /// The value's bytes.
    pub payload: Option<Vec<u8>>,
    /// The headers in their order, a header without a value as none.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    /// Where it was refused.
    pub stage: Stage,
    /// The code of the reason that comes first.
    pub reason_code: &'static str,
    /// All that is wrong, in words.
    pub reason: String,
    /// PostgreSQL's code, where it was PostgreSQL that refused the row.
    pub sqlstate: Option<String>,
}

/// Where a record was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// By the rules of the event.
    Validate,
    /// By PostgreSQL: a constraint, a trigger or a type of the table.
    Insert,
}

/// The reason code of a row that PostgreSQL refuses; `sqlstate` says more.
pub const REFUSED_BY_POSTGRES: &str = "refused_by_postgres";

impl Stage {
    /// The name that is stored.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Validate => "validate",
            Self::Insert => "insert",
        }
    }
}

impl DeadLetter {
    /// A record that the event's rules refuse.
    pub fn refused(record: &impl Message, record_time: Option<Timestamp>, rejection: &Rejection) -> Self {
        let reason = storable(&rejection.to_string());
        Self::new(record, record_time, Stage::Validate, rejection.reason().code(), reason)
    }

    /// A record whose row PostgreSQL refuses.
    pub fn refused_by_postgres(record: &impl Message, sqlstate: String, reason: &str) -> Self {
        let letter = Self::new(record, record_time(record), Stage::Insert, REFUSED_BY_POSTGRES, storable(reason));
        Self { sqlstate: Some(sqlstate), ..letter }
    }

    fn new(
        record: &impl Message,
        record_time: Option<Timestamp>,
        stage: Stage,
        reason_code: &'static str,
        reason: String,
    ) -> Self {
        let headers = record.headers().map_or_else(Vec::new, |headers| {
            headers.iter().map(|one| (storable(one.key), one.value.map(<[u8]>::to_vec))).collect()
        });
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

    /// About how much memory it holds, in bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        let headers: usize =
            self.headers.iter().map(|(name, value)| name.len() + value.as_ref().map_or(0, Vec::len)).sum();
        size_of::<Self>()
            + headers
            + self.reason.len()
            + [&self.key, &self.payload].into_iter().flatten().map(Vec::len).sum::<usize>()
    }
}

/// A record's own timestamp, where it has one.
pub fn record_time(record: &impl Message) -> Option<Timestamp> {
    let millis = record.timestamp().to_millis().filter(|millis| *millis >= 0);
    millis.map(|millis| Timestamp::from_micros(millis.saturating_mul(1_000)))
}

/// A text that PostgreSQL can store: it has no place for NUL.
pub(crate) fn storable(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}
