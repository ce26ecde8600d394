//! Resumes at the offsets in PostgreSQL, after a check that Kafka still has the same topic and its next records.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ingest_protocol::continuity::{Continuity, LastRecord, is_another_topic};
use ingest_protocol::position::{Position, RecordPosition};
use pipeline_runtime::kafka::Watermarks;
use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use retry_policy::{RetryPolicy, Retryable};
use thiserror::Error;
use tokio_postgres::{Client, GenericClient};
use uuid::Uuid;

use crate::ingest::offsets::first_start::INSERT;
use crate::kafka::client::KafkaClient;
use crate::kafka::fingerprint;
use crate::kafka::group_topic::GroupTopic;
use crate::kafka::record_lookup::{RecordLookup, RecordLookupError};
use crate::kafka::start_offset::{StartOffset, partitions, start_offsets, watermarks};
use crate::kafka::topic_identity::{self, TopicIdentity};
use crate::observability::health::{Health, POSITIONS};
use crate::postgres::fault::{SqlFault, classify, is_login_refusal};
use crate::postgres::{self, Conninfo, describe};

/// Data losses that the operator has allowed: the consumer continues although records are lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct DataLossPolicy {
    /// Records that retention deleted before they were read.
    pub(crate) lost_records: bool,
    /// Unread records of a topic that was deleted and recreated.
    pub(crate) new_topic: bool,
}

/// Loads the positions of partitions and checks them against Kafka.
#[derive(Clone)]
pub(crate) struct Resume {
    pub(crate) target: Conninfo,
    pub(crate) group_topic: GroupTopic,
    /// Reports the ends of partitions.
    pub(crate) kafka: KafkaClient,
    /// Reads the last records again, to compare their fingerprints.
    pub(crate) record_lookup: RecordLookup,
    /// ID of the topic that the offsets belong to.
    pub(crate) identity: Arc<TopicIdentity>,
    pub(crate) accept: DataLossPolicy,
    /// Start of a recreated topic if it is a time. Otherwise, a recreated topic is read from its beginning.
    pub(crate) start: StartOffset,
}

/// Positions at which partitions resume.
pub(crate) struct Resumption {
    pub(crate) positions: BTreeMap<i32, Position>,
    /// Ends of the partitions in Kafka at that time.
    pub(crate) ends: BTreeMap<i32, i64>,
}

/// Error of loading or checking the position of a partition.
#[derive(Debug, Error)]
pub(crate) enum ResumeError {
    /// PostgreSQL reported an error, or the connection failed.
    #[error("cannot load the offsets: {}", describe(.0))]
    Postgres(#[from] tokio_postgres::Error),
    /// PostgreSQL did not answer within the timeout.
    #[error("cannot load the offsets: no answer from PostgreSQL within {} s", TIMEOUT.as_secs())]
    NoAnswer,
    /// A consumer of the former topic still moves the offsets.
    #[error("cannot move the offsets to the recreated topic: another consumer is moving them")]
    Busy,
    /// Kafka did not report the ends of the partitions.
    #[error("cannot read the partition offsets from Kafka: {0}; check the brokers")]
    Kafka(#[from] KafkaError),
    /// The last records could not be read again.
    #[error(transparent)]
    RecordLookup(#[from] RecordLookupError),
    /// Retention deleted records before they were read.
    #[error(
        "cannot resume group {group} at offset {next} of partition {partition} of {topic}: Kafka's retention deleted {} \
         unread offsets; resume at {low} with 'kafka-consumer run --allow-data-loss'", low - next
    )]
    Lost {
        topic: String,
        partition: i32,
        group: String,
        /// Next offset of the group.
        next: i64,
        /// Oldest offset in Kafka.
        low: i64,
    },
    /// The topic's ID differs from that of the topic that was read.
    #[error(
        "cannot resume group {group}: topic {topic} was deleted and recreated, or cluster {cluster} is another one than \
         before, and records of the former topic that were not read are lost; read the new one with 'kafka-consumer run \
         --allow-recreated-topic', from its beginning or with --start from a time"
    )]
    Recreated {
        topic: String,
        /// ID of the present cluster.
        cluster: String,
        /// Group that has read the former topic.
        group: String,
    },
    /// The records of a partition differ from those that were read.
    #[error(
        "cannot resume group {group} at offset {next} of partition {partition}: topic {topic} was deleted and recreated, or \
         its log was truncated, and records that were not read are lost; read it from its beginning with 'kafka-consumer run \
         --allow-recreated-topic'"
    )]
    Renewed {
        topic: String,
        partition: i32,
        group: String,
        /// Next offset of the group.
        next: i64,
    },
}

