//! The consumer's metrics: their names and what they tell. docs/metrics.md has them for people.

use pipeline_runtime::metrics::{Exposition, Metric, resident_memory_bytes};

use crate::observability::counters::{Counters, Totals};
use crate::observability::health::Health;
use crate::observability::lag::PartitionEnds;
use crate::observability::record_counts::RecordCounts;

/// Records whose transaction is committed, by partition, whatever became of them.
pub(crate) const RECORDS: Metric =
    Metric::counter("records_committed_total", "Records that were committed, whatever became of them.");
/// New rows of `staging.product_events_raw`, by partition.
pub(crate) const ROWS: Metric = Metric::counter("rows_inserted_total", "Events that became new rows.");
/// Records whose `event_id` was there already, by partition.
pub(crate) const DUPLICATES: Metric =
    Metric::counter("duplicates_total", "Records whose event_id was there already that day.");
/// Those of the duplicates whose content is another one, by partition.
pub(crate) const DIFFERING: Metric = Metric::counter(
    "duplicates_differing_total",
    "Duplicates whose content is not that of the row with their event_id.",
);
/// Records that are kept in `pipeline.dead_letters`, by reason code.
pub(crate) const DEAD_LETTERS: Metric =
    Metric::counter("dead_letters_total", "Records that became dead letters, by reason.");
/// Rows of days that retention has taken, by partition.
pub(crate) const EXPIRED: Metric =
    Metric::counter("expired_total", "Events of days that retention has taken; not inserted.");
/// Rows that a trigger suppressed or redirected, by partition.
pub(crate) const SUPPRESSED: Metric = Metric::counter(
    "suppressed_total",
    "Events whose row a BEFORE INSERT trigger suppressed or redirected to another table.",
);
/// Offsets between the committed one in PostgreSQL and the high watermark, by partition of this consumer. Absent while
/// Kafka does not answer.
pub(crate) const LAG: Metric = Metric::gauge(
    "consumer_lag_records",
    "Offsets from the committed one in PostgreSQL to the partition's high watermark.",
);
/// Offsets between the last stable offset and the high watermark, by partition of this consumer. Absent while Kafka does
/// not answer.
pub(crate) const LAST_STABLE_OFFSET_LAG: Metric = Metric::gauge(
    "last_stable_offset_lag_records",
    "Offsets from the last stable offset to the high watermark: held back by an open transaction, part of the lag.",
);
/// Seconds from a record's timestamp to its commit.
pub(crate) const INGEST_LATENCY: Metric =
    Metric::histogram("ingest_latency_seconds", "Seconds from a record's own timestamp to its commit in PostgreSQL.");
/// Seconds from an event's timestamp to its commit, for events that were younger than a minute when they were sent.
pub(crate) const EVENT_LATENCY: Metric = Metric::histogram(
    "event_latency_seconds",
    "Seconds from event_timestamp to the commit in PostgreSQL; only events younger than a minute when sent.",
);
/// Seconds from a writer's first attempt at a batch to its commit, retries included.
pub(crate) const BATCH_COMMIT: Metric =
    Metric::histogram("batch_commit_seconds", "Seconds from the first attempt at a batch to its commit.");
/// New rows of a batch.
pub(crate) const BATCH_ROWS: Metric = Metric::histogram("batch_rows", "New rows of each committed batch.");
/// Attempts that were made again, by SQLSTATE; `none` without an answer or a connection.
pub(crate) const RETRIES: Metric = Metric::counter(
    "postgres_retries_total",
    "Batches that were tried again because of a passing error of PostgreSQL, by SQLSTATE (none: no connection or answer).",
);
/// 1 while `/readyz` says 200, else 0.
pub(crate) const READY: Metric =
    Metric::gauge("consumer_ready", "1 while records are brought in, 0 while /readyz says 503.");
/// `MemoryBudget` in RAM, in bytes.
pub(crate) const MEMORY: Metric =
    Metric::gauge("process_resident_memory_bytes", "Memory of the process that is in RAM, in bytes.");
/// When the process started, in seconds since 1970.
pub(crate) const STARTED: Metric =
    Metric::gauge("process_start_time_seconds", "Start of the process, in seconds since 1970.");
/// Always 1; its labels say which program this is, and for whom it reads what.
pub(crate) const BUILD: Metric =
    Metric::gauge("build_info", "Always 1; the labels say which program this is and what it reads.");

