//! HTTP endpoints of a running consumer: probes, metrics, the page and its state.

use std::sync::Arc;
use std::time::Instant;

use pipeline_runtime::http::{Answer, Answers};
use pipeline_runtime::kafka::{Connection, ConnectionState, Outage};
use serde::Serialize;

use crate::kafka::group_topic::GroupTopic;
use crate::observability::counters::{Counters, Totals};
use crate::observability::group_totals::{self, GroupTotals};
use crate::observability::health::Health;
use crate::observability::history::{History, Quantiles, Second};
use crate::observability::lag::PartitionEnds;
use crate::observability::{metrics, page, timing};

/// Default address of the endpoints.
pub(crate) const DEFAULT_ADDRESS: &str = "127.0.0.1:9464";

/// State that the endpoints serve.
#[derive(Debug)]
pub(crate) struct HttpEndpoints {
    /// Consumer group and topic.
    pub(crate) group_topic: GroupTopic,
    /// Running totals of the process.
    pub(crate) counters: Arc<Counters>,
    /// Readiness and liveness.
    pub(crate) health: Arc<Health>,
    /// Ends of the partitions in Kafka.
    pub(crate) ends: Arc<PartitionEnds>,
    /// History of the last ten minutes.
    pub(crate) history: Arc<History>,
    /// Totals of the group in PostgreSQL.
    pub(crate) group_totals: Arc<GroupTotals>,
    /// Start of the process, in milliseconds since 1970.
    started: i64,
}

/// State that the page shows. Times are in milliseconds since 1970, latencies in seconds.
#[derive(Serialize)]
struct State<'a> {
    version: &'static str,
    group: &'a str,
    topic: &'a str,
    started: i64,
    now: i64,
    not_ready: Option<String>,
    /// Beginning of an outage of Kafka, or of its refusals of the login.
    kafka_unavailable_since: Option<i64>,
    /// Reason of that outage, or `None` if Kafka answers.
    kafka_error: Option<String>,
    records: u64,
    rows: u64,
    duplicates: u64,
    duplicates_differing: u64,
    dead_letters: u64,
    expired: u64,
    suppressed: u64,
    /// Counts of the group since its first start, by all its consumers; `None` while PostgreSQL does not answer.
    group_totals: Option<group_totals::Totals>,
    batches: u64,
    retries: u64,
    reasons: Vec<(&'static str, u64)>,
    partitions: Vec<PartitionState>,
    ingest_latency: Quantiles,
    event_latency: Quantiles,
    seconds: Vec<Second>,
}

#[derive(Serialize)]
struct PartitionState {
    partition: i32,
    next_offset: i64,
    end: Option<i64>,
    lag: Option<u64>,
    /// Start of the open transaction that holds records back, in milliseconds since 1970.
    held_back_since: Option<i64>,
    records: u64,
    rows: u64,
    duplicates: u64,
    duplicates_differing: u64,
    dead_letters: u64,
    /// Milliseconds since the last commit; `None` before the first one.
    last_commit_ago: Option<u64>,
}

impl HttpEndpoints {
    /// Returns the endpoints of a process that starts now.
    #[must_use]
    pub(crate) fn new(group_topic: GroupTopic, kafka: Connection) -> Self {
        Self {
            group_topic,
            counters: Arc::default(),
            health: Arc::new(Health::new(kafka)),
            ends: Arc::default(),
            history: Arc::default(),
            group_totals: Arc::default(),
            started: timing::now().micros() / 1_000,
        }
    }

