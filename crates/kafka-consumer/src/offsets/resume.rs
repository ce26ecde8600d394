//! Going on where PostgreSQL has it, after a look at whether Kafka still has the same topic and what comes next.

use std::collections::BTreeMap;
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use thiserror::Error;
use tokio_postgres::{Client, GenericClient};

use super::watermarks::watermarks;
use super::{Claim, INSERT, Position};
use crate::batch::Mark;
use crate::fingerprint;
use crate::kafka_client::KafkaClient;
use crate::postgres::{self, SqlFault, Target, classify, describe};
use crate::source::{Reread, RereadError};

/// What a person has accepted: the consumer goes on although records are gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Accept {
    /// Records that retention took before they were read.
    pub lost_records: bool,
    /// A topic that was deleted and made anew.
    pub new_topic: bool,
}

/// Whose offsets, and where they are looked up.
#[derive(Clone)]
pub struct Resume {
    /// The warehouse.
    pub target: Target,
    /// Whose offsets of which topic.
    pub claim: Claim,
    /// Asks where partitions begin and end.
    pub kafka: KafkaClient,
    /// Reads the last records again.
    pub reread: Reread,
    /// What a person has accepted.
    pub accept: Accept,
}

/// Why it is not known where a partition goes on.
#[derive(Debug, Error)]
pub enum ResumeError {
    /// PostgreSQL's error.
    #[error("PostgreSQL: {}", describe(.0))]
    Postgres(#[from] tokio_postgres::Error),
    /// PostgreSQL says nothing.
    #[error("PostgreSQL did not answer within {} s", PATIENCE.as_secs())]
    NoAnswer,
    /// Kafka did not tell where partitions begin and end.
    #[error("Kafka did not tell where the partitions begin and end: {0}")]
    Kafka(#[from] KafkaError),
    /// The last records could not be read again.
    #[error(transparent)]
    Reread(#[from] RereadError),
    /// Retention took records that were not read.
    #[error(
        "partition {partition} of {topic}: Kafka has no records before offset {low} any more, but group {group} has read \
         only up to {next}: retention took {} offsets. --accept-lost-records goes on at {low}", low - next
    )]
    Lost {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// Whose offsets.
        group: String,
        /// The offset to go on from.
        next: i64,
        /// The oldest that there is.
        low: i64,
    },
    /// The topic is another one under the same name.
    #[error(
        "partition {partition} of {topic} is not the one that group {group} has read up to offset {next}: the topic was \
         deleted and made anew. What was unread of the former one is gone; --accept-new-topic reads the new one from its \
         beginning"
    )]
    Renewed {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// Whose offsets.
        group: String,
        /// Up to where the former one was read.
        next: i64,
    },
}

/// How long PostgreSQL may take for one of these short statements.
const PATIENCE: Duration = Duration::from_secs(10);

const SELECT: &str = r#"SELECT partition, next_offset, topic_incarnation, fingerprint_offset, fingerprint,
        coalesce((SELECT max(letter."offset") + 1 FROM pipeline.dead_letters AS letter
                  WHERE letter.consumer_group = $1 AND letter.topic = $2
                    AND letter.topic_incarnation = consumer_offsets.topic_incarnation
                    AND letter.partition = consumer_offsets.partition), 0)
    FROM pipeline.consumer_offsets WHERE consumer_group = $1 AND topic = $2 AND partition = ANY ($3)"#;

const ALL: &str = "SELECT partition FROM pipeline.consumer_offsets WHERE consumer_group = $1 AND topic = $2";

/// Moves an offset to where records are again, unless somebody else has moved it meanwhile.
const SKIP: &str = "UPDATE pipeline.consumer_offsets SET next_offset = $5, updated_at = now()
    WHERE consumer_group = $1 AND topic = $2 AND partition = $3 AND next_offset = $4";

/// Another topic of the same name: what was read of the former one keeps its dead letters under the former number.
const RENEW: &str = "UPDATE pipeline.consumer_offsets
    SET next_offset = $5, fingerprint = NULL, fingerprint_offset = NULL, topic_incarnation = topic_incarnation + 1,
        updated_at = now()
    WHERE consumer_group = $1 AND topic = $2 AND partition = $3 AND next_offset = $4";

/// What Kafka has of a partition, measured by what was read of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Continuity {
    /// What comes next.
    Continues,
    /// Retention took records that were not read.
    Lost,
    /// Another topic under the same name; the end is before what was read, or the last record is another one.
    Renewed,
}

impl Resume {
    /// Where the partitions go on, over a session of its own, with outages of PostgreSQL and Kafka waited out. A
    /// partition that is new begins with its oldest record. Fails where Kafka no longer has what comes next.
    pub async fn positions(&self, partitions: &[i32]) -> Result<BTreeMap<i32, Position>, ResumeError> {
        let policy =
            ExponentialBuilder::default().with_max_delay(Duration::from_secs(5)).with_jitter().without_max_times();
        (|| self.ask(partitions))
            .retry(policy)
            .when(ResumeError::passes)
            .notify(|error, delay| {
                tracing::warn!(%error, delay_ms = delay.as_millis(), "offsets retry");
            })
            .await
    }

