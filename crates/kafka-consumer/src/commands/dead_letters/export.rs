//! Exports dead letters as JSON, one per line.

use std::io::Write;
use std::pin::pin;

use anyhow::Context;
use futures_util::TryStreamExt;
use serde_json::json;
use tokio_postgres::Client;

use crate::commands::dead_letters::filter::{Filter, MATCHES};
use crate::commands::dead_letters::stored::{StoredLetter, columns};
use crate::commands::printable::json_line;

/// Writes the matching dead letters in the order of their records. Returns their number. Streams the rows, because the
/// payloads may not fit into memory.
pub(crate) async fn export(client: &Client, filter: &Filter, out: &mut impl Write) -> anyhow::Result<u64> {
    let sql = format!(
        r#"SELECT {} FROM pipeline.dead_letters WHERE {MATCHES} ORDER BY topic_incarnation, partition, "offset" LIMIT $10"#,
        columns("payload")
    );
    let cannot = "cannot read the dead letters";
    let rows = client.query_raw(&sql, filter.parameters_with_limit()).await.context(cannot)?;
    let mut rows = pin!(rows);
    let mut count = 0;
    while let Some(row) = rows.try_next().await.context(cannot)? {
        let mut letter = StoredLetter::read(&row).context(cannot)?.json();
        letter["group"] = json!(filter.group_topic.group);
        letter["topic"] = json!(filter.group_topic.topic);
        writeln!(out, "{}", json_line(&letter))?;
        count += 1;
    }
    out.flush()?;
    Ok(count)
}
