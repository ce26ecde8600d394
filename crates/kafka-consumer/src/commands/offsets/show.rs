//! Shows a group's next offsets and the latest manual changes to them.

use std::io::Write;

use anyhow::Context;
use comfy_table::{CellAlignment, Table};
use serde_json::{Value, json};
use tokio_postgres::{Client, Row};

use crate::kafka::group_topic::GroupTopic;

/// SQL expression over the offsets of a group and topic: true if the recreated topic does not have the partition.
pub(crate) const IS_RETIRED: &str =
    "topic_id IS NULL AND next_offset = 0 AND topic_incarnation > 1 AND bool_or(topic_id IS NOT NULL) OVER ()";

/// Column of the query with [`IS_RETIRED`].
const RETIRED: usize = 11;

const CHANGES: &str =
    "SELECT to_char(changed_at, 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'), changed_by, host(client_address),
        partition, from_offset, to_offset, target, reason
    FROM pipeline.offset_changes WHERE consumer_group = $1 AND topic = $2 ORDER BY id DESC LIMIT $3";

/// Maximum number of manual changes that are shown.
const CHANGES_SHOWN: i64 = 20;

/// Prints the offsets stored in PostgreSQL and the latest manual changes.
pub(crate) async fn show(
    client: &Client,
    group_topic: &GroupTopic,
    json: bool,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let offsets = format!(
        "SELECT partition, topic_incarnation, next_offset, fingerprint_offset, records, rows_inserted, duplicates,
            dead_letters, expired, suppressed, to_char(updated_at, 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"'), {IS_RETIRED}
        FROM pipeline.consumer_offsets WHERE consumer_group = $1 AND topic = $2 ORDER BY partition"
    );
    let offsets = client.query(&offsets, &[&group_topic.group, &group_topic.topic]).await;
    let offsets = offsets.context("cannot read the offsets")?;
    let changes = client.query(CHANGES, &[&group_topic.group, &group_topic.topic, &CHANGES_SHOWN]).await;
    let changes = changes.context("cannot read the offset changes")?;
    if json {
        let all = json!({
            "group": group_topic.group, "topic": group_topic.topic,
            "offsets": offsets.iter().map(offset_json).collect::<Vec<_>>(),
            "changes": changes.iter().map(change_json).collect::<Vec<_>>(),
        });
        writeln!(out, "{all}")?;
        return Ok(());
    }
    if offsets.is_empty() {
        writeln!(out, "group {} has not read {} yet", group_topic.group, group_topic.topic)?;
        return Ok(());
    }
    writeln!(out, "{}", offset_table(&offsets))?;
    for change in &changes {
        let text = |column| change.get::<_, Option<String>>(column).unwrap_or_else(|| "a local socket".to_owned());
        let (partition, from, to): (i32, i64, i64) = (change.get(3), change.get(4), change.get(5));
        writeln!(out, "{} partition {partition}: {from} to {to} ({})", &text(0)[..19], text(6))?;
        writeln!(out, "    by {} from {}: {}", text(1), text(2), text(7))?;
    }
    Ok(())
}

/// Formats the offsets, at most 80 columns wide.
fn offset_table(offsets: &[Row]) -> Table {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::UTF8_BORDERS_ONLY);
    table.set_header(["partition", "next offset", "last record", "incarnation", "last commit (UTC)"]);
    for row in offsets {
        let last = row.get::<_, Option<i64>>(3).map_or_else(|| "none".to_owned(), |last| last.to_string());
        let (partition, incarnation, next): (i32, i32, i64) = (row.get(0), row.get(1), row.get(2));
        let updated: String = row.get(10);
        let updated = updated.get(..19).unwrap_or(&updated).replace('T', " ");
        let partition = if row.get(RETIRED) { format!("retired {partition}") } else { partition.to_string() };
        table.add_row([partition, next.to_string(), last, incarnation.to_string(), updated]);
    }
    for column in table.column_iter_mut().take(4) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn offset_json(row: &Row) -> Value {
    let count = |column| row.get::<_, i64>(column);
    json!({
        "partition": row.get::<_, i32>(0), "incarnation": row.get::<_, i32>(1), "next_offset": count(2),
        "fingerprint_offset": row.get::<_, Option<i64>>(3), "records": count(4), "rows_inserted": count(5),
        "duplicates": count(6), "dead_letters": count(7), "expired": count(8), "suppressed": count(9),
        "updated_at": row.get::<_, String>(10), "retired": row.get::<_, bool>(RETIRED),
    })
}

fn change_json(row: &Row) -> Value {
    let text = |column| row.get::<_, Option<String>>(column);
    json!({
        "changed_at": text(0), "changed_by": text(1), "client_address": text(2), "partition": row.get::<_, i32>(3),
        "from_offset": row.get::<_, i64>(4), "to_offset": row.get::<_, i64>(5), "target": text(6), "reason": text(7),
    })
}
