//! Matches the columns of a file with the known columns.
//!
//! Programs that rewrite files choose their own types: Spark writes INT96, pandas nanoseconds, Snowflake decimals,
//! `DuckDB` UUIDs as 16 bytes. A type is converted only if its meaning is certain. A value that cannot be converted,
//! such as an integer out of range, becomes a null, which `event_model::read_batch` reports as an error of its row.

use std::sync::Arc;

use arrow_array::builder::StringBuilder;
use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowPrimitiveType, Decimal128Type, Float64Type, Int8Type, Int16Type, Int64Type, TimestampMicrosecondType,
    TimestampMillisecondType, TimestampNanosecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{ArrayRef, Int32Array, PrimitiveArray, RecordBatch, TimestampMicrosecondArray};
use arrow_schema::{DataType, Field, FieldRef, Schema, SchemaRef, TimeUnit};
use event_model::{FIELDS, FieldKind};
use uuid::Uuid;

/// The known columns of a file.
pub(crate) struct Columns {
    /// Columns with their known types, in the known order. List elements keep their name in the file.
    pub(crate) schema: SchemaRef,
    /// Indices of the columns in the file, in the same order.
    pub(crate) roots: Vec<usize>,
    /// For each column, its index among the columns read and its conversion.
    steps: Vec<(usize, Option<Convert>)>,
}

/// Converts an array of the file to the known type.
type Convert = fn(&ArrayRef) -> ArrayRef;

impl Columns {
    /// Finds the columns of `known` in a file.
    ///
    /// # Errors
    /// Returns the reason if a column has a type without a certain meaning, if two columns match the same known column,
    /// or if the file has no known column.
    pub(crate) fn find(found: &Schema, known: &Schema) -> Result<Self, String> {
        let (mut fields, mut roots, mut converts) = (Vec::new(), Vec::new(), Vec::new());
        for field in known.fields() {
            let Some(root) = place(found, field.name())? else { continue };
            let there = found.field(root);
            let same = same_type(there.data_type(), field.data_type());
            let convert = if same { None } else { Some(conversion(field, there.data_type())?) };
            let data_type = if same { there.data_type() } else { field.data_type() };
            fields.push(Field::new(field.name(), data_type.clone(), true));
            roots.push(root);
            converts.push(convert);
        }
        if fields.is_empty() {
            return Err("it has none of the expected columns".to_owned());
        }
        let mut in_file = roots.clone();
        in_file.sort_unstable();
        let place = |root: &usize| in_file.binary_search(root).unwrap_or(0);
        let steps = roots.iter().map(place).zip(converts).collect();
        Ok(Self { schema: Arc::new(Schema::new(fields)), roots, steps })
    }

    /// Returns true if the file has no other columns.
    pub(crate) fn are_all_of(&self, found: &Schema) -> bool {
        found.fields().len() == self.roots.len()
    }

    /// Converts rows read from the file.
    pub(crate) fn convert(&self, batch: &RecordBatch) -> Result<RecordBatch, String> {
        let columns = self.steps.iter().map(|(place, convert)| {
            let column = batch.columns().get(*place).ok_or("it lacks a column")?;
            Ok(convert.map_or_else(|| Arc::clone(column), |convert| convert(column)))
        });
        let columns = columns.collect::<Result<_, &str>>()?;
        RecordBatch::try_new(Arc::clone(&self.schema), columns).map_err(|error| error.to_string())
    }
}

/// Finds a column by name. Ignores case if no name matches exactly: Snowflake and others write names in upper case.
fn place(found: &Schema, name: &str) -> Result<Option<usize>, String> {
    let places = |same: &dyn Fn(&str) -> bool| -> Vec<usize> {
        let fields = found.fields().iter().enumerate();
        fields.filter(|(_, field)| same(field.name())).map(|(place, _)| place).collect()
    };
    let mut there = places(&|other| other == name);
    if there.is_empty() {
        there = places(&|other| other.eq_ignore_ascii_case(name));
    }
    match there[..] {
        [] => Ok(None),
        [one] => Ok(Some(one)),
        _ => Err(format!("it has column {name} more than once")),
    }
}

fn same_type(found: &DataType, known: &DataType) -> bool {
    match (found, known) {
        (DataType::List(found), DataType::List(known)) => found.data_type() == known.data_type(),
        _ => found == known,
    }
}

