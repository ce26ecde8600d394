//! The expected contents of all stores for a small run, as plain data that a test can damage before it is written.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// 2026-11-22T10:00:00Z
pub(crate) const START: i64 = 1_795_341_600_000_000;
pub(crate) const HOUR: i64 = 3_600_000_000;
pub(crate) const PARTITIONS: i32 = 3;

/// Indices by outcome: 0 to 6 are valid (0 is sent twice), 7 and 8 are rejected, 9 and 10 are corrupt.
pub(crate) const VALID: std::ops::Range<u64> = 0..7;
pub(crate) const REFUSED: std::ops::Range<u64> = 7..9;
pub(crate) const BROKEN: std::ops::Range<u64> = 9..11;

#[derive(Clone)]
pub(crate) struct Event {
    pub(crate) id: Uuid,
    pub(crate) micros: i64,
    pub(crate) user: i32,
    pub(crate) category: String,
}

pub(crate) type Header = (String, Option<Vec<u8>>);

#[derive(Clone)]
pub(crate) struct Record {
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) key: Vec<u8>,
    pub(crate) value: Vec<u8>,
    pub(crate) headers: Vec<Header>,
}

#[derive(Clone)]
pub(crate) struct RawFile {
    pub(crate) key: String,
    pub(crate) rows: Vec<Event>,
}

#[derive(Clone)]
pub(crate) struct QuarantineFile {
    pub(crate) key: String,
    /// Index and due time.
    pub(crate) rows: Vec<(u64, i64)>,
}

#[derive(Clone)]
pub(crate) struct Offsets {
    pub(crate) partition: i32,
    pub(crate) next: i64,
    pub(crate) records: i64,
    pub(crate) rows: i64,
    pub(crate) duplicates: i64,
    pub(crate) letters: i64,
    pub(crate) expired: i64,
    pub(crate) suppressed: i64,
}

pub(crate) struct State {
    pub(crate) tag: u64,
    pub(crate) records: Vec<Record>,
    pub(crate) raw: Vec<RawFile>,
    pub(crate) quarantine: Vec<QuarantineFile>,
    pub(crate) rows: Vec<Event>,
    pub(crate) letters: Vec<Record>,
    /// True if the dead letters are discarded and have no payload.
    pub(crate) discarded: bool,
    pub(crate) offsets: Vec<Offsets>,
    pub(crate) manifest: Value,
    /// Key of a lake file to truncate to half its size.
    pub(crate) torn: Option<String>,
}

impl Event {
    pub(crate) fn of(tag: u64, index: u64) -> Self {
        let micros = START + i64::try_from(index).unwrap() * HOUR / 6 + 123;
        Self { id: id(micros, tag, index), micros, user: 1 + i32::try_from(index).unwrap(), category: "tools".into() }
    }

    /// Returns the canonical content.
    fn content(&self) -> Vec<u8> {
        format!("{}\n{}\nrfq_sent\n{}\n2\n3\n{}\nexp_1", self.id, self.micros, self.user, self.category).into_bytes()
    }

    pub(crate) fn json(&self) -> Vec<u8> {
        let at = jiff::Timestamp::from_microsecond(self.micros).unwrap();
        let value = json!({ "event_id": self.id.to_string(), "event_timestamp": at.to_string(), "event_type": "rfq_sent",
            "user_id": self.user, "account_id": 2, "product_id": 3, "category": self.category, "experiment_id": "exp_1" });
        value.to_string().into_bytes()
    }
}

/// Returns the sum of the hashes of contents, as specified in `docs/lake.md`.
fn hashes(contents: impl IntoIterator<Item = Vec<u8>>) -> String {
    let hash = |content: Vec<u8>| u128::from_be_bytes(Sha256::digest(content)[..16].try_into().unwrap());
    format!("{:032x}", contents.into_iter().map(hash).fold(0, u128::wrapping_add))
}

/// Builds an event ID bit by bit from milliseconds, version 7, run tag and index.
fn id(micros: i64, tag: u64, index: u64) -> Uuid {
    let millis = format!("{:048b}", micros / 1000);
    let (tag, index) = (format!("{tag:036b}"), format!("{index:038b}"));
    let bits = [&millis, "0111", &tag[..12], "10", &tag[12..], &index].concat();
    Uuid::from_u128(u128::from_str_radix(&bits, 2).unwrap())
}