/// Timeout of the connection and of each of these short statements.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Retry policy for loading the positions.
const RETRY: RetryPolicy = RetryPolicy::exponential(Duration::from_secs(1), Duration::from_secs(5));

const SELECT: &str = r#"SELECT partition, next_offset, topic_incarnation, fingerprint_offset, fingerprint,
        coalesce((SELECT max(letter."offset") + 1 FROM pipeline.dead_letters AS letter
                  WHERE letter.consumer_group = $1 AND letter.topic = $2
                    AND letter.topic_incarnation = consumer_offsets.topic_incarnation
                    AND letter.partition = consumer_offsets.partition), 0)
    FROM pipeline.consumer_offsets WHERE consumer_group = $1 AND topic = $2 AND partition = ANY ($3)"#;

const TOPIC_IDS: &str = "SELECT partition, next_offset, topic_id FROM pipeline.consumer_offsets
    WHERE consumer_group = $1 AND topic = $2";

/// Stores the topic's ID in rows without one. A row that a consumer's transaction has locked is skipped until the next
/// time.
const STORE_ID: &str = "UPDATE pipeline.consumer_offsets SET topic_id = $4
    WHERE (consumer_group, topic, partition) IN (
        SELECT consumer_group, topic, partition FROM pipeline.consumer_offsets
        WHERE consumer_group = $1 AND topic = $2 AND partition = ANY ($3) AND topic_id IS NULL
        FOR UPDATE SKIP LOCKED)";

/// Moves an offset to the oldest record, unless another session has moved it.
const SKIP: &str = "UPDATE pipeline.consumer_offsets SET next_offset = $5, updated_at = now()
    WHERE consumer_group = $1 AND topic = $2 AND partition = $3 AND next_offset = $4";

/// Moves an offset to the beginning of a recreated topic. The dead letters of the former topic keep the former
/// incarnation.
const RENEW: &str = "UPDATE pipeline.consumer_offsets
    SET next_offset = $5, fingerprint = NULL, fingerprint_offset = NULL, topic_incarnation = topic_incarnation + 1,
        topic_id = $6, updated_at = now()
    WHERE consumer_group = $1 AND topic = $2 AND partition = $3 AND next_offset = $4
        AND topic_id IS NOT DISTINCT FROM $7";

/// Topic ID in one of the group's rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct StoredId {
    partition: i32,
    next_offset: i64,
    id: Option<Uuid>,
}

/// The topic's ID in the cluster, and the IDs in all rows of the group.
struct Ids {
    current: Option<Uuid>,
    stored: Vec<StoredId>,
}

impl Ids {
    /// Returns the rows whose ID differs from the cluster's. Empty if the cluster's ID is unknown.
    fn of_another_topic(&self) -> impl Iterator<Item = &StoredId> {
        self.stored.iter().filter(|row| is_another_topic(row.id, self.current))
    }

    /// Returns the ID that the offsets belong to, once no row belongs to another topic.
    fn established(&self) -> Option<Uuid> {
        self.current.or_else(|| self.stored.iter().find_map(|row| row.id))
    }

    fn of(&self, partition: i32) -> Option<Uuid> {
        self.stored.iter().find(|row| row.partition == partition)?.id
    }
}

impl Resume {
    /// Returns the positions at which the partitions resume. Uses a separate session, and retries indefinitely during
    /// outages of PostgreSQL and Kafka. A new partition starts at its oldest record. Fails if Kafka no longer has the
    /// next records, unless the operator has allowed that.
    pub(crate) async fn positions(&self, partitions: &[i32], health: &Health) -> Result<Resumption, ResumeError> {
        let resumption = (|| self.ask(partitions))
            .retry(RETRY)
            .when(ResumeError::passes)
            .notify(|error, delay| {
                if let ResumeError::Postgres(source) = error {
                    health.retrying(POSITIONS, &error.to_string(), is_login_refusal(source));
                }
                tracing::warn!(%error, delay_ms = delay.as_millis(), "offsets retry");
            })
            .await;
        health.settled(POSITIONS);
        resumption
    }

