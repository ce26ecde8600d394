//! A lake in an S3 bucket.

use std::future::Future;
use std::time::{Duration, SystemTime};

use aws_sdk_s3::Client;
use aws_sdk_s3::primitives::ByteStream;
use bytes::{Bytes, BytesMut};
use retry_policy::{RetryPolicy, Retryable};
use tokio::time::timeout;
use tracing::warn;

use super::object::{Object, Put, compare, stored_hash};
use super::s3_access::{DEFAULT_RETRY_DEADLINE, S3Access};
use super::s3_answer::{Answer, AnswerKind};
use super::s3_client::{ATTEMPT_LIMIT, Connected, connect};
use crate::content_hash::ContentHash;
use crate::error::LakeError;
use crate::keys::RUNS_PREFIX;

/// Timeout of opening a lake: for loading the credentials and for the first request.
const OPEN_LIMIT: Duration = Duration::from_secs(5);
/// Object metadata key of the content hash.
const HASH_METADATA: &str = "content-hash";
const RETRY: RetryPolicy = RetryPolicy::exponential(Duration::from_millis(100), Duration::from_secs(10));
/// Maximum number of bytes reserved for a response before its body arrives.
const LARGEST_RESERVE: usize = 1 << 28;

#[derive(Debug, Clone)]
pub(super) struct S3Store {
    client: Client,
    /// Server name for messages.
    server: String,
    bucket: String,
    /// Prefix of all keys in the bucket: empty, or with a trailing slash.
    prefix: String,
    pub(super) retry_deadline: Option<Duration>,
}

/// Error of an attempt. `again` is true if a retry may succeed.
struct Failure {
    again: bool,
    error: LakeError,
}

impl From<LakeError> for Failure {
    fn from(error: LakeError) -> Self {
        Self { again: false, error }
    }
}

impl S3Store {
    pub(super) async fn open(bucket: &str, prefix: &str, access: S3Access) -> Result<Self, LakeError> {
        let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
        let place = match &access {
            S3Access::Fixed { endpoint, .. } => format!("{endpoint} (bucket {bucket})"),
            S3Access::Standard => format!("s3://{bucket}"),
        };
        let opened = timeout(OPEN_LIMIT, async {
            let Connected { client, server } = connect(bucket, access).await?;
            let store = Self {
                client,
                server,
                bucket: bucket.to_owned(),
                prefix,
                retry_deadline: Some(DEFAULT_RETRY_DEADLINE),
            };
            // Unlike HeadBucket, a failed listing has an error code, and the lake needs this permission anyway.
            store.list_page("", 1, None).await.map_err(|failure| failure.error)?;
            Ok(store)
        });
        opened.await.unwrap_or_else(|_| {
            let cause = format!("no response within {} s", OPEN_LIMIT.as_secs());
            Err(LakeError::Unreachable { action: "opening the lake".to_owned(), place, cause })
        })
    }

    pub(super) async fn put_new(&self, key: &str, bytes: Bytes, hash: ContentHash) -> Result<Put, LakeError> {
        self.attempts("put", key, || self.put_once(key, bytes.clone(), hash)).await
    }

    async fn put_once(&self, key: &str, bytes: Bytes, hash: ContentHash) -> Result<Put, Failure> {
        let put = self
            .client
            .put_object()
            .bucket(&self.bucket)
            .key(self.full(key))
            .if_none_match("*")
            .metadata(HASH_METADATA, hash.to_string())
            .content_type(content_type(key))
            .body(ByteStream::from(bytes));
        match put.send().await.map_err(Answer::from) {
            Ok(_) => Ok(Put::Written),
            Err(Answer { kind: AnswerKind::Taken, .. }) => self.compare(key, hash).await,
            Err(answer) => Err(self.failure("PutObject", key, answer)),
        }
    }

    /// Compares the object under an existing key with the offered content.
    ///
    /// An earlier attempt or another writer may have created it.
    async fn compare(&self, key: &str, offered: ContentHash) -> Result<Put, Failure> {
        let head = self.client.head_object().bucket(&self.bucket).key(self.full(key)).send().await;
        let head = head.map_err(|error| self.gone_or("HeadObject", key, Answer::from(error)))?;
        let metadata = head.metadata.and_then(|metadata| metadata.get(HASH_METADATA)?.parse().ok());
        let stored = match metadata {
            Some(hash) => Some(hash),
            // Tools that copy objects may drop the metadata, but the file itself has the hash too.
            None => self.get_once(key, None).await?.and_then(|bytes| stored_hash(key, &bytes)),
        };
        Ok(compare(key, &self.place(), stored, offered)?)
    }

    /// Returns the failure of a request for an existing key. If the key no longer exists, the write can be retried.
    fn gone_or(&self, action: &str, key: &str, answer: Answer) -> Failure {
        let gone = answer.kind == AnswerKind::NoKey;
        let failure = self.failure(action, key, answer);
        Failure { again: gone || failure.again, ..failure }
    }

    pub(super) async fn put_replacing(&self, key: &str, bytes: Bytes) -> Result<(), LakeError> {
        let once = || async {
            let put = self.client.put_object().bucket(&self.bucket).key(self.full(key));
            let put = put.content_type(content_type(key)).body(ByteStream::from(bytes.clone()));
            put.send().await.map(drop).map_err(|error| self.failure("PutObject", key, error.into()))
        };
        self.attempts("put", key, once).await
    }

    pub(super) async fn get(&self, key: &str) -> Result<Option<Bytes>, LakeError> {
        self.attempts("get", key, || self.get_once(key, None)).await
    }

