//! What can go wrong with a lake, in words that say what, where and what to do.

use std::error::Error;
use std::io;
use std::path::PathBuf;

use crate::content_hash::ContentHash;

/// Why something could not be done with the lake.
///
/// The message says what failed, where, and what to do; `source()` has the cause where there is one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LakeError {
    /// A text that is not a lake's address.
    #[error("`{text}` is no lake's address: {problem}. Write s3://bucket, s3://bucket/prefix or file:///folder")]
    Url {
        /// The text.
        text: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A text that can't name a run.
    #[error(
        "`{text}` can't name a run: a run's id has 1 to 64 characters out of A-Z, a-z, 0-9, `_` and `-`, and begins \
         with a letter or digit"
    )]
    RunId {
        /// The text.
        text: String,
    },
    /// A key that the lake has no place for.
    #[error("`{key}` is not a key of the lake: it has empty or hidden parts, or characters that no key has")]
    Key {
        /// The key.
        key: String,
    },
    /// The certificates to trust could not be used.
    #[error("AWS_CA_BUNDLE names {}, which is no file of certificates in PEM form: {cause}", path.display())]
    CaBundle {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        cause: String,
    },
    /// Nobody answered, or not in time, or only with errors that pass, for as long as the lake was to be patient.
    #[error("{action} got no good answer from {place}: {cause}. Is it running, and is this its address?")]
    Unreachable {
        /// What was tried.
        action: String,
        /// The server and bucket.
        place: String,
        /// What came back last.
        cause: String,
    },
    /// The bucket is not there.
    #[error("there is no bucket `{bucket}` at {place}: make it, or name another lake")]
    NoBucket {
        /// The bucket.
        bucket: String,
        /// The server.
        place: String,
    },
    /// The folder is not there.
    #[error("there is no folder {}: make it (mkdir -p), or name another lake", path.display())]
    NoFolder {
        /// The folder.
        path: PathBuf,
    },
    /// The standard AWS chain has no credentials.
    #[error(
        "there are no AWS credentials for {place}: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, or \
         run where a role is attached. The standard chain says: {cause}"
    )]
    NoCredentials {
        /// The lake.
        place: String,
        /// What the chain said.
        cause: String,
    },
    /// The standard AWS chain has no region.
    #[error("there is no AWS region for {place}: set AWS_REGION, or a region in the profile")]
    NoRegion {
        /// The lake.
        place: String,
    },
    /// The server knows these credentials not, or no longer.
    #[error(
        "{place} refuses the credentials ({cause}) at {action}: check the access key, the secret key and the session \
         token, and that this machine's clock is right"
    )]
    BadCredentials {
        /// What was tried.
        action: String,
        /// The server and bucket.
        place: String,
        /// The server's own words.
        cause: String,
    },
    /// The credentials are known but may not do this.
    #[error(
        "{place} denies {action} ({cause}): the lake needs s3:ListBucket on the bucket, s3:GetObject and \
         s3:PutObject below it, and s3:DeleteObject on runs/*.draft.json"
    )]
    Denied {
        /// What was tried.
        action: String,
        /// The server and bucket.
        place: String,
        /// The server's own words.
        cause: String,
    },
    /// The bucket is in another region than the one that was asked.
    #[error("the bucket at {place} is in another region ({cause}): set AWS_REGION to the bucket's")]
    WrongRegion {
        /// The server and bucket.
        place: String,
        /// The server's own words.
        cause: String,
    },
    /// Another refusal, which trying again would not change.
    #[error("{place} refuses {action}: {cause}")]
    Refused {
        /// What was tried.
        action: String,
        /// The server and bucket.
        place: String,
        /// The server's own words.
        cause: String,
    },
    /// The key is taken by something else.
    #[error(
        "{key} is already in {place} with other content (there: {}, ours: {offered}). Nothing was overwritten: two \
         different runs share a run id, or the same run was made by a program that makes other events; choose another \
         --run-id or another lake",
        stored.map_or_else(|| "not one of our files".to_owned(), |hash| hash.to_string())
    )]
    Conflict {
        /// The key, within the lake.
        key: String,
        /// The lake.
        place: String,
        /// The content hash of what is there; none if it is no file of ours.
        stored: Option<ContentHash>,
        /// The content hash of what was to be written.
        offered: ContentHash,
    },
    /// The file system said no.
    #[error("can't {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// A file in the lake whose bytes are not of the format for its key.
    #[error("cannot read {key}: {problem}; restore the file from a copy")]
    BadFile {
        /// The key, within the lake.
        key: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A manifest of a later version of the form.
    #[error(
        "{key} is a manifest of version {found}; this program reads up to version {known}. Use the release that wrote it \
         or a later one"
    )]
    NewerManifest {
        /// The key, within the lake.
        key: String,
        /// Its version.
        found: u32,
        /// The highest version that is known here.
        known: u32,
    },
    /// Rows could not be brought into a file's form. This is a fault of the program, not of its surroundings.
    #[error("can't make a {file}: {source}. Please report this")]
    Encode {
        /// Which kind of file.
        file: &'static str,
        /// What the encoder said.
        source: Box<dyn Error + Send + Sync>,
    },
}
