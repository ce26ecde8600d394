//! Partitions of a topic and their offsets, as reported by the brokers.
//!
//! The functions block for at most `timeout` per request; [`ask`] calls them from asynchronous code.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::metadata::{MetadataPartition, MetadataTopic};
use rdkafka::topic_partition_list::TopicPartitionListElem;
use rdkafka::{Offset, TopicPartitionList};
use retry_policy::{RetryPolicy, Retryable};
use tokio::task;

/// Retry policy while partitions have no leader, or brokers that start do not know it yet.
const LEADERS: RetryPolicy = RetryPolicy::constant(Duration::from_millis(100)).with_retries(100);

/// Low and high watermark of a partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Watermarks {
    /// Offset of the oldest record.
    pub low: i64,
    /// Offset after the last readable record: the high watermark, or the last stable offset for a client that reads
    /// only committed records.
    pub high: i64,
}

/// Returns the partitions of a topic, or an empty list if it does not exist.
pub fn partitions<C: ConsumerContext>(
    client: &BaseConsumer<C>,
    topic: &str,
    timeout: Duration,
) -> Result<Vec<i32>, KafkaError> {
    let metadata = client.fetch_metadata(Some(topic), timeout)?;
    let found = metadata.topics().iter().filter(|one| one.name() == topic);
    Ok(found.flat_map(MetadataTopic::partitions).map(MetadataPartition::id).collect())
}

/// Returns the number of brokers that lead partitions of a topic.
pub fn leaders<C: ConsumerContext>(
    client: &BaseConsumer<C>,
    topic: &str,
    timeout: Duration,
) -> Result<usize, KafkaError> {
    let metadata = client.fetch_metadata(Some(topic), timeout)?;
    let partitions = metadata.topics().iter().flat_map(MetadataTopic::partitions);
    Ok(partitions.map(MetadataPartition::leader).collect::<BTreeSet<i32>>().len())
}

/// Returns the watermarks of each partition. Sends two requests per broker, for any number of partitions.
///
/// Fails if a partition does not exist or has no leader.
pub fn watermarks<C: ConsumerContext>(
    client: &BaseConsumer<C>,
    topic: &str,
    partitions: &[i32],
    timeout: Duration,
) -> Result<BTreeMap<i32, Watermarks>, KafkaError> {
    let all = |at| -> Result<BTreeMap<i32, i64>, KafkaError> {
        answers(client, topic, partitions, at, timeout)?
            .into_iter()
            .map(|(partition, at)| Ok((partition, at?.ok_or(KafkaError::MetadataFetch(Code::UnknownPartition))?)))
            .collect()
    };
    let (low, high) = (all(Offset::Beginning)?, all(Offset::End)?);
    Ok(low.into_iter().zip(high).map(|((partition, low), (_, high))| (partition, Watermarks { low, high })).collect())
}

/// Returns the end of each partition, as in [`Watermarks::high`]. Sends one request per broker.
///
/// Partitions whose end is unknown are omitted.
pub fn ends<C: ConsumerContext>(
    client: &BaseConsumer<C>,
    topic: &str,
    partitions: &[i32],
    timeout: Duration,
) -> Result<BTreeMap<i32, i64>, KafkaError> {
    let known = |(partition, end): (i32, Result<Option<i64>, KafkaError>)| Some((partition, end.ok()??));
    Ok(answers(client, topic, partitions, Offset::End, timeout)?.into_iter().filter_map(known).collect())
}

/// Returns the offset of the first record of each partition at or after a time (milliseconds since 1970).
///
/// Partitions without such a record are omitted. Fails if the answer for a partition is unknown.
pub fn offsets_at<C: ConsumerContext>(
    client: &BaseConsumer<C>,
    topic: &str,
    partitions: &[i32],
    millis: i64,
    timeout: Duration,
) -> Result<BTreeMap<i32, i64>, KafkaError> {
    found(answers(client, topic, partitions, Offset::Offset(millis), timeout)?)
}