    fn state(&self, since: i64) -> State<'_> {
        let totals = self.counters.totals();
        let tally = totals.tally();
        let (ingest_latency, event_latency) = self.history.last_minute(&self.counters);
        let outage = self.kafka_outage(Instant::now());
        let now = timing::now().micros() / 1_000;
        let ago = |outage: &Outage| i64::try_from(outage.since.elapsed().as_millis()).unwrap_or(i64::MAX);
        State {
            version: env!("CARGO_PKG_VERSION"),
            group: &self.group_topic.group,
            topic: &self.group_topic.topic,
            started: self.started,
            now,
            not_ready: self.health.ready().err(),
            kafka_unavailable_since: outage.as_ref().map(|outage| now.saturating_sub(ago(outage))),
            kafka_error: outage.map(|outage| outage.reason),
            records: tally.records,
            rows: tally.rows,
            duplicates: tally.duplicates,
            duplicates_differing: tally.duplicates_differing,
            dead_letters: tally.dead_letters,
            expired: tally.expired,
            suppressed: tally.suppressed,
            group_totals: self.group_totals.get(),
            batches: self.counters.batches(),
            retries: self.counters.retries(),
            reasons: totals
                .reasons
                .iter()
                .filter(|(_, count)| **count > 0)
                .map(|(code, count)| (*code, *count))
                .collect(),
            partitions: self.partitions(&totals),
            ingest_latency,
            event_latency,
            seconds: self.history.since(since),
        }
    }

    fn kafka_outage(&self, now: Instant) -> Option<Outage> {
        match self.health.kafka().state(now) {
            ConnectionState::Unavailable(outage) | ConnectionState::LoginRefused(outage) => Some(outage),
            ConnectionState::Connecting | ConnectionState::Connected => None,
        }
    }

    /// Returns the partitions that this consumer owns.
    fn partitions(&self, totals: &Totals) -> Vec<PartitionState> {
        let lags = self.ends.lags(totals);
        let now = Instant::now();
        let of = |(&partition, one): (&i32, &crate::observability::counters::Partition)| {
            let ago = one.last_commit.map(|at| now.saturating_duration_since(at).as_millis());
            let next_offset = one.next_offset?;
            Some(PartitionState {
                partition,
                next_offset,
                // The end was requested up to a second ago and may be behind.
                end: self.ends.of(partition).map(|end| end.max(next_offset)),
                lag: lags.get(&partition).copied(),
                held_back_since: self.ends.held_back(partition).map(|held| held.since.micros() / 1_000),
                records: one.tally.records,
                rows: one.tally.rows,
                duplicates: one.tally.duplicates,
                duplicates_differing: one.tally.duplicates_differing,
                dead_letters: one.tally.dead_letters,
                last_commit_ago: ago.map(|millis| u64::try_from(millis).unwrap_or(u64::MAX)),
            })
        };
        totals.partitions.iter().filter_map(of).collect()
    }
}

impl Answers for HttpEndpoints {
    fn metrics(&self) -> String {
        let GroupTopic { group, topic } = &self.group_topic;
        let version = env!("CARGO_PKG_VERSION");
        let labels = [("program", "kafka-consumer"), ("version", version), ("group", group), ("topic", topic)];
        #[expect(clippy::cast_precision_loss, reason = "seconds with a fraction")]
        let started = self.started as f64 / 1e3;
        metrics::render(&self.counters, &self.ends, &self.health, started, &labels)
    }

    fn live(&self) -> Result<(), String> {
        self.health.live()
    }

    fn ready(&self) -> Result<(), String> {
        self.health.ready()
    }

    fn warning(&self) -> Option<String> {
        self.health.warning()
    }

    /// Serves the page at `/`, and its state with the seconds after a time at `/state?since=MILLISECONDS`.
    fn other(&self, path: &str, query: &str) -> Option<Answer> {
        match path {
            "/" => Some(Answer { content_type: page::CONTENT_TYPE, body: page::HTML.into(), policy: page::POLICY }),
            "/state" => {
                let since = query.split('&').find_map(|pair| pair.strip_prefix("since=")?.parse().ok()).unwrap_or(0);
                let body = serde_json::to_vec(&self.state(since)).ok()?;
                Some(Answer { content_type: "application/json", body: body.into(), policy: "default-src 'none'" })
            }
            _ => None,
        }
    }
}
