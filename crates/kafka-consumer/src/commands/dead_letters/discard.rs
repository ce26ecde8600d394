//! Discards the payloads of dead letters. Their rows stay, with the reason and the time of the discard.

use anyhow::Context;
use tokio_postgres::Client;

use crate::commands::dead_letters::filter::{Filter, MATCHES, borrowed};

/// Discards the payloads of the matching dead letters in one statement. Skips those discarded before. Returns the
/// number of dead letters changed.
pub(crate) async fn discard(client: &Client, filter: &Filter) -> anyhow::Result<u64> {
    let sql = format!(
        r#"WITH chosen AS (
            SELECT topic_incarnation, partition, "offset" FROM pipeline.dead_letters
            WHERE discarded_at IS NULL AND {MATCHES}
            ORDER BY topic_incarnation, partition, "offset" LIMIT $10 FOR UPDATE
        )
        UPDATE pipeline.dead_letters AS letter SET payload = NULL, discarded_at = now() FROM chosen
        WHERE letter.consumer_group = $1 AND letter.topic = $2 AND letter.topic_incarnation = chosen.topic_incarnation
          AND letter.partition = chosen.partition AND letter."offset" = chosen."offset""#
    );
    let parameters = filter.parameters_with_limit();
    client.execute(&sql, &borrowed(&parameters)).await.context("cannot discard the dead letters")
}

/// Returns the number of dead letters that [`discard`] would change.
pub(crate) async fn count(client: &Client, filter: &Filter) -> anyhow::Result<i64> {
    let sql = format!(
        "SELECT count(*) FROM (
            SELECT FROM pipeline.dead_letters WHERE discarded_at IS NULL AND {MATCHES} LIMIT $10
        ) AS chosen"
    );
    let parameters = filter.parameters_with_limit();
    let row = client.query_one(&sql, &borrowed(&parameters)).await.context("cannot read the dead letters")?;
    Ok(row.get(0))
}