    async fn ask(&self, partitions: &[i32]) -> Result<Resumption, ResumeError> {
        let client = answered(postgres::connect(&self.target)).await?;
        let mut ids = self.ids(&client).await?;
        if ids.of_another_topic().next().is_some() {
            self.recreated(&client, &ids).await?;
            ids.stored = self.stored_ids(&client).await?;
        }
        let mut found = self.select(&client, partitions).await?;
        let ends = watermarks(&self.kafka.current(), &self.group_topic.topic, partitions).await?;
        let new: Vec<i32> = partitions.iter().copied().filter(|partition| !found.contains_key(partition)).collect();
        if !new.is_empty() {
            let oldest: Vec<i64> = new.iter().map(|partition| ends.get(partition).map_or(0, |ends| ends.low)).collect();
            let GroupTopic { group, topic } = &self.group_topic;
            answered(client.execute(INSERT, &[group, topic, &new, &oldest, &ids.current])).await?;
            found = self.select(&client, partitions).await?;
        }
        let renewed = self.renewed(&found, &ends).await?;
        let mut changed = false;
        for (partition, position) in &found {
            let Watermarks { low, high } = ends.get(partition).copied().unwrap_or_default();
            let last = if renewed.contains(partition) { LastRecord::Different } else { LastRecord::Unknown };
            let continuity = Continuity::of(position.next_offset, low, high, last);
            changed |= self.settle(&client, *partition, position.next_offset, low, continuity, &ids).await?;
        }
        self.store_id(&client, partitions, &ids).await?;
        // The lag monitor compares with this ID from now on.
        if let Some(id) = ids.established() {
            self.identity.observe(id);
        }
        let positions = if changed { self.select(&client, partitions).await? } else { found };
        Ok(Resumption { positions, ends: ends.into_iter().map(|(partition, ends)| (partition, ends.high)).collect() })
    }

    /// Reads the topic's IDs. The cluster is asked before anything else about the topic is read: if the topic is
    /// recreated in between, the next comparison finds the other ID.
    async fn ids(&self, client: &impl GenericClient) -> Result<Ids, ResumeError> {
        let current = topic_identity::topic_id(&self.kafka.current(), &self.group_topic.topic).await;
        Ok(Ids { current, stored: self.stored_ids(client).await? })
    }

    async fn stored_ids(&self, client: &impl GenericClient) -> Result<Vec<StoredId>, ResumeError> {
        let rows = answered(client.query(TOPIC_IDS, &[&self.group_topic.group, &self.group_topic.topic])).await?;
        let stored =
            |row: &tokio_postgres::Row| StoredId { partition: row.get(0), next_offset: row.get(1), id: row.get(2) };
        Ok(rows.iter().map(stored).collect())
    }

    /// Fails because the topic was recreated, unless the operator has allowed that. Then moves every row of the former
    /// topic to the new one's beginning, including rows of partitions that the new topic does not have.
    async fn recreated(&self, client: &impl GenericClient, ids: &Ids) -> Result<(), ResumeError> {
        let GroupTopic { group, topic } = &self.group_topic;
        if !self.accept.new_topic {
            return Err(self.recreated_error());
        }
        let kafka = self.kafka.current();
        let start = match self.start {
            StartOffset::Time(_) => self.start,
            StartOffset::Earliest | StartOffset::Latest => StartOffset::Earliest,
        };
        let starts = start_offsets(&kafka, topic, start).await?;
        for row in ids.of_another_topic() {
            let (partition, next) = (row.partition, row.next_offset);
            let to = starts.get(&partition).copied();
            // A partition that is gone has no ID. If the topic gets it again, it is read from its beginning.
            let (first, id) = (to.unwrap_or(0), ids.current.filter(|_| to.is_some()));
            answered(client.execute(RENEW, &[group, topic, &partition, &next, &first, &id, &row.id])).await?;
            tracing::warn!(partition, from = next, to, %start, "topic recreated, partition moved as allowed");
        }
        // Rows whose offset a consumer of the former topic has moved since stay unchanged.
        let left = Ids { current: ids.current, stored: self.stored_ids(client).await? };
        if left.of_another_topic().next().is_some() { Err(ResumeError::Busy) } else { Ok(()) }
    }

