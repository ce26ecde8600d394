//! Reads dead letters from PostgreSQL and converts them to JSON.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use event_model::Timestamp;
use serde_json::{Map, Value, json};
use tokio_postgres::Row;

/// A row of `pipeline.dead_letters`.
#[derive(Clone, Debug)]
pub(crate) struct StoredLetter {
    /// Incarnation of the topic: 1 at first, incremented each time that the group accepts a recreated topic.
    pub(crate) incarnation: i32,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    /// Timestamp of the record, if it has one.
    pub(crate) record_time: Option<Timestamp>,
    pub(crate) key: Option<Vec<u8>>,
    /// Value of the record. `None` for a tombstone, for a discarded dead letter, or if it was not selected.
    pub(crate) payload: Option<Vec<u8>>,
    /// Headers in the record's order.
    pub(crate) headers: Vec<(String, Option<Vec<u8>>)>,
    /// Stage that refused it: `validate` or `insert`.
    pub(crate) stage: String,
    /// Code of the first reason.
    pub(crate) reason_code: String,
    /// Messages of all reasons, separated by `; `.
    pub(crate) reason: String,
    /// SQLSTATE, if PostgreSQL refused the row.
    pub(crate) sqlstate: Option<String>,
    /// Time at which it was first refused.
    pub(crate) first_seen: Timestamp,
    /// Number of attempts on the record, by consumers and replays.
    pub(crate) attempts: i32,
    /// Time at which its event was inserted or found in the table.
    pub(crate) replayed: Option<Timestamp>,
    /// Time at which its payload was discarded.
    pub(crate) discarded: Option<Timestamp>,
}

/// Returns the columns in the order that [`StoredLetter::read`] expects. `payload` is an SQL expression.
pub(crate) fn columns(payload: &str) -> String {
    let micros = |column: &str| format!("(extract(epoch FROM {column}) * 1000000)::bigint");
    format!(
        r#"topic_incarnation, partition, "offset", {}, key, {payload}, header_names, header_values, stage, reason_code,
        reason, sqlstate, {}, attempts, {}, {}"#,
        micros("record_timestamp"),
        micros("first_seen_at"),
        micros("replayed_at"),
        micros("discarded_at"),
    )
}

impl StoredLetter {
    /// Reads a row whose columns are [`columns`].
    pub(crate) fn read(row: &Row) -> Result<Self, tokio_postgres::Error> {
        let time = |column| Ok(row.try_get::<_, Option<i64>>(column)?.map(Timestamp::from_micros));
        let (names, values): (Vec<String>, Vec<Option<Vec<u8>>>) = (row.try_get(6)?, row.try_get(7)?);
        Ok(Self {
            incarnation: row.try_get(0)?,
            partition: row.try_get(1)?,
            offset: row.try_get(2)?,
            record_time: time(3)?,
            key: row.try_get(4)?,
            payload: row.try_get(5)?,
            headers: names.into_iter().zip(values).collect(),
            stage: row.try_get(8)?,
            reason_code: row.try_get(9)?,
            reason: row.try_get(10)?,
            sqlstate: row.try_get(11)?,
            first_seen: Timestamp::from_micros(row.try_get(12)?),
            attempts: row.try_get(13)?,
            replayed: time(14)?,
            discarded: time(15)?,
        })
    }

    /// Returns the state as one word.
    #[must_use]
    pub(crate) fn state(&self) -> &'static str {
        match (self.replayed, self.discarded) {
            (Some(_), _) => "replayed",
            (None, Some(_)) => "discarded",
            (None, None) => "open",
        }
    }

    /// Returns everything except the payload as a JSON object.
    #[must_use]
    pub(crate) fn head_json(&self) -> Map<String, Value> {
        let time = |time: Option<Timestamp>| json!(time.map(|time| time.to_string()));
        let mut object = Map::new();
        object.insert("incarnation".to_owned(), json!(self.incarnation));
        object.insert("partition".to_owned(), json!(self.partition));
        object.insert("offset".to_owned(), json!(self.offset));
        object.insert("record_timestamp".to_owned(), time(self.record_time));
        put_bytes(&mut object, "key", self.key.as_deref());
        let headers = self.headers.iter().map(|(name, value)| {
            let mut header = Map::new();
            header.insert("name".to_owned(), json!(name));
            put_bytes(&mut header, "value", value.as_deref());
            Value::Object(header)
        });
        object.insert("headers".to_owned(), headers.collect());
        object.insert("stage".to_owned(), json!(self.stage));
        object.insert("reason_code".to_owned(), json!(self.reason_code));
        object.insert("reason".to_owned(), json!(self.reason));
        object.insert("sqlstate".to_owned(), json!(self.sqlstate));
        object.insert("state".to_owned(), json!(self.state()));
        object.insert("first_seen_at".to_owned(), time(Some(self.first_seen)));
        object.insert("attempts".to_owned(), json!(self.attempts));
        object.insert("replayed_at".to_owned(), time(self.replayed));
        object.insert("discarded_at".to_owned(), time(self.discarded));
        object
    }

    /// Returns the dead letter as JSON, including the payload.
    #[must_use]
    pub(crate) fn json(&self) -> Value {
        let mut object = self.head_json();
        put_bytes(&mut object, "payload", self.payload.as_deref());
        Value::Object(object)
    }
}

/// Inserts bytes as text if they are UTF-8, otherwise as base64 under the name with the suffix `_base64`.
fn put_bytes(object: &mut Map<String, Value>, name: &str, bytes: Option<&[u8]>) {
    match bytes.map(|bytes| str::from_utf8(bytes).map_err(|_| bytes)) {
        None => object.insert(name.to_owned(), Value::Null),
        Some(Ok(text)) => object.insert(name.to_owned(), json!(text)),
        Some(Err(bytes)) => object.insert(format!("{name}_base64"), json!(STANDARD.encode(bytes))),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_text_or_base64_or_null() {
        let mut object = Map::new();
        put_bytes(&mut object, "text", Some("M\u{f6}bel\0".as_bytes()));
        put_bytes(&mut object, "bytes", Some(b"\xff{"));
        put_bytes(&mut object, "none", None);
        let expected = json!({"text": "M\u{f6}bel\0", "bytes_base64": "/3s=", "none": null});
        assert_eq!(Value::Object(object), expected);
    }
}
