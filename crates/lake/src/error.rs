//! Errors of a lake.

use std::error::Error;
use std::io;
use std::path::PathBuf;

use crate::content_hash::ContentHash;

/// Error of an operation on a lake.
///
/// The message names the operation, the place and the remedy; `source()` returns the cause if there is one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LakeError {
    /// The text is not the address of a lake.
    #[error("`{text}` is no lake's address: {problem}. Write s3://bucket, s3://bucket/prefix or file:///folder")]
    Url {
        /// The rejected text.
        text: String,
        /// Reason for the rejection.
        problem: &'static str,
    },
    /// The text is not a valid run ID.
    #[error(
        "`{text}` can't name a run: a run's id has 1 to 64 characters out of A-Z, a-z, 0-9, `_` and `-`, and begins \
         with a letter or digit"
    )]
    RunId {
        /// The rejected text.
        text: String,
    },
    /// The key is outside the layout of the lake.
    #[error("`{key}` is not a key of the lake: it has empty or hidden parts, or characters that no key has")]
    Key {
        /// The rejected key.
        key: String,
    },
    /// The trusted certificates could not be loaded.
    #[error("AWS_CA_BUNDLE names {}, which is no file of certificates in PEM form: {cause}", path.display())]
    CaBundle {
        /// Path of the file.
        path: PathBuf,
        /// Reason for the failure.
        cause: String,
    },
    /// No response, or only transient errors, until the timeout or the retry deadline.
    #[error("{action} got no good answer from {place}: {cause}. Is it running, and is this its address?")]
    Unreachable {
        /// Operation that failed.
        action: String,
        /// Server and bucket.
        place: String,
        /// Last error or response.
        cause: String,
    },
    /// The bucket does not exist.
    #[error("there is no bucket `{bucket}` at {place}: make it, or name another lake")]
    NoBucket {
        /// Name of the bucket.
        bucket: String,
        /// The server.
        place: String,
    },
    /// The folder does not exist.
    #[error("there is no folder {}: make it (mkdir -p), or name another lake", path.display())]
    NoFolder {
        /// Path of the folder.
        path: PathBuf,
    },
    /// The standard AWS chain provides no credentials.
    #[error(
        "there are no AWS credentials for {place}: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or \
         run where a role is attached. The standard chain says: {cause}"
    )]
    NoCredentials {
        /// The lake.
        place: String,
        /// Error of the chain.
        cause: String,
    },
    /// The standard AWS chain provides no region.
    #[error("there is no AWS region for {place}: set AWS_REGION, or a region in the profile")]
    NoRegion {
        /// The lake.
        place: String,
    },
    /// The server does not accept the credentials, or no longer does.
    #[error(
        "{place} refuses the credentials ({cause}) at {action}: check the access key, the secret key and the session \
         token, and that this machine's clock is right"
    )]
    BadCredentials {
        /// Operation that failed.
        action: String,
        /// Server and bucket.
        place: String,
        /// Error reported by the server.
        cause: String,
    },
    /// The credentials are valid but lack a permission.
    #[error(
        "{place} denies {action} ({cause}): the lake needs s3:ListBucket on the bucket, s3:GetObject and \
         s3:PutObject below it, and s3:DeleteObject on runs/*.draft.json"
    )]
    Denied {
        /// Operation that failed.
        action: String,
        /// Server and bucket.
        place: String,
        /// Error reported by the server.
        cause: String,
    },
    /// The bucket is in a region other than the one requested.
    #[error("the bucket at {place} is in another region ({cause}): set AWS_REGION to the bucket's")]
    WrongRegion {
        /// Server and bucket.
        place: String,
        /// Error reported by the server.
        cause: String,
    },
    /// Any other error that a retry would not resolve.
    #[error("{place} refuses {action}: {cause}")]
    Refused {
        /// Operation that failed.
        action: String,
        /// Server and bucket.
        place: String,
        /// Error reported by the server.
        cause: String,
    },
    /// The key exists with different content.
    #[error(
        "{key} is already in {place} with other content (there: {}, ours: {offered}). Nothing was overwritten: two \
         different runs share a run id, or the same run was made by a program that makes other events; choose another \
         --run-id or another lake",
        stored.map_or_else(|| "not one of our files".to_owned(), |hash| hash.to_string())
    )]
    Conflict {
        /// Key within the lake.
        key: String,
        /// The lake.
        place: String,
        /// Content hash of the existing file; `None` if it has none and is thus not one of our files.
        stored: Option<ContentHash>,
        /// Content hash of the file to be written.
        offered: ContentHash,
    },
    /// A file system operation failed.
    #[error("can't {action} {}: {source}", path.display())]
    Io {
        /// Operation that failed.
        action: &'static str,
        /// File or folder.
        path: PathBuf,
        /// Error of the operating system.
        source: io::Error,
    },
    /// The bytes of a file are not in the format for its key.
    #[error("cannot read {key}: {problem}; restore the file from a copy")]
    BadFile {
        /// Key within the lake.
        key: String,
        /// Reason for the failure.
        problem: String,
    },
    /// The format version of a manifest is newer than the supported one.
    #[error(
        "{key} is a manifest of version {found}; this program reads up to version {known}. Use the release that wrote it \
         or a later one"
    )]
    NewerManifest {
        /// Key within the lake.
        key: String,
        /// Version of the manifest.
        found: u32,
        /// Highest supported version.
        known: u32,
    },
    /// A file could not be encoded. This is a bug, not a problem of the environment.
    #[error("can't make a {file}: {source}. Please report this")]
    Encode {
        /// Kind of file.
        file: &'static str,
        /// Error of the encoder.
        source: Box<dyn Error + Send + Sync>,
    },
}
