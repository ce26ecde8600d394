//! Files of a store, and the outcome of a conditional write.

use std::time::SystemTime;

use bytes::Bytes;

use crate::content_hash::ContentHash;
use crate::error::LakeError;
use crate::keys::Key;
use crate::parquet_file;

/// How a conditional write ended well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// The file is new.
    Written,
    /// A file with the same content was there, perhaps our own of an attempt whose answer was lost.
    AlreadyThere,
}

/// A file in a lake.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Object {
    /// Its key within the lake.
    pub key: String,
    /// Its size in bytes.
    pub size: u64,
    /// Time of its last change by the clock of its server or host, if known.
    pub modified: Option<SystemTime>,
}

/// What a stored file says of its content: by its footer, or for a manifest by its bytes.
pub(super) fn stored_hash(key: &str, bytes: &Bytes) -> Option<ContentHash> {
    match key.parse() {
        Ok(Key::Manifest { .. } | Key::Draft { .. }) => Some(ContentHash::of_bytes(bytes)),
        _ => parquet_file::stored_hash(bytes),
    }
}

/// What a conditional write means when the key was taken.
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
