//! Topic ID (KIP-516), which distinguishes a recreated topic from the one that was read.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::KafkaError;
use tokio::task;
use uuid::Uuid;

/// Timeout of a metadata request.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// ID of the topic that this process's offsets belong to, with a flag that the cluster reported another ID.
#[derive(Debug, Default)]
pub(crate) struct TopicIdentity(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    established: Option<Uuid>,
    recreated: bool,
}

impl TopicIdentity {
    /// Compares an ID with the established one. The first ID becomes the established one.
    pub(crate) fn observe(&self, id: Uuid) {
        let mut seen = self.lock();
        let established = *seen.established.get_or_insert(id);
        seen.recreated |= established != id;
    }

    /// Returns true if another ID was ever observed.
    #[must_use]
    pub(crate) fn is_recreated(&self) -> bool {
        self.lock().recreated
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Requests the topic ID from the cluster. `None` if the brokers have no topic IDs.
pub(crate) async fn ask<C: ConsumerContext + 'static>(
    kafka: &Arc<BaseConsumer<C>>,
    topic: &str,
) -> Result<Option<Uuid>, KafkaError> {
    let (kafka, name) = (Arc::clone(kafka), topic.to_owned());
    let asked = task::spawn_blocking(move || rdkafka_ext::topic_id(kafka.client(), &name, ANSWER_LIMIT)).await;
    asked.map_err(|_| KafkaError::Canceled)?
}

/// Returns the topic ID, if the cluster reports one. Otherwise the run continues, and the fingerprint of the last
/// record remains as a weaker check.
pub(crate) async fn topic_id<C: ConsumerContext + 'static>(kafka: &Arc<BaseConsumer<C>>, topic: &str) -> Option<Uuid> {
    ask(kafka, topic).await.unwrap_or_else(|error| {
        tracing::debug!(%error, topic, "topic ID unknown");
        None
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Uuid = Uuid::from_u128(1);
    const B: Uuid = Uuid::from_u128(2);

    #[test]
    fn the_first_id_is_established_and_another_one_is_a_recreated_topic() {
        let identity = TopicIdentity::default();
        assert!(!identity.is_recreated());
        identity.observe(A);
        identity.observe(A);
        assert!(!identity.is_recreated());
        identity.observe(B);
        assert!(identity.is_recreated());
        identity.observe(A);
        assert!(identity.is_recreated(), "a broker that lags behind does not revoke it");
    }
}
