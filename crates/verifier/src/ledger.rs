//! Collects the data about a run, store by store: dead letters, Kafka, lake, table.

use std::collections::HashMap;

use crate::Run;
use crate::canonical::{of_broken, of_event, of_refused};
use crate::event::{Event, Members, Origin, hour_of, millis_of, show_hour};
use crate::letters::{Bytes, Letters, Met};
use crate::report::Finding;
use crate::trace::{Mark, RecordIndex, Trace};

/// Counts of the run's distinct events in one store, by hours since 1970 and by event type.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) hours: HashMap<i64, u64>,
    pub(crate) types: HashMap<String, u64>,
    /// Sums of hashes by hours since 1970: in lake, quarantine and table of all rows, in Kafka of distinct events.
    pub(crate) hashes: HashMap<i64, u128>,
}

impl Tally {
    fn add_hash(&mut self, hour: i64, hash: u128) {
        let sum = self.hashes.entry(hour).or_default();
        *sum = sum.wrapping_add(hash);
    }

    fn count(&mut self, hour: i64, kind: Option<&str>) {
        *self.hours.entry(hour).or_default() += 1;
        if let Some(kind) = kind {
            match self.types.get_mut(kind) {
                Some(count) => *count += 1,
                None => drop(self.types.insert(kind.to_owned(), 1)),
            }
        }
    }
}

/// The lake file that is being read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FileRef {
    pub(crate) number: u32,
    /// Hour in its key, in hours since 1970.
    pub(crate) hour: i64,
}

/// The data read so far.
pub(crate) struct Ledger {
    pub(crate) tag: u64,
    pub(crate) first_index: u64,
    /// The run's events by index, counted from the first index of the run.
    pub(crate) own: Vec<Trace>,
    /// Other events of the topic by ID. `None` if the verification covers the run only.
    pub(crate) others: Option<HashMap<u128, Trace>>,
    pub(crate) letters: Letters,
    pub(crate) files: Vec<String>,
    /// Hashes only.
    pub(crate) kafka_tally: Tally,
    pub(crate) lake_tally: Tally,
    pub(crate) quarantine_tally: Tally,
    pub(crate) table_tally: Tally,
    /// Records, rows and dead letters of the run that are not in its manifest.
    pub(crate) strays: Finding,
    /// Corrupt and unreadable records without a dead letter. [`Sweep`](crate::sweep::Sweep) adds those that only the
    /// table shows.
    pub(crate) unaccounted: Finding,
    pub(crate) letters_that_differ: Finding,
    pub(crate) foreign_keys: Finding,
    pub(crate) misplaced: Finding,
    pub(crate) unreadable: Finding,
    /// Number of records of valid events of the run.
    pub(crate) valid_records: u64,
    pub(crate) corrupt_records: u64,
    /// Sum of the hashes of distinct corrupt events. It is not split by hour, since a record does not carry its due
    /// time.
    pub(crate) corrupt_hash: u128,
    /// Number of all records of the topic by partition.
    pub(crate) scanned: HashMap<i32, u64>,
    scratch: Vec<u8>,
}

/// Owner of an event.
enum Whose<'l> {
    Own(&'l mut Trace),
    Stray(u64),
    Others,
}

impl Ledger {
    pub(crate) fn new(run: &Run, with_others: bool) -> Self {
        let indices = usize::try_from(run.generated()).unwrap_or(usize::MAX);
        Self {
            tag: run.tag,
            first_index: run.first_index,
            own: vec![Trace::default(); indices],
            others: with_others.then(HashMap::new),
            letters: Letters::default(),
            files: Vec::new(),
            kafka_tally: Tally::default(),
            corrupt_hash: 0,
            lake_tally: Tally::default(),
            quarantine_tally: Tally::default(),
            table_tally: Tally::default(),
            strays: Finding::default(),
            unaccounted: Finding::default(),
            letters_that_differ: Finding::default(),
            foreign_keys: Finding::default(),
            misplaced: Finding::default(),
            unreadable: Finding::default(),
            valid_records: 0,
            corrupt_records: 0,
            scanned: HashMap::new(),
            scratch: Vec::with_capacity(256),
        }
    }

    fn at_index(&mut self, index: u64) -> Option<&mut Trace> {
        let position = usize::try_from(index.checked_sub(self.first_index)?).ok()?;
        self.own.get_mut(position)
    }

