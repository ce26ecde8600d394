//! Selection of the lake and access to it.

use anyhow::anyhow;
use clap::Args;
use lake::{Lake, LakeError, LakeUrl, S3Access};

use crate::START_LOCAL_STACK;

/// Bucket, endpoint and credentials of the local stack. They apply only if no lake is given.
const LOCAL_BUCKET: &str = "product-events-lake";
const LOCAL_ENDPOINT: &str = "http://localhost:9000";
const LOCAL_ACCESS_KEY: &str = "local-stack";
const LOCAL_SECRET_KEY: &str = "local-stack-secret";
const LOCAL_REGION: &str = "us-east-1";

/// Location of the lake.
#[derive(Args, Clone, Debug, Default)]
#[expect(clippy::doc_markdown, reason = "the comment is the help")]
pub struct LakeArgs {
    /// Address of the lake: s3://bucket/prefix, with the standard AWS_* variables, profiles and roles, or
    /// file:///folder [default: the bucket of the local stack]
    #[arg(long, value_name = "URL", help_heading = "Lake")]
    pub lake: Option<LakeUrl>,
}

impl LakeArgs {
    /// Returns the address of the lake.
    #[must_use]
    pub fn url(&self) -> LakeUrl {
        let local = || LakeUrl::S3 { bucket: LOCAL_BUCKET.to_owned(), prefix: String::new() };
        self.lake.clone().unwrap_or_else(local)
    }

    fn access(&self) -> S3Access {
        if self.lake.is_some() {
            return S3Access::Standard;
        }
        S3Access::Fixed {
            endpoint: LOCAL_ENDPOINT.to_owned(),
            access_key: LOCAL_ACCESS_KEY.to_owned(),
            secret_key: LOCAL_SECRET_KEY.to_owned(),
            region: LOCAL_REGION.to_owned(),
        }
    }

    /// Opens the lake. Fails after five seconds if S3 does not respond.
    pub async fn open(&self) -> anyhow::Result<Lake> {
        Lake::open(&self.url(), self.access()).await.map_err(with_hint)
    }
}

/// Adds a remedy to an error of the lake.
#[must_use]
pub fn with_hint(error: LakeError) -> anyhow::Error {
    match error {
        LakeError::Unreachable { .. } => {
            anyhow!("{error}, start the local stack with '{START_LOCAL_STACK}', or set --lake")
        }
        LakeError::NoBucket { ref bucket, .. } if bucket == LOCAL_BUCKET => {
            anyhow!("{error} ('{START_LOCAL_STACK}' creates it)")
        }
        other => anyhow::Error::new(other),
    }
}
