//! Where `local-stack up` listens and who may come in. The programs' flags have the same values as defaults.

/// Kafka's port on 127.0.0.1.
pub const KAFKA_PORT: u16 = 9092;
/// PostgreSQL's port on 127.0.0.1; not 5432, where a machine's own PostgreSQL may be.
pub const POSTGRES_PORT: u16 = 5433;
/// S3's port on 127.0.0.1.
pub const S3_PORT: u16 = 9000;

/// The database that the pipeline writes to.
pub const DATABASE: &str = "warehouse";
/// PostgreSQL's superuser.
pub const DATABASE_USER: &str = "admin";
/// The password of [`DATABASE_USER`].
pub const DATABASE_PASSWORD: &str = "admin";

/// S3's access key.
pub const S3_ACCESS_KEY: &str = "local-stack";
/// S3's secret key.
pub const S3_SECRET_KEY: &str = "local-stack-secret";
/// S3's region.
pub const S3_REGION: &str = "us-east-1";
/// The bucket of the default lake.
pub const BUCKET: &str = "product-events-lake";
