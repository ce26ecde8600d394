//! Names of the servers.

/// One of the three servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Name {
    /// The Kafka broker.
    Kafka,
    /// The PostgreSQL server.
    Postgres,
    /// The object store.
    S3,
}

impl Name {
    /// All servers, in display order.
    pub const ALL: [Self; 3] = [Self::Kafka, Self::Postgres, Self::S3];

    /// Returns the name used in flags, file names and messages.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Kafka => "kafka",
            Self::Postgres => "postgres",
            Self::S3 => "s3",
        }
    }
}
