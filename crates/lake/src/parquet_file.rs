//! Encoding and decoding of Parquet files, for both kinds of rows.
//!
//! The files use zstd at its fastest level, statistics per row group, and the logical types of Parquet's own schema (no
//! Arrow schema in the footer). The footer's metadata has the content hash under `content_hash`.

use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::SchemaRef;
use bytes::Bytes;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::arrow::{ARROW_SCHEMA_META_KEY, ArrowWriter, ProjectionMask};
use parquet::basic::{Compression, Type, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::{KeyValue, ParquetMetaData, RowGroupMetaData};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;

use crate::columns::{Columns, int96_as_microseconds};
use crate::content_hash::{ContentHash, ContentHasher};
use crate::damage::without_panic;
use crate::error::LakeError;

/// Metadata key of the content hash in the footer.
const CONTENT_HASH: &str = "content_hash";
/// Maximum number of rows per row group. `DuckDB` and others read row groups in parallel, so a file of half a million
/// rows should have several.
const ROW_GROUP_ROWS: usize = 131_072;
/// Number of rows per batch that the reader returns.
const READ_ROWS: usize = 16_384;

/// An encoded file.
#[derive(Debug, Clone)]
pub struct Encoded {
    /// The Parquet file.
    pub bytes: Bytes,
    /// Content hash of its rows, which the footer has too.
    pub hash: ContentHash,
    /// Number of rows.
    pub rows: u64,
}

/// Columns of a kind of file.
pub(crate) struct Form {
    pub(crate) schema: SchemaRef,
    /// Defaults by column, as one-row arrays. The content hash omits a column whose rows all have the default.
    pub(crate) defaults: Vec<(&'static str, ArrayRef)>,
}

/// Writes one file batch by batch.
pub(crate) struct Writer {
    file: &'static str,
    arrow: ArrowWriter<Vec<u8>>,
    hasher: ContentHasher,
    rows: u64,
}

impl Writer {
    /// Creates a writer. `file` names the kind of file in errors. `dictionary` lists the dictionary-encoded columns.
    pub(crate) fn new(file: &'static str, form: &Form, dictionary: &[&str]) -> Result<Self, LakeError> {
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
        let hasher = ContentHasher::with_defaults(&form.schema, &form.defaults);
        let hasher = hasher.map_err(|source| encode_error(file, source))?;
        let schema = Arc::clone(&form.schema);
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

/// Treatment of nulls. Files written by this crate have none.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Nulls {
    /// Nulls stay in the batches and become errors of their rows.
    Keep,
    /// A null is an error of the file.
    Refuse,
}

/// Reads the known columns of a file.
pub(crate) struct Reader {
    key: String,
    columns: Columns,
    nulls: Nulls,
    /// `None` after the last row and after an error.
    batches: Option<ParquetRecordBatchReader>,
    check: Option<ContentHasher>,
    pub(crate) rows: u64,
    pub(crate) hash: Option<ContentHash>,
}

impl Reader {
    /// Opens a file and finds the columns of `form` in it.
    ///
    /// Skips unknown columns. A column missing from the file is missing from the batches.
    pub(crate) fn open(key: &str, bytes: Bytes, form: &Form, nulls: Nulls) -> Result<Self, LakeError> {
        let opened = without_panic(|| Self::try_open(key, bytes, form, nulls)).and_then(|opened| opened);
        opened.map_err(|problem| LakeError::BadFile { key: key.to_owned(), problem })
    }

    fn try_open(key: &str, bytes: Bytes, form: &Form, nulls: Nulls) -> Result<Self, String> {
        let metadata = metadata(&bytes)?;
        check_ranges(metadata.metadata(), bytes.len() as u64)?;
        let columns = Columns::find(metadata.schema(), &form.schema)?;
        let rows = u64::try_from(metadata.metadata().file_metadata().num_rows()).unwrap_or(0);
        let hash = hash_in_footer(metadata.metadata());
        // The hash covers all columns of the file, so it can be verified only if all are read.
        let check = hash.is_some() && is_ours(metadata.metadata()) && columns.are_all_of(metadata.schema());
        let check = check.then(|| ContentHasher::with_defaults(&columns.schema, &form.defaults)).transpose();
        let check = check.map_err(|error| error.to_string())?;
        let mask = ProjectionMask::roots(metadata.parquet_schema(), columns.roots.iter().copied());
        let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(bytes, metadata);
        let batches = builder.with_projection(mask).with_batch_size(READ_ROWS).build();
        let batches = Some(batches.map_err(|error| error.to_string())?);
        Ok(Self { key: key.to_owned(), columns, nulls, batches, check, rows, hash })
    }

    pub(crate) fn key(&self) -> &str {
        &self.key
    }

    /// Returns the next rows, with the known columns.
    fn next_rows(&mut self) -> Option<Result<RecordBatch, String>> {
        let batches = self.batches.as_mut()?;
        match without_panic(|| batches.next()) {
            Ok(Some(Ok(batch))) => Some(self.ours(&batch)),
            Ok(Some(Err(error))) => Some(Err(error.to_string())),
            Ok(None) => self.mismatch().map(Err),
            Err(panic) => Some(Err(panic)),
        }
    }

    fn ours(&mut self, batch: &RecordBatch) -> Result<RecordBatch, String> {
        let ours = self.columns.convert(batch)?;
        // The content hash is not defined for nulls, and files written by this crate have none.
        if self.nulls == Nulls::Refuse || self.check.is_some() {
            let mut fields = ours.schema_ref().fields().iter().zip(ours.columns());
            if let Some((field, _)) = fields.find(|(_, column)| column.null_count() > 0) {
                return Err(format!("column {} contains nulls", field.name()));
            }
        }
        if let Some(check) = &mut self.check {
            check.update(&ours);
        }
        Ok(ours)
    }

    /// Compares the content hash of the rows read with the one in the footer. Called after the last row.
    fn mismatch(&mut self) -> Option<String> {
        let (read, written) = (self.check.take()?.finish(), self.hash?);
        (read != written).then(|| format!("the content hash of its rows is {read}, that of its footer {written}"))
    }
}

impl Iterator for Reader {
    type Item = Result<RecordBatch, LakeError>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.next_rows();
        if !matches!(next, Some(Ok(_))) {
            self.batches = None;
        }
        Some(next?.map_err(|problem| LakeError::BadFile { key: self.key.clone(), problem }))
    }
}

/// Reads the footer. The types follow from Parquet's own schema; an Arrow schema that another writer left in the
/// metadata (large strings, dictionaries) is ignored.
fn metadata(bytes: &Bytes) -> Result<ArrowReaderMetadata, String> {
    let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    let found = ArrowReaderMetadata::load(bytes, options.clone()).map_err(|error| error.to_string())?;
    let roots = found.parquet_schema().root_schema().get_fields();
    let is_int96 = |root: usize| {
        let field = roots.get(root).filter(|field| field.is_primitive());
        field.is_some_and(|field| field.get_physical_type() == Type::INT96)
    };
    let Some(schema) = int96_as_microseconds(found.schema(), is_int96) else { return Ok(found) };
    let hinted = ArrowReaderMetadata::try_new(Arc::clone(found.metadata()), options.with_schema(schema));
    hinted.map_err(|error| error.to_string())
}

/// Checks that each column chunk lies inside the file. The decoder relies on it.
fn check_ranges(metadata: &ParquetMetaData, length: u64) -> Result<(), String> {
    for column in metadata.row_groups().iter().flat_map(RowGroupMetaData::columns) {
        let start = column.dictionary_page_offset().unwrap_or_else(|| column.data_page_offset());
        let range = (u64::try_from(start), u64::try_from(column.compressed_size()));
        let inside = |(start, size): (u64, u64)| start.checked_add(size).is_some_and(|end| end <= length);
        if !matches!(range, (Ok(start), Ok(size)) if inside((start, size))) {
            return Err(format!("column {} lies outside the file", column.column_path()));
        }
    }
    Ok(())
}

/// Returns true if this crate wrote the file.
///
/// Tools that rewrite files often copy the metadata of the original, with a content hash that does not match their
/// rows. They can be told apart because this crate omits the Arrow schema, which others add.
fn is_ours(metadata: &ParquetMetaData) -> bool {
    let file = metadata.file_metadata();
    let same_library = file.created_by().is_some_and(|by| by.starts_with("parquet-rs "));
    let entries = file.key_value_metadata();
    same_library && entries.is_none_or(|entries| entries.iter().all(|entry| entry.key != ARROW_SCHEMA_META_KEY))
}

/// Returns the content hash in a Parquet footer, or `None` if there is none or the bytes are not a Parquet file.
pub(crate) fn stored_hash(bytes: &Bytes) -> Option<ContentHash> {
    let metadata = without_panic(|| metadata(bytes)).ok()?.ok()?;
    hash_in_footer(metadata.metadata())
}

fn hash_in_footer(metadata: &ParquetMetaData) -> Option<ContentHash> {
    let entries = metadata.file_metadata().key_value_metadata()?;
    let entry = entries.iter().find(|entry| entry.key == CONTENT_HASH)?;
    entry.value.as_deref()?.parse().ok()
}
