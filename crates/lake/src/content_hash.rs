//! Hash of a file's rows that does not depend on their encoding.
//!
//! Different versions of a Parquet writer encode the same rows as different bytes. The lake therefore compares a hash
//! of the content. Other implementations can compute it from this description.
//!
//! The hash is SHA-256 over the following, in this order. Integers are little-endian.
//!
//! 1. The ASCII text `lake content 1` and a line feed.
//! 2. The number of rows, 8 bytes.
//! 3. For each column, in the order of the file:
//!    the length of its name in UTF-8, 4 bytes; the name;
//!    one ASCII letter for its type: `i` int32, `l` int64, `t` timestamp(us, UTC), `s` string, `a` list of strings;
//!    then one or more SHA-256 digests, 32 bytes each, over the values of all rows in order:
//!    - `i`: the values, 4 bytes each;
//!    - `l`, `t`: the values, 8 bytes each (a timestamp in microseconds since the epoch);
//!    - `s`: one digest of the lengths of all values in bytes, 4 bytes each, and one of the concatenated values;
//!    - `a`: one digest of the number of elements of each row, 4 bytes each, then those of the elements of all rows as
//!      in `s`.
//!
//! A column whose rows all have the column's default is omitted, so a file keeps its hash when a column is added later.
//!
//! Nulls are not supported. Digests of columns instead of rows keep the cost of the hash at a few percent of the cost
//! of writing, because each digest reads one Arrow buffer sequentially.

use std::fmt::{self, Write};
use std::str::FromStr;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{ArrowPrimitiveType, Int32Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{Array, ArrayRef, RecordBatch, StringArray};
use arrow_schema::{ArrowError, DataType, Schema, TimeUnit};
use sha2::{Digest, Sha256};

/// SHA-256 of a file's content. `Display` and `FromStr` use 64 lowercase hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ContentHash([u8; 32]);

impl ContentHash {
    /// Returns the SHA-256 of the bytes, for files with a single encoding, such as manifests.
    #[must_use]
    pub fn of_bytes(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }
}

impl fmt::Display for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::with_capacity(64);
        for byte in self.0 {
            write!(text, "{byte:02x}")?;
        }
        f.pad(&text)
    }
}

impl fmt::Debug for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Error for a text that is not 64 lowercase hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a content hash; use 64 lowercase hexadecimal digits")]
pub struct BadContentHash;

impl FromStr for ContentHash {
    type Err = BadContentHash;

    fn from_str(text: &str) -> Result<Self, BadContentHash> {
        let digit = |byte: u8| match byte {
            b'0'..=b'9' => Ok(byte - b'0'),
            b'a'..=b'f' => Ok(byte - b'a' + 10),
            _ => Err(BadContentHash),
        };
        let (pairs, rest) = text.as_bytes().as_chunks::<2>();
        let pairs: &[[u8; 2]; 32] = pairs.try_into().map_err(|_| BadContentHash)?;
        if !rest.is_empty() {
            return Err(BadContentHash);
        }
        let mut hash = [0; 32];
        for (byte, [high, low]) in hash.iter_mut().zip(pairs) {
            *byte = digit(*high)? * 16 + digit(*low)?;
        }
        Ok(Self(hash))
    }
}

/// Computes the content hash of batches of rows. Batch boundaries do not affect the hash.
pub struct ContentHasher {
    columns: Vec<Column>,
    rows: u64,
}

struct Column {
    name: String,
    tag: u8,
    digests: Vec<Sha256>,
    /// Default of the column as a one-row array, as long as all rows have it.
    default: Option<ArrayRef>,
}

impl ContentHasher {
    /// Creates a hasher for rows with this schema.
    ///
    /// # Errors
    /// If a column has a type without a canonical form.
    pub fn new(schema: &Schema) -> Result<Self, ArrowError> {
        Self::with_defaults(schema, &[])
    }

    /// Creates a hasher that omits each column whose rows all have the column's default.
    ///
    /// # Errors
    /// If a column has a type without a canonical form.
    pub fn with_defaults(schema: &Schema, defaults: &[(&str, ArrayRef)]) -> Result<Self, ArrowError> {
        let column = |field: &arrow_schema::FieldRef| {
            let (tag, digests) = match field.data_type() {
                DataType::Int32 => (b'i', 1),
                DataType::Int64 => (b'l', 1),
                DataType::Timestamp(TimeUnit::Microsecond, Some(_)) => (b't', 1),
                DataType::Utf8 => (b's', 2),
                DataType::List(of) if *of.data_type() == DataType::Utf8 => (b'a', 3),
                other => return Err(ArrowError::SchemaError(format!("type {other} has no canonical form"))),
            };
            let default =
                defaults.iter().find(|(name, _)| name == field.name()).map(|(_, default)| Arc::clone(default));
            Ok(Column { name: field.name().clone(), tag, digests: vec![Sha256::new(); digests], default })
        };
        let columns = schema.fields().iter().map(column).collect::<Result<_, _>>()?;
        Ok(Self { columns, rows: 0 })
    }

