//! Reads the run's Parquet files column by column.

use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type, TimestampMicrosecondType, UInt64Type};
use arrow_array::{Array, ArrayRef, Int32Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow_schema::{DataType, TimeUnit};
use bytes::Bytes;
use parquet::arrow::arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use uuid::Uuid;

use crate::Error;
use crate::event::{Event, parse_hour, show_hour};
use crate::field::{Field, Kind, Scalar, fields};
use crate::ledger::{FileRef, Ledger};
use crate::store::Store;

const RAW: &str = "raw";
const QUARANTINE: &str = "quarantine";

/// Numbers of files of the run.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Files {
    pub(crate) raw: u64,
    pub(crate) quarantine: u64,
}

/// Adds all rows of the run's files to the ledger.
pub(crate) async fn read_files(store: &Store, run_id: &str, ledger: &mut Ledger) -> Result<Files, Error> {
    Ok(Files {
        raw: read_folder(store, RAW, run_id, ledger).await?,
        quarantine: read_folder(store, QUARANTINE, run_id, ledger).await?,
    })
}

async fn read_folder(store: &Store, folder: &str, run_id: &str, ledger: &mut Ledger) -> Result<u64, Error> {
    let mut files = 0;
    for key in store.list(folder).await? {
        let Some(hour) = hour_of_own_key(&key, folder, run_id) else {
            continue;
        };
        files += 1;
        let number = u32::try_from(ledger.files.len()).unwrap_or(u32::MAX);
        ledger.files.push(key.clone());
        let file = FileRef { number, hour };
        if let Err(problem) = read_file(store.get(&key).await?, folder, file, ledger) {
            ledger.unreadable.note(|| format!("{key}: {problem}"));
        }
    }
    Ok(files)
}

/// Returns the hour in a key such as `raw/event_date=2026-11-22/hour=10/<run>-<segment>.parquet`, or `None` if the key
/// is not of this run.
fn hour_of_own_key(key: &str, folder: &str, run_id: &str) -> Option<i64> {
    let mut parts = key.strip_prefix(folder)?.strip_prefix('/')?.split('/');
    let date = parts.next()?.strip_prefix("event_date=")?;
    let hour = parts.next()?.strip_prefix("hour=")?;
    let (run, segment) = parts.next()?.strip_suffix(".parquet")?.rsplit_once('-')?;
    let own = parts.next().is_none() && run == run_id && segment.bytes().all(|b| b.is_ascii_digit());
    let hour = parse_hour(&format!("{date}T{hour}")).filter(|h| show_hour(*h) == format!("{date}T{hour}"));
    hour.filter(|_| own)
}

/// Adds the rows of a file to the ledger. Reads it by its Parquet schema and ignores an Arrow schema in its metadata.
fn read_file(bytes: Bytes, folder: &str, file: FileRef, ledger: &mut Ledger) -> Result<(), String> {
    let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    let reader = ParquetRecordBatchReaderBuilder::try_new_with_options(bytes, options)
        .and_then(|builder| builder.with_batch_size(8192).build())
        .map_err(|e| e.to_string())?;
    for batch in reader {
        let batch = batch.map_err(|e| e.to_string())?;
        if folder == RAW {
            read_events(&batch, file, ledger)?;
        } else {
            read_refused(&batch, file, ledger)?;
        }
    }
    Ok(())
}

fn read_events(batch: &RecordBatch, file: FileRef, ledger: &mut Ledger) -> Result<(), String> {
    let schema = batch.schema_ref();
    let known = |name: &str| fields().iter().any(|field| field.name == name);
    if let Some(unknown) = schema.fields().iter().find(|column| !known(column.name())) {
        return Err(format!("column {} is not in the schema of events", unknown.name()));
    }
    let columns = fields().iter().map(|field| Column::of(batch, field)).collect::<Result<Vec<_>, _>>()?;
    for row in 0..batch.num_rows() {
        let values = columns.iter().map(|column| column.value(row)).collect::<Result<_, _>>()?;
        let event = Event::of_values(values).ok_or("a field is missing")?;
        ledger.lake_row(&event, file);
    }
    Ok(())
}

