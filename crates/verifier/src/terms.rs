//! Stores to read, and the terms of a verification.

use std::collections::HashSet;

use uuid::Uuid;

use crate::database::Counts;
use crate::store::LakeAt;

/// Where to look.
#[derive(Debug, Clone)]
pub struct Stores {
    /// Kafka.
    pub bootstrap_servers: String,
    /// PostgreSQL, as a libpq URL; plain connections only.
    pub database_url: String,
    /// S3 or a folder.
    pub lake: LakeAt,
}

/// What to verify.
#[derive(Debug, Clone)]
pub struct Terms {
    /// The consumer group that was to bring the run into the table. `None`: the generator alone is verified, PostgreSQL
    /// is not asked.
    pub group: Option<String>,
    /// Also account for the records that are not the run's, and for the group's own counts. Right where the group has
    /// read the topic from its beginning, and no other group fills the same table.
    pub whole_topic: bool,
    /// The run was resumed or sent again: Kafka may hold more identical copies than the manifest says.
    pub copies: bool,
    /// Rows also came from elsewhere, such as a rebuild from the lake: the group may count as duplicates what it found.
    pub rebuilt: bool,
    /// IDs of other producers' events whose rows triggers suppress, each of them; no other row is suppressed then. `None`: any
    /// row may be.
    pub suppressed: Option<HashSet<u128>>,
    /// Counts of the group when the topic was recreated: they are those of the topic's predecessors.
    pub earlier: Counts,
}

impl Terms {
    /// All of it, for a consumer group.
    #[must_use]
    pub fn for_group(group: &str) -> Self {
        Self { group: Some(group.to_owned()), whole_topic: true, ..Self::generator_only() }
    }

    /// Kafka and lake alone.
    #[must_use]
    pub fn generator_only() -> Self {
        let earlier = Counts::default();
        Self { group: None, whole_topic: false, copies: false, rebuilt: false, suppressed: None, earlier }
    }

    /// Leaves out what is not of the run.
    #[must_use]
    pub fn of_the_run_only(mut self) -> Self {
        self.whole_topic = false;
        self
    }

    /// Allows rows that did not come from Kafka.
    #[must_use]
    pub fn with_rows_from_elsewhere(mut self) -> Self {
        self.rebuilt = true;
        self
    }

    /// Names the only events of which a trigger suppresses the rows: events of other producers.
    #[must_use]
    pub fn with_suppressed(mut self, ids: impl IntoIterator<Item = Uuid>) -> Self {
        self.suppressed = Some(ids.into_iter().map(|id| id.as_u128()).collect());
        self
    }

    /// Leaves out what the group had counted of earlier topics of that name.
    #[must_use]
    pub fn since(mut self, earlier: Counts) -> Self {
        self.earlier = earlier;
        self
    }

    /// Allows identical copies in Kafka.
    #[must_use]
    pub fn allowing_copies(mut self) -> Self {
        self.copies = true;
        self
    }
}
