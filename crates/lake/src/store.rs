//! Putting files into a lake and getting them back, wherever it is.

mod ca_bundle;
mod folder;
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

pub use object::{Object, Put};
pub use s3_access::{DEFAULT_RETRY_DEADLINE, S3Access};

/// An open lake. Clones share their connections.
///
/// Every operation on S3 has a time limit for each attempt and, by the retry deadline, for the whole. What passes (no answer,
/// 409, 429, 5xx, `SlowDown`) is tried again with growing pauses; what does not (credentials, rights, a missing bucket,
/// a conflict) is an error at once. An operation can be dropped at any point: a file is there whole or not at all.
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
    /// Opens a lake and checks within five seconds that the bucket or folder is there and may be listed.
    pub async fn open(url: &LakeUrl, access: S3Access) -> Result<Self, LakeError> {
        let store = match url {
            LakeUrl::S3 { bucket, prefix } => Store::S3(S3Store::open(bucket, prefix, access).await?),
            LakeUrl::Folder(path) => Store::Folder(FolderStore::open(path).await?),
        };
        Ok(Self { url: url.clone(), store })
    }

    /// Sets how long an operation is retried: `None` for as long as it takes. The default is [`DEFAULT_RETRY_DEADLINE`].
    #[must_use]
    pub fn with_retry_deadline(mut self, retry_deadline: Option<Duration>) -> Self {
        if let Store::S3(store) = &mut self.store {
            store.retry_deadline = retry_deadline;
        }
        self
    }

    /// Where it is.
    #[must_use]
    pub fn url(&self) -> &LakeUrl {
        &self.url
    }

    /// Writes a file where there is none.
    ///
    /// # Errors
    /// [`LakeError::Conflict`] when the key is taken by a file with other content, which stays as it is.
    pub async fn put_new(&self, key: &str, bytes: Bytes, hash: ContentHash) -> Result<Put, LakeError> {
        match &self.store {
            Store::S3(store) => store.put_new(key, bytes, hash).await,
            Store::Folder(store) => store.put_new(key, bytes, hash).await,
        }
    }

    /// Writes a segment's file.
    pub async fn put_file(&self, file: &LakeFile) -> Result<Put, LakeError> {
        self.put_new(&file.key, file.bytes.clone(), file.hash).await
    }

    /// Writes a file whatever was there. For drafts: two writers would overwrite each other.
    pub async fn put_replacing(&self, key: &str, bytes: Bytes) -> Result<(), LakeError> {
        match &self.store {
            Store::S3(store) => store.put_replacing(key, bytes).await,
            Store::Folder(store) => store.put_replacing(key, bytes).await,
        }
    }

    /// A file's bytes; none where there is no such file.
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

    /// All files whose keys begin with the prefix, in the order of their keys. Files that are being written are not
    /// among them. Foreign files are: [`Key`] tells them apart.
    pub async fn list(&self, prefix: &str) -> Result<Vec<Object>, LakeError> {
        let mut objects = match &self.store {
            Store::S3(store) => store.list(prefix).await?,
            Store::Folder(store) => store.list(prefix).await?,
        };
        objects.sort_unstable();
        Ok(objects)
    }

    /// Removes a file; nothing happens where there is none. For drafts.
    pub async fn remove(&self, key: &str) -> Result<(), LakeError> {
        match &self.store {
            Store::S3(store) => store.remove(key).await,
            Store::Folder(store) => store.remove(key).await,
        }
    }

    /// Writes a finished run's manifest, then removes its draft.
    ///
    /// # Errors
    /// [`LakeError::Conflict`] when the run has another manifest.
    pub async fn put_manifest(&self, manifest: &Manifest) -> Result<Put, LakeError> {
        let text = manifest.to_json()?;
        let hash = ContentHash::of_bytes(&text);
        let put = self.put_new(&manifest_key(&manifest.run.id), text.into(), hash).await?;
        self.remove(&draft_key(&manifest.run.id)).await?;
        Ok(put)
    }

    /// Writes the manifest as it stands so far.
    pub async fn put_draft(&self, manifest: &Manifest) -> Result<(), LakeError> {
        self.put_replacing(&draft_key(&manifest.run.id), manifest.to_json()?.into()).await
    }

    /// Writes the draft, and tells whether the store heeds `If-None-Match`: one that does not takes the draft for new when it
    /// is written where it is already. There two writers would overwrite each other's files.
    pub async fn put_draft_and_probe(&self, manifest: &Manifest) -> Result<bool, LakeError> {
        self.put_draft(manifest).await?;
        let text = manifest.to_json()?;
        let hash = ContentHash::of_bytes(&text);
        match self.put_new(&draft_key(&manifest.run.id), text.into(), hash).await {
            Ok(put) => Ok(put == Put::AlreadyThere),
            Err(LakeError::Conflict { .. }) => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// A finished run's manifest; none when it has none.
    pub async fn manifest(&self, run: &RunId) -> Result<Option<Manifest>, LakeError> {
        self.read_manifest(&manifest_key(run)).await
    }

    /// The manifest of a run that is not finished, as last written; none when it has none.
    pub async fn draft(&self, run: &RunId) -> Result<Option<Manifest>, LakeError> {
        self.read_manifest(&draft_key(run)).await
    }

    async fn read_manifest(&self, key: &str) -> Result<Option<Manifest>, LakeError> {
        let text = self.get(key).await?;
        text.map(|text| Manifest::from_json(key, &text)).transpose()
    }
}
