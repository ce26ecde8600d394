//! The group and the topic whose offsets a command reads or moves.

/// Consumer group and topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct GroupTopic {
    /// Consumer group (`group.id`).
    pub(crate) group: String,
    /// Topic name.
    pub(crate) topic: String,
}
