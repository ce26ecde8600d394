//! Damaged files cause errors, not panics or wrong rows.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::panic;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow_array::RecordBatch;
use bytes::Bytes;
use event_model::{ArrowFormError, EventColumns, ProductEvent, read_batch};
use lake::{EventFile, LakeError};
use parquet::arrow::ArrowWriter;
use parquet::basic::{BrotliLevel, Compression, GzipLevel, ZstdLevel};
use parquet::file::properties::{WriterProperties, WriterVersion};
use support::{encode, event};

/// Number of panics that reached the program's hook.
static PANICS: AtomicU64 = AtomicU64::new(0);

const ROWS: u64 = 40;

fn events() -> Vec<ProductEvent<'static>> {
    (0..ROWS).map(|n| event(n, "2026-11-22T09:00:00Z")).collect()
}

fn batch() -> RecordBatch {
    let mut columns = EventColumns::with_capacity(0);
    for event in &events() {
        columns.append(event);
    }
    columns.finish()
}

/// Encodes the same rows as other programs do, without a content hash.
fn of_others() -> Vec<Bytes> {
    let codecs = [
        Compression::UNCOMPRESSED,
        Compression::SNAPPY,
        Compression::GZIP(GzipLevel::default()),
        Compression::LZ4_RAW,
        Compression::LZ4,
        Compression::BROTLI(BrotliLevel::default()),
        Compression::ZSTD(ZstdLevel::default()),
    ];
    let mut files = Vec::new();
    for codec in codecs {
        for version in [WriterVersion::PARQUET_1_0, WriterVersion::PARQUET_2_0] {
            for dictionary in [true, false] {
                let properties = WriterProperties::builder()
                    .set_compression(codec)
                    .set_writer_version(version)
                    .set_dictionary_enabled(dictionary)
                    .set_data_page_row_count_limit(16)
                    .build();
                let mut writer = ArrowWriter::try_new(Vec::new(), batch().schema(), Some(properties)).unwrap();
                writer.write(&batch()).unwrap();
                files.push(writer.into_inner().unwrap().into());
            }
        }
    }
    files
}

/// Reads the events up to the first error of the file.
fn read(bytes: Bytes) -> Result<Vec<String>, LakeError> {
    let mut read = Vec::new();
    for batch in EventFile::open("test", bytes)? {
        let batch = batch?;
        let missing = |error: ArrowFormError| LakeError::BadFile { key: "test".to_owned(), problem: error.to_string() };
        let events = read_batch(&batch).map_err(missing)?;
        read.extend(events.map(|event| event.map_or_else(|_| "refused".to_owned(), |event| format!("{event:?}"))));
    }
    Ok(read)
}

/// xorshift generator, which makes the damage reproducible.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % limit as u64).unwrap()
    }
}

/// A single test, because the panic hook is global to the process.
#[test]
fn damaged_bytes_are_errors_of_the_file() {
    panic::set_hook(Box::new(|_| {
        PANICS.fetch_add(1, Ordering::Relaxed);
    }));
    let flipped = our_file_with_a_flipped_bit_has_its_rows_or_none();
    let damaged = files_of_others_end_in_an_error_or_in_rows();
    let hidden = PANICS.load(Ordering::Relaxed);
    let passed_on = panic::catch_unwind(|| panic!("not of the decoder")).is_err();
    let seen = PANICS.load(Ordering::Relaxed);
    drop(panic::take_hook());
    assert_eq!(flipped, Ok(()));
    assert_eq!(damaged, Ok(()));
    assert_eq!(hidden, 0, "panics of the decoder reached the hook");
    assert!(passed_on && seen == 1, "other panics reach it");
}

fn our_file_with_a_flipped_bit_has_its_rows_or_none() -> Result<(), String> {
    let whole = encode(&events()).bytes;
    let expected = read(whole.clone()).unwrap();
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    for at in 0..whole.len() {
        let bit = at * 8 + random.below(8);
        let mut bytes = whole.to_vec();
        bytes[bit / 8] ^= 1 << (bit % 8);
        match panic::catch_unwind(|| read(bytes.into())) {
            Ok(Ok(rows)) if rows == expected => {}
            Ok(Ok(rows)) => return Err(format!("bit {bit} changes {} rows silently: {:?}", rows.len(), rows.first())),
            Ok(Err(LakeError::BadFile { .. })) => {}
            Ok(Err(other)) => return Err(format!("bit {bit}: {other}")),
            Err(_) => return Err(format!("bit {bit}: panicked")),
        }
    }
    Ok(())
}

fn files_of_others_end_in_an_error_or_in_rows() -> Result<(), String> {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for (number, whole) in of_others().into_iter().enumerate() {
        for try_number in 0..150 {
            let mut bytes = whole.to_vec();
            match try_number % 3 {
                0 => bytes.truncate(random.below(whole.len())),
                1 => {
                    let at = random.below(whole.len());
                    bytes[at] ^= 1 << random.below(8);
                }
                _ => {
                    for _ in 0..=random.below(8) {
                        let at = random.below(whole.len());
                        bytes[at] = u8::try_from(random.below(256)).unwrap();
                    }
                }
            }
            match panic::catch_unwind(|| read(bytes.into())) {
                Ok(Ok(_) | Err(LakeError::BadFile { .. })) => {}
                Ok(Err(other)) => return Err(format!("file {number}, try {try_number}: {other}")),
                Err(_) => return Err(format!("file {number}, try {try_number}: panicked")),
            }
        }
    }
    Ok(())
}
