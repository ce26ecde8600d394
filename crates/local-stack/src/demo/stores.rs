//! How far Kafka and PostgreSQL are, by what they say themselves.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context;
use local_stack::Stack;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaResult;
use rdkafka::metadata::MetadataTopic;
use tokio::runtime::Runtime;
use tokio_postgres::{Client, NoTls};

use super::{GROUP, TOPIC};

const KAFKA_LIMIT: Duration = Duration::from_secs(10);
const OFFSETS: &str = "SELECT partition, next_offset, records, rows_inserted, duplicates, dead_letters
    FROM pipeline.consumer_offsets WHERE consumer_group = $1 AND topic = $2";
const FUNNEL: &str = "SELECT experiment_id, searches, clicks, views, requests, requests::float8 / nullif(views, 0)
    FROM (SELECT experiment_id,
                 count(*) FILTER (WHERE event_type = 'search_performed') AS searches,
                 count(*) FILTER (WHERE event_type IN ('result_clicked', 'recommendation_clicked')) AS clicks,
                 count(*) FILTER (WHERE event_type = 'product_viewed') AS views,
                 count(*) FILTER (WHERE event_type = 'rfq_sent') AS requests
          FROM staging.product_events_raw GROUP BY experiment_id) AS counted
    -- exp_2 before exp_10
    ORDER BY length(experiment_id), experiment_id";

const MOST_ACTIVE: &str = "SELECT user_id, searches_last_24h, clicks_last_24h, ctr_last_24h,
        to_char(last_activity_timestamp AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS')
    FROM refined.user_features ORDER BY searches_last_24h + clicks_last_24h DESC, user_id LIMIT 5";

/// The open connections.
pub(super) struct Stores {
    kafka: BaseConsumer,
    postgres: Client,
}

/// What has been published and what has become of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// The end offset of each partition.
    ends: BTreeMap<i32, i64>,
    /// The consumer's next offset in each partition.
    next: BTreeMap<i32, i64>,
    records: i64,
    pub(super) rows: i64,
    pub(super) duplicates: i64,
    pub(super) dead_letters: i64,
}

/// What the users of one experiment did.
pub(super) struct Funnel {
    pub(super) experiment: String,
    /// Searches, clicks, views and requests for quotation.
    pub(super) counts: [i64; 4],
    pub(super) requests_per_view: Option<f64>,
}

/// A row of `refined.user_features`.
pub(super) struct Features {
    pub(super) user_id: i32,
    pub(super) searches: i64,
    pub(super) clicks: i64,
    pub(super) ctr: Option<f64>,
    pub(super) last_activity: String,
}

impl Counts {
    /// Records that Kafka has.
    pub(super) fn published(&self) -> u64 {
        self.ends.values().sum::<i64>().unsigned_abs()
    }

    /// Records that the consumer has committed, as rows, duplicates or dead letters.
    pub(super) fn consumed(&self) -> u64 {
        self.records.unsigned_abs()
    }

    /// Whether the consumer is at the end of each partition.
    pub(super) fn caught_up(&self) -> bool {
        !self.ends.is_empty()
            && self.ends.iter().all(|(partition, end)| self.next.get(partition).copied().unwrap_or(0) == *end)
    }
}

impl Stores {
    pub(super) fn connect(stack: &Stack, runtime: &Runtime) -> anyhow::Result<Self> {
        let kafka = ClientConfig::new().set("bootstrap.servers", stack.bootstrap_servers()).create()?;
        let (postgres, connection) = runtime
            .block_on(tokio_postgres::connect(&stack.database_url(), NoTls))
            .context("connecting to PostgreSQL")?;
        runtime.spawn(connection);
        Ok(Self { kafka, postgres })
    }

    /// Both stores now. None while Kafka cannot tell, as in the moment in which the topic is made.
    ///
    /// Kafka is asked after PostgreSQL: the consumer is never ahead of what was published.
    pub(super) fn counts(&self, runtime: &Runtime) -> anyhow::Result<Option<Counts>> {
        let counts = runtime.block_on(self.consumed()).context("asking PostgreSQL for the consumer's offsets")?;
        Ok(self.ends().ok().map(|ends| Counts { ends, ..counts }))
    }

    async fn consumed(&self) -> Result<Counts, tokio_postgres::Error> {
        let mut counts = Counts::default();
        let migrated =
            self.postgres.query_one("SELECT to_regclass('pipeline.consumer_offsets') IS NOT NULL", &[]).await?;
        if !migrated.get::<_, bool>(0) {
            return Ok(counts);
        }
        for row in self.postgres.query(OFFSETS, &[&GROUP, &TOPIC]).await? {
            counts.next.insert(row.get(0), row.get(1));
            counts.records += row.get::<_, i64>(2);
            counts.rows += row.get::<_, i64>(3);
            counts.duplicates += row.get::<_, i64>(4);
            counts.dead_letters += row.get::<_, i64>(5);
        }
        Ok(counts)
    }

    /// Empty as long as nobody has made the topic.
    fn ends(&self) -> KafkaResult<BTreeMap<i32, i64>> {
        let metadata = self.kafka.fetch_metadata(Some(TOPIC), KAFKA_LIMIT)?;
        let partitions = metadata.topics().iter().flat_map(MetadataTopic::partitions);
        partitions
            .map(|partition| Ok((partition.id(), self.kafka.fetch_watermarks(TOPIC, partition.id(), KAFKA_LIMIT)?.1)))
            .collect()
    }

    /// What an analyst would ask the warehouse first.
    pub(super) fn funnel(&self, runtime: &Runtime) -> anyhow::Result<Vec<Funnel>> {
        let rows = runtime.block_on(self.postgres.query(FUNNEL, &[])).context("asking PostgreSQL for the funnel")?;
        let funnel = |row: &tokio_postgres::Row| Funnel {
            experiment: row.get(0),
            counts: [1, 2, 3, 4].map(|column| row.get(column)),
            requests_per_view: row.get(5),
        };
        Ok(rows.iter().map(funnel).collect())
    }

    /// The features of the most active users.
    pub(super) fn users(&self, runtime: &Runtime) -> anyhow::Result<Vec<Features>> {
        let rows =
            runtime.block_on(self.postgres.query(MOST_ACTIVE, &[])).context("asking PostgreSQL for the features")?;
        let features = |row: &tokio_postgres::Row| Features {
            user_id: row.get(0),
            searches: row.get(1),
            clicks: row.get(2),
            ctr: row.get(3),
            last_activity: row.get(4),
        };
        Ok(rows.iter().map(features).collect())
    }
}
