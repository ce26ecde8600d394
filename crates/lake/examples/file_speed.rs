//! Measures the speed of encoding files of events, and their size.
//!
//! Run it with `cargo run --release -p lake --example file_speed`.

#![allow(clippy::print_stdout, reason = "a program for people who measure")]

use std::borrow::Cow;
use std::error::Error;
use std::time::{Duration, Instant};

use arrow_array::RecordBatch;
use event_model::{EventColumns, EventType, ProductEvent, RequiredFields, Timestamp, read_batch};
use lake::{ContentHasher, EventFile, EventFileWriter, MAX_FILE_BYTES, RunId, SegmentBuilder};

const ROWS: u64 = 500_000;
const TIMES: u32 = 5;

fn main() -> Result<(), Box<dyn Error>> {
    let texts = usual_texts();
    let events: Vec<_> = (0..ROWS).map(|index| event(index, &texts)).collect();
    let batch = columns(&events).finish();

    let whole = measure(|| -> Result<_, Box<dyn Error>> {
        let mut segment = SegmentBuilder::new("bench".parse::<RunId>()?, 0, events.len());
        for event in &events {
            segment.append(event);
        }
        Ok(segment.finish()?)
    })?;
    let columns_only = measure(|| Ok::<_, Box<dyn Error>>(columns(&events).finish()))?;
    let encode = measure(|| EventFileWriter::encode(&batch))?;
    let hash = measure(|| {
        let mut hasher = ContentHasher::new(&batch.schema())?;
        hasher.update(&batch);
        Ok::<_, Box<dyn Error>>(hasher.finish())
    })?;
    let file = EventFileWriter::encode(&batch)?;
    let read = measure(|| -> Result<_, Box<dyn Error>> { rows_of(EventFile::open("bench", file.bytes.clone())?) })?;
    show("segment: columns, hash, file", whole);
    show("  columns", columns_only);
    show("  hash and file", encode);
    show("  hash only", hash);
    show("decode to events", read);
    println!("usual file: {} bytes, {:.1} bytes/row", file.bytes.len(), per_row(file.bytes.len()));

    let (rows, bytes) = worst_case()?;
    println!("worst case: {rows} rows, {bytes} bytes, {:.1}% of the limit", percent_of_limit(bytes));
    Ok(())
}

/// Encodes the largest possible segment: texts of maximum length, all distinct and incompressible.
fn worst_case() -> Result<(u64, usize), Box<dyn Error>> {
    let rows = lake::segment_indices(u64::MAX, 1, 512);
    let mut state = 1_u64;
    let mut texts = || {
        let mut text = || -> String {
            (0..64)
                .map(|_| {
                    char::from_u32(0x1_0000 + u32::try_from(next(&mut state) % 0xf_0000).unwrap_or(0)).unwrap_or('x')
                })
                .collect()
        };
        (text(), text())
    };
    let mut columns = EventColumns::with_capacity(0);
    for index in 0..rows {
        let pair = texts();
        let mut event = event(index, std::slice::from_ref(&pair));
        event.event_id = uuid::Builder::from_random_bytes(u128::from(scramble(index)).pow(2).to_le_bytes()).into_uuid();
        event.event_type = EventType::RecommendationClicked;
        columns.append(&event);
    }
    Ok((rows, EventFileWriter::encode(&columns.finish())?.bytes.len()))
}

fn usual_texts() -> Vec<(String, String)> {
    let category = |n: usize| ["electronics", "furniture", "tools"][n % 3].to_owned();
    (0..30).map(|n| (category(n), format!("exp_{}", n % 10 + 1))).collect()
}

/// Returns an event like the generator's: a version 7 ID with tag and index, at a rate of ten million events a day.
fn event(index: u64, texts: &[(String, String)]) -> ProductEvent<'_> {
    let micros = 1_795_341_600_000_000 + index * 8_640;
    let random = scramble(index);
    let types = EventType::ALL;
    let (category, experiment_id) = &texts[usize::try_from(random >> 40).unwrap_or(0) % texts.len()];
    let id = (u128::from(micros / 1_000) << 80) | (0x7a1b << 64) | (0x8000_0000_0000_0000_u128) | u128::from(index);
    let number = |below: u64, shift: u32| i32::try_from((random >> shift) % below).unwrap_or(0) + 1;
    ProductEvent::new(RequiredFields {
        event_id: uuid::Uuid::from_u128(id),
        event_timestamp: Timestamp::from_micros(i64::try_from(micros).unwrap_or(0)),
        event_type: types[usize::try_from(random % 5).unwrap_or(0)],
        user_id: number(1_000, 3),
        account_id: number(10, 13),
        product_id: number(100, 23),
        category: Cow::Borrowed(category),
        experiment_id: Cow::Borrowed(experiment_id),
    })
}

fn scramble(index: u64) -> u64 {
    let mut state = index;
    next(&mut state)
}

/// `SplitMix64`, <https://prng.di.unimi.it/splitmix64.c>.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn columns(events: &[ProductEvent<'_>]) -> EventColumns {
    let mut columns = EventColumns::with_capacity(events.len());
    for event in events {
        columns.append(event);
    }
    columns
}

fn rows_of(file: impl Iterator<Item = Result<RecordBatch, lake::LakeError>>) -> Result<usize, Box<dyn Error>> {
    let mut rows = 0;
    for batch in file {
        for event in read_batch(&batch?)? {
            std::hint::black_box(event?);
            rows += 1;
        }
    }
    Ok(rows)
}

fn measure<T, E>(mut work: impl FnMut() -> Result<T, E>) -> Result<Duration, E> {
    std::hint::black_box(work()?);
    let mut best = Duration::MAX;
    for _ in 0..TIMES {
        let started = Instant::now();
        std::hint::black_box(work()?);
        best = best.min(started.elapsed());
    }
    Ok(best)
}

#[expect(clippy::cast_precision_loss, reason = "figures to look at")]
fn show(what: &str, took: Duration) {
    println!(
        "{what:<30} {:>6.2} M rows/s, {:>4.0} ns/row",
        ROWS as f64 / took.as_secs_f64() / 1e6,
        took.as_secs_f64() * 1e9 / ROWS as f64
    );
}

#[expect(clippy::cast_precision_loss, reason = "figures to look at")]
fn per_row(bytes: usize) -> f64 {
    bytes as f64 / ROWS as f64
}

#[expect(clippy::cast_precision_loss, reason = "figures to look at")]
fn percent_of_limit(bytes: usize) -> f64 {
    bytes as f64 * 100.0 / MAX_FILE_BYTES as f64
}
