//! Default ports and credentials of `local-stack up`. The flags of the pipeline's programs have the same defaults.

/// Port of Kafka on 127.0.0.1.
pub const KAFKA_PORT: u16 = 9092;
/// Port of PostgreSQL on 127.0.0.1; not 5432, which the machine's own PostgreSQL may use.
pub const POSTGRES_PORT: u16 = 5433;
/// Port of S3 on 127.0.0.1.
pub const S3_PORT: u16 = 9000;

/// Database that the pipeline writes to.
pub const DATABASE: &str = "warehouse";
/// Superuser of PostgreSQL.
pub const DATABASE_USER: &str = "admin";
/// Password of [`DATABASE_USER`].
pub const DATABASE_PASSWORD: &str = "admin";

/// Access key of S3.
pub const S3_ACCESS_KEY: &str = "local-stack";
/// Secret key of S3.
pub const S3_SECRET_KEY: &str = "local-stack-secret";
/// Region of S3.
pub const S3_REGION: &str = "us-east-1";
/// Bucket of the default lake.
pub const BUCKET: &str = "product-events-lake";
