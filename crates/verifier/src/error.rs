//! Why a run could not be verified. A difference between the stores is no error: it is a [`Report`](crate::Report).

use std::time::Duration;

use rdkafka::error::KafkaError;

/// A store or the manifest that could not be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The manifest is absent, is not JSON or lacks a part.
    #[error("manifest {place}: {problem}")]
    Manifest {
        /// File, key or "text".
        place: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Kafka answered with an error.
    #[error("Kafka at {servers}, {doing}: {}; is it running, and is the address right?", whole(cause))]
    Kafka {
        /// Bootstrap servers.
        servers: String,
        /// What was tried.
        doing: &'static str,
        /// librdkafka's error.
        cause: KafkaError,
    },
    /// The topic that the manifest names does not exist.
    #[error("Kafka at {servers} has no topic {topic}, which the manifest names; is it the right cluster?")]
    TopicMissing {
        /// Bootstrap servers.
        servers: String,
        /// The topic.
        topic: String,
    },
    /// A partition gave nothing within the scan's timeout.
    #[error("topic {topic}: no record and no end of partition within {waited:?}; {left} partitions were left unread")]
    Stalled {
        /// The topic.
        topic: String,
        /// How long nothing came.
        waited: Duration,
        /// Partitions whose end was not reached.
        left: usize,
    },
    /// PostgreSQL answered with an error.
    #[error("PostgreSQL, {doing}: {}; are the address and the tables right?", whole(cause))]
    Database {
        /// What was tried.
        doing: &'static str,
        /// The driver's error.
        cause: tokio_postgres::Error,
    },
    /// The lake could not be listed or read.
    #[error("lake {place}, {doing}: {}; are address, keys and name right?", whole(cause.as_ref()))]
    Lake {
        /// Bucket and key, or path.
        place: String,
        /// What was tried.
        doing: &'static str,
        /// The store's error.
        cause: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The address of a lake is neither `s3://bucket[/prefix]` nor `file:///folder`.
    #[error("lake {0:?}: give s3://bucket, s3://bucket/prefix or file:///folder")]
    LakeUrl(String),
    /// The schema of events does not describe what the stores hold.
    #[error("docs/product-event.schema.json: {0}; write it with 'make schema' and build the verifier again")]
    Schema(String),
    /// No thread or runtime could be started.
    #[error("cannot start a thread: {0}")]
    Thread(String),
}

/// An error with its causes, each said once. The driver's errors differ in whether they repeat theirs.
fn whole(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}