    /// Requests a byte range. An empty object cannot satisfy one, so S3 refuses the request.
    pub(super) async fn get_start(&self, key: &str, length: u64) -> Result<Option<Bytes>, LakeError> {
        let range = format!("bytes=0-{}", length.saturating_sub(1));
        self.attempts("get", key, || self.get_once(key, Some(range.clone()))).await
    }

    async fn get_once(&self, key: &str, range: Option<String>) -> Result<Option<Bytes>, Failure> {
        let get = self.client.get_object().bucket(&self.bucket).key(self.full(key)).set_range(range);
        let mut object = match get.send().await.map_err(Answer::from) {
            Ok(object) => object,
            Err(Answer { kind: AnswerKind::NoKey, .. }) => return Ok(None),
            Err(answer) => return Err(self.failure("GetObject", key, answer)),
        };
        let length = object.content_length.and_then(|length| usize::try_from(length).ok()).unwrap_or(0);
        let mut bytes = BytesMut::with_capacity(length.min(LARGEST_RESERVE));
        // The timeouts of the client end where the body starts. A large body may take long, a single chunk may not.
        let cut = loop {
            match timeout(ATTEMPT_LIMIT, object.body.next()).await {
                Ok(Some(Ok(part))) => bytes.extend_from_slice(&part),
                Ok(Some(Err(error))) => break format!("the response was cut off: {error}"),
                Ok(None) => return Ok(Some(bytes.freeze())),
                Err(_) => break format!("the response stopped for {} s", ATTEMPT_LIMIT.as_secs()),
            }
        };
        Err(self.failure("GetObject", key, Answer::silent(cut)))
    }

    pub(super) async fn list(&self, prefix: &str) -> Result<Vec<Object>, LakeError> {
        let mut objects = Vec::new();
        let mut from = None;
        loop {
            let page = self.attempts("list", prefix, || self.list_page(prefix, 1000, from.clone())).await?;
            objects.extend(page.objects);
            from = page.next;
            if from.is_none() {
                return Ok(objects);
            }
        }
    }

    async fn list_page(&self, prefix: &str, most: i32, from: Option<String>) -> Result<Page, Failure> {
        let list = self.client.list_objects_v2().bucket(&self.bucket).max_keys(most);
        let list = list.prefix(self.full(prefix)).set_continuation_token(from);
        let page = match list.send().await.map_err(Answer::from) {
            Ok(page) => page,
            // S3-compatible servers answer 404 without a code if the bucket does not exist.
            Err(answer) if answer.kind == AnswerKind::NoKey => {
                return Err(self.failure("ListObjectsV2", prefix, Answer { kind: AnswerKind::NoBucket, ..answer }));
            }
            Err(answer) => return Err(self.failure("ListObjectsV2", prefix, answer)),
        };
        let next = page.next_continuation_token.filter(|_| page.is_truncated == Some(true));
        let objects = page.contents.unwrap_or_default().into_iter().filter_map(|object| {
            let key = object.key?.strip_prefix(&self.prefix)?.to_owned();
            let size = u64::try_from(object.size.unwrap_or(0)).unwrap_or(0);
            let modified = object.last_modified.and_then(|time| SystemTime::try_from(time).ok());
            Some(Object { key, size, modified })
        });
        Ok(Page { objects: objects.collect(), next })
    }

    pub(super) async fn remove(&self, key: &str) -> Result<(), LakeError> {
        let once = || async {
            let removed = self.client.delete_object().bucket(&self.bucket).key(self.full(key)).send().await;
            match removed.map_err(Answer::from) {
                Ok(_) | Err(Answer { kind: AnswerKind::NoKey, .. }) => Ok(()),
                Err(answer) => Err(self.failure("DeleteObject", key, answer)),
            }
        };
        self.attempts("remove", key, once).await
    }

    /// Retries transient failures until the retry deadline, or indefinitely without one.
    async fn attempts<T, F: Future<Output = Result<T, Failure>>>(
        &self,
        operation: &'static str,
        key: &str,
        once: impl FnMut() -> F,
    ) -> Result<T, LakeError> {
        once.retry(RETRY.with_deadline(self.retry_deadline))
            .when(|failure| failure.again)
            .notify(|failure, pause| {
                let pause_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
                warn!(operation, key, pause_ms, error = %failure.error, "lake retry");
            })
            .await
            .map_err(|failure| failure.error)
    }

    fn failure(&self, action: &str, key: &str, answer: Answer) -> Failure {
        let Answer { kind, cause } = answer;
        let action = if key.is_empty() { action.to_owned() } else { format!("{action} {key}") };
        let place = self.place();
        let error = match kind {
            AnswerKind::Silent | AnswerKind::Busy => LakeError::Unreachable { action, place, cause },
            AnswerKind::NoBucket => LakeError::NoBucket { bucket: self.bucket.clone(), place: self.server.clone() },
            AnswerKind::BadCredentials => LakeError::BadCredentials { action, place, cause },
            AnswerKind::Denied => LakeError::Denied { action, place, cause },
            AnswerKind::WrongRegion => LakeError::WrongRegion { place, cause },
            AnswerKind::Taken | AnswerKind::NoKey | AnswerKind::Refused => LakeError::Refused { action, place, cause },
        };
        Failure { again: matches!(kind, AnswerKind::Silent | AnswerKind::Busy), error }
    }

    fn full(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    fn place(&self) -> String {
        format!("{} (bucket {})", self.server, self.bucket)
    }
}

struct Page {
    objects: Vec<Object>,
    /// Continuation token of the next page; `None` after the last page.
    next: Option<String>,
}

/// Returns the media type of a file. Parquet's is registered as
/// <https://www.iana.org/assignments/media-types/application/vnd.apache.parquet>.
fn content_type(key: &str) -> &'static str {
    if key.starts_with(RUNS_PREFIX) { "application/json" } else { "application/vnd.apache.parquet" }
}
