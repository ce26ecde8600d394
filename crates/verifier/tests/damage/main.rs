//! Tests of the verifier: an undamaged run passes, and each damage to a store fails the expected equations.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(missing_docs, reason = "not a library")]

mod state;
mod stores;

use state::{BROKEN, Event, HOUR, State};
use stores::Servers;
use uuid::Uuid;
use verifier::Terms;
use verifier::equation::*;

type Damage = fn(&mut State);

/// Damages to a sound run, each with all equations that must fail, apart from the sums of hashes.
const DAMAGES: &[(&str, Damage, &[&str])] = &[
    // The table
    ("a row is gone", |s| drop(s.rows.remove(2)), &[TABLE_EVENTS, TABLE_COUNTS, UNACCOUNTED, COUNTED_ROWS]),
    ("a row is there twice", |s| s.rows.push(s.rows[2].clone()), &[TABLE_ONCE]),
    ("a row is there on two days", |s| s.rows.push(shifted(&s.rows[2], 24)), &[TABLE_ONCE, TABLE_CONTENT]),
    ("a row's text is another", |s| s.rows[2].category.push('x'), &[TABLE_CONTENT]),
    ("a row's time is a microsecond later", |s| s.rows[2].micros += 1, &[TABLE_CONTENT]),
    ("a row is in another hour", |s| s.rows[2] = shifted(&s.rows[2], 1), &[TABLE_COUNTS, TABLE_CONTENT]),
    ("a row has an index beyond the run", |s| s.rows.push(Event::of(s.tag, 11)), &[STRAYS]),
    (
        "a refused event is a row",
        |s| s.rows.push(Event::of(s.tag, 7)),
        &[ONE_KIND, TABLE_EVENTS, TABLE_COUNTS, ROWS_WITHOUT_RECORD],
    ),
    ("a foreign producer's row is gone", |s| drop(s.rows.pop()), &[UNACCOUNTED, COUNTED_ROWS, COUNTED_DUPLICATES]),
    ("a foreign producer's row is another", |s| s.rows[7].user = 77, &[TABLE_CONTENT]),
    // The lake
    ("a row of the lake is gone", |s| drop(s.raw[0].rows.remove(3)), &[LAKE_EVENTS, LAKE_COUNTS, ONLY_KAFKA]),
    ("a row of the lake is there twice", |s| s.raw[0].rows.extend_from_within(3..4), &[LAKE_ONCE]),
    ("a row of the lake is another", |s| s.raw[0].rows[3].user += 1, &[LAKE_CONTENT]),
    ("the lake has an index beyond the run", |s| s.raw[1].rows.push(Event::of(s.tag, 12)), &[STRAYS]),
    ("the lake has an event of another run", |s| s.raw[1].rows.push(Event::of(s.tag + 77, 6)), &[STRAYS]),
    (
        "a refused event is in the raw lake",
        |s| s.raw[1].rows.push(Event::of(s.tag, 7)),
        &[ONE_KIND, LAKE_EVENTS, LAKE_COUNTS, ONLY_LAKE],
    ),
    ("a file is gone", |s| drop(s.raw.remove(1)), &[LAKE_EVENTS, LAKE_FILES, LAKE_COUNTS, ONLY_KAFKA]),
    ("a file is there twice", |s| again(s), &[LAKE_FILES, LAKE_ONCE]),
    ("a file is under another hour", |s| s.raw[1].key = s.key("raw", 10, 9), &[MISPLACED]),
    (
        "a file is torn",
        |s| s.torn = Some(s.raw[1].key.clone()),
        &[LAKE_EVENTS, UNREADABLE_FILES, LAKE_COUNTS, ONLY_KAFKA],
    ),
    (
        "a quarantine row is gone",
        |s| s.quarantine[0].rows.truncate(1),
        &[ONE_KIND, QUARANTINE_EVENTS, QUARANTINE_COUNTS],
    ),
    ("a quarantine row is there twice", |s| s.quarantine[0].rows.extend_from_within(..1), &[LAKE_ONCE]),
    (
        "the quarantine is gone",
        |s| s.quarantine.clear(),
        &[ONE_KIND, QUARANTINE_EVENTS, QUARANTINE_FILES, QUARANTINE_COUNTS],
    ),
    // The topic
    (
        "a record was sent behind the consumer's back",
        |s| unread(s, &Event::of(s.tag, 3).json()),
        &[KAFKA_RECORDS, KAFKA_ACKNOWLEDGED, COUNTED_RECORDS, COUNTED_DUPLICATES, AT_THE_END],
    ),
    ("a counted copy too many", |s| s.repeat(&Event::of(s.tag, 3)), &[KAFKA_RECORDS, KAFKA_ACKNOWLEDGED]),
    (
        "a repeat with other content",
        |s| s.repeat(&Event { category: "x".into(), ..Event::of(s.tag, 3) }),
        &[KAFKA_RECORDS, KAFKA_ACKNOWLEDGED, KAFKA_CONTENT],
    ),
    ("a record with an index beyond the run", |s| beyond(s), &[STRAYS, COUNTED_ROWS]),
    (
        "a valid record was lost before Kafka",
        |s| s.records.retain(|record| !is_of(record, 4)),
        &[
            KAFKA_EVENTS,
            KAFKA_RECORDS,
            KAFKA_ACKNOWLEDGED,
            ONLY_LAKE,
            ROWS_WITHOUT_RECORD,
            COUNTED_RECORDS,
            COUNTED_ROWS,
            AT_THE_END,
        ],
    ),
    ("a key is not the user's", |s| s.records[2].key = b"8".to_vec(), &[KEYS]),
    // The dead letters
    ("a dead letter is gone", |s| drop(s.letters.remove(0)), &[DEAD_LETTERS, UNACCOUNTED, COUNTED_LETTERS]),
    ("a foreign dead letter is gone", |s| drop(s.letters.remove(2)), &[UNACCOUNTED, COUNTED_LETTERS]),
    ("a dead letter is there twice", |s| s.letters.push(s.letters[0].clone()), &[LETTER_ONCE]),
    ("a dead letter is there for a row", |s| letter_of(s, 2), &[LETTERED_ROWS, COUNTED_ROWS, COUNTED_LETTERS]),
    ("a dead letter has no record", |s| letter_beyond(s), &[LETTERS_WITHOUT_RECORD, COUNTED_LETTERS]),
    ("a dead letter has other bytes", |s| s.letters[0].value.push(b'!'), &[LETTER_CONTENT]),
    ("a dead letter has lost a header", |s| s.letters[2].headers.clear(), &[LETTER_CONTENT]),
    // The offsets
    ("an offset stands before the end", |s| s.offsets[0].next -= 1, &[AT_THE_END]),
    ("an offset stands behind the end", |s| s.offsets[0].next += 1, &[AT_THE_END]),
    ("an offset row is gone", |s| s.offsets.truncate(2), &[COUNTED_RECORDS, COUNTED_ROWS, AT_THE_END]),
    ("a duplicate was counted as a row", |s| miscount(s), &[COUNTED_ROWS, COUNTED_DUPLICATES]),
    ("a suppressed record was counted as a row", |s| counted_though_suppressed(s), &[UNACCOUNTED, COUNTED_ROWS]),
    ("the counts have no sum", |s| s.offsets[0].letters += 1, &[COUNTED_SUM, COUNTED_LETTERS]),
    // The manifest
    ("the manifest counts an event too many", |s| s.manifest["next_index"] = 12.into(), &[MANIFEST, ONE_KIND]),
    ("the manifest counts another hour", |s| other_hour(s), &[LAKE_COUNTS, TABLE_COUNTS]),
];

