//! Names of the servers.

/// The three servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Name {
    /// The broker.
    Kafka,
    /// The database.
    Postgres,
    /// The object store.
    S3,
}

impl Name {
    /// All of them, in the order in which they are shown.
    pub const ALL: [Self; 3] = [Self::Kafka, Self::Postgres, Self::S3];

    /// As in flags, file names and messages.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Kafka => "kafka",
            Self::Postgres => "postgres",
            Self::S3 => "s3",
        }
    }
}
