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
    #[error("invalid lake address '{text}': {problem}; write s3://bucket, s3://bucket/prefix or file:///folder")]
    Url {
        /// The rejected text.
        text: String,
        /// Reason for the rejection.
        problem: &'static str,
    },
    /// The text is not a valid run ID.
    #[error(
        "invalid run ID '{text}': it cannot name a file; use 1 to 64 letters, digits, - or _, starting with a letter \
         or digit"
    )]
    RunId {
        /// The rejected text.
        text: String,
    },
    /// The key is outside the layout of the lake.
    #[error("invalid key '{key}': it has an empty or hidden part, or a forbidden character")]
    Key {
        /// The rejected key.
        key: String,
    },
    /// The trusted certificates could not be loaded.
    #[error("cannot read AWS_CA_BUNDLE {}: {cause}; set it to a file of PEM certificates", path.display())]
    CaBundle {
        /// Path of the file.
        path: PathBuf,
        /// Reason for the failure.
        cause: String,
    },
    /// No response, or only transient errors, until the timeout or the retry deadline.
    #[error("{action} failed: no valid response from {place}: {cause}; check the address and that the server runs")]
    Unreachable {
        /// Operation that failed.
        action: String,
        /// Server and bucket.
        place: String,
        /// Last error or response.
        cause: String,
    },
    /// The bucket does not exist.
    #[error("cannot use bucket {bucket}: it does not exist at {place}; create it or choose another lake")]
    NoBucket {
        /// Name of the bucket.
        bucket: String,
        /// The server.
        place: String,
    },
    /// The folder does not exist.
    #[error("cannot use folder {}: it does not exist; create it with 'mkdir -p', or set another lake", path.display())]
    NoFolder {
        /// Path of the folder.
        path: PathBuf,
    },
    /// The standard AWS chain provides no credentials.
    #[error(
        "no AWS credentials for {place}: {cause}; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or \
         attach a role to the machine"
    )]
    NoCredentials {
        /// The lake.
        place: String,
        /// Error of the chain.
        cause: String,
    },
    /// The standard AWS chain provides no region.
    #[error("no AWS region for {place}; set AWS_REGION, or a region in the profile")]
    NoRegion {
        /// The lake.
        place: String,
    },
    /// The server does not accept the credentials, or no longer does.
    #[error(
        "{action} failed: {place} rejected the credentials: {cause}; check the access key, the secret key, the session \
         token and the clock of this machine"
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
        "{action} failed: {place} denied access: {cause}; grant s3:ListBucket on the bucket, s3:GetObject and \
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
    #[error("cannot use the bucket at {place}: it is in another region: {cause}; set AWS_REGION to its region")]
    WrongRegion {
        /// Server and bucket.
        place: String,
        /// Error reported by the server.
        cause: String,
    },
    /// Any other error that a retry would not resolve.
    #[error("{action} failed: {place} refused the request: {cause}")]
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
        "cannot write {key} to {place}: it exists with other content (hash {}, not {offered}), from another run with \
         this ID or from another version of the program; choose another --run-id or another lake",
        stored.map_or_else(|| "unknown".to_owned(), |hash| hash.to_string())
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
    #[error("cannot {action} {}: {source}", path.display())]
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
        "cannot read {key}: its manifest version is {found}, and this program reads up to version {known}; use the \
         release that wrote it or a later one"
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
    #[error("cannot encode {file}: {source}; report this bug")]
    Encode {
        /// Kind of file.
        file: &'static str,
        /// Error of the encoder.
        source: Box<dyn Error + Send + Sync>,
    },
}
