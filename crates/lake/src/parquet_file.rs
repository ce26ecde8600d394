//! Rows to Parquet and back, for both kinds of file.
//!
//! zstd at its fastest level, statistics for each row group, the logical types in Parquet's own schema (no Arrow schema
//! in the footer), the content hash under `content_hash` in the footer's metadata.

use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::{DataType, Field, Schema, SchemaRef};
use bytes::Bytes;
use parquet::arrow::arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::arrow::{ArrowWriter, ProjectionMask};
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::{KeyValue, ParquetMetaData};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;

use crate::content_hash::{ContentHash, ContentHasher};
use crate::error::LakeError;

/// The footer's key for the content hash.
const CONTENT_HASH: &str = "content_hash";
/// As `DuckDB` and others read row groups in parallel, a file of half a million rows should have several.
const ROW_GROUP_ROWS: usize = 131_072;
/// Rows that the reader hands out at a time.
const READ_ROWS: usize = 16_384;

/// A file's bytes and what they say.
#[derive(Debug, Clone)]
pub struct Encoded {
    /// The Parquet file.
    pub bytes: Bytes,
    /// The hash of its rows, which is also in the footer.
    pub hash: ContentHash,
    /// How many rows it has.
    pub rows: u64,
}

/// Writes one file, batch by batch.
pub(crate) struct Writer {
    file: &'static str,
    arrow: ArrowWriter<Vec<u8>>,
    hasher: ContentHasher,
    rows: u64,
}

impl Writer {
    /// `file` says in errors what is written; only the columns in `dictionary` get one.
    pub(crate) fn new(file: &'static str, schema: SchemaRef, dictionary: &[&str]) -> Result<Self, LakeError> {
        let error = |source: ParquetError| encode_error(file, source);
        let level = ZstdLevel::try_new(1).map_err(error)?;
        let mut properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(level))
            .set_dictionary_enabled(false)
            .set_statistics_enabled(EnabledStatistics::Chunk)
            .set_offset_index_disabled(true)
            .set_max_row_group_row_count(Some(ROW_GROUP_ROWS));
        for column in dictionary {
            let path = ColumnPath::from(column.split('.').map(str::to_owned).collect::<Vec<_>>());
            properties = properties.set_column_dictionary_enabled(path, true);
        }
        let options = ArrowWriterOptions::new().with_properties(properties.build()).with_skip_arrow_metadata(true);
        let hasher = ContentHasher::new(&schema).map_err(|source| encode_error(file, source))?;
        let arrow = ArrowWriter::try_new_with_options(Vec::new(), schema, options).map_err(error)?;
        Ok(Self { file, arrow, hasher, rows: 0 })
    }

    pub(crate) fn write(&mut self, batch: &RecordBatch) -> Result<(), LakeError> {
        self.arrow.write(batch).map_err(|source| encode_error(self.file, source))?;
        self.hasher.update(batch);
        self.rows += batch.num_rows() as u64;
        Ok(())
    }

    pub(crate) fn finish(mut self) -> Result<Encoded, LakeError> {
        let hash = self.hasher.finish();
        self.arrow.append_key_value_metadata(KeyValue::new(CONTENT_HASH.to_owned(), hash.to_string()));
        let bytes = self.arrow.into_inner().map_err(|source| encode_error(self.file, source))?;
        Ok(Encoded { bytes: bytes.into(), hash, rows: self.rows })
    }
}

fn encode_error(file: &'static str, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> LakeError {
    LakeError::Encode { file, source: source.into() }
}

/// A file's rows, as far as their columns are known here.
pub(crate) struct Reader {
    key: String,
    schema: SchemaRef,
    batches: ParquetRecordBatchReader,
    check: Option<ContentHasher>,
    pub(crate) rows: u64,
    pub(crate) hash: Option<ContentHash>,
}