impl State {
    /// Returns an undamaged run with this tag, and records of a foreign producer.
    pub(crate) fn sound(tag: u64) -> Self {
        let mut state = Self {
            tag,
            records: Vec::new(),
            raw: Vec::new(),
            quarantine: Vec::new(),
            rows: Vec::new(),
            letters: Vec::new(),
            discarded: false,
            offsets: (0..PARTITIONS)
                .map(|partition| Offsets {
                    partition,
                    next: 0,
                    records: 0,
                    rows: 0,
                    duplicates: 0,
                    letters: 0,
                    expired: 0,
                    suppressed: 0,
                })
                .collect(),
            manifest: Value::Null,
            torn: None,
        };
        let own: Vec<Event> = VALID.map(|index| Event::of(tag, index)).collect();
        let foreign =
            Event { id: Uuid::from_u128(u128::from(tag) << 96 | 0x4abc_8def_0000_0000_0001), ..Event::of(1, 5) };
        for event in own.iter().chain([&foreign]) {
            state.accept(event);
        }
        state.repeat(&own[0]);
        state.repeat(&foreign);
        for index in BROKEN {
            let headers = vec![state.run_header(), ("index".into(), Some(index.to_string().into_bytes()))];
            state.refuse(b"\xff{", headers);
        }
        state.refuse(b"not ours", vec![("empty".into(), None)]);
        state.raw = [(10, 0..6), (11, 6..7)]
            .map(|(hour, range)| RawFile { key: state.key("raw", hour, 0), rows: own[range].to_vec() })
            .to_vec();
        let refused = REFUSED.map(|index| (index, Event::of(tag, index).micros)).collect();
        state.quarantine = vec![QuarantineFile { key: state.key("quarantine", 11, 0), rows: refused }];
        state.manifest = state.manifest();
        state
    }

    pub(crate) fn run_id(&self) -> String {
        format!("{:09x}", self.tag)
    }

    pub(crate) fn topic(&self) -> String {
        format!("topic-{}", self.run_id())
    }

    pub(crate) fn group(&self) -> String {
        format!("group-{}", self.run_id())
    }

    pub(crate) fn run_header(&self) -> Header {
        ("run".into(), Some(self.run_id().into_bytes()))
    }

    pub(crate) fn key(&self, folder: &str, hour: u8, segment: u32) -> String {
        format!("{folder}/event_date=2026-11-22/hour={hour:02}/{}-{segment:08}.parquet", self.run_id())
    }

    /// Appends a record to its partition without counting it.
    pub(crate) fn send(&mut self, key: i32, value: &[u8], headers: Vec<Header>) -> Record {
        let partition = key % PARTITIONS;
        let before = self.records.iter().filter(|record| record.partition == partition).count();
        let record = Record {
            partition,
            offset: i64::try_from(before).unwrap(),
            key: key.to_string().into_bytes(),
            value: value.to_vec(),
            headers,
        };
        self.records.push(record.clone());
        record
    }

    /// Sends an event and increments a count of the group.
    fn consumed(&mut self, event: &Event, count: fn(&mut Offsets) -> &mut i64) {
        let headers = vec![self.run_header(), ("schema".into(), Some(b"1".to_vec()))];
        let record = self.send(event.user, &event.json(), headers);
        self.note(&record, count);
    }

    pub(crate) fn note(&mut self, record: &Record, count: fn(&mut Offsets) -> &mut i64) {
        let offsets = &mut self.offsets[usize::try_from(record.partition).unwrap()];
        offsets.next = record.offset + 1;
        offsets.records += 1;
        *count(offsets) += 1;
    }

    pub(crate) fn accept(&mut self, event: &Event) {
        self.consumed(event, |offsets| &mut offsets.rows);
        self.rows.push(event.clone());
    }

    pub(crate) fn repeat(&mut self, event: &Event) {
        self.consumed(event, |offsets| &mut offsets.duplicates);
    }

    pub(crate) fn refuse(&mut self, value: &[u8], headers: Vec<Header>) {
        let record = self.send(1, value, headers);
        self.note(&record, |offsets| &mut offsets.letters);
        self.letters.push(record);
    }

    fn manifest(&self) -> Value {
        let valid = |range: std::ops::Range<u64>| hashes(range.map(|index| Event::of(self.tag, index).content()));
        let due = |index| Event::of(self.tag, index).micros;
        let refused = hashes(REFUSED.map(|index| format!("{index}\n{}\n{{}}", due(index)).into_bytes()));
        let broken = hashes(BROKEN.map(|index| [index.to_string().as_bytes(), b"1", b"\xff{"].join(&b'\n')));
        let none = hashes([]);
        json!({ "version": 1, "run": { "id": self.run_id(), "tag": self.run_id() },
            "first_index": 0, "next_index": 11,
            "counts": { "outcomes": { "valid": 7, "invalid": 2, "corrupt": 2 },
                        "faults": { "invalid": 2, "corrupt": 2, "duplicate": 1 },
                        "event_types": { "rfq_sent": 7, "product_viewed": 0 },
                        "hours": { "2026-11-22T10": { "valid": 6, "invalid": 0, "corrupt": 0,
                                                      "valid_hash": valid(0..6), "invalid_hash": none, "corrupt_hash": none },
                                   "2026-11-22T11": { "valid": 1, "invalid": 2, "corrupt": 2,
                                                      "valid_hash": valid(6..7), "invalid_hash": refused, "corrupt_hash": broken } } },
            "kafka": { "topic": self.topic(), "records": 10, "end_offsets": {} },
            "lake": { "url": "", "segment_indices": 100, "raw": { "files": 2, "rows": 7 }, "quarantine": { "files": 1, "rows": 2 } } })
    }
}