/// Offset of each partition, `None` if it has no such offset, or the partition's error.
type Answers = BTreeMap<i32, Result<Option<i64>, KafkaError>>;

/// Omits partitions without an offset. Fails with the error of the first partition that has one.
fn found(answers: Answers) -> Result<BTreeMap<i32, i64>, KafkaError> {
    answers.into_iter().filter_map(|(partition, offset)| Some(offset.transpose()?.map(|at| (partition, at)))).collect()
}

/// Requests the offset of each partition at a time or at one of its ends.
fn answers<C: ConsumerContext>(
    client: &BaseConsumer<C>,
    topic: &str,
    partitions: &[i32],
    at: Offset,
    timeout: Duration,
) -> Result<Answers, KafkaError> {
    if partitions.is_empty() {
        return Ok(BTreeMap::new());
    }
    let mut list = TopicPartitionList::with_capacity(partitions.len());
    for partition in partitions {
        // `add_partition_offset` would search the list for each partition.
        list.add_partition(topic, *partition).set_offset(at)?;
    }
    let found = client.offsets_for_times(list, timeout)?;
    let answer = |element: &TopicPartitionListElem<'_>| {
        let offset = element.offset().to_raw().filter(|offset| *offset >= 0);
        (element.partition(), element.error().map(|()| offset))
    };
    Ok(found.elements().iter().map(answer).collect())
}

/// Runs a blocking request on a thread that may block.
pub async fn ask<C, T>(
    client: &Arc<BaseConsumer<C>>,
    question: impl FnOnce(&BaseConsumer<C>) -> Result<T, KafkaError> + Send + 'static,
) -> Result<T, KafkaError>
where
    C: ConsumerContext + 'static,
    T: Send + 'static,
{
    let client = Arc::clone(client);
    task::spawn_blocking(move || question(&client)).await.map_err(|_| KafkaError::Canceled)?
}

/// Runs a blocking request on a thread that may block. Repeats it for ten seconds while partitions have no leader.
pub async fn ask_leaders<C, T>(
    client: &Arc<BaseConsumer<C>>,
    question: impl Fn(&BaseConsumer<C>) -> Result<T, KafkaError> + Clone + Send + 'static,
) -> Result<T, KafkaError>
where
    C: ConsumerContext + 'static,
    T: Send + 'static,
{
    let once = || ask(client, question.clone());
    once.retry(LEADERS).when(is_without_leader).await
}

/// Returns true if the partition has no leader at present, or the broker and the client do not agree on it: while a
/// topic is new, and while brokers start, stop or move partitions.
fn is_without_leader(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            Code::NotLeaderForPartition
                | Code::LeaderNotAvailable
                | Code::ReplicaNotAvailable
                | Code::FencedLeaderEpoch
                | Code::UnknownLeaderEpoch
                | Code::OffsetNotAvailable
                | Code::KafkaStorageError
                | Code::ListenerNotFound
                | Code::UnknownTopicOrPartition
                | Code::UnknownPartition
        )
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_without_a_leader_is_asked_again() {
        let fetch = |code| is_without_leader(&KafkaError::MetadataFetch(code));
        assert!([Code::NotLeaderForPartition, Code::LeaderNotAvailable, Code::UnknownPartition].into_iter().all(fetch));
        assert!(fetch(Code::UnknownLeaderEpoch), "a broker that has just started");
        assert!(!fetch(Code::AllBrokersDown) && !fetch(Code::TopicAuthorizationFailed));
        assert!(!is_without_leader(&KafkaError::Canceled));
    }

    #[test]
    fn an_unknown_offset_is_no_absent_one() {
        let unknown = KafkaError::MetadataFetch(Code::UnknownLeaderEpoch);
        assert_eq!(found(BTreeMap::from([(0, Ok(Some(7))), (1, Ok(None))])), Ok(BTreeMap::from([(0, 7)])));
        assert_eq!(found(BTreeMap::from([(0, Ok(Some(7))), (1, Err(unknown.clone()))])), Err(unknown));
    }
}
