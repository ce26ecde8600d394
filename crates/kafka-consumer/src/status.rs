//! Where a group stands: each partition's offset, lag and counts.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use comfy_table::{CellAlignment, Table};
use pipeline_runtime::exit::Failure;
use pipeline_runtime::kafka::KafkaArgs;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use tokio_postgres::error::SqlState;

use crate::pipeline;
use crate::postgres::{self, Target};
use crate::source::Context;

const PATIENCE: Duration = Duration::from_secs(5);

const PARTITIONS: &str =
    "SELECT partition, next_offset, records, rows_inserted, duplicates, duplicates_differing, dead_letters,
        to_char(updated_at, 'YYYY-MM-DD HH24:MI:SS') AS updated
    FROM pipeline.consumer_offsets WHERE consumer_group = $1 AND topic = $2 ORDER BY partition";

const REASONS: &str = "SELECT reason_code, count(*) FROM pipeline.dead_letters
    WHERE consumer_group = $1 AND topic = $2 AND replayed_at IS NULL AND discarded_at IS NULL
    GROUP BY reason_code ORDER BY count(*) DESC, reason_code";

/// Prints the group's partitions and its dead letters by reason to stdout.
pub async fn print(kafka: &KafkaArgs, target: &Target, group: &str) -> Result<(), Failure> {
    let config = pipeline::client_config(kafka, group)?;
    let client = postgres::connect_at_start(target).await?;
    let topic = &kafka.topic;
    let rows = match client.query(PARTITIONS, &[&group, topic]).await {
        Err(error) if error.code() == Some(&SqlState::UNDEFINED_TABLE) => Vec::new(),
        other => other.context("the offsets cannot be read")?,
    };
    if rows.is_empty() {
        println!("group {group} has not read {topic} yet");
        return Ok(());
    }
    let kafka = BaseConsumer::from_config_and_context(&config, Context::default()).context("no Kafka client")?;
    let kafka: Arc<BaseConsumer<Context>> = Arc::new(kafka);
    let mut table = Table::new();
    table.load_style(comfy_table::presets::UTF8_BORDERS_ONLY);
    table.set_header([
        "partition",
        "next offset",
        "end",
        "lag",
        "records",
        "rows",
        "duplicates",
        "differing",
        "dead letters",
        "last commit (UTC)",
    ]);
    for column in table.column_iter_mut().take(9) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    for row in rows {
        let (partition, next): (i32, i64) = (row.get(0), row.get(1));
        let (asked, name) = (Arc::clone(&kafka), topic.clone());
        let ends = tokio::task::spawn_blocking(move || asked.fetch_watermarks(&name, partition, PATIENCE)).await;
        let end = ends.ok().and_then(Result::ok).map(|(_, high)| high);
        let unknown = || "?".to_owned();
        let mut cells = vec![partition.to_string(), next.to_string()];
        cells.push(end.map_or_else(unknown, |end| end.to_string()));
        cells.push(end.map_or_else(unknown, |end| (end - next).max(0).to_string()));
        cells.extend((2..7).map(|column| row.get::<_, i64>(column).to_string()));
        cells.push(row.get(7));
        table.add_row(cells);
    }
    println!("{table}");
    for row in client.query(REASONS, &[&group, topic]).await.context("the dead letters cannot be read")? {
        println!("{:>12} dead letters: {}", row.get::<_, i64>(1), row.get::<_, String>(0));
    }
    Ok(())
}