    /// Adds rows. Their columns must be those of the schema.
    pub fn update(&mut self, batch: &RecordBatch) {
        self.rows += batch.num_rows() as u64;
        for (column, array) in self.columns.iter_mut().zip(batch.columns()) {
            column.update(array.as_ref());
        }
    }

    /// Returns the hash of all rows added.
    #[must_use]
    pub fn finish(self) -> ContentHash {
        let mut whole = Sha256::new();
        whole.update(b"lake content 1\n");
        whole.update(self.rows.to_le_bytes());
        for column in self.columns.into_iter().filter(|column| column.default.is_none()) {
            whole.update(u32::try_from(column.name.len()).unwrap_or(u32::MAX).to_le_bytes());
            whole.update(column.name);
            whole.update([column.tag]);
            for digest in column.digests {
                whole.update(digest.finalize());
            }
        }
        ContentHash(whole.finalize().into())
    }
}

impl Column {
    fn update(&mut self, array: &dyn Array) {
        let tag = self.tag;
        self.default.take_if(|default| !has_only(array, default, tag));
        match (self.tag, self.digests.as_mut_slice()) {
            (b'i', [values]) => little_endian(values, array.as_primitive::<Int32Type>().values(), i32::to_le_bytes),
            (b'l', [values]) => little_endian(values, array.as_primitive::<Int64Type>().values(), i64::to_le_bytes),
            (b't', [values]) => {
                let array = array.as_primitive::<TimestampMicrosecondType>();
                little_endian(values, array.values(), i64::to_le_bytes);
            }
            (b's', [lengths, bytes]) => strings(lengths, bytes, array.as_string()),
            (_, [counts, lengths, bytes]) => {
                let list = array.as_list::<i32>();
                differences(counts, list.value_offsets());
                let (first, end) = ends(list.value_offsets());
                let elements = list.values().slice(first, end - first);
                strings(lengths, bytes, elements.as_string());
            }
            _ => {}
        }
    }
}

/// Returns true if all rows of `array` have the value in the only row of `default`.
fn has_only(array: &dyn Array, default: &dyn Array, tag: u8) -> bool {
    fn numbers<T: ArrowPrimitiveType>(array: &dyn Array, default: &dyn Array) -> bool {
        let default = default.as_primitive::<T>().value(0);
        array.as_primitive::<T>().values().iter().all(|value| *value == default)
    }
    match tag {
        b'i' => numbers::<Int32Type>(array, default),
        b'l' => numbers::<Int64Type>(array, default),
        b't' => numbers::<TimestampMicrosecondType>(array, default),
        b's' => {
            let default = default.as_string::<i32>().value(0);
            array.as_string::<i32>().iter().all(|value| value == Some(default))
        }
        _ => false,
    }
}

fn strings(lengths: &mut Sha256, bytes: &mut Sha256, array: &StringArray) {
    differences(lengths, array.value_offsets());
    let (first, last) = ends(array.value_offsets());
    bytes.update(&array.value_data()[first..last]);
}

/// Returns the first and the last offset. The first is not 0 if the array is a slice of its buffer.
fn ends(offsets: &[i32]) -> (usize, usize) {
    let end = |offset: Option<&i32>| offset.map_or(0, |&offset| usize::try_from(offset).unwrap_or(0));
    (end(offsets.first()), end(offsets.last()))
}

fn differences(digest: &mut Sha256, offsets: &[i32]) {
    let lengths: Vec<i32> = offsets.windows(2).map(|pair| pair[1] - pair[0]).collect();
    little_endian(digest, &lengths, i32::to_le_bytes);
}

