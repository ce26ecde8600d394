//! The S3 client: credentials, endpoint and timeouts.

use std::path::Path;
use std::time::Duration;

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{Builder, Credentials, ProvideCredentials};
use aws_types::service_config::ServiceConfigKey;

use super::https_client;
use super::s3_access::S3Access;
use super::s3_answer::innermost;
use crate::error::LakeError;

/// Timeout of the TCP and TLS handshakes.
const CONNECT_LIMIT: Duration = Duration::from_secs(3);
/// Timeout of one attempt with its request body (64 MiB at 1.2 MB/s), and of each chunk of a response body.
pub(super) const ATTEMPT_LIMIT: Duration = Duration::from_mins(1);
/// Default region of most S3-compatible servers.
const USUAL_REGION: &str = "us-east-1";

/// A client, and the name of the server for messages.
pub(super) struct Connected {
    pub(super) client: Client,
    pub(super) server: String,
}

pub(super) async fn connect(bucket: &str, access: S3Access) -> Result<Connected, LakeError> {
    let (builder, server) = match access {
        S3Access::Standard => standard(bucket).await?,
        S3Access::Fixed { endpoint, access_key, secret_key, region } => {
            let credentials = Credentials::new(access_key, secret_key, None, None, "fixed");
            let builder = Builder::new()
                .behavior_version(BehaviorVersion::latest())
                .http_client(https_client::client_without_proxy())
                .region(Region::new(region))
                .credentials_provider(credentials)
                .endpoint_url(&endpoint)
                .force_path_style(true);
            (builder, endpoint)
        }
    };
    let limits = TimeoutConfig::builder()
        .connect_timeout(CONNECT_LIMIT)
        .operation_attempt_timeout(ATTEMPT_LIMIT)
        .operation_timeout(ATTEMPT_LIMIT)
        .build();
    // S3Store::attempts is the single place that retries, with a log line and a limit.
    let config = builder.timeout_config(limits).retry_config(RetryConfig::disabled()).build();
    Ok(Connected { client: Client::from_conf(config), server })
}

async fn standard(bucket: &str) -> Result<(Builder, String), LakeError> {
    let bundle = std::env::var_os("AWS_CA_BUNDLE").filter(|path| !path.is_empty());
    let http = match bundle {
        Some(path) => https_client::client_that_trusts(Path::new(&path))?,
        None => https_client::client(),
    };
    let config = aws_config::defaults(BehaviorVersion::latest()).http_client(http).load().await;
    let endpoint = endpoint_of(&config);
    let elsewhere = endpoint.as_deref().is_some_and(|endpoint| !is_amazons(endpoint));
    let region = match (config.region(), elsewhere) {
        (Some(region), _) => region.clone(),
        (None, true) => Region::from_static(USUAL_REGION),
        (None, false) => return Err(LakeError::NoRegion { place: format!("s3://{bucket}") }),
    };
    check_credentials(&config, bucket).await?;
    let server = endpoint.unwrap_or_else(|| format!("Amazon S3 in {region}"));
    let builder = Builder::from(&config).region(region).force_path_style(elsewhere);
    Ok((builder, server))
}

/// Returns the endpoint of S3 if one is set. The service-specific setting has precedence over the general one.
fn endpoint_of(config: &SdkConfig) -> Option<String> {
    let key =
        ServiceConfigKey::builder().service_id("S3").env("AWS_ENDPOINT_URL").profile("endpoint_url").build().ok()?;
    let of_service = config.service_config().and_then(|settings| settings.load_config(key));
    of_service.or_else(|| config.endpoint_url().map(str::to_owned))
}

fn is_amazons(endpoint: &str) -> bool {
    let host = url::Url::parse(endpoint).ok().and_then(|url| url.host_str().map(str::to_owned));
    host.is_some_and(|host| {
        ["amazonaws.com", "amazonaws.com.cn", "api.aws"]
            .iter()
            .any(|domain| host.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.')))
    })
}

/// Loads the credentials before the first request, whose error without them would only mention the connection.
async fn check_credentials(config: &SdkConfig, bucket: &str) -> Result<(), LakeError> {
    let missing = |cause: String| LakeError::NoCredentials { place: format!("s3://{bucket}"), cause };
    let Some(provider) = config.credentials_provider() else {
        return Err(missing("no source of credentials is configured".to_owned()));
    };
    match provider.provide_credentials().await {
        Ok(_) => Ok(()),
        Err(error) => Err(missing(innermost(&error))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amazons_endpoints_are_known_by_their_host() {
        for (endpoint, amazons) in [
            ("https://s3.eu-central-1.amazonaws.com", true),
            ("https://s3.cn-north-1.amazonaws.com.cn", true),
            ("https://bucket.vpce-1.s3.us-east-1.vpce.amazonaws.com", true),
            ("https://s3.dualstack.us-east-1.api.aws", true),
            ("http://localhost:9000", false),
            ("http://127.0.0.1:9000/amazonaws.com", false),
            ("https://notamazonaws.com", false),
        ] {
            assert_eq!(is_amazons(endpoint), amazons, "{endpoint}");
        }
    }
}
