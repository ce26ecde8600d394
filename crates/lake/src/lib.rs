//! The data lake: files that the generator writes in addition to Kafka and that the consumer can read back.
//!
//! The events of a run are stored as immutable Parquet files. A manifest, written when the run ends, describes the run.
//! Keys and files are the same on S3 (`s3://bucket/prefix`) and in a folder (`file:///folder`).
//!
//! Permissions required on S3: `s3:ListBucket`, `s3:GetObject`, `s3:PutObject`, and `s3:DeleteObject` on
//! `runs/*.draft.json`.

mod url;

mod keys;
mod raw_object;
mod segment;

mod columns;
mod content_hash;
mod damage;
mod event_file;
mod parquet_file;
mod quarantine_file;
mod set_hash;

mod manifest;

mod error;
mod store;

#[cfg(test)]
mod fuzz;

pub use content_hash::{BadContentHash, ContentHash, ContentHasher};
pub use error::LakeError;
pub use event_file::{EventFile, EventFileWriter};
pub use keys::{
    Key, QUARANTINE_PREFIX, RAW_PREFIX, RUNS_PREFIX, RunId, draft_key, manifest_key, quarantine_key, raw_key,
};
pub use manifest::{
    Counts, End, ExpectedCounts, FaultCounts, FileCounts, HourCounts, KafkaPart, LakePart, MANIFEST_VERSION, Manifest,
    OutcomeCounts, Program, RunName,
};
pub use parquet_file::Encoded;
pub use quarantine_file::{QuarantineFile, QuarantineRow};
pub use raw_object::RawObject;
pub use segment::{LakeFile, MAX_FILE_BYTES, SegmentBuilder, SegmentFiles, segment_indices};
pub use set_hash::{BadSetHash, SetHash};
pub use store::{DEFAULT_RETRY_DEADLINE, FirstDraft, Lake, Object, Put, S3Access};
pub use url::LakeUrl;