    #[must_use]
    pub(crate) fn recreated_error(&self) -> ResumeError {
        let GroupTopic { group, topic } = self.group_topic.clone();
        // Known since the first answer; an unknown one is not waited for.
        let cluster = self.kafka.current().client().fetch_cluster_id(Duration::ZERO);
        ResumeError::Recreated { topic, group, cluster: cluster.unwrap_or_else(|| "(unknown ID)".to_owned()) }
    }

    async fn store_id(&self, client: &Client, partitions: &[i32], ids: &Ids) -> Result<(), ResumeError> {
        let missing = ids.stored.iter().any(|row| row.id.is_none() && partitions.contains(&row.partition));
        if let (Some(id), true) = (ids.current, missing) {
            let GroupTopic { group, topic } = &self.group_topic;
            answered(client.execute(STORE_ID, &[group, topic, &partitions, &id])).await?;
        }
        Ok(())
    }

    /// Fails if the topic or one of its partitions is not the one that was read. Returns the topic's ID, if the cluster
    /// reports one. If the operator has allowed a recreated topic, moves the rows to it first.
    pub(crate) async fn verify(&self, client: &impl GenericClient) -> Result<Option<Uuid>, ResumeError> {
        let ids = self.ids(client).await?;
        if ids.of_another_topic().next().is_some() {
            self.recreated(client, &ids).await?;
        }
        let GroupTopic { group, topic } = &self.group_topic;
        let present = partitions(&self.kafka.current(), topic).await?;
        let found = self.select(client, &present).await?;
        let ends = watermarks(&self.kafka.current(), topic, &present).await?;
        let beyond = |(partition, position): (&i32, &Position)| {
            let high = ends.get(partition).copied().unwrap_or_default().high;
            (position.next_offset > high).then_some(*partition)
        };
        let mut renewed: Vec<i32> = found.iter().filter_map(beyond).collect();
        renewed.extend(self.renewed(&found, &ends).await?);
        match renewed.into_iter().min() {
            None => Ok(ids.current),
            Some(partition) => {
                let next = found.get(&partition).map_or(0, |one| one.next_offset);
                Err(ResumeError::Renewed { topic: topic.clone(), partition, group: group.clone(), next })
            }
        }
    }

    async fn select(
        &self,
        client: &impl GenericClient,
        partitions: &[i32],
    ) -> Result<BTreeMap<i32, Position>, ResumeError> {
        let rows =
            answered(client.query(SELECT, &[&self.group_topic.group, &self.group_topic.topic, &partitions])).await?;
        let position = |row: &tokio_postgres::Row| {
            let last: (Option<i64>, Option<i64>) = (row.get(3), row.get(4));
            let last = last.0.zip(last.1).map(|(offset, fingerprint)| RecordPosition { offset, fingerprint });
            let (next_offset, incarnation, lettered_up_to) = (row.get(1), row.get(2), row.get(5));
            (row.get(0), Position { next_offset, incarnation, last, lettered_up_to })
        };
        Ok(rows.iter().map(position).collect())
    }

    /// Returns the partitions whose last record no longer matches its fingerprint. A missing record is no proof of
    /// another topic: compaction or retention may have removed it.
    async fn renewed(
        &self,
        found: &BTreeMap<i32, Position>,
        ends: &BTreeMap<i32, Watermarks>,
    ) -> Result<Vec<i32>, ResumeError> {
        let marks: BTreeMap<i32, RecordPosition> =
            found.iter().filter_map(|(at, one)| Some((*at, one.last?))).collect();
        let within = |(partition, mark): (&i32, &RecordPosition)| {
            let Watermarks { low, high } = ends.get(partition).copied().unwrap_or_default();
            (low..high).contains(&mark.offset).then_some((*partition, mark.offset))
        };
        let places = marks.iter().filter_map(within).collect();
        let records = self.record_lookup.first_at(places, |record| fingerprint::of(record)).await?;
        let mut renewed = Vec::new();
        for one in records {
            let Some(mark) = marks.get(&one.partition) else { continue };
            let found = one.record.map(|(offset, fingerprint)| RecordPosition { offset, fingerprint });
            match LastRecord::compare(*mark, found) {
                LastRecord::Same => {}
                LastRecord::Different => renewed.push(one.partition),
                LastRecord::Unknown => tracing::warn!(
                    partition = one.partition,
                    offset = mark.offset,
                    "last record read is deleted, cannot verify that the topic is the same"
                ),
            }
        }
        Ok(renewed)
    }