/// Damages with the sums of hashes that must differ.
const HASH_DAMAGES: &[(&str, Damage, &[&str])] = &[
    ("a row is there twice", |s| s.rows.push(s.rows[2].clone()), &[TABLE_HASHES]),
    ("a row of the lake is there twice", |s| s.raw[0].rows.extend_from_within(3..4), &[LAKE_HASHES]),
    ("a row of the lake is another", |s| s.raw[0].rows[3].user += 1, &[LAKE_HASHES]),
    ("a quarantine row is there twice", |s| s.quarantine[0].rows.extend_from_within(..1), &[QUARANTINE_HASHES]),
    ("a quarantine row was due later", |s| s.quarantine[0].rows[0].1 += 1, &[QUARANTINE_HASHES]),
    ("a valid record was lost before Kafka", |s| s.records.retain(|record| !is_of(record, 4)), &[KAFKA_HASHES]),
    ("a broken record is another", |s| corrupted(s), &[CORRUPT_HASH]),
    ("an event is another everywhere", |s| everywhere(s), &[KAFKA_HASHES, LAKE_HASHES, TABLE_HASHES]),
];

const HASHES: &[&str] = &[KAFKA_HASHES, CORRUPT_HASH, LAKE_HASHES, QUARANTINE_HASHES, TABLE_HASHES];