/// Column of a field.
enum Column<'b> {
    Uuids(&'b StringArray),
    Times(&'b TimestampMicrosecondArray),
    Integers(&'b Int32Array),
    Texts(&'b StringArray),
    /// The file was written before the field was added.
    Default(Scalar<'static>),
}

impl<'b> Column<'b> {
    fn of(batch: &'b RecordBatch, field: &Field) -> Result<Self, String> {
        let name = field.name;
        Ok(match (field.default, field.kind) {
            (Some(default), _) if batch.column_by_name(name).is_none() => Self::Default(default),
            (_, Kind::Uuid) => Self::Uuids(texts(batch, name)?),
            (_, Kind::Time) => Self::Times(timestamps(batch, name)?),
            (_, Kind::Integer) => Self::Integers(numbers(batch, name)?),
            (_, Kind::Text) => Self::Texts(texts(batch, name)?),
        })
    }

    fn value(&self, row: usize) -> Result<Scalar<'b>, String> {
        Ok(match self {
            Self::Uuids(column) => {
                let text = column.value(row);
                let id = Uuid::try_parse(text).map_err(|e| format!("UUID {text:?}: {e}"))?;
                if id.hyphenated().encode_lower(&mut Uuid::encode_buffer()) != text {
                    return Err(format!("UUID {text:?} is not lowercase with hyphens"));
                }
                Scalar::Uuid(id.as_u128())
            }
            Self::Times(column) => Scalar::Time(column.value(row)),
            Self::Integers(column) => Scalar::Integer(column.value(row)),
            Self::Texts(column) => Scalar::Text(column.value(row)),
            Self::Default(default) => *default,
        })
    }
}

fn read_refused(batch: &RecordBatch, file: FileRef, ledger: &mut Ledger) -> Result<(), String> {
    let (dues, raw) = (timestamps(batch, "due")?, texts(batch, "raw")?);
    let indices = column(batch, "event_index")?;
    let reasons = column(batch, "reason_codes")?;
    let reasons = reasons.as_list_opt::<i32>().ok_or("reason_codes is not a list")?;
    for row in 0..batch.num_rows() {
        let index = if let Some(unsigned) = indices.as_primitive_opt::<UInt64Type>() {
            unsigned.value(row)
        } else {
            let signed = indices.as_primitive_opt::<Int64Type>().ok_or("event_index is not a 64-bit integer")?;
            u64::try_from(signed.value(row)).map_err(|e| format!("event_index: {e}"))?
        };
        if reasons.value_length(row) == 0 {
            return Err(format!("index {index} has no reason code"));
        }
        ledger.quarantine_row(index, dues.value(row), raw.value(row), file);
    }
    Ok(())
}

fn column<'b>(batch: &'b RecordBatch, name: &str) -> Result<&'b ArrayRef, String> {
    let column = batch.column_by_name(name).ok_or_else(|| format!("column {name} is missing"))?;
    if column.null_count() > 0 { Err(format!("column {name} contains nulls")) } else { Ok(column) }
}

fn texts<'b>(batch: &'b RecordBatch, name: &str) -> Result<&'b StringArray, String> {
    column(batch, name)?.as_string_opt::<i32>().ok_or_else(|| format!("column {name} is not a string"))
}

fn numbers<'b>(batch: &'b RecordBatch, name: &str) -> Result<&'b Int32Array, String> {
    column(batch, name)?.as_primitive_opt::<Int32Type>().ok_or_else(|| format!("column {name} is not an int32"))
}

fn timestamps<'b>(batch: &'b RecordBatch, name: &str) -> Result<&'b TimestampMicrosecondArray, String> {
    let column = column(batch, name)?;
    let right =
        matches!(column.data_type(), DataType::Timestamp(TimeUnit::Microsecond, Some(zone)) if &**zone == "UTC");
    column
        .as_primitive_opt::<TimestampMicrosecondType>()
        .filter(|_| right)
        .ok_or_else(|| format!("column {name} is {}, not timestamp(us, UTC)", column.data_type()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_keys_of_a_run_are_told_from_others() {
        let own = |key| hour_of_own_key(key, RAW, "my-run").map(show_hour);
        assert_eq!(own("raw/event_date=2026-11-22/hour=09/my-run-000012.parquet"), Some("2026-11-22T09".into()));
        for other in [
            "raw/event_date=2026-11-22/hour=09/run-000012.parquet",
            "raw/event_date=2026-11-22/hour=9/my-run-000012.parquet",
            "raw/event_date=2026-11-22/hour=09/my-run-000012.parquet.tmp",
            "raw/event_date=2026-11-22/hour=09/my-run-x.parquet",
            "raw/event_date=2026-11-22/hour=09/deeper/my-run-000012.parquet",
            "quarantine/event_date=2026-11-22/hour=09/my-run-000012.parquet",
        ] {
            assert_eq!(own(other), None, "{other}");
        }
    }
}
