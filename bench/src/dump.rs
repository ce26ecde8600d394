//! Writes the events of a topic to files for `psql \copy`, in the order in which one consumer reads them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use event_model::{COPY_COLUMNS, COPY_HEADER, COPY_TRAILER, FIELDS, FieldKind, ProductEvent, Window, parse};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};

use crate::programs::psql;

/// Returns the `psql` command that copies such a file into a table. The format is `csv` or `binary`.
pub(crate) fn copy_in(url: &str, table: &str, file: &Path, format: &str) -> Command {
    psql(url, &format!("\\copy {table} ({}) FROM '{}' WITH (FORMAT {format})", *COPY_COLUMNS, file.display()))
}

/// Contents of the files.
#[derive(Default)]
pub(crate) struct Dumped {
    /// Days since 1970-01-01.
    pub(crate) days: BTreeSet<i64>,
    /// `event_id` of the last event of each partition.
    pub(crate) last: BTreeMap<i32, String>,
}

/// Writes the first `events` events of a topic as CSV and in the binary format of `COPY`. Skips records that are not
/// valid events.
pub(crate) fn write(bootstrap_servers: &str, topic: &str, events: u64, csv: &Path, binary: &Path) -> Dumped {
    let mut files = [csv, binary].map(|path| BufWriter::new(File::create(path).unwrap()));
    let [csv, binary] = &mut files;
    binary.write_all(COPY_HEADER).unwrap();
    let consumer = reader(bootstrap_servers, topic);
    let mut row = Vec::new();
    let mut dumped = Dumped::default();
    let mut rows = 0;
    while rows < events {
        let record = consumer.poll(Duration::from_secs(10)).expect("a record within 10 s").unwrap();
        let Ok(event) = parse(record.payload(), None, Window::default()) else { continue };
        rows += 1;
        dumped.days.insert(event.event_timestamp.days());
        dumped.last.insert(record.partition(), event.event_id.to_string());
        writeln!(csv, "{}", line(&event)).unwrap();
        row.clear();
        event.write_copy_row(&mut row);
        binary.write_all(&row).unwrap();
    }
    binary.write_all(COPY_TRAILER).unwrap();
    for file in &mut files {
        file.flush().unwrap();
    }
    dumped
}

fn reader(bootstrap_servers: &str, topic: &str) -> BaseConsumer {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap_servers).set("group.id", "dump").set("enable.auto.commit", "false");
    config.set("fetch.queue.backoff.ms", "5");
    let consumer: BaseConsumer = config.create().unwrap();
    let metadata = consumer.fetch_metadata(Some(topic), Duration::from_secs(10)).unwrap();
    let mut list = TopicPartitionList::new();
    for partition in metadata.topics()[0].partitions() {
        list.add_partition_offset(topic, partition.id(), Offset::Beginning).unwrap();
    }
    consumer.assign(&list).unwrap();
    consumer
}

/// Returns the event as a line of CSV. Only text fields are quoted.
fn line(event: &ProductEvent<'_>) -> String {
    let values = serde_json::to_value(event).unwrap();
    let value = |field: &event_model::Field| match (field.kind, &values[field.name]) {
        (FieldKind::Text, serde_json::Value::String(text)) => format!("\"{}\"", text.replace('"', "\"\"")),
        (_, serde_json::Value::String(text)) => text.clone(),
        (_, value) => value.to_string(),
    };
    FIELDS.iter().map(value).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_every_field_in_the_order_of_the_columns() {
        let value = br#"{"event_id":"01890a5d-ac96-774b-bcce-b302099a8057","event_timestamp":"2026-11-22T09:30:00Z","event_type":"rfq_sent","user_id":1,"account_id":2,"product_id":3,"category":"to\"ols","experiment_id":"exp_1"}"#;
        let line = line(&parse(Some(value), None, Window::default()).unwrap());
        let expected =
            r#"01890a5d-ac96-774b-bcce-b302099a8057,2026-11-22T09:30:00.000000Z,rfq_sent,1,2,3,"to""ols","exp_1""#;
        assert!(line.starts_with(expected), "{line}");
        assert_eq!(line.split(',').count(), FIELDS.len(), "{line}");
    }
}
