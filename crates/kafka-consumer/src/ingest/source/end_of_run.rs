//! End of a run with `--until-caught-up`: requests the facts that [`CaughtUp`](super::caught_up::CaughtUp) decides on.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::bail;
use rdkafka::error::KafkaError;
use retry_policy::{RetryPolicy, Retryable};
use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;
use uuid::Uuid;

use crate::ingest::source::assignment::Assignment;
use crate::ingest::source::config::SourceConfig;
use crate::kafka::client::KafkaClient;
use crate::kafka::topic_identity;
use crate::observability::lag::{self, HeldBack};

/// Timeout for requesting the high watermarks.
const ANSWER_LIMIT: Duration = Duration::from_secs(2);
/// Delay after a failed request.
const PAUSE: Duration = Duration::from_millis(500);
/// Retry policy for the topic's ID. If all attempts fail, the run ends without this check.
const ID_RETRY: RetryPolicy = RetryPolicy::constant(PAUSE).with_retries(2);

/// Requests to Kafka that are pending while polling continues.
#[derive(Default)]
pub(crate) struct EndCondition {
    targets: Option<oneshot::Receiver<BTreeMap<i32, i64>>>,
    id: Option<oneshot::Receiver<Option<Uuid>>>,
    /// Partition and last stable offset of the latest warning about an open transaction.
    logged: Option<(i32, i64)>,
}

impl EndCondition {
    /// Returns true once all partitions are caught up and the topic is still the one that was read.
    pub(crate) fn is_reached(&mut self, assignment: &mut Assignment, setting: &SourceConfig) -> bool {
        self.ask_for_targets(assignment, setting);
        if !assignment.is_settled() || !assignment.caught_up().is_done() {
            self.id = None;
            return false;
        }
        // The request follows the last read: if the answer is the known ID, all records came from that topic.
        let answer = self.id.get_or_insert_with(|| ask_for_id(setting));
        match answer.try_recv() {
            Err(TryRecvError::Empty) => false,
            Err(TryRecvError::Closed) | Ok(None) => true,
            Ok(Some(id)) => {
                self.id = None;
                setting.resume.identity.observe(id);
                !setting.resume.identity.is_recreated()
            }
        }
    }

    fn ask_for_targets(&mut self, assignment: &mut Assignment, setting: &SourceConfig) {
        if let Some(answer) = &mut self.targets {
            match answer.try_recv() {
                Err(TryRecvError::Empty) => return,
                Err(TryRecvError::Closed) => {}
                Ok(targets) => {
                    for (partition, high) in targets {
                        assignment.caught_up().set_target(partition, high);
                    }
                }
            }
            self.targets = None;
        }
        let partitions = assignment.caught_up().without_target();
        if !partitions.is_empty() {
            let (sender, answer) = oneshot::channel();
            let (kafka, topic) = (setting.resume.kafka.clone(), setting.resume.group_topic.topic.clone());
            setting.runtime.spawn(async move {
                // The receiver is gone when the program ends.
                let _ = sender.send(high_watermarks(&kafka, &topic, partitions).await);
            });
            self.targets = Some(answer);
        }
    }

    /// Warns if an open transaction alone keeps the run from ending, and fails after the timeout.
    pub(crate) fn check_open_transactions(
        &mut self,
        assignment: &mut Assignment,
        setting: &SourceConfig,
    ) -> anyhow::Result<()> {
        if !assignment.is_settled() {
            return Ok(());
        }
        let Some((partition, held)) = assignment.caught_up().held_back(|partition| setting.ends.held_back(partition))
        else {
            return Ok(());
        };
        let HeldBack { stable, high, since, noticed, .. } = held;
        let topic = &setting.resume.group_topic.topic;
        if self.logged.replace((partition, stable)) != Some((partition, stable)) {
            tracing::warn!(topic, partition, last_stable_offset = stable, high_watermark = high, %since,
                "records held back by an open transaction");
        }
        if noticed.elapsed() >= setting.open_transaction_timeout {
            bail!(
                "cannot catch up with {topic}: a transaction open since {since} in partition {partition} holds back the \
                 records from offset {stable} to {high}; end it with 'kafka-transactions.sh abort --topic {topic} \
                 --partition {partition} --start-offset {stable}', or raise --open-transaction-timeout"
            );
        }
        Ok(())
    }
}

async fn high_watermarks(kafka: &KafkaClient, topic: &str, partitions: Vec<i32>) -> BTreeMap<i32, i64> {
    let asked = match kafka.observer() {
        Ok(observer) => lag::latest(&observer, topic, partitions, ANSWER_LIMIT).await,
        Err(error) => Err(error.into()),
    };
    match asked {
        Ok(targets) if !targets.is_empty() => targets,
        other => {
            tracing::debug!(?other, "high watermarks unknown");
            tokio::time::sleep(PAUSE).await;
            BTreeMap::new()
        }
    }
}

fn ask_for_id(setting: &SourceConfig) -> oneshot::Receiver<Option<Uuid>> {
    let (sender, answer) = oneshot::channel();
    let (kafka, topic) = (setting.resume.kafka.clone(), setting.resume.group_topic.topic.clone());
    setting.runtime.spawn(async move {
        let ask = || async { topic_identity::ask(&kafka.observer()?, &topic).await };
        let unknown = |error: &KafkaError| tracing::debug!(%error, topic, "topic ID unknown");
        let id = ask.retry(ID_RETRY).notify(|error, _| unknown(error)).await.inspect_err(unknown).unwrap_or_default();
        // The receiver is gone when the program ends.
        let _ = sender.send(id);
    });
    answer
}