/// All of them.
#[cfg(test)]
const ALL: &[Metric] = &[
    RECORDS,
    ROWS,
    DUPLICATES,
    DIFFERING,
    DEAD_LETTERS,
    EXPIRED,
    SUPPRESSED,
    LAG,
    LAST_STABLE_OFFSET_LAG,
    INGEST_LATENCY,
    EVENT_LATENCY,
    BATCH_COMMIT,
    BATCH_ROWS,
    RETRIES,
    READY,
    MEMORY,
    STARTED,
    BUILD,
];

type Count = fn(&RecordCounts) -> u64;

/// What each partition is counted by, and which of the counts it is.
const BY_PARTITION: &[(Metric, Count)] = &[
    (RECORDS, |tally| tally.records),
    (ROWS, |tally| tally.rows),
    (DUPLICATES, |tally| tally.duplicates),
    (DIFFERING, |tally| tally.duplicates_differing),
    (EXPIRED, |tally| tally.expired),
    (SUPPRESSED, |tally| tally.suppressed),
];

/// The metrics as they are now, in Prometheus' text format. `started` is in seconds since 1970.
#[must_use]
pub(crate) fn render(
    counters: &Counters,
    ends: &PartitionEnds,
    health: &Health,
    started: f64,
    labels: &[(&str, &str)],
) -> String {
    let mut text = Exposition::default();
    let totals = counters.totals();
    by_partition(&mut text, &totals);
    text.metric(&DEAD_LETTERS);
    for (reason, count) in &totals.reasons {
        text.sample(&DEAD_LETTERS, &[("reason", reason)], count);
    }
    text.metric(&LAG);
    for (partition, lag) in ends.lags(&totals) {
        text.sample(&LAG, &[("partition", &partition.to_string())], lag);
    }
    text.metric(&LAST_STABLE_OFFSET_LAG);
    for (partition, held_back) in ends.held_back_offsets(&totals) {
        text.sample(&LAST_STABLE_OFFSET_LAG, &[("partition", &partition.to_string())], held_back);
    }
    text.histogram(&INGEST_LATENCY, &counters.ingest_latency);
    text.histogram(&EVENT_LATENCY, &counters.event_latency);
    text.histogram(&BATCH_COMMIT, &counters.batch_commit);
    text.histogram(&BATCH_ROWS, &counters.batch_rows);
    text.metric(&RETRIES);
    for (sqlstate, count) in &totals.retries {
        text.sample(&RETRIES, &[("sqlstate", sqlstate)], count);
    }
    text.single(&READY, u8::from(health.ready().is_ok()));
    if let Some(bytes) = resident_memory_bytes() {
        text.single(&MEMORY, bytes);
    }
    text.single(&STARTED, started);
    text.metric(&BUILD);
    text.sample(&BUILD, labels, 1);
    text.finish()
}

fn by_partition(text: &mut Exposition, totals: &Totals) {
    for (metric, count) in BY_PARTITION {
        text.metric(metric);
        for (partition, one) in &totals.partitions {
            text.sample(metric, &[("partition", &partition.to_string())], count(&one.tally));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documentation_names_each_metric() {
        let documentation = include_str!("../../../../docs/metrics.md");
        for metric in ALL {
            assert!(documentation.contains(&format!("`{}", metric.name)), "docs/metrics.md lacks {}", metric.name);
        }
    }

    #[test]
    fn each_metric_is_shown_once_and_before_its_samples() {
        let counters = Counters::default();
        counters.owns(3, 17);
        counters.add_retry(Some("57P01"));
        counters.add_retry(None);
        let shown = render(&counters, &PartitionEnds::default(), &Health::default(), 1.5, &[("version", "x")]);
        for metric in ALL {
            assert_eq!(shown.matches(&format!("# TYPE {} ", metric.name)).count(), 1, "{}", metric.name);
        }
        for line in [
            "rows_inserted_total{partition=\"3\"} 0",
            "dead_letters_total{reason=\"not_json\"} 0",
            "dead_letters_total{reason=\"refused_by_postgres\"} 0",
            "postgres_retries_total{sqlstate=\"57P01\"} 1",
            "postgres_retries_total{sqlstate=\"none\"} 1",
            "consumer_ready 0",
            "build_info{version=\"x\"} 1",
        ] {
            assert!(shown.lines().any(|one| one == line), "{line} is not in\n{shown}");
        }
    }
}