/// Unusual runs that must pass.
const SOUND: &[(&str, Damage)] = &[
    ("nothing is damaged", |_| {}),
    ("its dead letters are discarded", |s| s.discarded = true),
    ("the table has rows of others", |s| s.rows.push(Event::of(s.tag + 0x1_0000, 3))),
    ("an expired foreign record", |s| expired(s)),
    ("a suppressed foreign record", |s| suppressed(s, |offsets| &mut offsets.suppressed)),
    ("a suppressed event of the run", |s| suppressed_event(s)),
    ("a repeat in the batch of its suppressed record", |s| suppressed_with_its_repeat(s)),
    ("a repeat that a trigger lets pass", |s| suppressed_once(s)),
];

#[test]
fn each_damage_is_found_and_named() {
    let servers = Servers::start();
    let mut wrong = Vec::new();
    let sound = SOUND.iter().map(|(name, change)| (name, change, [].as_slice()));
    let damaged = DAMAGES.iter().map(|(name, damage, differ)| (name, damage, *differ));
    for (case, (name, change, differ)) in sound.chain(damaged).enumerate() {
        let mut state = State::sound(0xa_bc00_0000 + case as u64);
        change(&mut state);
        let report = servers.verify(&state, None, &Terms::for_group(&state.group())).unwrap();
        let different: Vec<_> = report.different().into_iter().filter(|name| !HASHES.contains(name)).collect();
        if different != differ || report.holds() != differ.is_empty() {
            wrong.push(format!("{name}: expected {differ:?}\n{report}"));
        }
        let unexplained =
            report.differences().filter(|check| EXPLAINED.contains(&check.name) && check.examples.is_empty());
        wrong.extend(unexplained.map(|check| format!("{name}: no example for {}", check.name)));
    }
    for (case, (name, change, differ)) in HASH_DAMAGES.iter().enumerate() {
        let mut state = State::sound(0xa_bc10_0000 + case as u64);
        change(&mut state);
        let report = servers.verify(&state, None, &Terms::for_group(&state.group())).unwrap();
        let different: Vec<_> = report.different().into_iter().filter(|name| HASHES.contains(name)).collect();
        if different != *differ {
            wrong.push(format!("hashes, {name}: expected {differ:?}\n{report}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

/// Equations whose failure must have examples. The others compare sums.
const EXPLAINED: &[&str] = &[
    MANIFEST,
    STRAYS,
    KAFKA_EVENTS,
    LAKE_EVENTS,
    TABLE_EVENTS,
    DEAD_LETTERS,
    ONLY_KAFKA,
    ONLY_LAKE,
    UNACCOUNTED,
    TABLE_ONCE,
    LAKE_ONCE,
    KAFKA_CONTENT,
    LAKE_CONTENT,
    TABLE_CONTENT,
    LETTER_CONTENT,
    AT_THE_END,
    QUARANTINE_EVENTS,
    COUNTED_RECORDS,
];

#[test]
fn a_folder_is_a_lake_and_copies_may_be_allowed() {
    let servers = Servers::start();
    let folder = tempfile::tempdir().unwrap();
    let mut state = State::sound(0xd_ef00_0001);
    state.repeat(&Event::of(state.tag, 3));
    let terms = Terms::for_group(&state.group()).allowing_copies();
    let report = servers.verify(&state, Some(folder.path().into()), &terms).unwrap();
    assert!(report.holds(), "{report}");
    let mut state = State::sound(0xd_ef00_0002);
    state.raw.remove(0);
    state.rows.clear();
    let report = servers.verify(&state, Some(folder.path().into()), &Terms::generator_only()).unwrap();
    assert_eq!(report.different(), [LAKE_EVENTS, LAKE_FILES, LAKE_COUNTS, ONLY_KAFKA, LAKE_HASHES], "{report}");
    let counts = [LAKE_FILES, LAKE_COUNTS, LAKE_HASHES];
    assert!(report.differences().all(|check| counts.contains(&check.name) || check.examples.len() == 6));
    let mut state = State::sound(0xd_ef00_0003);
    state.rows.pop();
    let terms = Terms::for_group(&state.group()).of_the_run_only();
    let report = servers.verify(&state, Some(folder.path().into()), &terms).unwrap();
    assert!(report.holds(), "{report}");
}

#[test]
fn suppressed_rows_may_be_known_and_earlier_counts_left_out() {
    let servers = Servers::start();
    let kept_out = |s: &State| Uuid::from_u128(u128::from(s.tag));
    let verify = |s: &State, ids: &[Uuid]| {
        let terms = Terms::for_group(&s.group()).with_suppressed(ids.iter().copied());
        servers.verify(s, None, &terms).unwrap()
    };
    let mut state = State::sound(0xe_ef00_0001);
    suppressed(&mut state, |offsets| &mut offsets.suppressed);
    let report = verify(&state, &[kept_out(&state)]);
    assert!(report.holds(), "{report}");
    let mut state = State::sound(0xe_ef00_0002);
    suppressed(&mut state, |offsets| &mut offsets.suppressed);
    assert_eq!(verify(&state, &[]).different(), [UNACCOUNTED, COUNTED_SUPPRESSED]);
    let mut state = State::sound(0xe_ef00_0003);
    suppressed_event(&mut state);
    let different = [TABLE_EVENTS, TABLE_COUNTS, UNACCOUNTED, COUNTED_SUPPRESSED, TABLE_HASHES];
    assert_eq!(verify(&state, &[]).different(), different);
    let mut state = State::sound(0xe_ef00_0004);
    suppressed(&mut state, |offsets| &mut offsets.duplicates);
    let different = [COUNTED_SUPPRESSED, COUNTED_DUPLICATES];
    assert_eq!(verify(&state, &[kept_out(&state)]).different(), different);

    // The group counted records of an earlier topic of the same name.
    let mut before = State::sound(0xe_ef00_0005);
    before.rows.clear();
    before.letters.clear();
    let mut state = State::sound(0xe_ef00_0006);
    for (before, offsets) in before.offsets.iter().zip(&mut state.offsets) {
        offsets.records += before.records;
        offsets.rows += before.rows;
        offsets.duplicates += before.duplicates;
        offsets.letters += before.letters;
    }
    let earlier = servers.counts(&before);
    let report = servers.verify(&state, None, &Terms::for_group(&state.group()).since(earlier)).unwrap();
    assert!(report.holds(), "{report}");
}

fn shifted(event: &Event, hours: i64) -> Event {
    Event { micros: event.micros + hours * HOUR, ..event.clone() }
}

fn again(s: &mut State) {
    let mut copy = s.raw[1].clone();
    copy.key = s.key("raw", 11, 1);
    s.raw.push(copy);
}

fn unread(s: &mut State, value: &[u8]) {
    s.send(4, value, Vec::new());
}

fn beyond(s: &mut State) {
    let record = s.send(13, &Event::of(s.tag, 12).json(), Vec::new());
    s.note(&record, |offsets| &mut offsets.rows);
}

fn is_of(record: &state::Record, index: u64) -> bool {
    record.key == (index + 1).to_string().as_bytes()
}

fn corrupted(s: &mut State) {
    let broken = s.records.iter_mut().find(|record| record.value == b"\xff{").unwrap();
    broken.value.push(b'!');
}

/// Changes an event in all stores, so that only the manifest differs.
fn everywhere(s: &mut State) {
    let other = Event { category: "x".into(), ..Event::of(s.tag, 3) };
    s.raw[0].rows[3] = other.clone();
    s.rows[3] = other.clone();
    let record = s.records.iter_mut().find(|record| is_of(record, 3)).unwrap();
    record.value = other.json();
}

fn letter_of(s: &mut State, record: usize) {
    s.letters.push(s.records[record].clone());
}

fn letter_beyond(s: &mut State) {
    let mut letter = s.records[2].clone();
    letter.offset = 1000;
    s.letters.push(letter);
}

fn miscount(s: &mut State) {
    let offsets = s.offsets.iter_mut().find(|offsets| offsets.duplicates > 0).unwrap();
    offsets.duplicates -= 1;
    offsets.rows += 1;
}

fn other_hour(s: &mut State) {
    let hours = &mut s.manifest["counts"]["hours"];
    hours["2026-11-22T10"]["valid"] = 5.into();
    hours["2026-11-22T11"]["valid"] = 2.into();
}

fn expired(s: &mut State) {
    let old = Event { id: Uuid::from_u128(u128::from(s.tag)), ..Event::of(1, 5) };
    let record = s.send(2, &old.json(), Vec::new());
    s.note(&record, |offsets| &mut offsets.expired);
}

fn suppressed(s: &mut State, count: fn(&mut state::Offsets) -> &mut i64) {
    let kept_out = Event { id: Uuid::from_u128(u128::from(s.tag)), ..Event::of(1, 5) };
    let record = s.send(2, &kept_out.json(), Vec::new());
    s.note(&record, count);
}

fn counted_though_suppressed(s: &mut State) {
    suppressed(s, |offsets| &mut offsets.rows);
}

fn suppressed_event(s: &mut State) {
    s.rows.remove(2);
    let partition = s.records.iter().find(|record| is_of(record, 2)).unwrap().partition;
    let offsets = s.offsets.iter_mut().find(|offsets| offsets.partition == partition).unwrap();
    offsets.rows -= 1;
    offsets.suppressed += 1;
}

/// Sends a suppressed event twice. The group counts the second record as a duplicate of the first.
fn suppressed_with_its_repeat(s: &mut State) {
    suppressed(s, |offsets| &mut offsets.suppressed);
    suppressed(s, |offsets| &mut offsets.duplicates);
}

/// Sends a suppressed event twice. The second record is inserted, as if the trigger had been dropped in between.
fn suppressed_once(s: &mut State) {
    suppressed(s, |offsets| &mut offsets.suppressed);
    suppressed(s, |offsets| &mut offsets.rows);
    s.rows.push(Event { id: Uuid::from_u128(u128::from(s.tag)), ..Event::of(1, 5) });
}

#[test]
fn the_cases_are_what_they_say() {
    let state = State::sound(0xa_bcde_f123);
    assert_eq!((state.records.len(), state.rows.len(), state.letters.len()), (13, 8, 3));
    assert_eq!(BROKEN.count(), 2);
}
