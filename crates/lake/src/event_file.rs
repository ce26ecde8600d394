//! Files of valid events: the event's columns as `event-model` defines them.

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
    /// A file without rows yet.
    pub fn new() -> Result<Self, LakeError> {
        let dictionary: Vec<&str> = dictionary_columns().collect();
        Writer::new("file of events", &form(), &dictionary).map(Self)
    }

    /// Adds rows, which have the columns of [`arrow_schema`]. How rows are cut into batches doesn't matter to the hash.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<(), LakeError> {
        self.0.write(batch)
    }

    /// Closes the file.
    pub fn finish(self) -> Result<Encoded, LakeError> {
        self.0.finish()
    }

    /// A file of just these rows.
    pub fn encode(batch: &RecordBatch) -> Result<Encoded, LakeError> {
        let mut writer = Self::new()?;
        writer.write(batch)?;
        writer.finish()
    }
}

/// Reads a file of events batch by batch: an iterator of batches that [`event_model::read_batch`] takes.
///
/// Any program may have written the file. Columns that this program does not know are left out, and a column that the
/// file lacks is absent from the batches: `read_batch` uses the field's default, or reports the missing column. Types
/// whose meaning is certain are converted. A value that does not fit, and a null, is an error of its row in `read_batch`.
pub struct EventFile(Reader);

impl EventFile {
    /// Opens a file; the key is for messages.
    ///
    /// # Errors
    /// [`LakeError::BadFile`] if it is not Parquet or a column has a type that cannot be converted. The iterator reports
    /// the same error, and ends, at damaged pages, and after the last row of a file of ours whose rows do not have the
    /// footer's content hash.
    pub fn open(key: &str, bytes: Bytes) -> Result<Self, LakeError> {
        Reader::open(key, bytes, &form(), Nulls::Keep).map(Self)
    }

    /// How many rows the file has.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.0.rows
    }

    /// The content hash that the footer names; none in files that another program wrote anew.
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