impl Reader {
    /// Opens a file and checks the types of the columns that `known` has too. Further columns are left out; columns
    /// that the file lacks are not in its batches either.
    pub(crate) fn open(key: &str, bytes: Bytes, known: &Schema) -> Result<Self, LakeError> {
        let bad = |problem: String| LakeError::BadFile { key: key.to_owned(), problem };
        // What another writer's Arrow schema says (large strings, dictionaries) must not change the types.
        let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
        let builder = ParquetRecordBatchReaderBuilder::try_new_with_options(bytes, options)
            .map_err(|error| bad(error.to_string()))?;
        let (schema, roots) = common_columns(builder.schema(), known).map_err(bad)?;
        let rows = u64::try_from(builder.metadata().file_metadata().num_rows()).unwrap_or(0);
        let hash = hash_in_footer(builder.metadata());
        // The hash is over all the file's columns, so that it can only be checked where all are read.
        let complete = hash.is_some() && builder.schema().fields().len() == roots.len();
        let check =
            complete.then(|| ContentHasher::new(&schema)).transpose().map_err(|error| bad(error.to_string()))?;
        let mask = ProjectionMask::roots(builder.parquet_schema(), roots);
        let batches =
            builder.with_projection(mask).with_batch_size(READ_ROWS).build().map_err(|error| bad(error.to_string()))?;
        Ok(Self { key: key.to_owned(), schema, batches, check, rows, hash })
    }

    pub(crate) fn key(&self) -> &str {
        &self.key
    }

    /// The next rows with our own schema: no nulls, columns in our order as far as the file has them.
    fn ours(&mut self, batch: &RecordBatch) -> Result<RecordBatch, String> {
        let columns = self.schema.fields().iter().map(|field| {
            let column = batch.column_by_name(field.name()).ok_or_else(|| format!("no column {}", field.name()))?;
            if column.null_count() > 0 {
                return Err(format!("there are nulls in the column {}", field.name()));
            }
            Ok(Arc::clone(column))
        });
        let columns = columns.collect::<Result<_, String>>()?;
        let ours = RecordBatch::try_new(Arc::clone(&self.schema), columns).map_err(|error| error.to_string())?;
        if let Some(check) = &mut self.check {
            check.update(&ours);
        }
        Ok(ours)
    }

    /// Whether the rows, all of which have been read, are others than those that were written; said once.
    fn mismatch(&mut self) -> Option<String> {
        let (read, written) = (self.check.take()?.finish(), self.hash?);
        (read != written).then(|| format!("its rows have the content hash {read}, its footer says {written}"))
    }
}

impl Iterator for Reader {
    type Item = Result<RecordBatch, LakeError>;

    fn next(&mut self) -> Option<Self::Item> {
        let batch = match self.batches.next() {
            Some(batch) => batch.map_err(|error| error.to_string()).and_then(|batch| self.ours(&batch)),
            None => Err(self.mismatch()?),
        };
        Some(batch.map_err(|problem| LakeError::BadFile { key: self.key.clone(), problem }))
    }
}

/// The columns of `known` that the file has, and their places in the file.
fn common_columns(found: &Schema, known: &Schema) -> Result<(SchemaRef, Vec<usize>), String> {
    let mut fields = Vec::new();
    let mut roots = Vec::new();
    for field in known.fields() {
        let Some((root, there)) = found.fields().find(field.name()) else { continue };
        if !same_type(there.data_type(), field.data_type()) {
            return Err(format!("the column {} is {}, not {}", field.name(), there.data_type(), field.data_type()));
        }
        // The elements of a list keep the name and nullability that the file gives them.
        fields.push(Field::new(field.name(), there.data_type().clone(), field.is_nullable()));
        roots.push(root);
    }
    if fields.is_empty() {
        return Err("it has none of the columns that such a file has".to_owned());
    }
    Ok((Arc::new(Schema::new(fields)), roots))
}

fn same_type(found: &DataType, known: &DataType) -> bool {
    match (found, known) {
        (DataType::List(found), DataType::List(known)) => found.data_type() == known.data_type(),
        _ => found == known,
    }
}

/// The content hash in a Parquet file's footer; none when there is none, or when it is no Parquet file.
pub(crate) fn stored_hash(bytes: Bytes) -> Option<ContentHash> {
    let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    let builder = ParquetRecordBatchReaderBuilder::try_new_with_options(bytes, options).ok()?;
    hash_in_footer(builder.metadata())
}

fn hash_in_footer(metadata: &ParquetMetaData) -> Option<ContentHash> {
    let entries = metadata.file_metadata().key_value_metadata()?;
    let entry = entries.iter().find(|entry| entry.key == CONTENT_HASH)?;
    entry.value.as_deref()?.parse().ok()
}
