//! Errors that prevent a verification. A difference between the stores is not an error but a result in the
//! [`Report`](crate::Report).

use std::time::Duration;

use rdkafka::error::KafkaError;

/// Error of reading the manifest or a store.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The manifest is missing, is not valid JSON or lacks a field.
    #[error("cannot read manifest {place}: {problem}")]
    Manifest {
        /// Path or key of the manifest.
        place: String,
        /// Description of the problem.
        problem: String,
    },
    /// Kafka returned an error.
    #[error("cannot {doing} in Kafka at {servers}: {}; check that it runs at this address", whole(cause))]
    Kafka {
        /// Bootstrap servers.
        servers: String,
        /// Operation that failed.
        doing: &'static str,
        /// librdkafka's error.
        cause: KafkaError,
    },
    /// The topic that the manifest names does not exist.
    #[error(
        "cannot read topic {topic}: it does not exist in Kafka at {servers}; set --bootstrap-servers to the cluster of \
         the run"
    )]
    TopicMissing {
        /// Bootstrap servers.
        servers: String,
        /// Name of the topic.
        topic: String,
    },
    /// No record arrived within the scan's timeout, although partitions were left unread.
    #[error("cannot read topic {topic}: no record within {waited:?}, {left} partitions unread; check the brokers")]
    Stalled {
        /// Name of the topic.
        topic: String,
        /// Timeout of the scan.
        waited: Duration,
        /// Number of partitions that were not read to their end.
        left: usize,
    },
    /// PostgreSQL returned an error.
    #[error("cannot {doing} in PostgreSQL: {}; check --database-url and the tables", whole(cause))]
    Database {
        /// Operation that failed.
        doing: &'static str,
        /// The driver's error.
        cause: tokio_postgres::Error,
    },
    /// The lake could not be listed or read.
    #[error("cannot {doing} {place} in the lake: {}; check its address, credentials and name", whole(cause.as_ref()))]
    Lake {
        /// URL of the object, or path of the file.
        place: String,
        /// Operation that failed.
        doing: &'static str,
        /// The store's error.
        cause: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The address of a lake is neither `s3://bucket[/prefix]` nor `file:///folder`.
    #[error("invalid lake address {0:?}; write s3://bucket, s3://bucket/prefix or file:///folder")]
    LakeUrl(String),
    /// The JSON schema of events is invalid or does not match the stores.
    #[error("invalid docs/product-event.schema.json: {0}; run 'make schema' and rebuild the verifier")]
    Schema(String),
    /// A thread or a runtime could not be started, or the thread panicked.
    #[error("cannot start a thread: {0}")]
    Thread(String),
}

/// Returns an error with its causes, each only once. Some errors of the drivers include the text of their causes,
/// others do not.
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
