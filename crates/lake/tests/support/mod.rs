//! Support for the tests of this crate.

#![allow(dead_code, unreachable_pub, reason = "each test file uses a part of it")]
#![allow(clippy::missing_panics_doc, clippy::unwrap_used, reason = "a test fails by panicking")]

use std::borrow::Cow;

use bytes::Bytes;
use event_model::{EventColumns, EventType, ProductEvent, RequiredFields, Timestamp, read_batch};
use lake::{EventFile, EventFileWriter, Lake, LakeError, LakeFile, Put, RunId, SegmentBuilder};
use proptest::prelude::*;
use uuid::Uuid;

/// Any event that a file can store, valid or not.
pub fn any_event() -> impl Strategy<Value = ProductEvent<'static>> {
    (
        any::<u128>(),
        Timestamp::MIN.micros()..=Timestamp::MAX.micros(),
        proptest::sample::select(EventType::ALL.to_vec()),
        (any::<i32>(), any::<i32>(), any::<i32>()),
        "(?s).{0,64}",
        "(?s).{0,64}",
    )
        .prop_map(|(id, micros, event_type, numbers, category, experiment_id)| {
            ProductEvent::new(RequiredFields {
                event_id: Uuid::from_u128(id),
                event_timestamp: Timestamp::from_micros(micros),
                event_type,
                user_id: numbers.0,
                account_id: numbers.1,
                product_id: numbers.2,
                category: Cow::Owned(category),
                experiment_id: Cow::Owned(experiment_id),
            })
        })
}

/// Returns the `n`-th of a series of plain events, one per second after `from`.
pub fn event(n: u64, from: &str) -> ProductEvent<'static> {
    let from: Timestamp = from.parse().unwrap();
    let number = |below: u64| i32::try_from(n % below).unwrap() + 1;
    ProductEvent::new(RequiredFields {
        event_id: Uuid::from_u128(0x0192_0000_0000_7000_8000_0000_0000_0000 | u128::from(n)),
        event_timestamp: Timestamp::from_micros(from.micros() + i64::try_from(n).unwrap() * 1_000_000 + 123_456),
        event_type: EventType::ALL[usize::try_from(n).unwrap() % EventType::ALL.len()],
        user_id: number(1000),
        account_id: number(10),
        product_id: number(100),
        category: Cow::Borrowed(["electronics", "furniture", "Möbel, \"gebraucht\""][usize::try_from(n).unwrap() % 3]),
        experiment_id: Cow::Owned(format!("exp_{}", number(10))),
    })
}

/// Returns a file of `rows` plain events. A different `from` results in different content.
pub fn event_file(rows: u64, from: &str) -> LakeFile {
    let mut segment = SegmentBuilder::new(run("0a1b2c3d4"), 7, 0);
    for n in 0..rows {
        segment.append(&event(n, from));
    }
    segment.finish().unwrap().raw.remove(0)
}

pub fn run(id: &str) -> RunId {
    id.parse().unwrap()
}

pub fn encode(events: &[ProductEvent<'_>]) -> lake::Encoded {
    let mut columns = EventColumns::with_capacity(events.len());
    for event in events {
        columns.append(event);
    }
    EventFileWriter::encode(&columns.finish()).unwrap()
}

pub fn decode(bytes: Bytes) -> Result<Vec<ProductEvent<'static>>, LakeError> {
    let mut events = Vec::new();
    for batch in EventFile::open("test", bytes)? {
        let batch = batch?;
        let of_batch = read_batch(&batch).unwrap();
        events.extend(of_batch.map(|event| event.unwrap().into_static()));
    }
    Ok(events)
}

/// Checks the contract of every kind of lake. The lake must be empty and is empty again afterwards.
pub async fn behaves_as_a_lake(lake: &Lake, races: u64) {
    writes_once(lake).await;
    lists_what_is_there(lake).await;
    race_has_one_winner(lake, races).await;
    race_of_different_files_has_one_content(lake, races).await;
}