    fn whose(&mut self, id: u128) -> Whose<'_> {
        match Origin::of(id) {
            Some(origin) if origin.tag == self.tag => match self.at_index(origin.index) {
                Some(trace) => {
                    trace.millis = millis_of(id);
                    Whose::Own(trace)
                }
                None => Whose::Stray(origin.index),
            },
            _ => Whose::Others,
        }
    }

    /// Returns the index of a corrupt record of this run, from its headers.
    fn broken_index(&self, bytes: &Bytes) -> Option<u64> {
        self.is_own(bytes).then(|| bytes.header("index")?.parse().ok()).flatten()
    }

    fn is_own(&self, bytes: &Bytes) -> bool {
        bytes.header("run").and_then(|tag| u64::from_str_radix(tag, 16).ok()) == Some(self.tag)
    }

    /// Adds a dead letter of a corrupt event. All dead letters are added before the first record, because
    /// [`Ledger::record`] looks up the dead letter of each record.
    pub(crate) fn letter(&mut self, place: RecordIndex, bytes: &Bytes) {
        let Some(index) = self.broken_index(bytes) else {
            return;
        };
        match self.at_index(index) {
            Some(trace) => trace.letters = trace.letters.saturating_add(1),
            None => self.strays.note(|| format!("index {index}: dead letter of {place}")),
        }
    }

    /// Adds a record of the topic.
    pub(crate) fn record(&mut self, partition: i32, place: RecordIndex, bytes: &Bytes) {
        *self.scanned.entry(partition).or_default() += 1;
        let (met, same) = self.letters.meet(place, bytes);
        if !same {
            self.letters_that_differ.note(|| format!("{place}"));
        }
        if let Some(index) = self.broken_index(bytes) {
            self.broken_record(index, place, met, bytes);
            return;
        }
        let members = bytes.value.and_then(Members::read);
        match members.as_ref().and_then(Event::of_members) {
            Some(event) => self.event_record(&event, place, met, bytes.key),
            None => self.unreadable_record(place, met, self.is_own(bytes)),
        }
    }

    fn broken_record(&mut self, index: u64, place: RecordIndex, met: Met, bytes: &Bytes) {
        self.corrupt_records += 1;
        match self.at_index(index) {
            Some(trace) => {
                trace.corrupt = trace.corrupt.saturating_add(1);
                trace.place = place;
                if trace.corrupt == 1 {
                    let hash = of_broken(index, bytes.key.unwrap_or_default(), bytes.value.unwrap_or_default());
                    self.corrupt_hash = self.corrupt_hash.wrapping_add(hash);
                }
            }
            None => self.strays.note(|| format!("index {index}: corrupt record at {place}")),
        }
        if met == Met::None {
            self.unaccounted.note(|| format!("index {index}: corrupt record at {place} has no dead letter"));
        }
    }

    fn unreadable_record(&mut self, place: RecordIndex, met: Met, own: bool) {
        if own {
            self.strays.note(|| format!("{place}: record of the run without a readable event or index"));
        }
        if met == Met::None && (own || self.others.is_some()) {
            self.unaccounted.note(|| format!("{place}: no readable event and no dead letter"));
        }
    }

    fn event_record(&mut self, event: &Event, place: RecordIndex, met: Met, key: Option<&[u8]>) {
        let content = event.content(&mut self.scratch);
        let trace = match self.whose(event.id) {
            Whose::Own(trace) => trace,
            Whose::Stray(index) => return self.strays.note(|| format!("index {index}: record at {place}")),
            Whose::Others => match &mut self.others {
                Some(others) => others.entry(event.id).or_default(),
                None => return,
            },
        };
        trace.compare(content, Mark::KafkaDiffers);
        trace.kafka = trace.kafka.saturating_add(1);
        trace.lettered = trace.lettered.saturating_add(u8::from(met != Met::None));
        trace.place = place;
        let first = trace.kafka == 1;
        if met == Met::Open {
            trace.mark(Mark::OpenLetter);
        }
        if Origin::of(event.id).is_some_and(|origin| origin.tag == self.tag) {
            self.valid_records += 1;
            if first {
                self.kafka_tally.add_hash(event.hour(), of_event(event));
            }
            if key != Some(event.user.to_string().as_bytes()) {
                self.foreign_keys.note(|| format!("{place}: key is not user_id {}", event.user));
            }
        }
    }

    /// Adds a row of a raw file of the run.
    pub(crate) fn lake_row(&mut self, event: &Event, file: FileRef) {
        let content = event.content(&mut self.scratch);
        let first = match self.whose(event.id) {
            Whose::Own(trace) => {
                trace.compare(content, Mark::LakeDiffers);
                trace.lake = trace.lake.saturating_add(1);
                trace.file = file.number;
                trace.lake == 1
            }
            Whose::Stray(index) => return self.stray_row(&format!("index {index}"), file),
            Whose::Others => {
                return self.stray_row(&format!("id {} of another run", uuid::Uuid::from_u128(event.id)), file);
            }
        };
        self.lake_tally.add_hash(event.hour(), of_event(event));
        if first {
            self.lake_tally.count(event.hour(), Some(event.kind));
        }
        if event.hour() != file.hour {
            let hour = show_hour(event.hour());
            self.misplaced.note(|| format!("an event of {hour} in {}", self.files[file.number as usize]));
        }
    }

    /// Adds a row of a quarantine file of the run, counted in the hour of its due time.
    pub(crate) fn quarantine_row(&mut self, index: u64, due_micros: i64, text: &str, file: FileRef) {
        let hour = hour_of(due_micros);
        let Some(trace) = self.at_index(index) else {
            return self.stray_row(&format!("index {index}"), file);
        };
        trace.quarantine = trace.quarantine.saturating_add(1);
        trace.file = file.number;
        if trace.quarantine == 1 {
            self.quarantine_tally.count(hour, None);
        }
        self.quarantine_tally.add_hash(hour, of_refused(index, due_micros, text));
        if hour != file.hour {
            let due = show_hour(hour);
            self.misplaced.note(|| format!("index {index}, due {due}, in {}", self.files[file.number as usize]));
        }
    }

    fn stray_row(&mut self, what: &str, file: FileRef) {
        self.strays.note(|| format!("{what}: row in {}", self.files[file.number as usize]));
    }

    /// Adds a row of the table. Rows of unknown events are ignored.
    pub(crate) fn table_row(&mut self, event: &Event) {
        let content = event.content(&mut self.scratch);
        let (trace, own) = match self.whose(event.id) {
            Whose::Own(trace) => (trace, true),
            Whose::Stray(index) => return self.strays.note(|| format!("index {index}: row in the table")),
            Whose::Others => match self.others.as_mut().and_then(|others| others.get_mut(&event.id)) {
                Some(trace) => (trace, false),
                None => return,
            },
        };
        let day = u32::try_from(event.day()).unwrap_or(u32::MAX);
        trace.compare(content, Mark::TableDiffers);
        // An ID of the run has one timestamp, so a second row is wrong even on another day.
        if trace.table > 0 && (own || trace.day == day) {
            trace.mark(Mark::TwiceADay);
        }
        trace.table = trace.table.saturating_add(1);
        trace.day = day;
        let first = trace.table == 1;
        if own {
            self.table_tally.add_hash(event.hour(), of_event(event));
        }
        if own && first {
            self.table_tally.count(event.hour(), Some(event.kind));
        }
    }

    /// Describes an event of the run by its index, its ID if known, and its positions in the stores.
    pub(crate) fn describe(&self, position: usize) -> String {
        let Some(trace) = self.own.get(position) else {
            return format!("position {position}");
        };
        let index = self.first_index + position as u64;
        let id = if trace.is_valid() {
            format!(" {}", Origin { tag: self.tag, index }.id(trace.millis))
        } else {
            String::new()
        };
        format!("index {index}{id}: {}", self.seen(trace))
    }

    /// Lists the stores that have an event, with the last position in each and the number of copies.
    pub(crate) fn seen(&self, trace: &Trace) -> String {
        let mut seen = Vec::new();
        let records = trace.kafka.max(trace.corrupt);
        if records > 0 {
            seen.push(format!("Kafka {} ({records} total)", trace.place));
        }
        if trace.lake + trace.quarantine > 0 {
            let file = self.files.get(trace.file as usize).map_or("", String::as_str);
            seen.push(format!("{file} ({} total)", trace.lake + trace.quarantine));
        }
        if trace.table > 0 {
            seen.push(format!("table ({} total)", trace.table));
        }
        let letters = trace.letters.max(trace.lettered);
        if letters > 0 {
            seen.push(format!("dead letters ({letters} total)"));
        }
        if seen.is_empty() { "in no store".to_owned() } else { seen.join(", ") }
    }
}
