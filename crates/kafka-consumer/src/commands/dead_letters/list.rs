//! Lists dead letters and counts them by reason.

use std::io::Write;

use anyhow::Context;
use comfy_table::{CellAlignment, Table};
use serde_json::{Value, json};
use tokio_postgres::Client;

use crate::commands::dead_letters::filter::{Filter, MATCHES, ReasonCount, State, borrowed, with_sqlstate};
use crate::commands::dead_letters::stored::{StoredLetter, columns};
use crate::commands::printable::json_line;
use crate::kafka::group_topic::GroupTopic;

/// Content and format of the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Listing {
    /// Omits the dead letters and prints only the counts.
    pub(crate) count_only: bool,
    /// Prints one JSON object instead of a table.
    pub(crate) json: bool,
}

/// Prints the number of matching dead letters by reason, then the dead letters, newest first.
pub(crate) async fn list(
    client: &Client,
    filter: &Filter,
    listing: Listing,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let counts = filter.count(client).await?;
    let letters = if listing.count_only { Vec::new() } else { newest(client, filter).await? };
    if listing.json {
        let counts: Vec<Value> = counts.iter().map(count_json).collect();
        let mut all = json!({"group": filter.group_topic.group, "topic": filter.group_topic.topic, "counts": counts});
        if !listing.count_only {
            all["dead_letters"] = letters.iter().map(|letter| Value::Object(letter.head_json())).collect();
        }
        writeln!(out, "{}", json_line(&all))?;
        return Ok(());
    }
    let total: i64 = counts.iter().map(|one| one.count).sum();
    let letters_of = if total == 1 { "dead letter of" } else { "dead letters of" };
    let GroupTopic { group, topic } = &filter.group_topic;
    writeln!(out, "{total} {letters_of} group {group}, topic {topic}")?;
    for one in &counts {
        writeln!(out, "{:>8}  {}", one.count, with_sqlstate(&one.reason_code, one.sqlstate.as_deref()))?;
    }
    if !letters.is_empty() {
        writeln!(out, "{}", table(&letters, filter.state))?;
        let more = total - i64::try_from(letters.len()).unwrap_or(total);
        if more > 0 {
            writeln!(out, "{more} older dead letters not shown; raise --limit to list them")?;
        }
    }
    Ok(())
}

fn count_json(one: &ReasonCount) -> Value {
    json!({"reason_code": one.reason_code, "sqlstate": one.sqlstate, "count": one.count})
}

async fn newest(client: &Client, filter: &Filter) -> anyhow::Result<Vec<StoredLetter>> {
    let sql = format!(
        r#"SELECT {} FROM pipeline.dead_letters WHERE {MATCHES}
        ORDER BY first_seen_at DESC, topic_incarnation DESC, partition, "offset" DESC LIMIT $10"#,
        columns("NULL::bytea")
    );
    let parameters = filter.parameters_with_limit();
    let rows = client.query(&sql, &borrowed(&parameters)).await.context("cannot read the dead letters")?;
    rows.iter().map(StoredLetter::read).collect::<Result<_, _>>().context("cannot read the dead letters")
}

/// Formats dead letters within 80 columns. Shows the number of attempts, or the state if the filter matches all states.
fn table(letters: &[StoredLetter], state: State) -> Table {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::UTF8_BORDERS_ONLY);
    let last = if state == State::All { "state" } else { "attempts" };
    table.set_header(["partition", "offset", "first seen (UTC)", last, "reason"]);
    for letter in letters {
        let seen = letter.first_seen.to_string();
        table.add_row([
            letter.partition.to_string(),
            letter.offset.to_string(),
            seen.get(..16).unwrap_or(&seen).replace('T', " "),
            if state == State::All { letter.state().to_owned() } else { letter.attempts.to_string() },
            with_sqlstate(&letter.reason_code, letter.sqlstate.as_deref()),
        ]);
    }
    for column in table.column_iter_mut().take(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}
