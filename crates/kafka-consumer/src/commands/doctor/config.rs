//! Configuration of the examination.

use pipeline_runtime::kafka::KafkaArgs;
use pipeline_runtime::lake::LakeArgs;
use rdkafka::config::ClientConfig;

use crate::ingest::memory_budget::MemoryBudget;
use crate::kafka::group_topic::GroupTopic;
use crate::postgres::Conninfo;

/// Systems to check, and settings of the planned run.
pub(crate) struct DoctorConfig {
    pub(crate) kafka: KafkaArgs,
    /// Configuration of the Kafka client.
    pub(crate) client: ClientConfig,
    pub(crate) group_topic: GroupTopic,
    /// Connection settings of the warehouse.
    pub(crate) target: Conninfo,
    /// Number of writers, each with a PostgreSQL session.
    pub(crate) writers: usize,
    /// Memory limit of a run.
    pub(crate) memory: MemoryBudget,
    /// The lake. `None` skips it.
    pub(crate) lake: Option<LakeArgs>,
}
