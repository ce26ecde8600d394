//! Configuration of an examination.

use pipeline_runtime::kafka::KafkaArgs;
use pipeline_runtime::lake::LakeArgs;
use rdkafka::config::ClientConfig;

use crate::ingest::memory_budget::MemoryBudget;
use crate::kafka::group_topic::GroupTopic;
use crate::postgres::Conninfo;

/// What is looked at.
pub(crate) struct DoctorConfig {
    /// Kafka.
    pub(crate) kafka: KafkaArgs,
    /// Its client's configuration.
    pub(crate) client: ClientConfig,
    /// Whose offsets of which topic.
    pub(crate) group_topic: GroupTopic,
    /// The warehouse.
    pub(crate) target: Conninfo,
    /// Sessions that a run would open.
    pub(crate) writers: usize,
    /// What a run may take.
    pub(crate) memory: MemoryBudget,
    /// The lake; none where it is not looked at.
    pub(crate) lake: Option<LakeArgs>,
}
