//! Key of the stored offsets: consumer group and topic.

/// Consumer group and topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GroupTopic {
    /// Consumer group (`group.id`).
    pub(crate) group: String,
    /// Topic name.
    pub(crate) topic: String,
}