    /// Fails if records are lost and the operator has not allowed that. If allowed, moves the offset to the oldest
    /// record and returns true.
    async fn settle(
        &self,
        client: &Client,
        partition: i32,
        next: i64,
        low: i64,
        continuity: Continuity,
        ids: &Ids,
    ) -> Result<bool, ResumeError> {
        let GroupTopic { group, topic } = &self.group_topic;
        let accepted = match continuity {
            Continuity::Continues => return Ok(false),
            Continuity::Lost => self.accept.lost_records,
            Continuity::Renewed => self.accept.new_topic,
        };
        if accepted {
            if continuity == Continuity::Lost {
                answered(client.execute(SKIP, &[group, topic, &partition, &next, &low])).await?;
            } else {
                let stored = ids.of(partition);
                let parameters: &[&(dyn tokio_postgres::types::ToSql + Sync)] =
                    &[group, topic, &partition, &next, &low, &ids.current, &stored];
                answered(client.execute(RENEW, parameters)).await?;
            }
            tracing::warn!(
                partition,
                from = next,
                to = low,
                ?continuity,
                "records lost, resuming at the oldest record as allowed"
            );
            return Ok(true);
        }
        let (topic, group) = (topic.clone(), group.clone());
        Err(match continuity {
            Continuity::Lost => ResumeError::Lost { topic, partition, group, next, low },
            _ => ResumeError::Renewed { topic, partition, group, next },
        })
    }
}

async fn answered<T>(question: impl Future<Output = Result<T, tokio_postgres::Error>>) -> Result<T, ResumeError> {
    Ok(tokio::time::timeout(TIMEOUT, question).await.map_err(|_| ResumeError::NoAnswer)??)
}

impl ResumeError {
    /// Returns true if a retry may succeed: outages are transient, denied access and lost records are not.
    fn passes(&self) -> bool {
        match self {
            Self::Postgres(error) => classify(error) == SqlFault::Retry || is_login_refusal(error),
            Self::NoAnswer
            | Self::Busy
            | Self::RecordLookup(RecordLookupError::NoAnswer { .. } | RecordLookupError::Gone { .. }) => true,
            Self::Kafka(error) => !matches!(
                error.rdkafka_error_code(),
                Some(
                    Code::TopicAuthorizationFailed
                        | Code::GroupAuthorizationFailed
                        | Code::ClusterAuthorizationFailed
                        | Code::Fatal
                )
            ),
            Self::RecordLookup(RecordLookupError::Client(_) | RecordLookupError::Denied { .. })
            | Self::Lost { .. }
            | Self::Recreated { .. }
            | Self::Renewed { .. } => false,
        }
    }

    /// Returns true if the topic is not the one that was read. Nothing more may then be committed at its offsets.
    #[must_use]
    pub(crate) fn is_another_topic(&self) -> bool {
        matches!(self, Self::Recreated { .. } | Self::Renewed { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Option<Uuid> = Some(Uuid::from_u128(1));
    const B: Option<Uuid> = Some(Uuid::from_u128(2));

    fn ids(current: Option<Uuid>, stored: &[Option<Uuid>]) -> Ids {
        let row = |(partition, id): (i32, &Option<Uuid>)| StoredId { partition, next_offset: 7, id: *id };
        Ids { current, stored: (0..).zip(stored).map(row).collect() }
    }

    #[test]
    fn rows_of_another_topic_are_those_with_another_id() {
        let another = |current, stored: &[Option<Uuid>]| -> Vec<i32> {
            ids(current, stored).of_another_topic().map(|row| row.partition).collect()
        };
        assert_eq!(another(A, &[A, A]), [] as [i32; 0]);
        assert_eq!(another(B, &[A, A]), [0, 1]);
        assert_eq!(another(B, &[B, A]), [1], "allowed before, but not completed");
        assert_eq!(another(B, &[None, A, None]), [1], "written by an older version: the fingerprint decides");
        assert_eq!(another(None, &[A, A]), [] as [i32; 0], "brokers without IDs");
    }

    #[test]
    fn the_stored_id_stands_in_for_one_that_the_cluster_does_not_tell() {
        assert_eq!(ids(B, &[A]).established(), B);
        assert_eq!(ids(None, &[None, A]).established(), A);
        assert_eq!(ids(None, &[None]).established(), None);
    }
}
