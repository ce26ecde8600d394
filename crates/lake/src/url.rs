//! Address of a lake.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use url::Url;

use crate::error::LakeError;

/// Address of a lake: `s3://bucket`, `s3://bucket/prefix` or `file:///folder`.
///
/// The output of `Display` parses to the same address.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum LakeUrl {
    /// A bucket, or the part of it below a prefix.
    S3 {
        /// Name of the bucket.
        bucket: String,
        /// Prefix of all keys, without leading or trailing slash; empty for the whole bucket.
        prefix: String,
    },
    /// A folder, given by its absolute path.
    Folder(PathBuf),
}

impl FromStr for LakeUrl {
    type Err = LakeError;

    fn from_str(text: &str) -> Result<Self, LakeError> {
        let parsed = match text.split_once("://") {
            Some(("s3", rest)) => parse_s3(rest),
            Some(("file", _)) => parse_folder(text),
            Some(("s3a" | "s3n", _)) => Err("the scheme must be s3"),
            Some(_) => Err("the scheme must be s3 or file"),
            None => Err("it has no scheme"),
        };
        parsed.map_err(|problem| LakeError::Url { text: text.to_owned(), problem })
    }
}

fn parse_s3(rest: &str) -> Result<LakeUrl, &'static str> {
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    if !is_bucket_name(bucket) {
        return Err("a bucket name has 3 to 63 characters of a-z, 0-9, - and ., and starts and ends with a letter or \
             digit");
    }
    let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
    if prefix.contains(['?', '#']) || prefix.chars().any(char::is_control) {
        return Err("a prefix must not contain ?, # or control characters");
    }
    if !prefix.is_empty() && prefix.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err("a prefix must not contain empty parts, . or ..");
    }
    Ok(LakeUrl::S3 { bucket: bucket.to_owned(), prefix: prefix.to_owned() })
}

/// Checks the length and the characters of a name by S3's rules for general-purpose buckets.
fn is_bucket_name(name: &str) -> bool {
    let letter_or_digit = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = name.as_bytes();
    (3..=63).contains(&bytes.len())
        && bytes.iter().all(|&b| letter_or_digit(b) || b == b'-' || b == b'.')
        && bytes.first().is_some_and(|&b| letter_or_digit(b))
        && bytes.last().is_some_and(|&b| letter_or_digit(b))
}

fn parse_folder(text: &str) -> Result<LakeUrl, &'static str> {
    let url = Url::parse(text).map_err(|_| "it is not a URL")?;
    if url.host_str().is_some_and(|host| !host.is_empty()) {
        return Err("a folder needs three slashes after file: and an absolute path");
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("? and # in the name of a folder must be written %3F and %23");
    }
    url.to_file_path().map(LakeUrl::Folder).map_err(|()| "it is not a path on this machine")
}

impl fmt::Display for LakeUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::S3 { bucket, prefix } if prefix.is_empty() => write!(f, "s3://{bucket}"),
            Self::S3 { bucket, prefix } => write!(f, "s3://{bucket}/{prefix}"),
            Self::Folder(path) => match Url::from_file_path(path) {
                Ok(url) => write!(f, "{url}"),
                Err(()) => write!(f, "file://{}", path.display()),
            },
        }
    }
}

impl Serialize for LakeUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for LakeUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn addresses_come_back_as_written() {
        for (text, shown) in [
            ("s3://product-events-lake", "s3://product-events-lake"),
            ("s3://bucket/", "s3://bucket"),
            ("s3://bucket/a/b/", "s3://bucket/a/b"),
            ("file:///srv/lake", "file:///srv/lake"),
            ("file:///a%20b", "file:///a%20b"),
            ("file:///a%3Fb/%E2%82%AC", "file:///a%3Fb/%E2%82%AC"),
        ] {
            let url: LakeUrl = text.parse().unwrap();
            assert_eq!(url.to_string(), shown);
            assert_eq!(url.to_string().parse::<LakeUrl>().unwrap(), url);
        }
        assert_eq!("file:///a%20b".parse::<LakeUrl>().unwrap(), LakeUrl::Folder(PathBuf::from("/a b")));
    }

    #[test]
    fn other_texts_are_refused_with_a_way_out() {
        for text in [
            "",
            "/srv/lake",
            "s3://",
            "s3://ab",
            "s3://Bucket",
            "s3://bucket-",
            "s3://user:secret@bucket",
            "s3://bucket//a",
            "s3://bucket/a/../b",
            "s3://bucket/a?region=eu",
            "s3a://bucket",
            "gs://bucket",
            "file://host/folder",
            "file:///folder?x",
        ] {
            let error = text.parse::<LakeUrl>().unwrap_err();
            assert!(error.to_string().contains("s3://bucket/prefix"), "{error}");
        }
    }
}