/// Hashes numbers in blocks, because one update per number would cost more than the hash.
fn little_endian<T: Copy, const N: usize>(digest: &mut Sha256, values: &[T], bytes_of: impl Fn(T) -> [u8; N]) {
    let mut block = [[0; N]; 512];
    for values in values.chunks(block.len()) {
        for (bytes, &value) in block.iter_mut().zip(values) {
            *bytes = bytes_of(value);
        }
        digest.update(block[..values.len()].as_flattened());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::sync::Arc;

    use arrow_array::builder::{ListBuilder, StringBuilder};
    use arrow_array::{ArrayRef, Int32Array, Int64Array};
    use arrow_schema::Field;

    use super::*;

    fn batch() -> RecordBatch {
        let mut lists = ListBuilder::new(StringBuilder::new());
        for row in [&["a", "bc"][..], &[], &["ä"]] {
            for text in row {
                lists.values().append_value(text);
            }
            lists.append(true);
        }
        let columns: [(&str, ArrayRef); 4] = [
            ("n", Arc::new(Int32Array::from(vec![1, -1, i32::MAX]))),
            ("m", Arc::new(Int64Array::from(vec![1, -1, i64::MAX]))),
            ("text", Arc::new(StringArray::from(vec!["", "x", "yz"]))),
            ("texts", Arc::new(lists.finish())),
        ];
        RecordBatch::try_from_iter_with_nullable(columns.map(|(name, array)| (name, array, false))).unwrap()
    }

    fn hash(batches: &[RecordBatch]) -> ContentHash {
        let mut hasher = ContentHasher::new(&batches[0].schema()).unwrap();
        for batch in batches {
            hasher.update(batch);
        }
        hasher.finish()
    }

    /// The expected hash was computed with Python's hashlib from the description in the module documentation.
    #[test]
    fn the_form_is_the_documented_one() {
        assert_eq!(hash(&[batch()]).to_string(), "d28d5c0e082c2ccad75fdf494f7535f53b614c43c2d4d6929773db4252f621d0");
    }

    #[test]
    fn batch_boundaries_do_not_matter_but_values_and_order_do() {
        let whole = batch();
        let parts: Vec<_> = (0..3).map(|row| whole.slice(row, 1)).collect();
        assert_eq!(hash(&parts), hash(std::slice::from_ref(&whole)));
        let turned: Vec<_> = parts.iter().rev().cloned().collect();
        assert_ne!(hash(&turned), hash(std::slice::from_ref(&whole)));
        assert_ne!(hash(&parts[..2]), hash(&[whole]));
    }

    #[test]
    fn neighbouring_texts_do_not_run_into_each_other() {
        let of = |texts: Vec<&str>| {
            let array: ArrayRef = Arc::new(StringArray::from(texts));
            hash(&[RecordBatch::try_from_iter([("t", array)]).unwrap()])
        };
        assert_ne!(of(vec!["ab", "c"]), of(vec!["a", "bc"]));
    }

    /// A file written before a column was added keeps its hash.
    #[test]
    fn a_column_of_defaults_is_left_out() {
        let defaults: [(&str, ArrayRef); 2] =
            [("n", Arc::new(Int32Array::from(vec![0]))), ("text", Arc::new(StringArray::from(vec!["web"])))];
        let hash = |batches: &[RecordBatch]| {
            let mut hasher = ContentHasher::with_defaults(&batches[0].schema(), &defaults).unwrap();
            for batch in batches {
                hasher.update(batch);
            }
            hasher.finish()
        };
        let of = |n: [i32; 2], text: [&str; 2]| {
            let ids: ArrayRef = Arc::new(StringArray::from(vec!["a", "b"]));
            let (n, text) = (Int32Array::from(n.to_vec()), StringArray::from(text.to_vec()));
            RecordBatch::try_from_iter([("id", ids), ("n", Arc::new(n)), ("text", Arc::new(text))]).unwrap()
        };
        let new = of([0, 0], ["web", "web"]);
        let old = new.project(&[0]).unwrap();
        assert_eq!(hash(std::slice::from_ref(&new)), hash(std::slice::from_ref(&old)));
        assert_eq!(hash(&[new.slice(0, 1), new.slice(1, 1)]), hash(&[old]));
        for other in [of([0, 1], ["web", "web"]), of([0, 0], ["app", "web"])] {
            assert_ne!(hash(std::slice::from_ref(&other)), hash(std::slice::from_ref(&new)));
            assert_ne!(hash(&[other.slice(0, 1), other.slice(1, 1)]), hash(std::slice::from_ref(&new)));
        }
    }

    #[test]
    fn unknown_types_are_refused() {
        let schema = Schema::new(vec![Field::new("f", DataType::Float32, false)]);
        assert!(ContentHasher::new(&schema).is_err());
    }

    #[test]
    fn text_form_reads_back() {
        let hash = ContentHash::of_bytes(b"");
        assert_eq!(hash.to_string(), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        assert_eq!(hash.to_string().parse(), Ok(hash));
        for text in ["", "e3", &"g".repeat(64), &"A".repeat(64), &"a".repeat(65), &"a".repeat(66), &"ä".repeat(32)] {
            assert_eq!(text.parse::<ContentHash>(), Err(BadContentHash), "{text}");
        }
    }
}
