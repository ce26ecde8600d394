//! Access to S3.

use std::fmt;
use std::time::Duration;

/// Default retry deadline of an operation, for the time that S3 does not respond or asks clients to slow down.
pub const DEFAULT_RETRY_DEADLINE: Duration = Duration::from_mins(2);

/// Endpoint and credentials for S3.
#[derive(Clone, Default)]
pub enum S3Access {
    /// The standard AWS configuration: `AWS_*` variables, profiles, roles. `AWS_ENDPOINT_URL_S3` or `AWS_ENDPOINT_URL`
    /// selects an S3-compatible server.
    ///
    /// If `AWS_CA_BUNDLE` is set, only the certificates in that file are trusted.
    ///
    /// With an endpoint outside Amazon's domains, buckets are addressed by path (`http://host/bucket/key`), and the
    /// region defaults to us-east-1.
    #[default]
    Standard,
    /// One server with one key pair, addressed by path. The environment is ignored.
    Fixed {
        /// URL of the server.
        endpoint: String,
        /// Access key ID.
        access_key: String,
        /// Secret access key.
        secret_key: String,
        /// Region for signing requests.
        region: String,
    },
}

impl fmt::Debug for S3Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Standard => f.write_str("Standard"),
            Self::Fixed { endpoint, access_key, region, .. } => f
                .debug_struct("Fixed")
                .field("endpoint", endpoint)
                .field("access_key", access_key)
                .field("region", region)
                .finish_non_exhaustive(),
        }
    }
}
