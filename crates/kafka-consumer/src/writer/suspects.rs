//! The few rows of a batch whose `event_id` was seen of late: what is new of them goes in, the rest is counted.

use event_model::{COPY_COLUMNS, read_copy_row};
use tokio_postgres::{Client, Statement, Transaction};

use super::moves::Corrections;
use crate::batch::Part;

/// The statement that inserts suspects.
pub(super) struct Suspects {
    insert: Statement,
}

impl Suspects {
    pub(super) async fn prepare(client: &Client) -> Result<Self, tokio_postgres::Error> {
        Ok(Self { insert: client.prepare(&insert()).await? })
    }

    /// Inserts what is new of a part's suspects. To be called when its other rows are in.
    pub(super) async fn insert(
        &self,
        transaction: &Transaction<'_>,
        part: &Part,
    ) -> Result<Corrections, tokio_postgres::Error> {
        if part.suspects.is_empty() {
            return Ok(Corrections::default());
        }
        let row = transaction.query_one(&self.insert, &[&json(part)]).await?;
        let count = |column| row.get::<_, i64>(column).unsigned_abs();
        let duplicates = part.suspects.len() as u64 - count(0);
        Ok(Corrections { duplicates, differing: count(1), ..Corrections::default() })
    }
}

/// The suspects as a JSON array.
fn json(part: &Part) -> String {
    let mut text = vec![b'['];
    for event in part.suspects.iter().filter_map(|index| read_copy_row(part.rows.row(*index).bytes)) {
        if text.len() > 1 {
            text.push(b',');
        }
        event.write_json(&mut text);
    }
    text.push(b']');
    String::from_utf8_lossy(&text).into_owned()
}

/// A suspect that went in finds itself, so one that finds nothing like it met another content.
fn insert() -> String {
    let columns = COPY_COLUMNS.as_str();
    let like = |table: &str| {
        let equal = |column: &str| format!("{table}.{column} = suspect.{column}");
        COPY_COLUMNS.split(", ").map(equal).collect::<Vec<_>>().join(" AND ")
    };
    format!(
        "WITH suspect AS MATERIALIZED (
             SELECT {columns} FROM json_populate_recordset(NULL::staging.product_events_raw, $1::text::json)
         ), fresh AS (
             INSERT INTO staging.product_events_raw ({columns}) SELECT {columns} FROM suspect
             ON CONFLICT DO NOTHING RETURNING {columns}
         )
         SELECT (SELECT count(*) FROM fresh),
                (SELECT count(*) FROM suspect
                 WHERE NOT EXISTS (SELECT FROM staging.product_events_raw AS old WHERE {})
                   AND NOT EXISTS (SELECT FROM fresh WHERE {}))",
        like("old"),
        like("fresh"),
    )
}
