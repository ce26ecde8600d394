//! How S3 is reached.

use std::fmt;
use std::time::Duration;

/// How long an operation is retried while S3 does not answer or asks to slow down, by default.
pub const DEFAULT_RETRY_DEADLINE: Duration = Duration::from_mins(2);

/// How to reach S3.
#[derive(Clone, Default)]
pub enum S3Access {
    /// As every AWS tool: `AWS_*` variables, profiles, roles, and `AWS_ENDPOINT_URL_S3` or `AWS_ENDPOINT_URL` for
    /// another S3.
    ///
    /// `AWS_CA_BUNDLE` names a file with the certificates to trust, and then no others are.
    ///
    /// With an endpoint outside amazonaws.com, buckets are addressed by path (`http://host/bucket/key`), and a missing
    /// region is taken to be us-east-1.
    #[default]
    Standard,
    /// One server with one pair of keys, addressed by path; nothing is taken from the surroundings.
    Fixed {
        /// The server's URL.
        endpoint: String,
        /// The access key's id.
        access_key: String,
        /// The secret key.
        secret_key: String,
        /// The region that requests are signed for.
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