    async fn ask(&self, partitions: &[i32]) -> Result<BTreeMap<i32, Position>, ResumeError> {
        let client = answered(postgres::connect(&self.target)).await?;
        let mut found = self.select(&client, partitions).await?;
        let ends = watermarks(&self.kafka.current(), &self.claim.topic, partitions.to_vec()).await?;
        let new: Vec<i32> = partitions.iter().copied().filter(|partition| !found.contains_key(partition)).collect();
        if !new.is_empty() {
            let oldest: Vec<i64> = new.iter().map(|partition| ends.get(partition).map_or(0, |ends| ends.0)).collect();
            let Claim { group, topic } = &self.claim;
            answered(client.execute(INSERT, &[group, topic, &new, &oldest])).await?;
            found = self.select(&client, partitions).await?;
        }
        let renewed = self.renewed(&found, &ends).await?;
        let mut changed = false;
        for (partition, position) in &found {
            let (low, high) = ends.get(partition).copied().unwrap_or_default();
            let continuity = match position.next_offset {
                next if next > high || renewed.contains(partition) => Continuity::Renewed,
                next if next < low => Continuity::Lost,
                _ => Continuity::Continues,
            };
            changed |= self.settle(&client, *partition, position.next_offset, low, continuity).await?;
        }
        if changed { self.select(&client, partitions).await } else { Ok(found) }
    }

    /// The first partition, if any, that is another topic's than the one that was read.
    pub(super) async fn first_renewed(&self, client: &impl GenericClient) -> Result<Option<i32>, ResumeError> {
        let rows = answered(client.query(ALL, &[&self.claim.group, &self.claim.topic])).await?;
        let partitions: Vec<i32> = rows.iter().map(|row| row.get(0)).collect();
        let found = self.select(client, &partitions).await?;
        let ends = watermarks(&self.kafka.current(), &self.claim.topic, partitions).await?;
        let beyond = |(partition, position): (&i32, &Position)| {
            let high = ends.get(partition).copied().unwrap_or_default().1;
            (position.next_offset > high).then_some(*partition)
        };
        let mut renewed: Vec<i32> = found.iter().filter_map(beyond).collect();
        renewed.extend(self.renewed(&found, &ends).await?);
        Ok(renewed.into_iter().min())
    }

    async fn select(
        &self,
        client: &impl GenericClient,
        partitions: &[i32],
    ) -> Result<BTreeMap<i32, Position>, ResumeError> {
        let rows = answered(client.query(SELECT, &[&self.claim.group, &self.claim.topic, &partitions])).await?;
        let position = |row: &tokio_postgres::Row| {
            let last: (Option<i64>, Option<i64>) = (row.get(3), row.get(4));
            let last = last.0.zip(last.1).map(|(offset, fingerprint)| Mark { offset, fingerprint });
            let (next_offset, incarnation, lettered_up_to) = (row.get(1), row.get(2), row.get(5));
            (row.get(0), Position { next_offset, incarnation, last, lettered_up_to })
        };
        Ok(rows.iter().map(position).collect())
    }

    /// The partitions whose last record is another one now. One that is gone while later ones are there is no proof:
    /// compaction or retention may have taken it.
    async fn renewed(
        &self,
        found: &BTreeMap<i32, Position>,
        ends: &BTreeMap<i32, (i64, i64)>,
    ) -> Result<Vec<i32>, ResumeError> {
        let marks: BTreeMap<i32, Mark> = found.iter().filter_map(|(at, one)| Some((*at, one.last?))).collect();
        let within = |(partition, mark): (&i32, &Mark)| {
            let (low, high) = ends.get(partition).copied().unwrap_or_default();
            (low..high).contains(&mark.offset).then_some((*partition, mark.offset))
        };
        let places = marks.iter().filter_map(within).collect();
        let records = self.reread.first_at(places, |record| fingerprint::of(record)).await?;
        let mut renewed = Vec::new();
        for one in records {
            let Some(mark) = marks.get(&one.partition) else { continue };
            match one.record {
                Some((offset, fingerprint)) if offset == mark.offset && fingerprint == mark.fingerprint => {}
                Some((offset, _)) if offset == mark.offset => renewed.push(one.partition),
                _ => tracing::warn!(
                    partition = one.partition,
                    offset = mark.offset,
                    "the last record that was read is gone; whether the topic is the same cannot be told"
                ),
            }
        }
        Ok(renewed)
    }

    /// Fails where records are gone, unless a person has accepted that; then the offset moves to the oldest record.
    async fn settle(
        &self,
        client: &Client,
        partition: i32,
        next: i64,
        low: i64,
        continuity: Continuity,
    ) -> Result<bool, ResumeError> {
        let Claim { group, topic } = &self.claim;
        let (accepted, statement) = match continuity {
            Continuity::Continues => return Ok(false),
            Continuity::Lost => (self.accept.lost_records, SKIP),
            Continuity::Renewed => (self.accept.new_topic, RENEW),
        };
        if accepted {
            answered(client.execute(statement, &[group, topic, &partition, &next, &low])).await?;
            tracing::warn!(
                partition,
                from = next,
                to = low,
                ?continuity,
                "goes on with the oldest record, as accepted"
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
    Ok(tokio::time::timeout(PATIENCE, question).await.map_err(|_| ResumeError::NoAnswer)??)
}

impl ResumeError {
    /// Outages are waited out; what Kafka refuses for good is not.
    fn passes(&self) -> bool {
        match self {
            Self::Postgres(error) => classify(error) == SqlFault::Retry,
            Self::NoAnswer | Self::Reread(RereadError::NoAnswer { .. } | RereadError::Gone { .. }) => true,
            Self::Kafka(error) => !matches!(
                error.rdkafka_error_code(),
                Some(
                    Code::TopicAuthorizationFailed
                        | Code::GroupAuthorizationFailed
                        | Code::ClusterAuthorizationFailed
                        | Code::SaslAuthenticationFailed
                        | Code::Fatal
                )
            ),
            Self::Reread(RereadError::Client(_) | RereadError::Denied { .. })
            | Self::Lost { .. }
            | Self::Renewed { .. } => false,
        }
    }
}
