//! Files of a store, and the outcome of a conditional write.

use std::time::SystemTime;

use bytes::Bytes;

use crate::content_hash::ContentHash;
use crate::error::LakeError;
use crate::keys::Key;
use crate::parquet_file;

/// Outcome of a successful conditional write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// The file was written.
    Written,
    /// A file with the same content exists, possibly from an earlier attempt whose response was lost.
    AlreadyThere,
}

/// Outcome of writing the first draft of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FirstDraft {
    /// The draft was written.
    Written,
    /// Another draft exists. It was left unchanged.
    Exists,
    /// The draft was written, but the store ignores `If-None-Match`.
    Unconditional,
}

/// A file in a lake.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Object {
    /// Key within the lake.
    pub key: String,
    /// Size in bytes.
    pub size: u64,
    /// Time of the last change by the clock of the server or host, if known.
    pub modified: Option<SystemTime>,
}

/// Returns the content hash of a stored file: the one in its footer, or for a manifest the hash of its bytes.
pub(super) fn stored_hash(key: &str, bytes: &Bytes) -> Option<ContentHash> {
    match key.parse() {
        Ok(Key::Manifest { .. } | Key::Draft { .. }) => Some(ContentHash::of_bytes(bytes)),
        _ => parquet_file::stored_hash(bytes),
    }
}

/// Returns the outcome of a conditional write to an existing key.
pub(super) fn compare(
    key: &str,
    place: &str,
    stored: Option<ContentHash>,
    offered: ContentHash,
) -> Result<Put, LakeError> {
    if stored == Some(offered) {
        Ok(Put::AlreadyThere)
    } else {
        Err(LakeError::Conflict { key: key.to_owned(), place: place.to_owned(), stored, offered })
    }
}
