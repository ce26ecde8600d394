//! Input of a verification: the stores and the terms.

use std::collections::HashSet;

use uuid::Uuid;

use crate::database::Counts;
use crate::store::LakeAt;

/// Addresses of the stores to read.
#[derive(Debug, Clone)]
pub struct Stores {
    /// Bootstrap servers of Kafka.
    pub bootstrap_servers: String,
    /// URL of the PostgreSQL database. Connections do not use TLS.
    pub database_url: String,
    /// Location of the lake.
    pub lake: LakeAt,
}

/// Scope of a verification and the deviations that it allows.
#[derive(Debug, Clone)]
pub struct Terms {
    /// Consumer group that inserted the run into the table. `None` verifies the generator alone, without PostgreSQL.
    pub group: Option<String>,
    /// Verifies the records of other runs and producers and the group's counts too. Requires that the group has read
    /// the topic from its beginning and that no other group writes to the table.
    pub whole_topic: bool,
    /// Allows more identical copies in Kafka than the manifest states, for a run that was resumed or republished.
    pub copies: bool,
    /// Allows rows that were not inserted from Kafka, such as those of a rebuild from the lake. The group may count the
    /// records of such rows as duplicates.
    pub rebuilt: bool,
    /// IDs of all events, of other producers, whose rows triggers suppress. `None` allows any row to be suppressed.
    pub suppressed: Option<HashSet<u128>>,
    /// Counts of the group at the time when the topic was recreated. They belong to earlier topics of the same name and
    /// are subtracted.
    pub earlier: Counts,
}

impl Terms {
    /// Returns the terms that verify everything for a consumer group.
    #[must_use]
    pub fn for_group(group: &str) -> Self {
        Self { group: Some(group.to_owned()), whole_topic: true, ..Self::generator_only() }
    }

    /// Returns the terms that verify Kafka and the lake only.
    #[must_use]
    pub fn generator_only() -> Self {
        let earlier = Counts::default();
        Self { group: None, whole_topic: false, copies: false, rebuilt: false, suppressed: None, earlier }
    }

    /// Excludes the records of other runs and producers and the group's counts.
    #[must_use]
    pub fn of_the_run_only(mut self) -> Self {
        self.whole_topic = false;
        self
    }

    /// Allows rows that were not inserted from Kafka.
    #[must_use]
    pub fn with_rows_from_elsewhere(mut self) -> Self {
        self.rebuilt = true;
        self
    }

    /// Sets the IDs of all events whose rows triggers suppress. They must be events of other producers.
    #[must_use]
    pub fn with_suppressed(mut self, ids: impl IntoIterator<Item = Uuid>) -> Self {
        self.suppressed = Some(ids.into_iter().map(|id| id.as_u128()).collect());
        self
    }

    /// Subtracts the group's counts of earlier topics of the same name.
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