async fn writes_once(lake: &Lake) {
    let file = event_file(100, "2026-11-22T09:00:00Z");
    let other = event_file(101, "2026-11-22T09:00:00Z");
    assert_eq!(file.key, other.key);
    assert_eq!(lake.get(&file.key).await.unwrap(), None);
    assert_eq!(lake.put_file(&file).await.unwrap(), Put::Written);
    assert_eq!(lake.put_file(&file).await.unwrap(), Put::AlreadyThere);
    let conflict = lake.put_file(&other).await.unwrap_err();
    let message = conflict.to_string();
    assert!(matches!(conflict, LakeError::Conflict { stored: Some(stored), offered, .. }
        if stored == file.hash && offered == other.hash));
    for part in [&file.key, &file.hash.to_string(), &other.hash.to_string()] {
        assert!(message.contains(part), "{message}");
    }
    assert_eq!(lake.get(&file.key).await.unwrap().unwrap(), file.bytes);
    assert_eq!(lake.get_start(&file.key, 4).await.unwrap().unwrap(), "PAR1");
    assert_eq!(lake.get_start("raw/missing", 4).await.unwrap(), None);
    lake.remove(&file.key).await.unwrap();
    lake.remove(&file.key).await.unwrap();
    assert_eq!(lake.put_file(&other).await.unwrap(), Put::Written);
    lake.remove(&other.key).await.unwrap();
}

async fn lists_what_is_there(lake: &Lake) {
    let keys = ["a/1", "a/2/x", "a-b/1", "ab", "b/1"];
    for key in keys {
        lake.put_replacing(key, Bytes::from(key.as_bytes())).await.unwrap();
        lake.put_replacing(key, Bytes::from_static(b"again")).await.unwrap();
    }
    for prefix in ["", "a", "a/", "a/2", "a/2/", "a/2/x", "c", "c/d/", "a/1/2/"] {
        let mut expected: Vec<_> =
            keys.iter().filter(|key| key.starts_with(prefix)).map(|&key| key.to_owned()).collect();
        expected.sort();
        let found = lake.list(prefix).await.unwrap();
        assert!(found.iter().all(|object| object.size == 5 && object.modified.is_some()));
        assert_eq!(found.into_iter().map(|object| object.key).collect::<Vec<_>>(), expected, "{prefix}");
    }
    for key in keys {
        lake.remove(key).await.unwrap();
    }
    assert_eq!(lake.list("").await.unwrap(), []);
}

const RACERS: usize = 6;

async fn race_has_one_winner(lake: &Lake, races: u64) {
    for round in 0..races {
        let file = event_file(round + 1, "2026-11-22T11:00:00Z");
        let puts = race(lake, |_| file.clone()).await;
        let written = puts.iter().filter(|put| matches!(put, Ok(Put::Written))).count();
        let there = puts.iter().filter(|put| matches!(put, Ok(Put::AlreadyThere))).count();
        assert_eq!((written, there), (1, RACERS - 1), "{puts:?}");
        lake.remove(&file.key).await.unwrap();
    }
}

async fn race_of_different_files_has_one_content(lake: &Lake, races: u64) {
    for _ in 0..races {
        let files: Vec<_> = (1..).take(RACERS).map(|rows| event_file(rows, "2026-11-22T12:00:00Z")).collect();
        let puts = race(lake, |racer| files[racer].clone()).await;
        let winners: Vec<_> = (0..RACERS).filter(|&racer| matches!(puts[racer], Ok(Put::Written))).collect();
        assert_eq!(winners.len(), 1, "{puts:?}");
        let conflicts = puts.iter().filter(|put| matches!(put, Err(LakeError::Conflict { .. }))).count();
        assert_eq!(conflicts, RACERS - 1, "{puts:?}");
        let there = lake.get(&files[0].key).await.unwrap().unwrap();
        assert_eq!(there, files[winners[0]].bytes);
        lake.remove(&files[0].key).await.unwrap();
    }
}

async fn race(lake: &Lake, file: impl Fn(usize) -> LakeFile) -> Vec<Result<Put, LakeError>> {
    let racers: Vec<_> = (0..RACERS)
        .map(|racer| {
            let (lake, file) = (lake.clone(), file(racer));
            tokio::spawn(async move { lake.put_file(&file).await })
        })
        .collect();
    let mut puts = Vec::new();
    for racer in racers {
        puts.push(racer.await.unwrap());
    }
    puts
}
