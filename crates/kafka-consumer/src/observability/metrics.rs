//! The consumer's metrics. docs/metrics.md describes them for users.

use pipeline_runtime::metrics::{Exposition, Metric, Registry};

use crate::observability::counters::{Counters, Totals};
use crate::observability::health::Health;
use crate::observability::lag::PartitionEnds;
use crate::observability::record_counts::RecordCounts;

/// Committed records of any outcome, by partition.
pub(crate) const RECORDS: Metric =
    Metric::counter("kafka_consumer_records_committed_total", "Committed records of any outcome.");
/// New rows of `staging.product_events_raw`, by partition.
pub(crate) const ROWS: Metric = Metric::counter("kafka_consumer_rows_inserted_total", "Events that became new rows.");
/// Records whose `event_id` already existed on that day, by partition.
pub(crate) const DUPLICATES: Metric =
    Metric::counter("kafka_consumer_duplicates_total", "Records whose event_id already existed on that day.");
/// Duplicates whose content differs from the row in the table, by partition.
pub(crate) const DIFFERING: Metric = Metric::counter(
    "kafka_consumer_duplicates_differing_total",
    "Duplicates whose content differs from that of the row with their event_id.",
);
/// Records in `pipeline.dead_letters`, by reason code.
pub(crate) const DEAD_LETTERS: Metric =
    Metric::counter("kafka_consumer_dead_letters_total", "Records that became dead letters, by reason.");
/// Events of days that retention has dropped, by partition.
pub(crate) const EXPIRED: Metric =
    Metric::counter("kafka_consumer_expired_total", "Events of days that retention has dropped; not inserted.");
/// Rows that a trigger suppressed or redirected, by partition.
pub(crate) const SUPPRESSED: Metric = Metric::counter(
    "kafka_consumer_suppressed_total",
    "Events whose row a BEFORE INSERT trigger suppressed or redirected to another table.",
);
/// Offsets between the committed one in PostgreSQL and the high watermark, by partition of this consumer. Absent while
/// Kafka does not answer.
pub(crate) const LAG: Metric = Metric::gauge(
    "kafka_consumer_lag_records",
    "Offsets from the committed one in PostgreSQL to the partition's high watermark.",
);
/// Offsets between the last stable offset and the high watermark, by partition of this consumer. Absent while Kafka
/// does not answer.
pub(crate) const LAST_STABLE_OFFSET_LAG: Metric = Metric::gauge(
    "kafka_consumer_last_stable_offset_lag_records",
    "Offsets from the last stable offset to the high watermark, held back by an open transaction; part of the lag.",
);
/// Seconds from a record's timestamp to its commit.
pub(crate) const INGEST_LATENCY: Metric = Metric::histogram(
    "kafka_consumer_ingest_latency_seconds",
    "Seconds from a record's own timestamp to its commit in PostgreSQL.",
);
/// Seconds from an event's timestamp to its commit, for events that were younger than a minute when they were sent.
pub(crate) const EVENT_LATENCY: Metric = Metric::histogram(
    "kafka_consumer_event_latency_seconds",
    "Seconds from event_timestamp to the commit in PostgreSQL; only events younger than a minute when sent.",
);
/// Seconds from a writer's first attempt at a batch to its commit, retries included.
pub(crate) const BATCH_COMMIT: Metric = Metric::histogram(
    "kafka_consumer_batch_commit_seconds",
    "Seconds from the first attempt at a batch to its commit.",
);
/// New rows per batch.
pub(crate) const BATCH_ROWS: Metric =
    Metric::histogram("kafka_consumer_batch_rows", "New rows of each committed batch.");
/// Retries, by SQLSTATE; `none` without an answer or a connection.
pub(crate) const RETRIES: Metric = Metric::counter(
    "kafka_consumer_postgres_retries_total",
    "Retries of batches after transient errors of PostgreSQL, by SQLSTATE (none: no connection or answer).",
);
/// 1 while `/readyz` returns 200, else 0.
pub(crate) const READY: Metric =
    Metric::gauge("kafka_consumer_ready", "1 while records are inserted, 0 while /readyz returns 503.");
/// 1 if the table partition of the next UTC day exists, else 0.
pub(crate) const NEXT_PARTITION: Metric = Metric::gauge(
    "kafka_consumer_next_partition_ready",
    "1 if the table partition of the next UTC day exists, 0 if it could not be created.",
);
/// Always 1. Its labels name the program, its version, its group and its topic.
pub(crate) const BUILD: Metric =
    Metric::gauge("kafka_consumer_build_info", "Always 1; labels: program, version, group and topic.");

/// All metrics of the consumer.
pub(crate) const REGISTRY: Registry = Registry::new(
    "kafka_consumer_",
    &[
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
        NEXT_PARTITION,
        BUILD,
    ],
);

type Count = fn(&RecordCounts) -> u64;

/// Metrics by partition, each with its count.
const BY_PARTITION: &[(Metric, Count)] = &[
    (RECORDS, |tally| tally.records),
    (ROWS, |tally| tally.rows),
    (DUPLICATES, |tally| tally.duplicates),
    (DIFFERING, |tally| tally.duplicates_differing),
    (EXPIRED, |tally| tally.expired),
    (SUPPRESSED, |tally| tally.suppressed),
];

/// Renders the metrics in the Prometheus text format. `started` is in seconds since 1970.
#[must_use]
pub(crate) fn render(
    counters: &Counters,
    ends: &PartitionEnds,
    health: &Health,
    started: f64,
    labels: &[(&str, &str)],
) -> String {
    REGISTRY.render(started, |text| {
        let totals = counters.totals();
        by_partition(text, &totals);
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
        text.single(&NEXT_PARTITION, u8::from(health.next_partition_ready()));
        text.metric(&BUILD);
        text.sample(&BUILD, labels, 1);
    })
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
    use pipeline_runtime::kafka::Connection;

    use super::*;

    #[test]
    fn names_carry_program_and_unit_and_are_documented() {
        assert_eq!(REGISTRY.faults(include_str!("../../../../docs/metrics.md")), Vec::<String>::new());
    }

    #[test]
    fn each_metric_is_shown_once_and_before_its_samples() {
        let counters = Counters::default();
        counters.owns(3, 17);
        counters.add_retry(Some("57P01"));
        counters.add_retry(None);
        let shown =
            render(&counters, &PartitionEnds::default(), &Health::new(Connection::default()), 1.5, &[("version", "x")]);
        for metric in REGISTRY.metrics() {
            assert_eq!(shown.matches(&format!("# TYPE {} ", metric.name)).count(), 1, "{}", metric.name);
        }
        for line in [
            "kafka_consumer_rows_inserted_total{partition=\"3\"} 0",
            "kafka_consumer_dead_letters_total{reason=\"not_json\"} 0",
            "kafka_consumer_dead_letters_total{reason=\"refused_by_postgres\"} 0",
            "kafka_consumer_postgres_retries_total{sqlstate=\"57P01\"} 1",
            "kafka_consumer_postgres_retries_total{sqlstate=\"none\"} 1",
            "kafka_consumer_ready 0",
            "kafka_consumer_next_partition_ready 0",
            "kafka_consumer_build_info{version=\"x\"} 1",
        ] {
            assert!(shown.lines().any(|one| one == line), "{line} is not in\n{shown}");
        }
    }
}