fn conversion(known: &FieldRef, found: &DataType) -> Result<Convert, String> {
    use DataType::{
        Binary, Decimal128, FixedSizeBinary, Float64, Int8, Int16, Int32, Int64, Timestamp, UInt8, UInt16, UInt32,
        UInt64, Utf8,
    };
    let convert: Convert = match (known.data_type(), found) {
        (Int32, Int8) => integers::<Int8Type>,
        (Int32, Int16) => integers::<Int16Type>,
        (Int32, Int64) => integers::<Int64Type>,
        (Int32, UInt8) => integers::<UInt8Type>,
        (Int32, UInt16) => integers::<UInt16Type>,
        (Int32, UInt32) => integers::<UInt32Type>,
        (Int32, UInt64) => integers::<UInt64Type>,
        (Int32, Decimal128(_, 0)) => integers::<Decimal128Type>,
        // pandas converts nullable integers to doubles, which represent every 32-bit integer exactly. Floats do not.
        (Int32, Float64) => doubles,
        (Timestamp(..), Timestamp(TimeUnit::Microsecond, _)) => in_utc,
        (Timestamp(..), Timestamp(TimeUnit::Millisecond, _)) => milliseconds,
        (Timestamp(..), Timestamp(TimeUnit::Nanosecond, _)) => nanoseconds,
        (Utf8, Binary | FixedSizeBinary(16 | 36)) if is_uuid(known.name()) => uuids,
        (Utf8, Binary) => texts,
        (wanted, _) => return Err(format!("column {} has type {found} instead of {wanted}", known.name())),
    };
    Ok(convert)
}

/// Returns true if the values of a column are UUIDs.
fn is_uuid(column: &str) -> bool {
    FIELDS.iter().any(|field| field.name == column && field.kind == FieldKind::Uuid)
}

fn integers<T: ArrowPrimitiveType<Native: TryInto<i32>>>(array: &ArrayRef) -> ArrayRef {
    let values = array.as_primitive::<T>().iter();
    Arc::new(values.map(|value| value?.try_into().ok()).collect::<Int32Array>())
}

fn doubles(array: &ArrayRef) -> ArrayRef {
    #[expect(clippy::cast_possible_truncation, reason = "checked by converting back")]
    let fits = |value: f64| (f64::from(value as i32).to_bits() == value.to_bits()).then_some(value as i32);
    Arc::new(array.as_primitive::<Float64Type>().iter().map(|value| fits(value?)).collect::<Int32Array>())
}

/// Sets the time zone to UTC. Timestamps without a time zone are taken as UTC, like all timestamps in the lake.
fn in_utc(array: &ArrayRef) -> ArrayRef {
    Arc::new(array.as_primitive::<TimestampMicrosecondType>().clone().with_timezone("UTC"))
}

fn milliseconds(array: &ArrayRef) -> ArrayRef {
    timestamps::<TimestampMillisecondType>(array, |millis| millis.checked_mul(1000))
}

/// Rounds down to microseconds, as the parser of event timestamps does.
fn nanoseconds(array: &ArrayRef) -> ArrayRef {
    timestamps::<TimestampNanosecondType>(array, |nanos| Some(nanos.div_euclid(1000)))
}

fn timestamps<T: ArrowPrimitiveType<Native = i64>>(array: &ArrayRef, micros: fn(i64) -> Option<i64>) -> ArrayRef {
    let array: &PrimitiveArray<T> = array.as_primitive();
    let micros = array.iter().map(|value| micros(value?));
    Arc::new(micros.collect::<TimestampMicrosecondArray>().with_timezone("UTC"))
}

/// Decodes strings that Impala, Hive and `ClickHouse` write without marking them as UTF-8.
fn texts(array: &ArrayRef) -> ArrayRef {
    from_bytes(array, |bytes, texts| texts.append_option(str::from_utf8(bytes).ok()))
}

/// Decodes UUIDs, either 16 bytes in the order of RFC 9562 or text.
fn uuids(array: &ArrayRef) -> ArrayRef {
    from_bytes(array, |bytes, texts| match Uuid::from_slice(bytes) {
        Ok(uuid) => texts.append_value(uuid.hyphenated().encode_lower(&mut Uuid::encode_buffer())),
        Err(_) => texts.append_option(str::from_utf8(bytes).ok()),
    })
}

fn from_bytes(array: &ArrayRef, append: fn(&[u8], &mut StringBuilder)) -> ArrayRef {
    let mut texts = StringBuilder::new();
    let mut append = |bytes: Option<&[u8]>| match bytes {
        Some(bytes) => append(bytes, &mut texts),
        None => texts.append_null(),
    };
    match array.as_fixed_size_binary_opt() {
        Some(array) => array.iter().for_each(&mut append),
        None => array.as_binary::<i32>().iter().for_each(&mut append),
    }
    Arc::new(texts.finish())
}

