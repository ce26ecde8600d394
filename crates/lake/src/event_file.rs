//! Files of valid events, with the columns that `event-model` defines.

use arrow_array::RecordBatch;
use bytes::Bytes;
use event_model::{arrow_schema, column_defaults, dictionary_columns};

use crate::content_hash::ContentHash;
use crate::error::LakeError;
use crate::parquet_file::{Encoded, Form, Nulls, Reader, Writer};

fn form() -> Form {
    Form { schema: arrow_schema(), defaults: column_defaults() }
}

/// Writes one file of the raw lake.
pub struct EventFileWriter(Writer);

impl EventFileWriter {
    /// Creates a writer without rows.
    pub fn new() -> Result<Self, LakeError> {
        let dictionary: Vec<&str> = dictionary_columns().collect();
        Writer::new("an event file", &form(), &dictionary).map(Self)
    }

    /// Adds rows with the columns of [`arrow_schema`]. Batch boundaries do not affect the content hash.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<(), LakeError> {
        self.0.write(batch)
    }

    /// Closes the file and returns it.
    pub fn finish(self) -> Result<Encoded, LakeError> {
        self.0.finish()
    }

    /// Encodes a file of exactly these rows.
    pub fn encode(batch: &RecordBatch) -> Result<Encoded, LakeError> {
        let mut writer = Self::new()?;
        writer.write(batch)?;
        writer.finish()
    }
}

/// Reads a file of events: an iterator over batches for [`event_model::read_batch`].
///
/// Any program may have written the file. Unknown columns are skipped. A column missing from the file is missing from
/// the batches: `read_batch` uses the field's default or reports the missing column. Types with a certain meaning are
/// converted. `read_batch` reports a null or a value out of range as an error of its row.
pub struct EventFile(Reader);

impl EventFile {
    /// Opens a file. `key` is used in error messages.
    ///
    /// # Errors
    /// [`LakeError::BadFile`] if the file is not Parquet, has no known column, or has a column whose type cannot be
    /// converted. The iterator returns the same error at a damaged page, and ends. It does so too after the last row of
    /// a file written by this crate if the rows do not match the content hash in the footer.
    pub fn open(key: &str, bytes: Bytes) -> Result<Self, LakeError> {
        Reader::open(key, bytes, &form(), Nulls::Keep).map(Self)
    }

    /// Returns the number of rows.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.0.rows
    }

    /// Returns the content hash in the footer, if any.
    ///
    /// A file that another program rewrote may still have the hash of the original.
    #[must_use]
    pub fn content_hash(&self) -> Option<ContentHash> {
        self.0.hash
    }
}

impl Iterator for EventFile {
    type Item = Result<RecordBatch, LakeError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next()
    }
}
