//! Reading and writing files of a lake, in a folder or on S3.

mod folder;
mod https_client;
mod object;
mod s3;
mod s3_access;
mod s3_answer;
mod s3_client;

use std::time::Duration;

use bytes::Bytes;

use crate::content_hash::ContentHash;
use crate::error::LakeError;
use crate::keys::{RunId, draft_key, manifest_key};
use crate::manifest::Manifest;
use crate::segment::LakeFile;
use crate::url::LakeUrl;

use folder::FolderStore;
use s3::S3Store;

pub use object::{FirstDraft, Object, Put};
pub use s3_access::{DEFAULT_RETRY_DEADLINE, S3Access};

/// An open lake. Clones share their connections.
///
/// On S3 each attempt has a timeout, and the retry deadline limits the retries of an operation. Transient failures (no
/// response, 408, 409, 429, most 5xx codes, `SlowDown`) are retried with exponential backoff. Permanent ones
/// (credentials, permissions, a missing bucket, a conflict) are returned immediately. An operation can be dropped at
/// any point: files are written atomically.
#[derive(Debug, Clone)]
pub struct Lake {
    url: LakeUrl,
    store: Store,
}

#[derive(Debug, Clone)]
enum Store {
    S3(S3Store),
    Folder(FolderStore),
}

impl Lake {
    /// Opens a lake. Fails if the bucket or folder does not exist or cannot be listed.
    ///
    /// On S3 this takes at most five seconds.
    pub async fn open(url: &LakeUrl, access: S3Access) -> Result<Self, LakeError> {
        let store = match url {
            LakeUrl::S3 { bucket, prefix } => Store::S3(S3Store::open(bucket, prefix, access).await?),
            LakeUrl::Folder(path) => Store::Folder(FolderStore::open(path).await?),
        };
        Ok(Self { url: url.clone(), store })
    }

    /// Sets the retry deadline of an operation; `None` retries indefinitely. The default is [`DEFAULT_RETRY_DEADLINE`].
    #[must_use]
    pub fn with_retry_deadline(mut self, retry_deadline: Option<Duration>) -> Self {
        if let Store::S3(store) = &mut self.store {
            store.retry_deadline = retry_deadline;
        }
        self
    }

    /// Returns the address.
    #[must_use]
    pub fn url(&self) -> &LakeUrl {
        &self.url
    }

    /// Writes a file if the key does not exist.
    ///
    /// # Errors
    /// [`LakeError::Conflict`] if the key exists with different content. The existing file is left unchanged.
    pub async fn put_new(&self, key: &str, bytes: Bytes, hash: ContentHash) -> Result<Put, LakeError> {
        match &self.store {
            Store::S3(store) => store.put_new(key, bytes, hash).await,
            Store::Folder(store) => store.put_new(key, bytes, hash).await,
        }
    }

    /// Writes a file of a segment like [`Lake::put_new`].
    pub async fn put_file(&self, file: &LakeFile) -> Result<Put, LakeError> {
        self.put_new(&file.key, file.bytes.clone(), file.hash).await
    }

    /// Writes a file, replacing an existing one. Intended for drafts: concurrent writers overwrite each other.
    pub async fn put_replacing(&self, key: &str, bytes: Bytes) -> Result<(), LakeError> {
        match &self.store {
            Store::S3(store) => store.put_replacing(key, bytes).await,
            Store::Folder(store) => store.put_replacing(key, bytes).await,
        }
    }

    /// Returns the bytes of a file, or `None` if it does not exist.
    pub async fn get(&self, key: &str) -> Result<Option<Bytes>, LakeError> {
        match &self.store {
            Store::S3(store) => store.get(key).await,
            Store::Folder(store) => store.get(key).await,
        }
    }

    /// Returns the first bytes of a file, at most `length`, or `None` if the file does not exist.
    pub async fn get_start(&self, key: &str, length: u64) -> Result<Option<Bytes>, LakeError> {
        match &self.store {
            Store::S3(store) => store.get_start(key, length).await,
            Store::Folder(store) => store.get_start(key, length).await,
        }
    }

    /// Lists all files whose keys start with the prefix, in the order of their keys.
    ///
    /// Files that are still being written are not listed. Foreign files are, but their keys do not parse as a
    /// [`Key`](crate::Key).
    pub async fn list(&self, prefix: &str) -> Result<Vec<Object>, LakeError> {
        let mut objects = match &self.store {
            Store::S3(store) => store.list(prefix).await?,
            Store::Folder(store) => store.list(prefix).await?,
        };
        objects.sort_unstable();
        Ok(objects)
    }

    /// Removes a file. Succeeds if it does not exist. Intended for drafts.
    pub async fn remove(&self, key: &str) -> Result<(), LakeError> {
        match &self.store {
            Store::S3(store) => store.remove(key).await,
            Store::Folder(store) => store.remove(key).await,
        }
    }

    /// Writes the manifest of a finished run, then removes its draft.
    ///
    /// # Errors
    /// [`LakeError::Conflict`] if the run has a different manifest.
    pub async fn put_manifest(&self, manifest: &Manifest) -> Result<Put, LakeError> {
        let text = manifest.to_json()?;
        let hash = ContentHash::of_bytes(&text);
        let put = self.put_new(&manifest_key(&manifest.run.id), text.into(), hash).await?;
        self.remove(&draft_key(&manifest.run.id)).await?;
        Ok(put)
    }

    /// Writes the current state of the manifest as a draft.
    pub async fn put_draft(&self, manifest: &Manifest) -> Result<(), LakeError> {
        self.put_replacing(&draft_key(&manifest.run.id), manifest.to_json()?.into()).await
    }

    /// Writes the draft if there is none, and checks if the store supports `If-None-Match`.
    ///
    /// A store without support reports a conditional write of the existing draft as new. Concurrent writers would
    /// overwrite each other's files there.
    pub async fn put_first_draft(&self, manifest: &Manifest) -> Result<FirstDraft, LakeError> {
        let key = draft_key(&manifest.run.id);
        let text = Bytes::from(manifest.to_json()?);
        let hash = ContentHash::of_bytes(&text);
        for _ in 0..2 {
            match self.put_new(&key, text.clone(), hash).await {
                Ok(Put::Written) => {}
                Ok(Put::AlreadyThere) => return Ok(FirstDraft::Written),
                Err(LakeError::Conflict { .. }) => return Ok(FirstDraft::Exists),
                Err(error) => return Err(error),
            }
        }
        Ok(FirstDraft::Unconditional)
    }

    /// Returns the manifest of a finished run, or `None` if it does not exist.
    pub async fn manifest(&self, run: &RunId) -> Result<Option<Manifest>, LakeError> {
        self.read_manifest(&manifest_key(run)).await
    }

    /// Returns the last written draft of an unfinished run, or `None` if it does not exist.
    pub async fn draft(&self, run: &RunId) -> Result<Option<Manifest>, LakeError> {
        self.read_manifest(&draft_key(run)).await
    }

    async fn read_manifest(&self, key: &str) -> Result<Option<Manifest>, LakeError> {
        let text = self.get(key).await?;
        text.map(|text| Manifest::from_json(key, &text)).transpose()
    }
}
