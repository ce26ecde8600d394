//! Measures a refinement after new rows, with tables of different sizes.

use clap::Args;
use comfy_table::Table;
use local_stack::Postgres;
use pipeline_runtime::units;
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio_postgres::{Client, NoTls};

use crate::programs::{keep, migrate, ours, succeed};
use crate::spread::Spread;

#[derive(Args)]
pub(crate) struct Arguments {
    /// Sizes of the table in rows; the first one is the base of the ratios
    #[arg(long, value_delimiter = ',', default_value = "10M,50M", value_parser = units::count::<i64>)]
    rows: Vec<i64>,
    /// Number of rows per day
    #[arg(long, default_value_t = 10_000_000, value_parser = units::count::<i64>)]
    per_day: i64,
    /// Number of new rows before each measured refinement
    #[arg(long, default_value_t = 100_000, value_parser = units::count::<i64>)]
    new: i64,
    /// Number of measured refinements per size
    #[arg(long, default_value_t = 3)]
    rounds: usize,
}

/// Inserts $2 rows in chronological order at a rate of $3 a day. The last one is $1 seconds old. One row in a hundred
/// is up to a minute late.
const ROWS: &str = "INSERT INTO staging.product_events_raw
    SELECT (lpad(to_hex((extract(epoch FROM time) * 1000)::bigint), 12, '0') || '7'
                || substr(md5(random()::text || i), 1, 19))::uuid,
           time - CASE WHEN i % 100 = 0 THEN random() * interval '1 minute' ELSE interval '0' END,
           (ARRAY['search_performed', 'search_performed', 'result_clicked', 'product_viewed', 'recommendation_clicked',
                  'rfq_sent'])[1 + i % 6],
           user_id, 1 + user_id % 10, 1 + i % 100, (ARRAY['electronics', 'furniture', 'tools'])[1 + i % 3], 'exp_1'
    FROM generate_series(1, $2::bigint) AS i,
         LATERAL (SELECT now() - ($1::float8 + (($2::bigint - i) * 86400.0 / $3::bigint)) * interval '1 second' AS time,
                         1 + (random() * 999)::integer AS user_id) AS made";

const PARTITIONS: &str = "SELECT pipeline.ensure_partition((now() AT TIME ZONE 'UTC')::date - i)
    FROM generate_series(0, $1::integer) AS i";

const NOTES: &str = "INSERT INTO pipeline.touched_hours (hour)
    SELECT hour FROM generate_series(date_bin('1 hour', now() - $1::float8 * interval '1 second' - interval '1 minute', 'epoch'),
                                     now(), '1 hour') AS hour";

/// Prints a table and writes `target/bench/refine.json`.
pub(crate) fn compare(arguments: &Arguments) {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::UTF8_BORDERS_ONLY);
    table.set_header(["rows", "first refinement, s", "after new rows, s", "ratio"]);
    let mut results: Vec<Value> = Vec::new();
    let mut base = None;
    for rows in &arguments.rows {
        let (first, after) = measure(arguments, *rows);
        let ratio = after.median / *base.get_or_insert(after.median);
        table.add_row([rows.to_string(), format!("{first:.1}"), after.cell(2), format!("{ratio:.2}")]);
        results.push(json!({
            "rows": rows,
            "first_seconds": first,
            "after_new_rows_seconds": after.median,
            "after_new_rows_seconds_range": [after.min, after.max],
            "ratio": ratio,
        }));
    }
    println!("{table}");
    keep("refine", &json!({"new_rows": arguments.new, "per_day": arguments.per_day, "sizes": results}));
}

/// Returns the seconds of the first refinement and those of the refinements after new rows.
fn measure(arguments: &Arguments, rows: i64) -> (f64, Spread) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let postgres = Postgres::ephemeral().unwrap();
    let url = postgres.url();
    migrate(&url);
    let client = connect(&runtime, &url);
    let per_day = arguments.per_day;
    let seconds = |rows: i64| exact(rows) * 86_400.0 / exact(per_day);
    let days = i32::try_from(rows / per_day + 2).unwrap();
    let all_new = seconds(arguments.new) * exact(i64::try_from(arguments.rounds).unwrap());
    runtime.block_on(async {
        client.query(PARTITIONS, &[&days]).await.unwrap();
        // Inserts in chunks, as live rows would be.
        let pieces = (rows / 1_000_000).max(1);
        for piece in (0..pieces).rev() {
            let until = all_new + seconds(piece * (rows / pieces));
            client.execute(ROWS, &[&until, &(rows / pieces), &per_day]).await.unwrap();
        }
        client.execute(NOTES, &[&(all_new + seconds(rows))]).await.unwrap();
        client.batch_execute("VACUUM ANALYZE staging.product_events_raw").await.unwrap();
    });
    let first = refined(&url);
    let mut after: Vec<f64> = Vec::new();
    for round in (0..arguments.rounds).rev() {
        let until = seconds(arguments.new) * exact(i64::try_from(round).unwrap());
        runtime.block_on(async {
            client.execute(ROWS, &[&until, &arguments.new, &per_day]).await.unwrap();
            client.execute(NOTES, &[&(until + seconds(arguments.new))]).await.unwrap();
        });
        after.push(refined(&url));
    }
    eprintln!("{rows} rows: first {first:.2} s, after {} new rows each {after:.2?} s", arguments.new);
    (first, Spread::of(after).expect("at least one round"))
}

fn connect(runtime: &Runtime, url: &str) -> Client {
    let (client, connection) = runtime.block_on(tokio_postgres::connect(url, NoTls)).unwrap();
    runtime.spawn(connection);
    client
}

fn refined(url: &str) -> f64 {
    let said = succeed(ours("kafka-consumer").args(["refine", "--json", "--database-url", url]));
    serde_json::from_str::<Value>(&said).unwrap()["seconds"].as_f64().unwrap()
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
fn exact(number: i64) -> f64 {
    number as f64
}
