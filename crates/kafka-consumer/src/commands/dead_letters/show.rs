//! Shows a dead letter: record, reasons and payload, with marks at the violations.

use std::io::Write;

use anyhow::{Context, bail};
use event_model::Window;
use tokio_postgres::Client;

use crate::commands::dead_letters::error_context;
use crate::commands::dead_letters::filter::with_sqlstate;
use crate::commands::dead_letters::stored::{StoredLetter, columns};
use crate::commands::printable::{escaped, marked_lines};
use crate::kafka::group_topic::GroupTopic;

/// Maximum number of payload bytes to print.
const SHOWN: usize = 8_192;
const WIDTH: usize = 80;

/// Identifies a dead letter of a group and topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LetterKey {
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    /// Incarnation of the topic. `None` selects the latest one with a matching dead letter.
    pub(crate) incarnation: Option<i32>,
}

/// Prints a dead letter as text. Validates its payload again, by the present rules and the given window.
pub(crate) fn print(
    letter: &StoredLetter,
    group_topic: &GroupTopic,
    window: Window,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    head(letter, group_topic, out)?;
    payload(letter, window, out)
}

/// Reads a dead letter. Fails if there is none.
pub(crate) async fn find(client: &Client, group_topic: &GroupTopic, key: LetterKey) -> anyhow::Result<StoredLetter> {
    let sql = format!(
        r#"SELECT {} FROM pipeline.dead_letters WHERE consumer_group = $1 AND topic = $2 AND partition = $3 AND "offset" = $4
        AND ($5::integer IS NULL OR topic_incarnation = $5) ORDER BY topic_incarnation DESC LIMIT 1"#,
        columns("payload")
    );
    let LetterKey { partition, offset, incarnation } = key;
    let row =
        client.query_opt(&sql, &[&group_topic.group, &group_topic.topic, &partition, &offset, &incarnation]).await;
    match row.context("cannot read the dead letters")? {
        Some(row) => Ok(StoredLetter::read(&row)?),
        None => bail!(
            "offset {offset} of partition {partition} of {} is not a dead letter of group {}; list them with \
             'kafka-consumer dead-letters list'",
            group_topic.topic,
            group_topic.group
        ),
    }
}

fn head(letter: &StoredLetter, group_topic: &GroupTopic, out: &mut impl Write) -> anyhow::Result<()> {
    let line = |out: &mut dyn Write, name: &str, value: &str| writeln!(out, "{name:<12} {value}");
    line(out, "record", &format!("partition {}, offset {} of {}", letter.partition, letter.offset, group_topic.topic))?;
    line(out, "incarnation", &letter.incarnation.to_string())?;
    line(out, "group", &group_topic.group)?;
    let time = letter.record_time.map_or_else(|| "none".to_owned(), |time| time.to_string());
    line(out, "record time", &time)?;
    line(out, "state", letter.state())?;
    line(out, "first seen", &letter.first_seen.to_string())?;
    line(out, "attempts", &letter.attempts.to_string())?;
    for (name, time) in [("replayed", letter.replayed), ("discarded", letter.discarded)] {
        if let Some(time) = time {
            line(out, name, &time.to_string())?;
        }
    }
    line(out, "stage", &letter.stage)?;
    line(out, "reason", &with_sqlstate(&letter.reason_code, letter.sqlstate.as_deref()))?;
    for reason in letter.reason.split("; ") {
        line(out, "", &escaped(reason.as_bytes()))?;
    }
    line(out, "key", &letter.key.as_deref().map_or_else(|| "none".to_owned(), escaped))?;
    for (name, value) in &letter.headers {
        let value = value.as_deref().map_or_else(|| "none".to_owned(), escaped);
        line(out, "header", &format!("{}: {value}", escaped(name.as_bytes())))?;
    }
    Ok(())
}

fn payload(letter: &StoredLetter, window: Window, out: &mut impl Write) -> anyhow::Result<()> {
    let Some(bytes) = &letter.payload else {
        let why = if letter.discarded.is_some() { "discarded" } else { "none (the record is a tombstone)" };
        writeln!(out, "{:<12} {why}", "payload")?;
        return Ok(());
    };
    let validated = error_context::validate(Some(bytes), letter.record_time, window.at(letter.first_seen));
    let today = if validated.is_ok() { "passes; insert it with 'dead-letters replay'" } else { "fails" };
    writeln!(out, "{:<12} {today}", "validation")?;
    writeln!(out, "{:<12} {} bytes", "payload", bytes.len())?;
    let shown = &bytes[..bytes.len().min(SHOWN)];
    let marks = validated.err().map(|(_, marks)| marks).unwrap_or_default();
    let (near, far): (Vec<_>, Vec<_>) = marks.into_iter().partition(|mark| mark.at <= shown.len());
    for text in marked_lines(shown, &near, WIDTH) {
        writeln!(out, "{text}")?;
    }
    if shown.len() < bytes.len() {
        writeln!(out, "… {} more bytes; print all with --json", bytes.len() - shown.len())?;
    }
    for mark in far {
        writeln!(out, "at byte {}: {}", mark.at, mark.what)?;
    }
    Ok(())
}
