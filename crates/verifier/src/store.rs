//! Lists and reads the objects of the lake, in S3 or in a folder.

use std::path::{Path, PathBuf};
use std::time::Duration;

use aws_config::BehaviorVersion;
use aws_config::timeout::TimeoutConfig;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::{Credentials, Region};
use aws_smithy_http_client::ConnectorBuilder;
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::Provider;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use bytes::Bytes;

use crate::Error;

const OPERATION_WITHIN: Duration = Duration::from_mins(1);

/// Location of a lake.
#[derive(Debug, Clone)]
pub enum LakeAt {
    /// An S3 bucket, or a prefix in it.
    S3 {
        /// Name of the bucket.
        bucket: String,
        /// Prefix of the keys, without a leading or trailing slash; may be empty.
        prefix: String,
        /// Endpoint and credentials. `None` uses the default AWS provider chain.
        access: Option<S3Access>,
    },
    /// A local folder.
    Folder(PathBuf),
}

/// Endpoint and credentials of an S3-compatible store.
#[derive(Debug, Clone)]
pub struct S3Access {
    /// URL of the endpoint, such as `http://127.0.0.1:9000`.
    pub endpoint: String,
    /// Access key ID.
    pub access_key: String,
    /// Secret access key.
    pub secret_key: String,
    /// Region of the request signatures.
    pub region: String,
}

impl LakeAt {
    /// Parses `s3://bucket[/prefix]` or `file:///folder`. `access` applies to S3 only.
    pub fn parse(url: &str, access: Option<S3Access>) -> Result<Self, Error> {
        if let Some(path) = url.strip_prefix("file://").filter(|path| path.starts_with('/')) {
            return Ok(Self::Folder(PathBuf::from(path)));
        }
        let place = url.strip_prefix("s3://").ok_or_else(|| Error::LakeUrl(url.to_owned()))?;
        let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
        if bucket.is_empty() {
            return Err(Error::LakeUrl(url.to_owned()));
        }
        Ok(Self::S3 { bucket: bucket.to_owned(), prefix: prefix.trim_matches('/').to_owned(), access })
    }
}

/// A client for a lake.
pub(crate) enum Store {
    S3 { client: Client, bucket: String, prefix: String },
    Folder(PathBuf),
}

impl Store {
    pub(crate) async fn open(at: &LakeAt) -> Self {
        match at {
            LakeAt::Folder(folder) => Self::Folder(folder.clone()),
            LakeAt::S3 { bucket, prefix, access } => {
                let client = client(access.as_ref()).await;
                Self::S3 { client, bucket: bucket.clone(), prefix: prefix.clone() }
            }
        }
    }

    fn full_key(prefix: &str, key: &str) -> String {
        if prefix.is_empty() { key.to_owned() } else { format!("{prefix}/{key}") }
    }

    /// Returns all keys under a folder of the lake, in byte order.
    pub(crate) async fn list(&self, folder: &str) -> Result<Vec<String>, Error> {
        let mut keys = match self {
            Self::Folder(root) => list_folder(root, folder)?,
            Self::S3 { client, bucket, prefix } => {
                let full = Self::full_key(prefix, folder);
                let fault = |cause| Error::Lake { place: format!("s3://{bucket}/{full}"), doing: "list", cause };
                let mut pages =
                    client.list_objects_v2().bucket(bucket).prefix(format!("{full}/")).into_paginator().send();
                let mut keys = Vec::new();
                while let Some(page) = pages.next().await {
                    let page = page.map_err(|e| fault(Box::new(e.into_service_error())))?;
                    let found = page.contents().iter().filter_map(aws_sdk_s3::types::Object::key);
                    keys.extend(found.filter_map(|key| key.get(full.len() - folder.len()..)).map(str::to_owned));
                }
                keys
            }
        };
        keys.sort_unstable();
        Ok(keys)
    }

    /// Returns the contents of an object.
    pub(crate) async fn get(&self, key: &str) -> Result<Bytes, Error> {
        match self {
            Self::Folder(root) => {
                let path = root.join(key);
                std::fs::read(&path).map(Bytes::from).map_err(|e| folder_fault(&path, "read", e))
            }
            Self::S3 { client, bucket, prefix } => {
                let full = Self::full_key(prefix, key);
                let fault = |cause| Error::Lake { place: format!("s3://{bucket}/{full}"), doing: "read", cause };
                let object = client.get_object().bucket(bucket).key(&full).send().await;
                let object = object.map_err(|e| fault(Box::new(e.into_service_error())))?;
                let body = object.body.collect().await.map_err(|e| fault(Box::new(e)))?;
                Ok(body.into_bytes())
            }
        }
    }
}

async fn client(access: Option<&S3Access>) -> Client {
    let timeouts = TimeoutConfig::builder().operation_timeout(OPERATION_WITHIN).build();
    let http = aws_smithy_http_client::Builder::new().build_with_connector_fn(|settings, _| {
        let mut connector = ConnectorBuilder::default()
            .tls_provider(Provider::Rustls(CryptoMode::Ring))
            .proxy_config(ProxyConfig::from_env());
        connector.set_connector_settings(settings.cloned());
        connector.build()
    });
    let mut chain = aws_config::defaults(BehaviorVersion::v2026_01_12()).http_client(http).timeout_config(timeouts);
    if let Some(access) = access {
        chain = chain
            .region(Region::new(access.region.clone()))
            .endpoint_url(&access.endpoint)
            .credentials_provider(Credentials::new(&access.access_key, &access.secret_key, None, None, "verifier"));
    }
    let config = chain.load().await;
    let by_path = access.is_some();
    Client::from_conf(aws_sdk_s3::config::Builder::from(&config).force_path_style(by_path).build())
}

fn list_folder(root: &Path, folder: &str) -> Result<Vec<String>, Error> {
    let mut keys = Vec::new();
    let mut open = vec![root.join(folder)];
    while let Some(here) = open.pop() {
        let entries = match std::fs::read_dir(&here) {
            Ok(entries) => entries,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
            Err(e) => return Err(folder_fault(&here, "list", e)),
        };
        for entry in entries {
            let path = entry.map_err(|e| folder_fault(&here, "list", e))?.path();
            if path.is_dir() {
                open.push(path);
            } else if let Some(key) = path.strip_prefix(root).ok().and_then(Path::to_str) {
                keys.push(key.to_owned());
            }
        }
    }
    Ok(keys)
}

fn folder_fault(path: &Path, doing: &'static str, source: std::io::Error) -> Error {
    Error::Lake { place: path.display().to_string(), doing, cause: Box::new(source) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lakes_are_named_by_url() {
        let show = |url| LakeAt::parse(url, None).map(|at| format!("{at:?}")).map_err(|e| e.to_string());
        assert_eq!(show("file:///a/b"), Ok(r#"Folder("/a/b")"#.into()));
        assert_eq!(show("s3://b"), Ok(r#"S3 { bucket: "b", prefix: "", access: None }"#.into()));
        assert_eq!(show("s3://b/p/q/"), Ok(r#"S3 { bucket: "b", prefix: "p/q", access: None }"#.into()));
        for bad in ["file://relative", "s3://", "/a", ""] {
            assert!(show(bad).is_err(), "{bad}");
        }
    }
}