/// Reads INT96 columns as microseconds instead of nanoseconds, whose range is limited to the years 1677 to 2262.
///
/// Returns `None` if the schema has no INT96 column.
pub(crate) fn int96_as_microseconds(found: &Schema, int96: impl Fn(usize) -> bool) -> Option<SchemaRef> {
    let mut changed = false;
    let fields = found.fields().iter().enumerate().map(|(root, field)| {
        if *field.data_type() != DataType::Timestamp(TimeUnit::Nanosecond, None) || !int96(root) {
            return Arc::clone(field);
        }
        changed = true;
        let micros = DataType::Timestamp(TimeUnit::Microsecond, None);
        Arc::new(field.as_ref().clone().with_data_type(micros))
    });
    let fields: Vec<FieldRef> = fields.collect();
    changed.then(|| Arc::new(Schema::new(fields)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use arrow_array::{BinaryArray, Decimal128Array, Float64Array, Int64Array, TimestampNanosecondArray, UInt32Array};
    use event_model::arrow_schema;

    use super::*;

    fn converted(name: &str, array: ArrayRef) -> ArrayRef {
        let batch = RecordBatch::try_from_iter_with_nullable([(name, array, true)]).unwrap();
        let columns = Columns::find(&batch.schema(), &arrow_schema()).unwrap();
        assert_eq!(columns.schema.field(0).data_type(), arrow_schema().field_with_name(name).unwrap().data_type());
        Arc::clone(columns.convert(&batch).unwrap().column(0))
    }

    fn integers_of(array: ArrayRef) -> Vec<Option<i32>> {
        converted("user_id", array).as_primitive::<arrow_array::types::Int32Type>().iter().collect()
    }

    #[test]
    fn integers_that_fit_are_kept_and_others_are_nulls() {
        let most = i64::from(i32::MAX);
        assert_eq!(
            integers_of(Arc::new(Int64Array::from(vec![Some(1), None, Some(most), Some(most + 1), Some(i64::MIN)]))),
            [Some(1), None, Some(i32::MAX), None, None]
        );
        assert_eq!(integers_of(Arc::new(UInt32Array::from(vec![7, u32::MAX]))), [Some(7), None]);
        let decimals = Decimal128Array::from(vec![5, i128::MAX]).with_precision_and_scale(38, 0).unwrap();
        assert_eq!(integers_of(Arc::new(decimals)), [Some(5), None]);
        let doubles = vec![3.0, 3.5, 2_147_483_647.0, 2_147_483_648.0, f64::NAN, f64::INFINITY, -0.0];
        assert_eq!(
            integers_of(Arc::new(Float64Array::from(doubles))),
            [Some(3), None, Some(i32::MAX), None, None, None, None]
        );
    }

    #[test]
    fn nanoseconds_are_cut_like_the_texts_of_events() {
        let nanos = TimestampNanosecondArray::from(vec![1_999, 1_000, 999, 0, -1, -1_000, -1_001]);
        let micros = converted("event_timestamp", Arc::new(nanos));
        let micros: Vec<i64> = micros.as_primitive::<TimestampMicrosecondType>().values().to_vec();
        assert_eq!(micros, [1, 1, 0, 0, -1, -1, -2]);
        let text: event_model::Timestamp = "1969-12-31T23:59:59.999999999Z".parse().unwrap();
        assert_eq!(text.micros(), -1);
    }

    #[test]
    fn uuids_are_bytes_or_text() {
        let id = Uuid::from_u128(0x0192_0000_0000_7000_8000_0000_0000_00ff);
        let text = id.to_string();
        let values = vec![Some(&id.as_bytes()[..]), Some(text.as_bytes()), Some(&[0xff; 3]), None];
        let ids = converted("event_id", Arc::new(BinaryArray::from(values)));
        let ids: Vec<_> = ids.as_string::<i32>().iter().collect();
        assert_eq!(ids, [Some(text.as_str()), Some(text.as_str()), None, None]);
    }

    #[test]
    fn names_match_in_another_case_only_if_that_is_certain() {
        let schema = |names: &[&str]| {
            Schema::new(names.iter().map(|&name| Field::new(name, DataType::Int32, false)).collect::<Vec<_>>())
        };
        let find = |names: &[&str]| Columns::find(&schema(names), &arrow_schema()).map(|columns| columns.roots);
        assert_eq!(find(&["USER_ID", "product_id"]), Ok(vec![0, 1]));
        assert_eq!(find(&["User_Id", "user_id"]), Ok(vec![1]));
        assert_eq!(find(&["USER_ID", "User_Id"]), Err("it has column user_id more than once".to_owned()));
        assert_eq!(find(&["user_id", "user_id"]), Err("it has column user_id more than once".to_owned()));
    }

    #[test]
    fn types_without_a_certain_meaning_are_refused_by_name() {
        for (name, data_type) in [
            ("event_timestamp", DataType::Int64),
            ("event_timestamp", DataType::Date32),
            ("event_timestamp", DataType::Utf8),
            ("user_id", DataType::Utf8),
            ("user_id", DataType::Float32),
            ("user_id", DataType::Decimal128(38, 2)),
            ("category", DataType::FixedSizeBinary(16)),
            ("category", DataType::Int32),
        ] {
            let found = Schema::new(vec![Field::new(name, data_type.clone(), true)]);
            let error = Columns::find(&found, &arrow_schema()).err().unwrap();
            assert!(error.contains(name) && error.contains(&data_type.to_string()), "{error}");
        }
    }
}
